"""The test models that a measurement brings along: written as ONNX by hand, so that nothing but ONNX Runtime is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nearhall.cli.roots.bench.protobuf import chunk, number

CONV, TINY = "conv", "tiny"
INPUT, OUTPUT = "x", "y"
SHAPES: dict[str, tuple[int, ...]] = {CONV: (1, 3, 64, 64), TINY: (1, 64)}
"""48 KB and 256 bytes of FP32."""

_IR_VERSION, _OPSET = 9, 17
_FLOAT, _INTS = 1, 7
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    operator: str
    takes: Sequence[str]
    gives: str
    lengths: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Attributes that are lists of whole numbers."""


def conv_net() -> bytes:
    """[1, 3, 64, 64] to [1, 64] through four convolutions: about a millisecond on one core."""
    draw = np.random.default_rng(1)
    weights: dict[str, Weights] = {}
    nodes: list[_Node] = []
    last = INPUT
    for step, (taken, given) in enumerate(pairwise([3, 48, 96, 128, 64])):
        weights[f"w{step}"] = draw.standard_normal((given, taken, 3, 3), dtype=np.float32) / np.float32(9)
        around = (("pads", (1,) * 4), ("strides", (2 if step else 1,) * 2), ("kernel_shape", (3, 3)))
        nodes.append(_Node(operator="Conv", takes=(last, f"w{step}"), gives=f"c{step}", lengths=around))
        nodes.append(_Node(operator="Relu", takes=(f"c{step}",), gives=f"r{step}"))
        last = f"r{step}"
    nodes.append(_Node(operator="GlobalAveragePool", takes=(last,), gives="p"))
    nodes.append(_Node(operator="Flatten", takes=("p",), gives=OUTPUT))
    return _model(CONV, nodes, weights, SHAPES[CONV], (1, 64))


def tiny_net() -> bytes:
    """[1, 64] to [1, 10]: one matrix, a few microseconds."""
    weights = {"w": np.linspace(-1, 1, 640, dtype=np.float32).reshape(64, 10)}
    return _model(TINY, [_Node(operator="MatMul", takes=(INPUT, "w"), gives=OUTPUT)], weights, SHAPES[TINY], (1, 10))


def write_models(repository: Path) -> None:
    """Puts both into a repository of the gateway's."""
    for name, content in ((CONV, conv_net()), (TINY, tiny_net())):
        place = repository / name / "1" / "cpu"
        place.mkdir(parents=True, exist_ok=True)
        (place / "m.onnx").write_bytes(content)
        (repository / name / "model.yaml").write_text(
            f"schema: nearhall/model/v1\nname: {name}\ntask: tensors\nlicence: none\nsource: made by nearhall bench\n"
            "versions: {'1': {variants: {cpu: {runtime: onnxruntime, file: m.onnx}}}}\n"
            "default_version: '1'\ndefault_variant: cpu\n"
        )


def example(shape: Sequence[int]) -> npt.NDArray[Any]:
    """Values of four digits, as a sensor's after scaling: JSON of honest length."""
    return np.random.default_rng(2).random(tuple(shape), dtype=np.float32).round(4)


def _model(name: str, nodes: Sequence[_Node], weights: dict[str, Weights], takes: Sequence[int], gives: Sequence[int]) -> bytes:
    """ModelProto (onnx.proto): ir_version 1, graph 7, opset_import 8."""
    graph = b"".join(chunk(1, _node(node)) for node in nodes)
    graph += chunk(2, name)
    graph += b"".join(chunk(5, _tensor(key, value)) for key, value in weights.items())
    graph += chunk(11, _value(INPUT, takes)) + chunk(12, _value(OUTPUT, gives))
    return number(1, _IR_VERSION) + chunk(7, graph) + chunk(8, chunk(1, "") + number(2, _OPSET))


def _node(node: _Node) -> bytes:
    """NodeProto: input 1, output 2, op_type 4, attribute 5 (AttributeProto: name 1, ints 8, type 20)."""
    out = b"".join(chunk(1, name) for name in node.takes) + chunk(2, node.gives) + chunk(4, node.operator)
    for name, values in node.lengths:
        out += chunk(5, chunk(1, name) + b"".join(number(8, value) for value in values) + number(20, _INTS))
    return out


def _tensor(name: str, values: Weights) -> bytes:
    """TensorProto: dims 1, data_type 2, name 8, raw_data 9 (little-endian)."""
    dims = b"".join(number(1, length) for length in values.shape)
    return dims + number(2, _FLOAT) + chunk(8, name) + chunk(9, values.astype("<f4").tobytes())


def _value(name: str, shape: Sequence[int]) -> bytes:
    """ValueInfoProto: name 1, type 2 (tensor_type 1: elem_type 1, shape 2: dim 1: dim_value 1)."""
    dims = b"".join(chunk(1, number(1, length)) for length in shape)
    return chunk(1, name) + chunk(2, chunk(1, number(1, _FLOAT) + chunk(2, dims)))
