"""Small models in a repository, to be measured and shrunk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nearhall.documents.model import ModelDocument, TensorShape, Variant, Version
from nearhall.documents.yaml_file import dump_document


def classifier(*, classes: int = 5, width: int = 8, seed: int = 0, output: str = "logits") -> bytes:
    """Two layers of random weights: [n, width] to [n, classes]."""
    draw = np.random.default_rng(seed)
    weights = [draw.normal(size=shape).astype(np.float32) for shape in ((width, 64), (64, classes))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w0"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w1"], [output]),
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(weight, f"w{index}") for index, weight in enumerate(weights)],
    )
    return _bytes(graph)


def failing(*, width: int = 8, classes: int = 5) -> bytes:
    """Loads, and takes what `classifier` takes, but runs on nothing: no sample has 7 x 7 values."""
    shape = numpy_helper.from_array(np.array([7, 7], dtype=np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["logits"])],
        "failing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [shape],
    )
    return _bytes(graph)


def convolution(*, opset: int = 18) -> bytes:
    """One convolution of a fixed batch: [1, 3, 8, 8]."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    return _bytes(graph, opset=opset)


def negation() -> bytes:
    """Nothing in it that could be quantised."""
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "negation",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
    )
    return _bytes(graph)


def _bytes(graph: onnx.GraphProto, *, opset: int = 18) -> bytes:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString()


def put(repository: Path, name: str, **variants: bytes) -> Path:
    """A model with these variants; the first one is the default. Gives its folder."""
    folder = repository / name
    written: dict[str, Variant] = {}
    for variant, data in variants.items():
        (folder / "1" / variant).mkdir(parents=True)
        (folder / "1" / variant / "model.onnx").write_bytes(data)
        written[variant] = Variant(runtime="onnxruntime", file="model.onnx", sha256=hashlib.sha256(data).hexdigest())
    _write(folder, name, written)
    return folder


def chat_model(repository: Path, name: str, *variants: str, file: Path | None = None, **elsewhere: str) -> Path:
    """A language model's folder; its variants' files are all that one, or none. Of another server are those that have a URL."""
    folder = repository / name
    written: dict[str, Variant] = {}
    folder.mkdir(parents=True)
    for variant in variants or ("cpu",):
        if variant in elsewhere:
            written[variant] = Variant(runtime="upstream", file=elsewhere[variant])
            continue
        (folder / "1" / variant).mkdir(parents=True)
        path = folder / "1" / variant / "model.gguf"
        path.write_bytes(f"GGUF {variant}".encode()) if file is None else path.symlink_to(file)
        written[variant] = Variant(runtime="genai", file="model.gguf")
    _write(folder, name, written, task="chat")
    return folder


def elsewhere(repository: Path, name: str, url: str, *, task: str = "tensors", inputs: list[TensorShape] | None = None) -> Path:
    """A model of another server."""
    folder = repository / name
    folder.mkdir(parents=True)
    _write(folder, name, {"remote": Variant(runtime="upstream", file=url)}, task=task, inputs=inputs or [])
    return folder


def _write(
    folder: Path, name: str, variants: dict[str, Variant], *, task: str = "tensors", inputs: list[TensorShape] | None = None
) -> None:
    document = ModelDocument.model_validate(
        {
            "schema": "nearhall/model/v1",
            "name": name,
            "task": task,
            "licence": "ours",
            "source": "a test",
            "inputs": inputs or [],
            "versions": {"1": Version(variants=variants)},
            "default_version": "1",
            "default_variant": next(iter(variants)),
        }
    )
    (folder / "model.yaml").write_bytes(dump_document(document))
