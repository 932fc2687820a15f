"""The peer of the benchmark of embeddings: the model's own weights as an ONNX graph, in the operators that exporters
write, computed by onnxruntime in 32 bits.

    onnx_peer.py WEIGHTS CONFIG THREADS

Each line on standard input is an array of arrays of tokens. Each line on standard output is the time that their vectors
took, in seconds: padding, the graph, the mean and the norm.
"""

import json
import sys
import time
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def read_safetensors(path: str) -> dict[str, numpy.ndarray]:
    data = Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    kinds = {"F32": numpy.float32, "I64": numpy.int64}
    spans = {name: (info, *info["data_offsets"]) for name, info in header.items()}
    return {
        name: numpy.frombuffer(data[begin + first : begin + last], kinds[info["dtype"]]).reshape(info["shape"])
        for name, (info, first, last) in spans.items()
    }


class Graph:
    """A BERT encoder, node by node."""

    def __init__(self, weights: dict, config: dict):
        self.weights, self.config = weights, config
        self.nodes, self.constants = [], {}

    def constant(self, name: str, value) -> str:
        self.constants[name] = numpy_helper.from_array(numpy.ascontiguousarray(value), name)
        return name

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"n{len(self.nodes)}", **attributes))
        return output

    def linear(self, rows: str, name: str) -> str:
        product = self.op("MatMul", rows, self.constant(f"{name}.w", self.weights[f"{name}.weight"].T))
        return self.op("Add", product, self.constant(f"{name}.b", self.weights[f"{name}.bias"]))

    def norm(self, rows: str, name: str) -> str:
        scale = self.constant(f"{name}.s", self.weights[f"{name}.weight"])
        shift = self.constant(f"{name}.h", self.weights[f"{name}.bias"])
        return self.op("LayerNormalization", rows, scale, shift, axis=-1, epsilon=self.config["layer_norm_eps"])

    def table(self, kind: str) -> str:
        return self.constant(kind, self.weights[f"embeddings.{kind}_embeddings.weight"])

    def numbers(self, name: str, *values: int) -> str:
        return self.constant(name, numpy.array(values, numpy.int64))

    def build(self) -> bytes:
        self.number = lambda name, value: self.constant(name, numpy.array(value, numpy.float32))
        one, two = self.numbers("one", 1), self.numbers("two", 2)
        length = self.op("Gather", self.op("Shape", "input_ids"), one, axis=0)
        places = self.numbers("places", *range(self.config["max_position_embeddings"]))
        places = self.op("Slice", places, self.numbers("zero", 0), length, self.numbers("first", 0))
        words = self.op("Gather", self.table("word"), "input_ids")
        words = self.op("Add", words, self.op("Gather", self.table("token_type"), "token_type_ids"))
        rows = self.op("Add", words, self.op("Gather", self.table("position"), places))
        rows = self.norm(rows, "embeddings.LayerNorm")
        mask = self.op("Cast", self.op("Unsqueeze", self.op("Unsqueeze", "attention_mask", one), two), to=TensorProto.FLOAT)
        mask = self.op("Mul", self.op("Sub", self.number("1", 1.0), mask), self.number("low", -10000.0))
        for index in range(self.config["num_hidden_layers"]):
            rows = self.layer(rows, mask, f"encoder.layer.{index}")
        self.nodes.append(helper.make_node("Identity", [rows], ["rows"]))
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names]
        shape = ["batch", "length", self.config["hidden_size"]]
        output = helper.make_tensor_value_info("rows", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "bert", inputs, [output], list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def layer(self, rows: str, mask: str, name: str) -> str:
        hidden, heads = self.config["hidden_size"], self.config["num_attention_heads"]
        split, whole = self.numbers("split", 0, 0, heads, hidden // heads), self.numbers("whole", 0, 0, hidden)

        def part(kind: str, order: list[int]) -> str:
            return self.op("Transpose", self.op("Reshape", self.linear(rows, f"{name}.attention.self.{kind}"), split), perm=order)

        scores = self.op("MatMul", part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]))
        scores = self.op("Div", scores, self.number("root", (hidden // heads) ** 0.5))
        powers = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        attended = self.op("Transpose", self.op("MatMul", powers, part("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
        attended = self.linear(self.op("Reshape", attended, whole), f"{name}.attention.output.dense")
        rows = self.norm(self.op("Add", attended, rows), f"{name}.attention.output.LayerNorm")
        wide = self.linear(rows, f"{name}.intermediate.dense")
        erf = self.op("Erf", self.op("Div", wide, self.number("root2", 2**0.5)))
        wide = self.op("Mul", self.op("Mul", wide, self.op("Add", erf, self.number("1", 1.0))), self.number("half", 0.5))
        return self.norm(self.op("Add", self.linear(wide, f"{name}.output.dense"), rows), f"{name}.output.LayerNorm")


def vectors(session, texts: list[list[int]]) -> numpy.ndarray:
    length = max(map(len, texts))
    tokens = numpy.zeros((len(texts), length), numpy.int64)
    mask = numpy.zeros_like(tokens)
    for row, text in enumerate(texts):
        tokens[row, : len(text)], mask[row, : len(text)] = text, 1
    inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": numpy.zeros_like(tokens)}
    (rows,) = session.run(None, inputs)
    kept = mask[:, :, None].astype(numpy.float32)
    mean = (rows * kept).sum(1) / kept.sum(1)
    return mean / numpy.linalg.norm(mean, axis=1, keepdims=True)


def main(weights: str, config: str, threads: str):
    graph = Graph(read_safetensors(weights), json.loads(Path(config).read_text())).build()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    print(onnxruntime.__version__, flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        began = time.perf_counter()
        vectors(session, texts)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
