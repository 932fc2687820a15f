"""LoRA adapters for the test model, made by script: random, but the same each time; and the same merged into the weights."""

from pathlib import Path

import gguf
import numpy

import allerac

RANK = 4
MATRICES = ("attn_q", "attn_v")


def factors(seed: int, strength: float) -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    """For each matrix of the test model that is changed: what is applied first, and what then."""
    random = numpy.random.default_rng(seed)
    changed = {}
    for tensor in _reader().tensors:
        if tensor.name.split(".")[-2] in MATRICES:
            inner, outer = (int(length) for length in tensor.shape)
            first = random.standard_normal((RANK, inner), dtype=numpy.float32) / numpy.float32(inner**0.5)
            second = random.standard_normal((outer, RANK), dtype=numpy.float32) * numpy.float32(strength)
            changed[tensor.name] = (first, second)
    return changed


def write_adapter(path: Path, changed: dict, *, architecture="llama", kind="lora", alpha=float(RANK), add=None) -> Path:
    """`alpha` as the rank adds the product as it is. `add` may put more into the header."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", alpha) if add is None else add(writer)
    for name, (first, second) in changed.items():
        writer.add_tensor(f"{name}.lora_a", first)
        writer.add_tensor(f"{name}.lora_b", second)
    return _finish(writer, path)


def write_model(path: Path, changed: dict, *, merge: bool) -> Path:
    """The test model with the matrices that are changed in numbers of 32 bits, and with `merge` changed."""
    reader = _reader()
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind, of = field.types[0], field.types[-1]
        writer.add_key_value(field.name, field.contents(), kind, sub_type=of if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        if tensor.name in changed:
            whole = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
            first, second = changed[tensor.name]
            writer.add_tensor(tensor.name, whole + second @ first if merge else whole)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    return _finish(writer, path)


def _reader() -> gguf.GGUFReader:
    return gguf.GGUFReader(allerac.MODEL_FILE)


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
