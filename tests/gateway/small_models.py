"""ONNX models small enough to be made in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "FP32": TensorProto.FLOAT,
    "FP16": TensorProto.FLOAT16,
    "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
}


def add_model(repository: Path, name: str, dtype: str = "FP32", *, doubled: bool = False) -> None:
    """Identity (or x + x) on [-1, 4] of the type, with its model.yaml."""
    kind = TYPES[dtype]
    node = helper.make_node("Add", ["x", "x"], ["y"]) if doubled else helper.make_node("Identity", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(n, kind, ["n", 4]) for n in ("x", "y")]
    graph = helper.make_graph([node], name, [ends[0]], [ends[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    _write(repository, name, model)


def add_worker(repository: Path, name: str, *, width: int = 1024) -> None:
    """[n, 4] to [n, 4] through a wide hidden layer: a few milliseconds at n = 256 on one core."""
    shapes = {"a": (4, width), "b": (width, width), "c": (width, 4)}
    weights = [numpy_helper.from_array(np.full(shape, 1e-3, np.float32), key) for key, shape in shapes.items()]
    steps = [("x", "a", "p"), ("p", "b", "q"), ("q", "c", "y")]
    nodes = [helper.make_node("MatMul", [left, right], [out]) for left, right, out in steps]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, name, [ends[0]], [ends[1]], weights)
    _write(repository, name, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def add_embedder(repository: Path, name: str, *, words: tuple[str, ...] = ("fan", "failed", "fine", "weather")) -> Path:
    """Each word is its own direction, so that a text is the mean of its words; 8 numbers, and 3 special tokens that are none."""
    place = repository / name / "1" / "cpu"
    place.mkdir(parents=True)
    text_model(place / "m.onnx", len(words) + 3)
    word_tokenizer(place / "tokenizer.json", words)
    (repository / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: embeddings\nlicence: none\nsource: made by a test\n"
        "versions: {'1': {variants: {cpu: {runtime: onnxruntime, file: m.onnx, "
        "options: {tokenizer: tokenizer.json, max_tokens: '16'}}}}}\ndefault_version: '1'\ndefault_variant: cpu\n"
    )
    return place


def text_model(path: Path, tokens: int, *, output: str = "last_hidden_state", segments: bool = False) -> Path:
    """input_ids and attention_mask to a vector for each token, or (sentence_embedding) the sum of them."""
    table = numpy_helper.from_array(np.eye(tokens, 8, k=-2, dtype=np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["states"])]
    shape = ["b", "s", 8]
    if output == "sentence_embedding":
        axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
        nodes.append(helper.make_node("ReduceSum", ["states", "axes"], ["y"], keepdims=0))
        shape = ["b", 8]
    else:
        axes = None
        nodes.append(helper.make_node("Identity", ["states"], ["y"]))
    nodes[-1].output[0] = output
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if segments else [])]
    inputs = [helper.make_tensor_value_info(one, TensorProto.INT64, ["b", "s"]) for one in names]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "texts", inputs, outputs, [table] if axes is None else [table, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def word_tokenizer(path: Path, words: tuple[str, ...]) -> Path:
    """Words between spaces, one token each."""
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *words])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path


def _write(repository: Path, name: str, model: onnx.ModelProto) -> None:
    place = repository / name / "1" / "cpu"
    place.mkdir(parents=True)
    (place / "m.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    (repository / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: tensors\nlicence: none\nsource: made by a test\n"
        "versions: {'1': {variants: {cpu: {runtime: onnxruntime, file: m.onnx}}}}\n"
        "default_version: '1'\ndefault_variant: cpu\n"
    )
