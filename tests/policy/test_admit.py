"""The estimate settles near the p90, and what waits is added up."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.admit import (
    HALF_LIFE_S,
    MISSED_FALL,
    SIZES_MAX,
    STRAINED,
    USUAL_STEP,
    Estimate,
    ServiceTimes,
    beyond_ms,
    expected_ms,
    queue_full,
    size_class,
    still_worth,
    usual_share,
    way_ms,
)

milliseconds = st.floats(0, 1000, allow_nan=False)


def test_a_steady_stream_settles_between_its_median_and_its_maximum():
    draw = random.Random(7)
    estimate = Estimate(50.0)
    for _ in range(5000):
        estimate = estimate.seen(draw.uniform(1.0, 2.0))
    assert 1.6 < estimate.service_ms < 2.0


@given(milliseconds, milliseconds)
def test_an_observation_pulls_the_estimate_towards_itself_and_not_past(old: float, new: float):
    after = Estimate(old).seen(new).service_ms
    assert min(old, new) <= after <= max(old, new)


@given(st.lists(milliseconds), milliseconds, milliseconds, milliseconds)
def test_more_work_ahead_is_never_sooner(ahead: list[float], left: float, own: float, more: float):
    for workers in (1, 3):
        before = expected_ms(ahead_ms=ahead, running_left_ms=[left], workers=workers, own_ms=own)
        assert expected_ms(ahead_ms=[*ahead, more], running_left_ms=[left], workers=workers, own_ms=own) >= before >= own
        assert before <= expected_ms(ahead_ms=ahead, running_left_ms=[left], own_ms=own) + 1e-9


def test_a_runtime_that_is_overdue_counts_as_done():
    assert expected_ms(ahead_ms=[], running_left_ms=[-5.0], own_ms=1.0) == 1.0


def test_who_is_next_takes_the_worker_that_is_free_first():
    assert expected_ms(ahead_ms=[], running_left_ms=[5.0], workers=2, own_ms=1.0) == 1.0
    assert expected_ms(ahead_ms=[4.0], running_left_ms=[5.0, 3.0], workers=2, own_ms=1.0) == 6.0
    assert expected_ms(ahead_ms=[4.0, 4.0], running_left_ms=[5.0, 3.0], workers=2, own_ms=1.0) == 8.0
    assert expected_ms(ahead_ms=[2.0, 3.0], running_left_ms=[1.0], own_ms=1.0) == 7.0


def test_queue_bound():
    assert queue_full(8, 8)
    assert not queue_full(7, 8)


def test_what_is_worth_running_at_the_head_of_the_queue():
    assert still_worth(10.0, 12.0, 2.0, client_gone=False)
    assert still_worth(10.0, None, 1e9, client_gone=False)
    assert not still_worth(10.0, 11.0, 2.0, client_gone=False)
    assert not still_worth(10.0, None, 1.0, client_gone=True)


@given(st.floats(0, 1e4), st.floats(0, 100), st.floats(0, 100))
def test_an_estimate_that_is_not_put_to_the_test_wears_off(service_ms, unseen_s, longer_s):
    estimate = Estimate(service_ms)
    assert estimate.aged(-1.0) == estimate
    assert estimate.aged(unseen_s + longer_s).service_ms <= estimate.aged(unseen_s).service_ms <= service_ms


def test_an_estimate_that_was_too_high_is_corrected():
    """A limit of 1.5 ms, a service of 0.8 ms, an estimate of 20 ms from a bad moment: refusals end by themselves."""
    estimate, refused_s = Estimate(20.0), 0.0
    while estimate.aged(refused_s).service_ms > 1.5:
        refused_s += 0.1
    assert refused_s < 5.0
    estimate = estimate.aged(refused_s).seen(0.8)
    assert estimate.service_ms <= 1.5
    assert Estimate(800.0).aged(HALF_LIFE_S).service_ms > 750.0


def test_a_larger_input_has_an_estimate_of_its_own():
    times = ServiceTimes(Estimate(1.0), {size_class(100): Estimate(1.0)})
    small, large = size_class(100), size_class(100_000)
    assert times.of(large).service_ms == 1.0
    times = times.seen(large, 80.0)
    assert (times.of(small).service_ms, times.of(large).service_ms) == (1.0, 80.0)
    assert times.of(size_class(90_000)).service_ms == 80.0
    assert times.of(size_class(150)).service_ms == 1.0
    assert times.seen(large, 80.0, unseen_s=1000.0).of(large).service_ms < 80.0


@given(st.floats(0.01, 100), st.floats(1, 1e6))
def test_a_machine_that_stood_still_says_little_of_the_model(usual_ms: float, stopped_ms: float):
    times = ServiceTimes(Estimate(usual_ms)).seen(3, usual_ms)
    after = times.seen(3, usual_ms + stopped_ms).of(3).service_ms
    assert usual_ms <= after <= max(1.5 * usual_ms, usual_ms + 1)


def test_a_model_that_has_become_ten_times_slower_is_known_one_run_later():
    times, plain = ServiceTimes(Estimate(6)).seen(3, 6), Estimate(6)
    for run in range(10):
        times = times.seen(3, 60)
        plain = plain.seen(60) if run else plain
    assert times.of(3).service_ms > plain.service_ms > 35


def test_the_warm_up_is_believed_until_something_is_seen():
    times = ServiceTimes(Estimate(50.0))
    assert times.of(size_class(4)).service_ms == 50.0
    assert times.seen(size_class(4), 1.0).of(size_class(4)).service_ms == Estimate(50.0).seen(1.0).service_ms


@given(st.lists(st.tuples(st.integers(0, 1 << 40), milliseconds), max_size=60))
def test_the_sizes_that_are_told_apart_are_bounded(runs):
    times = ServiceTimes(Estimate(1.0))
    for size, took in runs:
        times = times.seen(size_class(size), took)
    assert len(times.by_class) <= SIZES_MAX + 1
    for size, _ in runs:
        assert times.of(size_class(size)) == times.by_class[size_class(size)]


@given(milliseconds, milliseconds, st.integers(1, 9))
def test_a_crowded_loop_and_what_was_missed_count_against_who_may_wait(turn_ms, aside_ms, rank):
    assert beyond_ms(turn_ms=turn_ms, aside_ms=aside_ms, rank=0) == turn_ms
    assert beyond_ms(turn_ms=turn_ms, aside_ms=aside_ms, rank=rank) >= turn_ms + aside_ms
    assert beyond_ms(turn_ms=0.0, aside_ms=0.0, rank=rank) == 0.0


@given(st.floats(0, 2), st.floats(0, 2), milliseconds)
def test_others_give_way_the_more_the_nearer_the_first_rank_comes_to_its_deadlines(strain, more, limit_ms):
    assert 0.0 <= way_ms(strain, limit_ms) <= way_ms(strain + more, limit_ms) <= limit_ms
    assert way_ms(min(strain, STRAINED), limit_ms) == 0.0
    assert way_ms(1.0 + strain, limit_ms) == limit_ms


def test_what_a_run_usually_takes_of_its_estimate_is_a_moving_mean():
    share = 1.0
    for _ in range(400):
        share = usual_share(share, 1.0, 2.0)
    assert share == pytest.approx(0.5, abs=0.01)
    assert usual_share(share, 5.0, 2.0) == share + USUAL_STEP * (1.0 - share), "no more than the whole"
    assert usual_share(share, 1.0, 0.0) == share


def test_the_longest_is_of_what_was_seen():
    assert ServiceTimes(Estimate(3.0)).longest_ms == 3.0
    assert ServiceTimes(Estimate(3.0), {1: Estimate(1.0), 9: Estimate(2.0)}).longest_ms == 2.0


def test_with_a_smaller_fall_it_settles_higher():
    draw = random.Random(1)
    usual = high = Estimate(1.0)
    for _ in range(5000):
        took_ms = draw.expovariate(1.0)
        usual, high = usual.seen(took_ms), high.seen(took_ms, fall=MISSED_FALL)
    assert high.service_ms > usual.service_ms > 1.0
