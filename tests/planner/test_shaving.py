"""Peaks and batteries: an identity, what a tariff is worth to them, and that no battery does what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.grid.shaving import Battery, Shaved, shave


def a_battery(**said: object) -> Battery:
    return Battery(**({"usable_kwh": 2.0, "charge_kw": 5.0, "discharge_kw": 5.0, "round_trip": 1.0, "cyclable": True} | said))  # type: ignore[arg-type]


def flat_with_a_peak() -> np.ndarray:
    load = np.full(24, 5.0)
    load[12] = 10.0
    return load


def test_identity_two_kilowatt_hours_take_two_kilowatts_off_an_hour():
    shaved = shave(flat_with_a_peak(), battery=a_battery(), step_h=1.0, usd_per_kw=10.0)
    assert shaved.peak_kw == pytest.approx(8.0, abs=1e-6)
    assert shaved.peak_before_kw == 10.0
    assert shaved.cost_before_usd - shaved.cost_usd == pytest.approx(20.0)
    assert "from 10.0 to 8.0 kW" in shaved.words


def test_identity_delivered_counts_not_stored():
    shaved = shave(flat_with_a_peak(), battery=a_battery(usable_kwh=2.0 / 0.9, round_trip=0.81), step_h=1.0, usd_per_kw=10.0)
    assert shaved.peak_kw == pytest.approx(8.0, abs=1e-6)


def test_only_a_battery_that_may_be_cycled_shaves():
    with pytest.raises(InputError, match="does not allow cycling"):
        shave(flat_with_a_peak(), battery=a_battery(cyclable=False), step_h=1.0, usd_per_kw=10.0)


def test_power_limits_what_energy_would_allow():
    shaved = shave(flat_with_a_peak(), battery=a_battery(usable_kwh=50.0, discharge_kw=1.0), step_h=1.0, usd_per_kw=10.0)
    assert shaved.peak_kw == pytest.approx(9.0)


def test_a_ratchet_that_bills_more_anyway_leaves_nothing_to_shave_below_it():
    shaved = shave(flat_with_a_peak(), battery=a_battery(), step_h=1.0, usd_per_kw=10.0, floor_kw=9.5)
    assert shaved.peak_kw == pytest.approx(9.5)
    high = shave(flat_with_a_peak(), battery=a_battery(), step_h=1.0, usd_per_kw=10.0, floor_kw=12.0)
    assert high.cost_usd == pytest.approx(high.cost_before_usd)
    assert "leaves the peak at 12.0 kW" in high.words


def test_wear_that_costs_more_than_the_peak_keeps_the_battery_still():
    assert shave(
        flat_with_a_peak(), battery=a_battery(wear_usd_per_kwh=9.9), step_h=1.0, usd_per_kw=10.0
    ).peak_kw == pytest.approx(8.0)
    still = shave(flat_with_a_peak(), battery=a_battery(wear_usd_per_kwh=10.1), step_h=1.0, usd_per_kw=10.0)
    assert still.peak_kw == pytest.approx(10.0)
    assert still.discharge_kw.sum() == pytest.approx(0.0, abs=1e-9)


def test_cheap_hours_may_be_worth_a_higher_peak():
    price = np.full(24, 1.0)
    price[:3] = 0.01
    shaved = shave(
        np.full(24, 5.0),
        battery=a_battery(usable_kwh=20.0, charge_kw=10.0, start_share=0.0),
        step_h=1.0,
        usd_per_kw=0.1,
        usd_per_kwh=price,
    )
    assert shaved.peak_kw > 10.0
    assert "raises the peak" in shaved.words
    assert shaved.cost_usd < shaved.cost_before_usd


@pytest.mark.parametrize("start", [None, 0.0])
def test_one_step_is_a_program_too(start: float | None):
    assert shave([4.0], battery=a_battery(start_share=start), step_h=1.0, usd_per_kw=1.0).peak_kw == pytest.approx(4.0)


def test_what_repeats_itself_may_recharge_before_or_after_the_peak():
    early = np.roll(flat_with_a_peak(), -12)
    assert shave(early, battery=a_battery(), step_h=1.0, usd_per_kw=10.0).peak_kw == pytest.approx(8.0)
    empty = shave(early, battery=a_battery(start_share=0.0), step_h=1.0, usd_per_kw=10.0)
    assert empty.peak_kw == pytest.approx(10.0), "an empty battery has nothing for the first hour"


@given(
    load=st.lists(st.floats(0, 50), min_size=2, max_size=30),
    prices=st.lists(st.floats(0.0, 2), min_size=30, max_size=30),
    usable=st.floats(0, 40),
    power=st.floats(0, 20),
    round_trip=st.floats(0.5, 1.0),
    start=st.one_of(st.none(), st.floats(0, 1)),
    floor=st.floats(0, 60),
)
@settings(max_examples=40, deadline=None)
def test_batteries_never_exceed_their_limits(
    load: list[float], prices: list[float], usable: float, power: float, round_trip: float, start: float | None, floor: float
):
    battery = a_battery(
        usable_kwh=usable,
        charge_kw=power,
        discharge_kw=power / 2,
        round_trip=round_trip,
        start_share=start,
        wear_usd_per_kwh=0.01,
    )
    shaved = shave(load, battery=battery, step_h=0.25, usd_per_kw=5.0, usd_per_kwh=prices[: len(load)], floor_kw=floor)
    _holds(shaved, np.array(load), battery)
    assert shaved.cost_usd <= shaved.cost_before_usd + 1e-5
    assert shaved.peak_kw >= max(floor, float(shaved.grid_kw.max())) - 1e-5


def _holds(shaved: Shaved, load: np.ndarray, battery: Battery) -> None:
    little = 1e-5
    assert -little <= shaved.stored_kwh.min() <= shaved.stored_kwh.max() <= battery.usable_kwh + little
    assert -little <= shaved.charge_kw.min() <= shaved.charge_kw.max() <= battery.charge_kw + little
    assert -little <= shaved.discharge_kw.min() <= shaved.discharge_kw.max() <= battery.discharge_kw + little
    assert shaved.grid_kw.min() >= -little
    assert np.allclose(shaved.grid_kw, load + shaved.charge_kw - shaved.discharge_kw)
    start = shaved.stored_kwh[-1] if battery.start_share is None else battery.start_share * battery.usable_kwh
    before = np.concatenate([[start], shaved.stored_kwh[:-1]])
    moved = 0.25 * (battery.eta * shaved.charge_kw - shaved.discharge_kw / battery.eta)
    assert np.allclose(shaved.stored_kwh, before + moved, atol=1e-5)
    assert shaved.stored_kwh[-1] >= start - little


@given(usable=st.floats(0, 10), more=st.floats(0, 10))
@settings(max_examples=15, deadline=None)
def test_a_larger_battery_never_costs_more_to_run(usable: float, more: float):
    costs = [
        shave(flat_with_a_peak(), battery=a_battery(usable_kwh=kwh), step_h=1.0, usd_per_kw=10.0).cost_usd
        for kwh in (usable, usable + more)
    ]
    assert costs[1] <= costs[0] + 1e-6


@pytest.mark.parametrize("said", [{"usable_kwh": -1.0}, {"round_trip": 0.0}, {"round_trip": 1.1}, {"start_share": 1.5}], ids=str)
def test_a_battery_that_is_none_is_refused(said: dict[str, float]):
    with pytest.raises(InputError, match="battery"):
        a_battery(**said)


@pytest.mark.parametrize(
    ("load", "price"),
    [([], 1.0), ([-1.0], 1.0), ([[1.0]], 1.0), ([1.0, 2.0], [1.0, 2.0, 3.0])],
    ids=["none", "below 0", "table", "prices"],
)
def test_loads_and_prices_that_do_not_fit_are_refused(load: object, price: object):
    with pytest.raises(InputError, match=r"steps|one number"):
        shave(load, battery=a_battery(), step_h=1.0, usd_per_kw=1.0, usd_per_kwh=price)  # type: ignore[arg-type]
