"""A day on a feeder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.grid.feeder import diversified_kva, feeder_day
from nearhall.planner.grid.shaving import Battery

EXISTING = np.concatenate([np.full(12, 50.0), np.full(12, 100.0)])
BATTERY = Battery(usable_kwh=40.0, charge_kw=20.0, discharge_kw=20.0, cyclable=True)


def test_case_25_diversity_is_arithmetic_only():
    """Stallcup's loads. The book then takes a 600 kVA transformer, which is no preferred size."""
    loads = diversified_kva([250.0, 200.0, 150.0, 400.0], [0.9, 0.8, 0.75, 0.85], 1.5)
    assert loads.connected_kva == 1000.0
    assert loads.demand_kva == pytest.approx(837.5, abs=1e-9)
    assert round(loads.diversified_kva) == 558


def test_other_hours_have_more_room_than_the_busiest():
    day = feeder_day(headroom_kva=10.0, fleet_kva=np.full(24, 30.0), existing_kva=EXISTING)
    assert day.limit_kva == 110.0
    assert day.over_hours == 12
    assert day.margin_kva.tolist() == [30.0] * 12 + [-20.0] * 12
    assert day.peak_kva == 130.0
    assert day.shaved_kva is None
    assert "over its limit in 12 hours of the day: 130.0 of 110.0 kVA" in day.words


def test_a_feeder_with_room_says_so():
    day = feeder_day(headroom_kva=40.0, fleet_kva=np.full(24, 30.0))
    assert (day.over_hours, day.limit_kva) == (0, 40.0)
    assert day.words.startswith("within its limit")


def test_batteries_keep_an_evening_peak_within():
    fleet = np.full(24, 5.0)
    fleet[18:20] = 25.0
    day = feeder_day(headroom_kva=10.0, fleet_kva=fleet, existing_kva=EXISTING, battery=BATTERY)
    assert day.over_hours == 2
    assert day.shaved_over_hours == 0
    assert day.words.endswith("batteries keep it within")
    assert day.shaved_kva is not None
    assert day.shaved_kva.min() >= -1e-9
    small = feeder_day(
        headroom_kva=10.0,
        fleet_kva=fleet,
        existing_kva=EXISTING,
        battery=Battery(usable_kwh=5.0, charge_kw=5.0, discharge_kw=5.0, cyclable=True),
    )
    assert small.shaved_over_hours == 2
    assert small.words.endswith("with batteries still in 2")


def test_a_battery_that_may_not_be_cycled_is_left_alone_and_says_why():
    still = Battery(usable_kwh=40.0, charge_kw=20.0, discharge_kw=20.0)
    day = feeder_day(headroom_kva=10.0, fleet_kva=np.full(24, 30.0), existing_kva=EXISTING, battery=still)
    assert day.shaved_kva is None
    assert "does not allow cycling" in day.words


@given(
    fleet=st.lists(st.floats(0, 50), min_size=24, max_size=24),
    existing=st.lists(st.floats(0, 50), min_size=24, max_size=24),
    usable=st.floats(0, 60),
    power_factor=st.floats(0.4, 1.0),
)
@settings(max_examples=20, deadline=None)
def test_batteries_never_raise_the_feeders_peak(fleet: list[float], existing: list[float], usable: float, power_factor: float):
    battery = Battery(usable_kwh=usable, charge_kw=20.0, discharge_kw=20.0, cyclable=True)
    day = feeder_day(headroom_kva=10.0, fleet_kva=fleet, existing_kva=existing, battery=battery, power_factor=power_factor)
    assert day.shaved_kva is not None
    assert np.max(day.shaved_kva + day.existing_kva) <= day.peak_kva + 1e-4
    assert day.shaved_kva.sum() >= day.fleet_kva.sum() - 1e-4, "a battery that ends as full as it began makes no energy"


@pytest.mark.parametrize(
    "said",
    [
        {"headroom_kva": 0.0},
        {"fleet_kva": [1.0] * 23},
        {"fleet_kva": [-1.0] * 24},
        {"power_factor": 0.0},
        {"existing_kva": [1.0]},
    ],
    ids=str,
)
def test_a_day_that_is_none_is_refused(said: dict[str, object]):
    with pytest.raises(InputError, match=r"headroom|hours"):
        feeder_day(**({"headroom_kva": 1.0, "fleet_kva": [1.0] * 24} | said))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kva", "factors", "diversity"), [([], [], 1.0), ([1.0], [0.5, 0.5], 1.0), ([1.0], [0.5], 0.9)])
def test_diversity_of_loads_that_do_not_fit_is_refused(kva: list[float], factors: list[float], diversity: float):
    with pytest.raises(InputError, match="diversity"):
        diversified_kva(kva, factors, diversity)


def test_shaving_tells_what_it_wears():
    fleet = np.concatenate([np.full(23, 5.0), [30.0]])
    worn = replace(BATTERY, wear_usd_per_kwh=0.25)
    day = feeder_day(headroom_kva=20.0, fleet_kva=fleet, battery=worn)
    assert day.shaved_over_hours == 0
    assert day.discharged_kwh >= 10.0 - 1e-6
    assert day.wear_usd == pytest.approx(0.25 * day.discharged_kwh)
    assert day.words.endswith(f"for {day.wear_usd:.2f} USD of wear a day")
    assert feeder_day(headroom_kva=20.0, fleet_kva=fleet, battery=BATTERY).wear_usd == 0.0
    assert feeder_day(headroom_kva=20.0, fleet_kva=fleet).discharged_kwh == 0.0


def test_cases_are_held_against_the_limit_at_their_quantile_and_counted():
    cases = np.tile(np.linspace(0.0, 100.0, 1001), (24, 1))
    day = feeder_day(headroom_kva=90.0, fleet_kva=cases)
    assert day.fleet_kva == pytest.approx(np.full(24, 99.0))
    assert day.fleet_p50_kva == pytest.approx(np.full(24, 50.0))
    assert day.p_over == pytest.approx(0.1, abs=0.001)
    assert day.over_hours == 24
    assert day.needed_kva == pytest.approx(99.0)
    assert "(P99)" in day.words
    assert day.words.endswith("exceeded on 10 % of the days at the design temperature")
    assert feeder_day(headroom_kva=100.0, fleet_kva=cases).words.endswith("never exceeded in what was drawn")
    assert "less than 1 %" in feeder_day(headroom_kva=99.8, fleet_kva=cases).words
    assert "more than 99 %" in feeder_day(headroom_kva=0.1, fleet_kva=cases).words
