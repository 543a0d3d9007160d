"""Slices in turn, arrivals that wait for nobody."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.cli.roots.bench.schedule import interleaved, kinds, poisson


@given(st.integers(0, 6), st.integers(1, 9))
def test_each_round_has_every_subject_once_and_begins_with_the_next(subjects: int, rounds: int):
    names = list(range(subjects))
    found = list(interleaved(names, rounds))
    assert Counter(found) == Counter((turn, name) for turn in range(rounds) for name in names)
    firsts = [next(name for turn, name in found if turn == wanted) for wanted in range(rounds) if names]
    assert firsts == [turn % subjects for turn in range(rounds) if names]


@given(st.floats(1, 5000), st.floats(0.1, 5), st.integers(0, 1000))
def test_arrivals_rise_and_lie_within_the_time(rate: float, seconds: float, seed: int):
    times = poisson(rate, seconds, seed)
    assert times == sorted(times)
    assert all(0 <= at < seconds for at in times)
    assert times == poisson(rate, seconds, seed)


def test_arrivals_are_a_poisson_process():
    times = poisson(1000.0, 100.0, 3)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1e-3, rel=0.02)
    assert spread == pytest.approx(mean, rel=0.03), "of exponential gaps, deviation and mean are the same"


def test_kinds_come_in_their_shares():
    found = Counter(kinds([0.2, 0.8], 20_000, 5))
    assert found[0] == pytest.approx(4000, rel=0.05)
    assert set(found) == {0, 1}
