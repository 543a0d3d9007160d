"""The median's interval holds what it promises."""

from __future__ import annotations

from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.statistics import median_interval


def coverage(n: int, rank: int) -> float:
    """P(the r-th and the (n+1-r)-th of n values enclose the median), exactly."""
    return 1 - 2 * sum(comb(n, k) for k in range(rank)) / 2**n


@pytest.mark.parametrize(
    ("n", "rank"),
    [(6, 1), (7, 1), (8, 1), (9, 2), (10, 2), (12, 3), (15, 4), (20, 6), (25, 8), (30, 10), (50, 18), (100, 40)],
)
def test_the_ranks_are_those_of_the_tables(n: int, rank: int):
    """Conover, Practical Nonparametric Statistics, table of the sign test's confidence limits."""
    found = median_interval([float(k) for k in range(1, n + 1)])
    assert found is not None
    assert (found.low, found.high) == (rank, n + 1 - rank)
    assert coverage(n, rank) >= 0.95
    assert coverage(n, rank + 1) < 0.95


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_too_few_values_have_a_median_and_no_interval(n: int):
    found = median_interval([1.0] * n)
    assert found is not None
    assert (found.value, found.low, found.high, found.n) == (1.0, None, None, n)


def test_nothing_has_no_median():
    assert median_interval([]) is None


@pytest.mark.parametrize(("values", "middle"), [([3, 1, 2], 2), ([4, 1, 2, 3], 2.5), ([5], 5)])
def test_the_middle(values: list[float], middle: float):
    found = median_interval(values)
    assert found is not None
    assert found.value == middle


@pytest.mark.parametrize("n", [199, 200, 201, 500, 2001])
def test_large_samples_keep_the_promise(n: int):
    found = median_interval([float(k) for k in range(1, n + 1)])
    assert found is not None
    assert found.low is not None
    assert coverage(n, int(found.low)) >= 0.95
    assert coverage(n, int(found.low) + 3) < 0.95


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_the_interval_holds_the_median(values: list[float]):
    found = median_interval(values)
    assert found is not None
    assert min(values) <= found.value <= max(values)
    if found.low is not None and found.high is not None:
        assert found.low <= found.value <= found.high


def test_nineteen_of_twenty_intervals_hold_the_true_median():
    draw = Random(1)
    held = 0
    for _ in range(1000):
        found = median_interval([draw.expovariate(1.0) for _ in range(40)])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.693147 <= found.high
    assert 940 <= held <= 985
