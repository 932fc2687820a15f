"""BERT in numpy, from a model's own files: what embeddings and scores must be, computed independently of the product."""

import json
import math
import unicodedata
from pathlib import Path

import numpy

_ERF = numpy.vectorize(math.erf, otypes=[numpy.float64])


def read_safetensors(path: Path) -> dict[str, numpy.ndarray]:
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    kinds = {"F32": numpy.float32, "I64": numpy.int64}
    return {
        name: numpy.frombuffer(data[begin + info["data_offsets"][0] : begin + info["data_offsets"][1]], kinds[info["dtype"]])
        .reshape(info["shape"])
        .astype(numpy.float64)
        for name, info in header.items()
    }  # fmt: skip


def write_safetensors(path: Path, tensors: dict[str, numpy.ndarray]):
    header, body = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.astype(numpy.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


class WordPiece:
    """The tokeniser of uncased BERT."""

    def __init__(self, tokenizer_json: Path):
        self.vocabulary = json.loads(tokenizer_json.read_text())["model"]["vocab"]

    def tokens(self, text: str) -> list[int]:
        pieces = [piece for word in self._words(text) for piece in self._pieces(word)]
        return [self.vocabulary[piece] for piece in ["[CLS]", *pieces, "[SEP]"]]

    @staticmethod
    def _words(text: str) -> list[str]:
        cleaned = ""
        for character in text:
            category = unicodedata.category(character)
            if character in "\t\n\r" or category == "Zs":
                cleaned += " "
            elif character in "\0\ufffd" or category.startswith("C"):
                continue
            elif _is_chinese(ord(character)):
                cleaned += f" {character} "
            else:
                cleaned += character
        cleaned = unicodedata.normalize("NFD", cleaned.lower())
        cleaned = "".join(character for character in cleaned if unicodedata.category(character) != "Mn")
        split = "".join(f" {character} " if _is_punctuation(character) else character for character in cleaned)
        return split.split()

    def _pieces(self, word: str) -> list[str]:
        if len(word) > 100:
            return ["[UNK]"]
        pieces, begin = [], 0
        while begin < len(word):
            for end in range(len(word), begin, -1):
                piece = ("##" if begin else "") + word[begin:end]
                if piece in self.vocabulary:
                    break
            else:
                return ["[UNK]"]
            pieces.append(piece)
            begin = end
        return pieces


def _is_chinese(code: int) -> bool:
    ranges = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F), (0x2B920, 0x2CEAF),
              (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]  # fmt: skip
    return any(first <= code <= last for first, last in ranges)


def _is_punctuation(character: str) -> bool:
    ascii_ones = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    return character in ascii_ones or unicodedata.category(character).startswith("P")


def _bucket(distance: int) -> int:
    """MPNet's 32 classes of distances: 16 behind and at the token, 16 ahead; from 8 on two for each doubling."""
    far = abs(distance)
    within = far if far < 8 else min(8 + (far * far).bit_length() - 7, 15)
    return within + (16 if distance > 0 else 0)


class Bert:
    """One text at a time, in 64 bits."""

    def __init__(self, weights: dict[str, numpy.ndarray], config: dict, prefix: str = ""):
        self.weights, self.config, self.prefix = weights, config, prefix
        # A table of what heads add to scores, by how far tokens are apart.
        self.distances = None

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self.weights[self.prefix + name]

    def _linear(self, rows, name):
        return rows @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def _norm(self, rows, name):
        centred = rows - rows.mean(-1, keepdims=True)
        scaled = centred / numpy.sqrt((centred**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]

    def rows(self, tokens: list[int], second: int | None = None) -> numpy.ndarray:
        """The rows of a text's tokens; those from `second` on are of a second text."""
        kinds = [int(second is not None and place >= second) for place in range(len(tokens))]
        first = self.config.get("first_position", 0)
        rows = self["embeddings.word_embeddings.weight"][tokens]
        rows = rows + self["embeddings.position_embeddings.weight"][first : first + len(tokens)]
        rows = self._norm(rows + self["embeddings.token_type_embeddings.weight"][kinds], "embeddings.LayerNorm")
        for index in range(self.config["num_hidden_layers"]):
            rows = self._layer(rows, f"encoder.layer.{index}")
        return rows

    def _layer(self, rows, name):
        heads = self.config["num_attention_heads"]
        size = rows.shape[1] // heads
        split = [
            self._linear(rows, f"{name}.attention.self.{part}").reshape(len(rows), heads, size).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        ]
        scores = split[0] @ split[1].transpose(0, 2, 1) / math.sqrt(size)
        if self.distances is not None:
            places = range(len(rows))
            buckets = [[_bucket(other - own) for other in places] for own in places]
            scores = scores + self.distances[buckets].transpose(2, 0, 1)
        powers = numpy.exp(scores - scores.max(-1, keepdims=True))
        attended = (powers / powers.sum(-1, keepdims=True)) @ split[2]
        attended = self._linear(attended.transpose(1, 0, 2).reshape(rows.shape), f"{name}.attention.output.dense")
        rows = self._norm(attended + rows, f"{name}.attention.output.LayerNorm")
        wide = self._linear(rows, f"{name}.intermediate.dense")
        wide = wide * 0.5 * (1 + _ERF(wide / math.sqrt(2)))
        return self._norm(self._linear(wide, f"{name}.output.dense") + rows, f"{name}.output.LayerNorm")

    @classmethod
    def of_family(cls, weights: dict[str, numpy.ndarray], config: dict, names: dict[str, str]) -> "Bert":
        """One whose parts have other names, and whose texts are all of one kind."""

        def renamed(name):
            for theirs, ours in names.items():
                name = name.replace(theirs, ours)
            return name

        weights = {renamed(name): tensor for name, tensor in weights.items()}
        kinds = numpy.zeros((2, weights["embeddings.word_embeddings.weight"].shape[1]))
        bert = cls(weights | {"embeddings.token_type_embeddings.weight": kinds}, config)
        bert.distances = weights.get("encoder.relative_attention_bias.weight")
        return bert

    def embedding(self, tokens: list[int]) -> numpy.ndarray:
        """The mean of the rows, of length 1."""
        mean = self.rows(tokens).mean(0)
        return mean / numpy.linalg.norm(mean)

    def score(self, tokens: list[int], second: int, between=numpy.tanh) -> float:
        """How well the second text answers the first, 0 to 1."""
        inner = between(self._linear(self.rows(tokens, second)[0], "pooler.dense"))
        outer = inner @ self.weights["classifier.weight"].T + self.weights["classifier.bias"]
        return float(1 / (1 + numpy.exp(-outer[0])))
