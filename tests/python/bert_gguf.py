"""From BERT's own files to one GGUF file, as llama.cpp wants it."""

import json
from pathlib import Path

import gguf
import numpy

_TABLES = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_HEAD = {"pooler.dense": "cls", "classifier": "cls.output"}


def write(path: Path, weights: dict[str, numpy.ndarray], config: dict, tokenizer_json: Path, pooling: gguf.PoolingType):
    """`weights` by their names in safetensors, `config` as in config.json; numbers stay of 32 bits."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    _add_vocabulary(writer, tokenizer_json)
    for name, tensor in weights.items():
        known = _name(name.removeprefix("bert."), config["num_hidden_layers"])
        if known and (pooling == gguf.PoolingType.RANK or not known.startswith("cls")):
            writer.add_tensor(known, tensor.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer_json: Path):
    vocabulary = json.loads(tokenizer_json.read_text())["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.get)
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    # What continues a word stands as it is, what begins one behind the mark of a space.
    tokens = [word if word in special else word.removeprefix("##") if word.startswith("##") else f"▁{word}" for word in words]
    kinds = [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    for add, word in [(writer.add_unk_token_id, "[UNK]"), (writer.add_sep_token_id, "[SEP]"), (writer.add_pad_token_id, "[PAD]"),
                      (writer.add_bos_token_id, "[CLS]"), (writer.add_mask_token_id, "[MASK]")]:  # fmt: skip
        add(vocabulary[word])


def _name(name: str, layers: int) -> str | None:
    """llama.cpp's name of a tensor; `None` where it wants none."""
    if name in _TABLES:
        return _TABLES[name]
    stem, _, kind = name.rpartition(".")
    if stem in _TABLES or stem in _HEAD:
        return f"{(_TABLES | _HEAD)[stem]}.{kind}"
    for index in range(layers):
        begin = f"encoder.layer.{index}."
        if stem.startswith(begin):
            return f"blk.{index}.{_LAYER[stem.removeprefix(begin)]}.{kind}"
    return None
