"""ONNX Runtime behind `ports.runtime.TensorRuntime`.

One thread and no spinning by default: spinning costs four to six times the CPU at 50 requests a second to save 0.13 ms
(measured on two cores; the session option is ONNX Runtime's `session.intra_op.allow_spinning`).
"""

# onnx, onnxruntime and scikit-learn come without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, Tensor, TensorSpec
from nearhall.drivers.arrays import DTYPES, to_array, to_tensor
from nearhall.drivers.cuda import load_cuda_libraries, named_device, why_no_device
from nearhall.drivers.onnx_device import NO_ROOM, Placing, place, plain_fault, settle
from nearhall.ports.runtime import ModelFile

_TYPES: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": BYTES,
}
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


class OnnxRuntime:
    """A session on the CPU or, where model.yaml says so and the machine has one, on an NVIDIA device."""

    def __init__(self, file: ModelFile) -> None:
        """Loads the file; raises PermanentError naming what is not supported, or why a demanded device cannot be used."""
        session, placing = _placed(file)
        self._session: Any = session
        self.device = "cpu" if placing.device == "cpu" else named_device(placing.device)
        """Where it really runs: `cpu`, or `cuda:` and the device's name, since what one kind of device measured says nothing of
        another."""
        self.concurrent = self.device == "cpu"
        """ONNX Runtime's sessions may be run from several threads (its documentation of `InferenceSession`). On a device each
        thread would hold handles and workspace of its own, for runs that take turns all the same: batches are what pays there."""
        self.note = placing.note
        """Why it does not run on the device that it might have used; empty where there is nothing to say."""
        self._inputs = tuple(_spec(node, file) for node in self._session.get_inputs())
        self._outputs = tuple(_spec(node, file) for node in self._session.get_outputs())

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What the model takes."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What the model gives."""
        return self._outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """Runs once; the caller has checked names, types and shapes against the specs."""
        feeds = {tensor.name: to_array(tensor) for tensor in inputs}
        names = list(outputs) or [spec.name for spec in self._outputs]
        try:
            results = self._session.run(names, feeds)
        except UnicodeEncodeError as error:
            raise Refusal(Reason.BAD_REQUEST, _no_text(inputs)) from error
        except Exception as error:
            said, text = str(error), plain_fault(error)
            if "INVALID_ARGUMENT" in said or "Got invalid dimensions" in said:
                raise Refusal(Reason.BAD_REQUEST, f"the model does not take this input: {text}") from error
            if self.device != "cpu" and NO_ROOM in said:
                what = f"{self.device} has too little memory for this input in one run (options.gpu_memory_mib)"
                raise Refusal(Reason.BAD_REQUEST, f"{what}: {text}") from error
            raise PermanentError(f"ONNX Runtime failed: {text}") from error
        return [to_tensor(name, np.asarray(value)) for name, value in zip(names, results, strict=True)]

    def close(self) -> None:
        """Frees the session."""
        self._session = None


def _no_text(inputs: Sequence[Tensor]) -> str:
    """Which element of BYTES is no text. The runtime's own strings hold any bytes; its Python module takes text alone."""
    for tensor in inputs:
        for index, row in enumerate(tensor.rows or ()):
            try:
                row.decode()
            except UnicodeDecodeError:
                return (
                    f"input {tensor.name!r}: element {index} of its BYTES is not UTF-8, and ONNX Runtime takes text; send numbers"
                )
    return "an element of BYTES is not UTF-8, and ONNX Runtime takes text"


def _placed(file: ModelFile) -> tuple[Any, Placing]:
    """The session and where it really runs."""
    missing: list[str] = []

    def prepare() -> None:
        ort.set_default_logger_severity(4)  # what is missing is said in our own words
        missing.extend(load_cuda_libraries(getattr(ort, "cuda_version", "")))

    return settle(
        place(file.options, ort.get_available_providers()),
        prepare=prepare,
        open_session=lambda placing: _session(file, placing),
        why=lambda: why_no_device(missing),
    )


def _session(file: ModelFile, placing: Placing) -> Any:
    """Opens it; raises PermanentError with the first line of what ONNX Runtime said."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = file.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.graph_optimization_level = _LEVELS[file.options.get("optimization", "all")]
    options.log_severity_level = 4  # what it would write in many lines comes as an exception as well
    try:
        # Without its own fallback, which prints to standard output and runs on the CPU with other options than ours.
        return ort.InferenceSession(file.path, options, providers=list(placing.providers), enable_fallback=0)
    except Exception as error:  # onnxruntime raises its own family and plain RuntimeError alike
        raise PermanentError(f"ONNX Runtime cannot load {file.path}: {plain_fault(error)}") from error


def _spec(node: Any, file: ModelFile) -> TensorSpec:
    dtype = _TYPES.get(node.type)
    if dtype is None or (dtype != BYTES and dtype not in DTYPES):
        raise PermanentError(f"{file.path}: {node.name!r} has type {node.type}, which the v2 protocol has no name for")
    shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in node.shape)
    return TensorSpec(node.name, dtype, shape)
