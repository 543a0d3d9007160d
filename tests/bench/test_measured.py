"""What slices say together, and which of them say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.cli.roots.bench.measured import FAR_MAX, WAITED_MAX, Between, Outcome, Slice, figure, keep, quantile, row


def one(ms: float, n: int = 400, *, cpu_s: float | None = None, steal: float = 0.0, waited: float = 0.0) -> Slice:
    return Slice(latencies_ms=[ms] * n, took_s=n * ms / 1e3, cpu_s=cpu_s, steal=steal, waited=waited)


def between(ms: float, *, limit: float = 1.0, after: float | None = None, steal: float = 0.0, waited: float = 0.0) -> Between:
    last = one(limit if after is None else after, cpu_s=0.4, waited=waited)
    return Between(before=one(limit, cpu_s=0.4), slice=one(ms, cpu_s=0.6, steal=steal), after=last)


def test_a_ratio_is_to_the_limit_around_the_slice():
    pair = Between(before=one(1.0), slice=one(3.0), after=one(1.1))
    assert pair.ratio(lambda s: s.p50_ms) == pytest.approx(3.0 / 1.05)
    assert pair.added_ms(lambda s: s.p50_ms) == pytest.approx(1.95)
    assert pair.ratio(lambda s: s.cpu_ms) is None


def test_figures_are_medians_over_the_slices():
    found = row([between(1.4), between(1.5), between(1.6)])
    assert found is not None
    assert found.p50_ratio.value == pytest.approx(1.5)
    assert found.p50_ratio.low is None, "an interval needs six slices"
    assert found.cpu_ratio == pytest.approx(1.5)
    assert found.headline
    assert (found.slices, found.disturbed, found.unexplained) == (3, 0, 0)
    assert found.p99_ms is not None, "1,200 answers are enough for a p99"
    assert found.p99_ratio == pytest.approx(1.6)


def test_six_slices_have_an_interval():
    found = figure([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    assert (found.low, found.high) == (1.0, 1.5)
    with pytest.raises(ValueError, match="needs a value"):
        figure([])


@pytest.mark.parametrize(
    ("why", "pair"),
    [
        ("the limit is another afterwards", between(9.0, after=1.2)),
        ("the hypervisor took time", between(9.0, steal=0.1)),
        ("others ran on the core", between(9.0, waited=WAITED_MAX * 2)),
    ],
)
def test_a_slice_of_a_disturbed_machine_does_not_count(why: str, pair: Between):
    kept = keep([between(1.5), between(1.5), pair])
    assert (kept.disturbed, kept.unexplained, kept.headline) == (1, 0, True), why
    assert pair not in kept.used
    assert keep([between(1.5), between(1.5), between(1.5)]).disturbed == 0


@pytest.mark.parametrize("far", [1.5 * (1 + FAR_MAX) * 1.1, 1.5 * (1 - FAR_MAX) * 0.9])
def test_a_slice_that_nothing_explains_stays_out_of_the_headline_on_both_sides(far: float):
    kept = keep([between(1.5), between(1.5), between(1.5), between(far)])
    assert (kept.disturbed, kept.unexplained, kept.headline) == (0, 1, True)
    assert keep([between(1.5), between(1.5 * (1 + FAR_MAX) * 0.99)]).unexplained == 0


def test_where_most_slices_are_lost_nothing_is_a_headline():
    found = row([between(1.5), between(1.5, steal=0.5), between(1.5, steal=0.5)])
    assert found is not None
    assert not found.headline
    assert found.disturbed == 2


def test_without_an_answer_there_is_no_row():
    silent = Between(before=one(1.0), slice=Slice(latencies_ms=[], took_s=1.0, refused=7), after=one(1.0))
    assert row([silent]) is None
    assert row([]) is None
    assert silent.slice.p50_ms == 0.0
    assert silent.slice.cpu_ms is None


def test_a_short_run_has_no_p99():
    found = row([Between(before=one(1.0, 50), slice=one(2.0, 50), after=one(1.0, 50))])
    assert found is not None
    assert (found.p99_ms, found.p99_ratio) == (None, None)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_in_the_sample(values: list[float], share: float):
    ordered = sorted(values)
    assert ordered[0] <= quantile(ordered, share) <= ordered[-1]
    assert quantile(ordered, 0) == ordered[0]
    assert quantile(ordered, 1) == ordered[-1]


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0, 0.1)), min_size=1, max_size=12))
def test_every_slice_is_used_or_counted(given_: list[tuple[float, float, float, float]]):
    pairs = [between(ms, limit=first, after=last, steal=steal) for ms, first, last, steal in given_]
    kept = keep(pairs)
    if kept.headline:
        assert len(kept.used) + kept.disturbed + kept.unexplained == len(pairs)
        assert len(kept.used) * 2 >= len(pairs)
    else:
        assert len(kept.used) == len(pairs)


def test_an_outcome_counts_what_was_offered():
    outcome = Outcome(
        kind="all",
        offered=10,
        answered=6,
        in_deadline=5,
        refused=3,
        lost=1,
        seconds=2.0,
        latencies_ms=[1.0] * 6,
        refusal_p50_ms=0.5,
    )
    assert outcome.in_deadline_share == 0.5
    assert outcome.goodput_per_s == 2.5
    assert outcome.p99_ms is None
    assert outcome.plain()["refusal_p50_ms"] == 0.5
    nothing = Outcome(kind="x", offered=0, answered=0, in_deadline=0, refused=0, lost=0, seconds=1.0, latencies_ms=[0.1] * 1000)
    assert nothing.in_deadline_share == 0.0
    assert nothing.plain()["p99_ms"] == 0.1
