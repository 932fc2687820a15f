"""Encoders of BERT's relatives, small and with random weights: against the same in numpy."""

import hashlib
import json
import shutil

import numpy
import pytest

import allerac
from bert import Bert, WordPiece, read_safetensors, write_safetensors
from test_embeddings import EMBEDDING_DATA, TEXTS, cosine, model_files, rerank

HIDDEN, WIDE, HEADS, LAYERS, VOCABULARY, POSITIONS = 24, 40, 3, 2, 30522, 400
BERT_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm", "wide": "intermediate.dense", "narrow": "output.dense", "norm": "output.LayerNorm",
}  # fmt: skip
# What they call the parts of a layer, and where their positions begin.
FAMILIES = {
    "distilbert": {
        "layers": "transformer.layer", "first": 0, "head": ("pre_classifier", "classifier"),
        "names": dict(zip(BERT_LAYER, ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
                                       "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"])),
        "config": {"dim": HIDDEN, "hidden_dim": WIDE, "n_layers": LAYERS, "n_heads": HEADS, "activation": "gelu",
                   "sinusoidal_pos_embds": False, "pad_token_id": 0, "tie_weights_": True},
    },
    "mpnet": {
        "layers": "encoder.layer", "first": 2, "head": ("classifier.dense", "classifier.out_proj"),
        "names": BERT_LAYER | {"q": "attention.attn.q", "k": "attention.attn.k", "v": "attention.attn.v",
                               "attended": "attention.attn.o", "attended_norm": "attention.LayerNorm"},
        "config": {"hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS,
                   "num_attention_heads": HEADS, "hidden_act": "gelu", "pad_token_id": 1, "layer_norm_eps": 1e-5,
                   "relative_attention_num_buckets": 32},
    },
}  # fmt: skip


def make(family, scores):
    """The weights and the configuration of a model."""
    random, about, weights = numpy.random.default_rng(11), FAMILIES[family], {}
    prefix = f"{family}." if scores else ""

    def linear(name, inputs, outputs):
        weights[f"{name}.weight"] = random.normal(0, 0.3, (outputs, inputs))
        weights[f"{name}.bias"] = random.normal(0, 0.3, outputs)

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = random.normal(1, 0.1, HIDDEN), random.normal(0, 0.1, HIDDEN)

    for table, rows in [("word", VOCABULARY), ("position", POSITIONS)]:
        weights[f"{prefix}embeddings.{table}_embeddings.weight"] = random.normal(0, 0.5, (rows, HIDDEN))
    norm(f"{prefix}embeddings.LayerNorm")
    if family == "mpnet":
        weights[f"{prefix}encoder.relative_attention_bias.weight"] = random.normal(0, 2, (32, HEADS))
    for index in range(LAYERS):
        name = {part: f"{prefix}{about['layers']}.{index}.{called}" for part, called in about["names"].items()}
        for part in ("q", "k", "v", "attended"):
            linear(name[part], HIDDEN, HIDDEN)
        linear(name["wide"], HIDDEN, WIDE)
        linear(name["narrow"], WIDE, HIDDEN)
        norm(name["attended_norm"])
        norm(name["norm"])
    kind = "ForSequenceClassification" if scores else "Model"
    config = about["config"] | {
        "model_type": family, "architectures": [f"X{kind}"], "vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS,
    }  # fmt: skip
    if scores:
        linear(about["head"][0], HIDDEN, HIDDEN)
        linear(about["head"][1], HIDDEN, 1)
        config |= {"id2label": {"0": "LABEL_0"}}
    return weights, config


def reference(weights, family):
    """The same model in numpy, by BERT's names."""
    about = FAMILIES[family]
    names = {f"{family}.": "", f"{about['layers']}.": "encoder.layer."}
    names |= {f".{theirs}.": f".{BERT_LAYER[part]}." for part, theirs in about["names"].items() if theirs != BERT_LAYER[part]}
    names |= {"pre_classifier.": "pooler.dense.", "classifier.dense.": "pooler.dense.", "classifier.out_proj.": "classifier."}
    config = {
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "layer_norm_eps": about["config"].get("layer_norm_eps", 1e-12),
        "first_position": about["first"],
    }  # fmt: skip
    return Bert.of_family(weights, config, names)


def install(data, folder, name, kind, tokenizer_json, made):
    weights, config = made
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", weights)
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer_json, folder / "tokenizer.json")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    for part, digest in digests.items():
        shutil.copy(folder / part, data / f"models/blobs/sha256-{digest}")
    parts = "".join(f'[[parts]]\nname = "{part}"\nsha256 = "{digests[part]}"\n' for part in ("config.json", "tokenizer.json"))
    (data / f"models/installed/{name}.toml").write_text(
        f'version = 1\nkind = "{kind}"\nsha256 = "{digests["model.safetensors"]}"\nparameters = 1000\ninstalled_at = 0\n{parts}'
    )
    return read_safetensors(folder / "model.safetensors")


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A server with an encoder and a reranker of each family, and both in numpy."""
    folder = tmp_path_factory.mktemp("families")
    data, files = allerac.data_dir(folder / "data"), model_files(EMBEDDING_DATA)
    models = {}
    for family in FAMILIES:
        for scores, kind in [(False, "embedding"), (True, "reranker")]:
            name = f"{family}-{kind}"
            made = install(data, folder / name, name, kind, files["tokenizer.json"], make(family, scores))
            models[name] = reference(made, family)
    with allerac.Server(data) as server, server.http(server.create_key("anna")) as http:
        yield http, models, WordPiece(files["tokenizer.json"])


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_the_model(box, family):
    http, models, tokeniser = box
    name = f"{family}-embedding"
    # Long enough for every class of distances.
    texts = [*TEXTS, "the sky is blue and wide " * 30]
    answer = http.post("/v1/embeddings", json={"model": name, "input": texts})
    assert answer.status_code == 200, answer.text
    for text, item in zip(texts, answer.json()["data"], strict=True):
        tokens = tokeniser.tokens(text)
        assert cosine(numpy.array(item["embedding"]), models[name].embedding(tokens)) >= 0.99999, text
    longest = POSITIONS - FAMILIES[family]["first"]
    too_long = http.post("/v1/embeddings", json={"model": name, "input": "sky " * (longest - 1)})
    assert too_long.json()["error"]["code"] == "context_length_exceeded"
    assert http.post("/v1/embeddings", json={"model": name, "input": "sky " * (longest - 2)}).status_code == 200


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reranker_looks_at_query_and_document_together(box, family):
    http, models, tokeniser = box
    name = f"{family}-reranker"
    query, documents = "why is the sky blue", ["because it is", "bread", "the sky, the sky!", "größe"]
    between = numpy.tanh if family == "mpnet" else lambda rows: numpy.maximum(rows, 0)
    scores = []
    for document in documents:
        first = tokeniser.tokens(query)
        scores.append(models[name].score(first + tokeniser.tokens(document)[1:], len(first), between))
    answer = rerank(http, model=name, query=query, documents=documents)
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert [found[index] for index in range(4)] == pytest.approx(scores, abs=1e-5)
    assert max(scores) - min(scores) > 0.01
