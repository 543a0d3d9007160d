"""When requests arrive: open loop, so that a slow answer never holds up the next question (no coordinated omission)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random


def poisson(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds from the start to each arrival of a Poisson process: people, and parts on a line."""
    draw = Random(seed)  # noqa: S311 (a repeatable rehearsal, no secret)
    at = 0.0
    while True:
        at += draw.expovariate(rate_per_s)
        yield at


def steady(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds to each arrival of a clocked source, a camera or a microphone, from a random phase."""
    phase = Random(seed).random() / rate_per_s  # noqa: S311
    for number in count():
        yield phase + number / rate_per_s
