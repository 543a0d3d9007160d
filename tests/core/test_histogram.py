"""Histograms that add up, with a bounded error."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.histogram import RELATIVE_ERROR, SAMPLES_NEEDED, Histogram

values = st.floats(min_value=1e-5, max_value=1e9)
samples = st.lists(values, max_size=200)


def _of(numbers: list[float]) -> Histogram:
    histogram = Histogram()
    for number in numbers:
        histogram.add(number)
    return histogram


@given(numbers=st.lists(values, min_size=1, max_size=200), q=st.floats(0, 1))
def test_a_quantile_is_within_half_a_percent(numbers: list[float], q: float):
    exact = sorted(numbers)[max(1, ceil(q * len(numbers))) - 1]
    found = _of(numbers).quantile(q)
    assert found is not None
    assert abs(found - exact) <= exact * RELATIVE_ERROR * (1 + 1e-6)


@given(a=samples, b=samples)
def test_merging_is_adding_everything_to_one(a: list[float], b: list[float]):
    both, merged = _of(a + b), _of(a)
    merged.merge(_of(b))
    assert (merged.counts, merged.n) == (both.counts, both.n)
    assert merged.total == pytest.approx(both.total)


@given(a=samples, b=samples)
def test_what_was_added_since_is_what_was_added_since(a: list[float], b: list[float]):
    earlier = _of(a)
    later = Histogram(earlier.counts, earlier.total)
    later.merge(_of(b))
    since = later.minus(earlier)
    assert (since.counts, since.n) == (_of(b).counts, len(b))
    assert since.total == pytest.approx(sum(b), abs=1e-6 * (1 + earlier.total))
    assert _of(a).counts == earlier.counts, "the earlier one is left as it was"


@given(numbers=samples, limit=values)
def test_the_share_within_a_limit_is_right_to_a_buckets_width(numbers: list[float], limit: float):
    share = _of(numbers).share_within(limit)
    if not numbers:
        assert share is None
        return
    assert share is not None
    wide = 1 + 3 * RELATIVE_ERROR
    surely = sum(number <= limit / wide for number in numbers) / len(numbers)
    perhaps = sum(number <= limit * wide for number in numbers) / len(numbers)
    assert surely <= share <= perhaps


def test_nothing_has_no_quantile():
    assert Histogram().quantile(0.5) is None
    assert Histogram().reported(0.5) is None


def test_a_clock_that_stepped_back_counts_as_zero():
    histogram = _of([-5.0, 0.0])
    assert histogram.n == 2
    assert histogram.total == 0.0
    assert histogram.quantile(0.5) == pytest.approx(1e-6, rel=0.01)


@pytest.mark.parametrize(("q", "needed"), SAMPLES_NEEDED.items())
def test_a_quantile_is_not_reported_below_its_sample_size(q: float, needed: int):
    assert _of([1.0] * (needed - 1)).reported(q) is None
    assert _of([1.0] * needed).reported(q) == pytest.approx(1.0, rel=RELATIVE_ERROR)


def test_a_quantile_nobody_named_needs_one_sample():
    assert _of([2.0]).reported(0.25) == pytest.approx(2.0, rel=RELATIVE_ERROR)


def test_counts_from_the_wire_are_copied():
    wire = {3: 2}
    histogram = Histogram(wire, 1.0)
    histogram.add(1.0)
    assert wire == {3: 2}
    assert histogram.n == 3
    assert Histogram({1: 5}).quantile(2.0) == Histogram({1: 5}).quantile(1.0), "a share above one is all of it"
