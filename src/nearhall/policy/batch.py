"""How many of the waiting requests a lane runs together: only as many as pay by the measured curve and keep their deadlines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


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
