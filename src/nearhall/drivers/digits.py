"""The inspection model: a classifier of handwritten digits, trained at set-up from the data that scikit-learn ships.

It stands for a factory line's inspection: one small grey image in, a class out, an answer expected within milliseconds.
Trained with a fixed seed and exported to ONNX; the held-out accuracy is written beside it.
"""

# onnx, onnxruntime and scikit-learn come without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

HELD_OUT = 0.4
SEED = 0
LAYERS = (256, 256)
ITERATIONS = 60
OPSET = 18
IR_VERSION = 9
"""Read by every ONNX Runtime since 1.15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedDigits:
    """The model's file and how well it does on images it was not trained on."""

    onnx: bytes
    accuracy: float
    held_out: int


def train_digits() -> TrainedDigits:
    """Trains and exports: input `image` FP32 [-1, 64] (8x8 grey levels from 0 to 1), output `logits` FP32 [-1, 10]."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    train_x, test_x, train_y, test_y = _parted()
    model = MLPClassifier(LAYERS, max_iter=ITERATIONS, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 iterations reach 98 % held out; more gain nothing
        model.fit(train_x, train_y)
    accuracy = float(np.mean(model.predict(test_x) == test_y))
    return TrainedDigits(onnx=_export(model.coefs_, model.intercepts_), accuracy=accuracy, held_out=len(test_y))


def held_out_digits() -> npt.NDArray[np.float32]:
    """The images that it is not trained on: (n, 64), grey levels from 0 to 1."""
    return _parted()[1]


def _parted() -> tuple[Any, Any, Any, Any]:
    """(images to train on, images held out, their labels likewise)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16).astype(np.float32)
    parts: Any = train_test_split(scaled, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels)
    return parts[0], parts[1], parts[2], parts[3]


def _export(weights: Any, biases: Any) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []
    at = "image"
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"b{layer}"))
        out = "logits" if layer == last else f"sum{layer}"
        nodes.append(helper.make_node("Gemm", [at, f"w{layer}", f"b{layer}"], [out]))
        if layer != last:
            nodes.append(helper.make_node("Relu", [out], [f"act{layer}"]))
            at = f"act{layer}"
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model.SerializeToString()
