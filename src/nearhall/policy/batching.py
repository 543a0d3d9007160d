"""Which batch sizes pay, by a curve measured on this very device, of this very file; how many of those who wait run together.

On a CPU a batch of a convolutional net gives as many items a second as they give one by one (measured: 1.00 times on two
cores), and makes the first of them wait for the last. On a GPU, and for products of matrices, it may pay several times over.
There a change of shape may cost more than the runs themselves: then runs keep the shape that they have, padded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


CHANGES = 2.0
"""Changes of shape, to and back, that the time spent on padding must have come to before a run becomes smaller again: who rents
until the rent has reached the price pays about twice at most what the best foresight would have cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The shapes that a runtime is to be kept in, for one that plans anew whenever the batch is not the last one's."""

    run_ms: Mapping[int, float]
    """A run of each size that may be used, 1 among them."""
    change_ms: float
    """What a run takes more where the one before it had another size."""

    def __post_init__(self) -> None:
        if 1 not in self.run_ms or min(self.run_ms) < 1:
            raise ValueError(f"sizes from 1 on are right, not {sorted(self.run_ms)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The size of the last run, and what has been wasted since a run needed so many rows."""

    rows: int = 1
    needed: int = 0
    """The largest size that a run needed since."""
    wasted_ms: float = 0.0

    def for_rows(self, rows: int, shapes: Shapes) -> Shape:
        """The shape in which so many rows are to run: it holds as many at least.

        It grows at once, to the least size that holds them. It stays while less is needed, until what that wastes has come to
        `CHANGES` changes; then it falls to what was needed meanwhile. More rows than the largest size run as they are.
        """
        least = min((size for size in shapes.run_ms if size >= rows), default=rows)
        if least >= self.rows or self.rows not in shapes.run_ms:
            return Shape(rows=least)
        needed = max(self.needed, least)
        wasted_ms = self.wasted_ms + max(0.0, shapes.run_ms[self.rows] - shapes.run_ms[least])
        if wasted_ms > CHANGES * shapes.change_ms:
            return Shape(rows=needed)
        return Shape(rows=self.rows, needed=needed, wasted_ms=wasted_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One request that could join the run that begins now, in the order of the queue."""

    rows: int
    """Its own batch."""
    input_bytes: int
    deadline_ms: float | None
    """On the lane's clock; None: it has none."""


def together(waiting: Sequence[Waiting], *, rows_max: int, now_ms: float, expected_ms: Callable[[int], float]) -> int:
    """How many of `waiting`, from its head, run as one: at least the first.

    `rows_max`: the largest batch that pays; `expected_ms`: what a run takes, by the bytes of all its inputs. A request joins
    only while the run of all of them still ends within every deadline in it: throughput is never bought with a miss.
    """
    rows, size, earliest, count = 0, 0, float("inf"), 0
    for one in waiting:
        rows += one.rows
        size += one.input_bytes
        earliest = min(earliest, float("inf") if one.deadline_ms is None else one.deadline_ms)
        if count and (rows > rows_max or now_ms + expected_ms(size) > earliest):
            break
        count += 1
    return count


def _items_per_s(point: Point) -> float:
    return point.batch * 1e3 / point.p50_ms if point.p50_ms > 0 else inf


def _within(point: Point, p90_ms_max: float) -> bool:
    """A p90 that nobody could tell is within no limit but none."""
    return p90_ms_max == inf or (point.p90_ms is not None and point.p90_ms <= p90_ms_max)
