"""How a tensor model becomes a lane: warmed up, with threads for the cores that there are, and batches where a curve says so.

The curve is the profile's, if that was measured on this device with this very file. Where it is of another device and said that
batches pay there, or where the device is no CPU and nobody measured it, the curve is measured again, here and now. So it is for a
model that takes texts: what a profile says of it depends on how long its samples were.
"""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nearhall.core.errors import NearhallError
from nearhall.core.tensor import BYTES, Tensor
from nearhall.gateway.models.profiles import read_curve
from nearhall.gateway.models.samples import Example, warm_up_samples
from nearhall.gateway.queues.batches import joined, takes_batches, takes_texts
from nearhall.policy.batching import Curve, Point, Runs, Shapes, batching, device_key
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import ModelFile, TensorRuntime
from nearhall.wire.oip_tensors import pack_rows

log = logging.getLogger("nearhall.gateway")

WARM_UPS = 3
"""The first run allocates, the second settles; the last one is the estimate."""
SIZES = (1, 2, 4, 8, 16, 32)
TEXT = b"The pump in hall two is louder than last week, and the spare bearing has not come yet."
"""What batches of texts are measured with: about as long as a question or a line of a log."""
CURVE_RUNS = 20
CHANGES_TRIED = 3
"""Each from one size to another and back: as much as tells 10 ms from nothing."""
CURVE_S_MAX = 2.0
"""Measuring ends after this, with what is known by then: a model that takes so long is not served in batches anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """What this gateway may compute with."""

    count: int = 1
    """Whole cores that its control group leaves it: runs of one model that may go on at a time, a thread each."""
    cpu: str = ""
    """What kind they are; a curve of another kind does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a lane is made with."""

    sample: Sequence[Tensor] | None
    first_ms: float
    workers: int
    batch_rows_max: int
    shapes: Shapes | None = None
    """Where a change of shape is dear: what it is to be run in."""


def opened(runtime: TensorRuntime, file: ModelFile, examples: Mapping[str, Example], cores: Cores, clock: Clock) -> Opened:
    """Warms the model up and finds out how it is best run; blocks, so it is called in a thread."""
    sample, first_ms = warm_up(runtime, examples, clock)
    workers = max(1, cores.count // max(1, file.threads)) if getattr(runtime, "concurrent", False) else 1
    rows, shapes = 1, None
    if sample is not None and takes_batches(runtime.inputs, runtime.outputs):
        paying = _paying(runtime, file, sample, cores, clock)
        rows = max(paying, default=1)
        if rows > 1:
            log.info("model %s, variant %s: batches of up to %d pay on this device", file.model, file.variant, rows)
            shapes = _steady(runtime, sample, paying, clock)
        if shapes is not None:
            log.info(
                "model %s, variant %s: a new shape takes %.1f ms, so runs keep theirs", file.model, file.variant, shapes.change_ms
            )
    return Opened(sample=sample, first_ms=first_ms, workers=workers, batch_rows_max=rows, shapes=shapes)


def warm_up(runtime: TensorRuntime, examples: Mapping[str, Example], clock: Clock) -> tuple[Sequence[Tensor] | None, float]:
    """An input that the model took, and what a settled run with it takes, ms; a model that takes none of ours is let be."""
    for sample in warm_up_samples(runtime.inputs, examples):
        took = 0.0
        try:
            for _ in range(WARM_UPS):
                took = _run_ms(runtime, sample, clock)
        except NearhallError as error:
            log.info("warm-up: %s", error)
            continue
        return sample, took
    return None, 0.0


def _paying(runtime: TensorRuntime, file: ModelFile, sample: Sequence[Tensor], cores: Cores, clock: Clock) -> Mapping[int, float]:
    """The batch sizes that pay and what a run of each takes, ms, with that of 1; empty where none does."""
    device = device_key(str(getattr(runtime, "device", "cpu")), cores.cpu)
    if takes_texts(runtime.inputs):
        here = Runs(device=device, sha256="", threads=file.threads)
        return _of(measured_curve(runtime, _with_texts(sample), clock, of=here), here)
    path = Path(file.path)
    known = read_curve(path.parent)
    digest = "" if known is None else _sha256(path)
    here = Runs(device=device, sha256=digest, threads=file.threads)
    if known is not None and known.of == here:
        return _of(known, here)
    pays_elsewhere = known is not None and bool(batching(known, here=known.of))
    if not pays_elsewhere and device.startswith("cpu:"):
        return {}
    return _of(measured_curve(runtime, sample, clock, of=here), here)


def _of(curve: Curve, here: Runs) -> Mapping[int, float]:
    paying = batching(curve, here=here)
    return {point.batch: point.p50_ms for point in curve.points if paying and point.batch in {1, *paying}}


def _steady(runtime: TensorRuntime, sample: Sequence[Tensor], paying: Mapping[int, float], clock: Clock) -> Shapes | None:
    """What shapes to keep to, where a change of shape takes longer than a run; None where it does not, or nobody can tell.

    ONNX Runtime's CUDA provider has cuDNN plan a convolution anew whenever its input has not the shape that it had last.
    """
    one = _one_row(sample)
    if one is None or takes_texts(runtime.inputs):
        return None
    few, many = one, joined([one] * max(paying))
    more_ms: list[float] = []
    try:
        for inputs, usual_ms in [(few, paying[1]), (many, paying[max(paying)])] * CHANGES_TRIED:
            more_ms.append(_run_ms(runtime, inputs, clock) - usual_ms)
    except NearhallError as error:
        log.info("measuring changes of shape: %s", error)
        return None
    change_ms = statistics.median(more_ms[1:])  # the first may have found its shape there
    return Shapes(run_ms=dict(paying), change_ms=change_ms) if change_ms > paying[1] else None


def _one_row(sample: Sequence[Tensor]) -> list[Tensor] | None:
    """The sample as a batch of one; None where it is none."""
    one = [replace(tensor, shape=(1, *tensor.shape[1:])) for tensor in sample if tensor.shape[:1] == (1,)]
    return one if len(one) == len(sample) else None


def _with_texts(sample: Sequence[Tensor]) -> list[Tensor]:
    return [
        replace(tensor, shape=(1,), data=memoryview(pack_rows((TEXT,))), rows=(TEXT,)) if tensor.dtype == BYTES else tensor
        for tensor in sample
    ]


def measured_curve(runtime: TensorRuntime, sample: Sequence[Tensor], clock: Clock, *, of: Runs) -> Curve:
    """The model's latency over batch sizes, as far as it gets in `CURVE_S_MAX`."""
    ends_s = clock.monotonic() + CURVE_S_MAX
    one = _one_row(sample)
    points: list[Point] = []
    if one is None:
        return Curve(of=of, points=())
    for size in SIZES:
        inputs = joined([one] * size)
        took: list[float] = []
        try:
            while len(took) < CURVE_RUNS and (clock.monotonic() < ends_s or not took):
                took.append(_run_ms(runtime, inputs, clock))
        except NearhallError as error:
            log.info("measuring batches of %d: %s", size, error)
            break
        if len(took) < CURVE_RUNS:
            break
        points.append(Point(batch=size, p50_ms=statistics.median(took), p90_ms=statistics.quantiles(took, n=10)[-1]))
    return Curve(of=of, points=tuple(points))


def _run_ms(runtime: TensorRuntime, inputs: Sequence[Tensor], clock: Clock) -> float:
    begun = clock.monotonic()
    runtime.run(inputs, ())
    return (clock.monotonic() - begun) * 1e3


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
