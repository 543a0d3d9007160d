"""The median's interval, against the binomial tables and against samples of a known median."""

from __future__ import annotations

from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.statistics import EXACT_MAX, median_interval


def test_nothing_has_no_median():
    assert median_interval([]) is None


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(5, None, None), (6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (15, 4, 12), (20, 6, 15), (30, 10, 21), (50, 18, 33)],
)
def test_ranks_are_those_of_the_tables(n: int, low: int | None, high: int | None):
    # 95 % ranks of the sign test (e.g. Conover, table A3; the values are 1..n, so that a rank is its value).
    found = median_interval([float(value) for value in range(n, 0, -1)])
    assert found is not None
    assert (found.low, found.high) == (low, high)
    assert found.value == (n + 1) / 2
    assert found.n == n


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_the_interval_holds_the_samples_median(values: list[float]):
    found = median_interval(values)
    assert found is not None
    assert (found.low is None) == (found.high is None) == (len(values) < 6)
    if found.low is not None and found.high is not None:
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [25, EXACT_MAX + 101])
def test_it_holds_the_true_median_as_often_as_it_says(n: int, confidence: float):
    random = Random(7)
    held = 0
    runs = 2000
    for _ in range(runs):
        found = median_interval([random.expovariate(1.0) for _ in range(n)], confidence=confidence)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.6931472 <= found.high
    spread = 3 * (confidence * (1 - confidence) / runs) ** 0.5
    assert confidence - spread <= held / runs
    if n > EXACT_MAX:
        assert held / runs <= confidence + 0.03, "no wider than it has to be"


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [201, 250, 333, 500, 999])
def test_the_approximation_finds_the_exact_rank_or_its_neighbour(n: int, confidence: float):
    limit, total, exact = (1 - confidence) / 2 * 2**n, 0, 0
    while (total := total + comb(n, exact)) <= limit:
        exact += 1
    found = median_interval([float(value) for value in range(1, n + 1)], confidence=confidence)
    assert found is not None
    assert found.low is not None
    assert abs(found.low - exact) <= 1


def test_there_is_no_step_where_the_approximation_begins():
    for n in (EXACT_MAX - 1, EXACT_MAX, EXACT_MAX + 1, EXACT_MAX + 2):
        found = median_interval([float(value) for value in range(1, n + 1)])
        assert found is not None
        assert found.low is not None
        assert found.low == pytest.approx(n / 2 - 0.98 * n**0.5, abs=1.6)
