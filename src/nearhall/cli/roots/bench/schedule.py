"""What is measured when: slices in turn, and arrivals that do not wait for answers."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

Subject = TypeVar("Subject", bound=Hashable)


def interleaved(subjects: Sequence[Subject], rounds: int) -> Iterator[tuple[int, Subject]]:
    """Round and subject of each slice; every slice lies between two slices of the limit, which the caller takes.

    Each round begins with the next subject, so that nobody always follows the same one.
    """
    for turn in range(rounds):
        shift = turn % len(subjects) if subjects else 0
        for subject in [*subjects[shift:], *subjects[:shift]]:
            yield turn, subject


def poisson(rate_per_s: float, seconds: float, seed: int) -> list[float]:
    """Arrival times in seconds from the start, of clients that know nothing of each other (exponential gaps)."""
    draw = random.Random(seed)  # noqa: S311 (a load, not a secret)
    times: list[float] = []
    at = draw.expovariate(rate_per_s)
    while at < seconds:
        times.append(at)
        at += draw.expovariate(rate_per_s)
    return times


def kinds(shares: Sequence[float], count: int, seed: int) -> list[int]:
    """Which kind of request each arrival is, drawn with these shares."""
    draw = random.Random(seed ^ 0x5EED)  # noqa: S311 (a load, not a secret)
    return draw.choices(range(len(shares)), weights=shares, k=count)
