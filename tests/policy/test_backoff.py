"""How long is waited after crashes and lost links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.backoff import (
    HEALTHY_S,
    RESTART_S,
    RETRY_LEAST_S,
    RETRY_MOST_S,
    crashes_after,
    restart_wait_s,
    retry_wait_s,
)


@pytest.mark.parametrize(
    ("crashes", "wait_s"), [(0, 0.0), (1, 0.0), (2, 0.2), (3, 0.5), (4, 1.0), (5, 2.0), (6, 5.0), (7, 10.0), (1000, 10.0)]
)
def test_a_crash_loop_slows_down_to_ten_seconds(crashes: int, wait_s: float):
    assert restart_wait_s(crashes) == wait_s


def test_a_minute_of_health_starts_the_row_anew():
    assert crashes_after(6, HEALTHY_S) == 1
    assert crashes_after(6, HEALTHY_S - 0.1) == 7


@given(lives=st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_whatever_the_lives_the_wait_is_in_the_row(lives: list[float]):
    crashes = 0
    for lived_s in lives:
        crashes = crashes_after(crashes, lived_s)
        assert restart_wait_s(crashes) in RESTART_S
        assert crashes >= 1


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50))
def test_retries_are_never_busy_and_never_later_than_the_drain_allows(draws: list[float]):
    wait = 0.0
    for draw in draws:
        wait = retry_wait_s(wait, draw)
        assert RETRY_LEAST_S <= wait <= RETRY_MOST_S


def test_the_draw_spreads_sites_apart():
    assert retry_wait_s(0.5, 0.0) < retry_wait_s(0.5, 0.5) < retry_wait_s(0.5, 0.99)
