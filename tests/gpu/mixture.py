"""A mixture of experts that answers as the test model does: each layer's expert is there several times, so whichever of them
are chosen, what they say together is what the one said."""

from pathlib import Path

import gguf
import numpy

import allerac

EXPERTS, USED = 4, 2


def write(path: Path) -> Path:
    reader = gguf.GGUFReader(allerac.MODEL_FILE)
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind, of = field.types[0], field.types[-1]
        writer.add_key_value(field.name, field.contents(), kind, sub_type=of if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(USED)
    random = numpy.random.default_rng(1)
    for tensor in reader.tensors:
        name, data, kind = tensor.name, tensor.data, tensor.tensor_type
        if ".ffn_" in name and "norm" not in name:
            name = name.replace(".weight", "_exps.weight")
            data = numpy.stack([data] * EXPERTS)
        writer.add_tensor(name, data, raw_dtype=kind)
        if name.endswith("ffn_norm.weight"):
            chooses = random.standard_normal((EXPERTS, int(tensor.shape[0])), dtype=numpy.float32)
            writer.add_tensor(name.replace("ffn_norm", "ffn_gate_inp"), chooses)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def sizes(path: Path) -> tuple[int, int]:
    """Bytes of all weights, and of the experts of one layer."""
    tensors = gguf.GGUFReader(path).tensors
    of_one = (int(tensor.n_bytes) for tensor in tensors if tensor.name.startswith("blk.0.") and "_exps" in tensor.name)
    return sum(int(tensor.n_bytes) for tensor in tensors), sum(of_one)
