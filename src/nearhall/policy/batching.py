"""Which batch sizes pay: read off a curve that was measured on this very device, of this very file; without one, none.

On a CPU a batch of a convolutional net gives as many items a second as they give one by one (measured: 1.00 times on two
cores), and makes the first of them wait for the last. On a GPU, and for products of matrices, it may pay several times over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from nearhall.core.evidence import Kind

GAIN_MIN = 1.10
"""Items a second over those of batch 1. Less is within what two measurements of one thing differ on a busy machine, and would
buy waiting for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one batch size took, on the wall clock."""

    batch: int
    p50_ms: float
    p90_ms: float | None
    """None where too few runs were made to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What was measured, or is about to run: any difference between the two, and the measurement says nothing."""

    device: str
    """`cpu:<its name>` or `cuda:<its name>` (`device_key`)."""
    sha256: str
    """Of the model's file."""
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Latency over batch sizes, as a profile holds it."""

    of: Runs
    points: tuple[Point, ...]
    kind: Kind = Kind.MEASURED


def device_key(device: str, cpu: str) -> str:
    """The name under which measurements on a device are known: `cpu` is another device in each kind of CPU."""
    return f"cpu:{cpu}" if device == "cpu" else device


def batching(curve: Curve | None, *, here: Runs, p90_ms_max: float = inf) -> tuple[int, ...]:
    """The batch sizes above 1 that pay, smallest first; empty means: do not batch.

    A size pays where it gives at least `GAIN_MIN` times the items a second of batch 1, more than every smaller size that
    pays, and its p90 is within `p90_ms_max` (the workload's SLO less what a request waits anyway). A curve that is not
    measured, or is of another device, file or number of threads, pays nothing.
    """
    if curve is None or curve.kind is not Kind.MEASURED or curve.of != here:
        return ()
    points = sorted(curve.points, key=lambda point: point.batch)
    single = next((_items_per_s(point) for point in points if point.batch == 1), None)
    if single is None:
        return ()
    paying: list[int] = []
    best = single * GAIN_MIN
    for point in points:
        gives = _items_per_s(point)
        enough = gives > best if paying else gives >= best
        if point.batch > 1 and enough and _within(point, p90_ms_max):
            paying.append(point.batch)
            best = gives
    return tuple(paying)


def batch_now(paying: Sequence[int], waiting: int) -> int:
    """How many of `waiting` requests to run together now: the largest size that pays and is there, else one.

    Nobody waits for a batch to fill: a request that is alone runs alone.
    """
    return max(_reached(paying, waiting), default=1)


def _reached(paying: Iterable[int], waiting: int) -> Iterable[int]:
    return (size for size in paying if size <= waiting)


def _items_per_s(point: Point) -> float:
    return point.batch * 1e3 / point.p50_ms if point.p50_ms > 0 else inf


def _within(point: Point, p90_ms_max: float) -> bool:
    """A p90 that nobody could tell is within no limit but none."""
    return p90_ms_max == inf or (point.p90_ms is not None and point.p90_ms <= p90_ms_max)
