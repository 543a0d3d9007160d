"""OpenVINO behind `ports.runtime.TensorRuntime`: ONNX and TFLite files on the CPU, one thread by default."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov

from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.drivers.arrays import to_array, to_tensor
from nearhall.ports.runtime import ModelFile

_TYPES: dict[str, str] = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}

_core_lock = threading.Lock()


class OpenVinoRuntime:
    """A compiled model and one infer request, since a lane runs one request at a time."""

    def __init__(self, file: ModelFile) -> None:
        """Reads and compiles the file; raises PermanentError naming what is not supported."""
        settings = {"INFERENCE_NUM_THREADS": file.threads, "PERFORMANCE_HINT": file.options.get("performance_hint", "LATENCY")}
        try:
            with _core_lock:
                core: Any = ov.Core()
                self._compiled: Any = core.compile_model(core.read_model(file.path), "CPU", settings)
            self._request: Any = self._compiled.create_infer_request()
        except Exception as error:  # OpenVINO raises RuntimeError for everything
            raise PermanentError(f"OpenVINO cannot load {file.path}: {_first_line(error)}") from error
        self._inputs = tuple(_spec(port, file) for port in self._compiled.inputs)
        self._outputs = tuple(_spec(port, file) for port in self._compiled.outputs)

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What the model takes."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What the model gives."""
        return self._outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> Sequence[Tensor]:
        """Runs once; outputs are copied out of the request's own memory, which the next run reuses."""
        feeds = {tensor.name: to_array(tensor) for tensor in inputs}
        try:
            self._request.infer(feeds, share_inputs=True)
        except Exception as error:
            text = _first_line(error)
            if "shape" in text.lower():
                raise Refusal(Reason.BAD_REQUEST, f"the model does not take this input: {text}") from error
            raise PermanentError(f"OpenVINO failed: {text}") from error
        names = list(outputs) or [spec.name for spec in self._outputs]
        return [to_tensor(name, np.array(self._request.get_tensor(name).data)) for name in names]

    def close(self) -> None:
        """Frees the compiled model."""
        self._request = None
        self._compiled = None


def _spec(port: Any, file: ModelFile) -> TensorSpec:
    kind = port.get_element_type().get_type_name()
    dtype = _TYPES.get(kind)
    if dtype is None:
        raise PermanentError(f"{file.path}: {port.get_any_name()!r} has type {kind}, which the v2 protocol has no name for")
    shape = tuple(-1 if length.is_dynamic else length.get_length() for length in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), dtype, shape)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith("Exception from")]
    return lines[-1].strip() if lines else type(error).__name__
