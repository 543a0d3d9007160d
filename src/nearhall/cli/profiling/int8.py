"""Writes a model's int8 form with ONNX Runtime's quantiser, around what of it fails on real models.

Seen to fail: per-channel scales in models older than opset 13, whose DequantizeLinear has no axis; its own adjustment of biases
(1.32); symbolic shape inference where shapes depend on data. So opsets are raised first, shapes are inferred without symbols, and
where scales by channel fail, in the library or when the result is loaded, one scale a tensor is tried.
"""

# onnx and onnxruntime come without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from nearhall.cli.profiling.feeds import Feed
from nearhall.core.errors import PermanentError

Way = Literal["static", "dynamic"]
OPSET_MIN, OPSET = 13, 17
"""Scales by channel begin with 13; 17 is read by every ONNX Runtime since 1.12."""
MATRICES = frozenset({"MatMul", "Gemm", "Attention", "LSTM", "GRU"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
QUANTISED = ("Conv", "MatMul", "Gemm")
"""What static quantisation touches. Everything else stays as it is: it costs accuracy there, and gains nothing."""
QUANTISED_DYNAMICALLY = ("MatMul", "Gemm", "LSTM", "Attention", "Gather", "EmbedLayerNormalization")
"""What dynamic quantisation touches, within branches too; convolutions with ranges found anew for each input are slow."""
INT8_MARKS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM"}
)
"""A model with none of these is no int8 model, whatever its file is called."""


def make_int8(source: Path, target: Path, way: Way, calibration: Sequence[Feed]) -> bool:
    """Writes the int8 file; returns whether its scales are by channel. Raises PermanentError in words where that fails."""
    prepared = target.parent / "prepared.onnx"
    try:
        with _quiet():
            _prepare(source, prepared)
            try:
                _write(prepared, target, way, calibration, per_channel=True)
                per_channel = True
            except Exception:  # the library raises whatever went wrong inside
                _write(prepared, target, way, calibration, per_channel=False)
                per_channel = False
    except Exception as error:  # likewise
        raise PermanentError(f"ONNX Runtime cannot quantise {source.name}: {_first_line(error)}") from error
    finally:
        prepared.unlink(missing_ok=True)
    if not kinds_of(target) & INT8_MARKS:
        hidden = (kinds_of(source) - kinds_of(source, branches=False)) & set(QUANTISED)
        where = f" (its {', '.join(sorted(hidden))} lie within branches, which --dynamic alone reaches)" if hidden else ""
        raise PermanentError(f"nothing in {source.name} can be quantised{where}; nothing was kept")
    return per_channel


def kinds_of(path: Path, *, branches: bool = True) -> frozenset[str]:
    """The kinds of operators in a model, those within its branches and loops included or not."""
    import onnx

    def of(graph: Any) -> set[str]:
        found: set[str] = {node.op_type for node in graph.node}
        inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")] if branches else []
        return found.union(*map(of, inner))

    return frozenset(of(onnx.load(str(path), load_external_data=False).graph))


def _write(source: Path, target: Path, way: Way, calibration: Sequence[Feed], *, per_channel: bool) -> None:
    """Quantises and loads the result once, since not all that is written can be loaded."""
    import onnxruntime as ort

    if way == "static":
        _static(source, target, calibration, per_channel=per_channel)
    else:
        _dynamic(source, target, per_channel=per_channel)
    ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])


def _prepare(source: Path, target: Path) -> None:
    """The opset raised, shapes inferred, constants folded; each only where it succeeds."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    shutil.copyfile(source, target)
    try:
        model = onnx.load(str(source))
        if max((each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}), default=OPSET) < OPSET_MIN:
            onnx.save_model(version_converter.convert_version(model, OPSET), str(target))
    except Exception:  # the library raises whatever went wrong inside
        shutil.copyfile(source, target)
    try:
        quant_pre_process(str(target), str(target), skip_symbolic_shape=True)
    except Exception:  # likewise: the quantiser then does without
        if not target.is_file():
            shutil.copyfile(source, target)


def _static(source: Path, target: Path, calibration: Sequence[Feed], *, per_channel: bool) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(source),
        str(target),
        _reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        # Seven bits of weight: without VNNI two products of 8 bits overflow 16 bits on x86 (ONNX Runtime, "Quantize models").
        reduce_range=not _has_vnni(),
    )


def _dynamic(source: Path, target: Path, *, per_channel: bool) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(source),
        str(target),
        op_types_to_quantize=list(QUANTISED_DYNAMICALLY),
        per_channel=per_channel,
        weight_type=QuantType.QInt8,
        reduce_range=not _has_vnni(),
        extra_options={"EnableSubgraph": True},
    )


def _has_vnni() -> bool:
    """Whether the CPU multiplies 8 bit numbers into 32 bits; other architectures than x86 do."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(errors="replace") if info.exists() else ""
    return "vnni" in text or "flags\t" not in text


def _reader(calibration: Sequence[Feed]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Hands one feed after the other to the calibration."""

        def __init__(self) -> None:
            self._rest = iter(calibration)

        def get_next(self) -> Any:
            """The next feed; None at the end."""
            feed = next(self._rest, None)
            return None if feed is None else dict(feed)

    return Reader()


@contextmanager
def _quiet() -> Generator[None]:
    """The library warns by the root logger, by warnings and in C of what we have decided already."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
