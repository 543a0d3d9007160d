"""Coincidence: what is known of it, and what must hold of any fleet."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.grid.fleet import Likeness, LoadKind, coincidence_curve, fleet_day_w
from nearhall.planner.serving.day import SHAPES

SHOP = LoadKind(count=80, idle_w=60.0, swing_w=100.0, day=SHAPES["shop"])
NODE = LoadKind(count=40, idle_w=150.0, swing_w=150.0, day=SHAPES["evening"])


def test_one_site_coincides_with_itself():
    (one,) = coincidence_curve([SHOP], numbers=[1], likenesses=[Likeness(common=0.3)], seed=1, runs=5)
    assert (one.p10, one.p50, one.p90) == (1.0, 1.0, 1.0)


def test_sites_that_are_quite_alike_add_up_and_others_do_not():
    alike, strangers = coincidence_curve(
        [SHOP], numbers=[200], likenesses=[Likeness(common=1.0), Likeness(common=0.0, regional=0.0)], seed=1, runs=9
    )
    assert alike.p10 == pytest.approx(1.0, abs=1e-6)
    assert strangers.p50 < 0.75, "nothing is cut off at the top, so that strangers' peaks do not fall together"
    assert strangers.peak_w_p50 < alike.peak_w_p50


def test_it_falls_with_the_number_and_rises_with_what_is_common():
    numbers, commons = [1, 2, 5, 10, 20, 50, 100, 200], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    curve = coincidence_curve(
        [SHOP], numbers=numbers, likenesses=[Likeness(common=common, regional=0.0) for common in commons], seed=2, runs=40
    )
    medians = np.array([point.p50 for point in curve]).reshape(len(commons), len(numbers))
    assert np.all(np.diff(medians, axis=1) <= 0.005)
    assert np.all(np.diff(medians, axis=0) >= -0.005)
    assert medians[0, -1] < medians[0, 1] - 0.1
    assert medians[-1, -1] > medians[0, -1] + 0.2


@given(
    idle=st.floats(0, 500),
    swing=st.floats(1, 500),
    common=st.floats(0, 1),
    regional=st.floats(0, 1),
    regions=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=15, deadline=None)
def test_coincidence_is_above_nothing_and_at_most_one(
    idle: float, swing: float, common: float, regional: float, regions: int, seed: int
):
    curve = coincidence_curve(
        [LoadKind(count=1, idle_w=idle, swing_w=swing, day=SHAPES["office"])],
        numbers=[2, 7],
        likenesses=[Likeness(common=common, regional=regional, regions=regions)],
        seed=seed,
        runs=2,
    )
    assert all(0.0 < point.p10 <= point.p50 <= point.p90 <= 1.0 for point in curve)
    assert all(0.0 < point.peak_w_p50 <= point.peak_w_p90 for point in curve)


def test_permuting_the_kinds_and_splitting_one_changes_nothing():
    def of(kinds: list[LoadKind]) -> object:
        return coincidence_curve(kinds, numbers=[30, 120], likenesses=[Likeness(common=0.4)], seed=3, runs=3)

    half = LoadKind(count=40, idle_w=SHOP.idle_w, swing_w=SHOP.swing_w, day=SHOP.day)
    assert of([SHOP, NODE]) == of([NODE, SHOP]) == of([half, NODE, half])
    assert of([SHOP]) != of([NODE])


def test_a_smaller_fleet_is_part_of_a_larger_one():
    def at(numbers: list[int]) -> float:
        return coincidence_curve([SHOP], numbers=numbers, likenesses=[Likeness(common=0.4)], seed=3, runs=3)[0].p50

    assert at([10]) == at([10, 2000])


def test_ten_thousand_sites_stay_within_sixty_megabytes():
    """All at once they would take 27 MB for each of half a dozen copies."""
    tracemalloc.start()
    (many,) = coincidence_curve([SHOP, NODE], numbers=[10_000], likenesses=[Likeness(common=0.4)], seed=1, runs=1)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.0 < many.p50 < 1.0
    assert used < 60e6


def test_the_same_seed_gives_the_same_and_another_another():
    def of(seed: int) -> object:
        return coincidence_curve([SHOP], numbers=[10], likenesses=[Likeness(common=0.4)], seed=seed, runs=2)

    assert of(1) == of(1) != of(2)


def test_the_fleets_day_has_the_sites_shape_and_size():
    day = fleet_day_w([SHOP], likeness=Likeness(common=0.4), seed=1, runs=10, quantile=0.5)
    assert day.shape == (24,)
    assert int(np.argmax(day)) in {16, 17, 18}
    assert day.mean() == pytest.approx(80 * (60 + 100), rel=0.1)
    assert np.all(fleet_day_w([SHOP], likeness=Likeness(common=0.4), seed=1, runs=10, quantile=0.9) > day)


def test_the_loads_mean_stays_whatever_the_volatility():
    day = [
        fleet_day_w(
            [SHOP], likeness=Likeness(common=0.0, regional=0.0), seed=1, runs=3, quantile=0.5, volatility=volatility
        ).mean()
        for volatility in (0.0, 0.5)
    ]
    assert day[1] == pytest.approx(day[0], rel=0.06)


@pytest.mark.parametrize(
    "said",
    [
        {"count": 0},
        {"idle_w": -1.0},
        {"idle_w": 0.0, "swing_w": 0.0},
        {"day": (1.0,) * 23},
        {"day": (0.0,) * 24},
        {"day": (-1.0,) * 24},
    ],
    ids=str,
)
def test_a_kind_that_is_none_is_refused(said: dict[str, object]):
    with pytest.raises(InputError, match="fleet"):
        LoadKind(**({"count": 1, "idle_w": 1.0, "swing_w": 0.0, "day": (1.0,) * 24} | said))  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [{"common": 1.1}, {"common": 0.1, "regional": -0.1}, {"common": 0.1, "regions": 0}], ids=str)
def test_a_likeness_that_is_none_is_refused(said: dict[str, float]):
    assert Likeness(common=0.9, regional=0.5).loadings[2] == 0.0
    with pytest.raises(InputError, match="correlation"):
        Likeness(**said)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kinds", "numbers"), [([], [1]), ([SHOP], []), ([SHOP], [0]), ([SHOP], [100_001])])
def test_a_fleet_without_sites_is_refused(kinds: list[LoadKind], numbers: list[int]):
    with pytest.raises(InputError, match="without sites"):
        coincidence_curve(kinds, numbers=numbers, likenesses=[Likeness(common=0.4)], seed=1)
