"""When requests arrive: open loop, so that a slow answer never holds up the next question (no coordinated omission)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random

BURST_FACTOR = 4.0
"""While parts come they come this much faster than on average. Assumed: no line was measured."""
BURST_PARTS = 8.0
"""Parts of a burst on average: about a tray. Assumed."""


def poisson(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds from the start to each arrival of a Poisson process: people, who do not know of each other."""
    draw = Random(seed)  # noqa: S311 (a repeatable rehearsal, no secret)
    at = 0.0
    while True:
        at += draw.expovariate(rate_per_s)
        yield at


def bursts(rate_per_s: float, seed: int, *, factor: float = BURST_FACTOR, parts: float = BURST_PARTS) -> Iterator[float]:
    """Seconds to each arrival of parts on a line: a Poisson process that is switched on and off, `rate_per_s` on average.

    On, it runs at `factor` (above 1) times the rate, for a random time in which `parts` arrive on average; off, for so long
    that the mean rate is kept. Both times are exponential, and it begins as if it had always run. Source: Kuczura, "The
    interrupted Poisson process as an overflow process", Bell System Technical Journal 52(3), 1973.
    """
    draw = Random(seed)  # noqa: S311
    fast_per_s = rate_per_s * factor
    on_s = parts / fast_per_s
    off_s = on_s * (factor - 1.0)
    begins, on = 0.0, draw.random() < 1.0 / factor
    while True:
        ends = begins + draw.expovariate(1.0 / (on_s if on else off_s))
        if on:
            at = begins + draw.expovariate(fast_per_s)
            while at < ends:
                yield at
                at += draw.expovariate(fast_per_s)
        begins, on = ends, not on


def steady(rate_per_s: float, seed: int) -> Iterator[float]:
    """Seconds to each arrival of a clocked source, a camera or a microphone, from a random phase."""
    phase = Random(seed).random() / rate_per_s  # noqa: S311
    for number in count():
        yield phase + number / rate_per_s
