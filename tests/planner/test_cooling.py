"""Cooling over a year: what PUE is made of, and what must hold of any plant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabinet_sample import SAMPLES, UPS, flat, ledger, load_of, rack, server, site
from nearhall.physics.heat import cop
from nearhall.planner.power.cooling import (
    Plant,
    air_of,
    cooling_checks,
    facility_w,
    inlet_of,
    plant_of,
    pue_by_category,
    pue_by_hour,
    run_year,
    year_c,
)

ONE = flat(1.0)
KINDS = ("dx", "free", "liquid", "fans")


def plant(kind: str = "dx", *, nominal: float = 3.0, **changed: object) -> Plant:
    cooling = {"kind": kind, "capacity_kw": 10.0, "cop": nominal, **changed}
    return plant_of(site(cooling=cooling, ups=UPS), ledger())


def its_load(kilowatts: float, spread: float = 0.0):
    return load_of(rack(server(kilowatts * 1000.0 / 8), 8), spread=spread)


def by_hours(of: Plant, it_w: np.ndarray, year: np.ndarray) -> float:
    """Facility energy in kWh, hour by hour, of the first sample: the plain way."""
    return sum(float(facility_w(of, it_w[:1], hour_c, ONE[:1])[0]) for hour_c in year) / 1e3


def test_the_waterfall_of_one_hour():
    """White paper 25 for a UPS of 9 kW and 5 kW: 0.61 kW; distribution of 8 kW 0.18 kW; 5.79 kW of heat and
    that of the fans inside over a COP of 3; the fans."""
    fixed = plant()
    found = facility_w(fixed, flat(5000.0), 35.0, ONE)
    losses = 0.04 * 9000 + 0.05 * 5000 + 0.01 * 8000 + 0.02 * 5000
    np.testing.assert_allclose(found, 5000 + losses + (5000 + losses + 0.6 * fixed.fan_w) / 3.0 + fixed.fan_w)
    without = plant_of(site(cooling={"kind": "fans", "capacity_kw": 10.0}), ledger())
    np.testing.assert_allclose(facility_w(without, flat(5000.0), 35.0, ONE), 5000 + 180 + without.fan_w)


def test_cooling_that_hangs_on_the_ups_pays_for_it():
    off, on = plant(), plant(on_ups=True)
    more = facility_w(on, flat(5000.0), 35.0, ONE) - facility_w(off, flat(5000.0), 35.0, ONE)
    cooling = (5000 + 790 + 0.6 * off.fan_w) / 3.0 + off.fan_w
    np.testing.assert_allclose(more, 0.05 * cooling, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_year_in_bins_is_the_year_by_its_8760_hours(kind: str):
    """Days that differ within a month too: weather of any kind, not only its mean day."""
    weather = year_c(site()) + np.repeat(np.random.default_rng(3).normal(0.0, 4.0, 365), 24)
    of, load = plant(kind), its_load(5.0)
    year = run_year(of, load, weather, ONE)
    assert year.it_kwh[0] == pytest.approx(5.0 * 0.75 * 8760)
    assert year.facility_kwh[0] == pytest.approx(by_hours(of, load.busiest_w, weather), rel=1e-6)
    hottest = [weather.reshape(365, 24)[:31].max(), weather.reshape(365, 24)[-31:].max()]
    for month, celsius in zip((0, 11), hottest, strict=True):
        np.testing.assert_allclose(year.peak_kw[:, month], facility_w(of, load.busiest_w, celsius, ONE) / 1e3)


def test_pue_is_the_ratio_of_sums_and_worse_at_part_load():
    of, weather = plant(), year_c(site())
    full, part = (run_year(of, its_load(kw), weather, ONE) for kw in (8.0, 1.0))
    np.testing.assert_allclose(full.pue, full.facility_kwh / full.it_kwh)
    assert np.all(part.pue > full.pue + 0.2), "fixed losses stay while the load goes"
    assert full.pue_by_month[7] > full.pue_by_month[0] > 1.0, "summer costs more"


def test_what_a_pilot_showed_of_the_overhead_scales_it():
    of, weather, load = plant(), year_c(site()), its_load(5.0)
    said, shown = (run_year(of, load, weather, flat(scale)).pue for scale in (1.0, 1.5))
    np.testing.assert_allclose(shown - 1.0, 1.5 * (said - 1.0))


def test_hours_in_which_outdoor_air_does_it():
    weather = year_c(site()) + 12.0
    share = {"liquid_share": 1.0}
    hours = {kind: run_year(plant(kind, **share), its_load(5.0), weather, ONE).free_hours for kind in KINDS}
    assert hours["dx"] == 0
    assert hours["free"] == int(np.sum(weather <= 21.0))
    assert hours["free"] < hours["liquid"] < hours["fans"] == 8760
    assert run_year(plant("liquid"), its_load(5.0), weather, ONE).free_hours == hours["free"], "some heat is the air's"


@given(
    it_w=st.floats(100.0, 8000.0),
    nominal=st.floats(1.5, 6.0),
    outdoor=st.floats(-20.0, 45.0),
    kind=st.sampled_from(KINDS),
    supply_c=st.floats(18.0, 30.0),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_hour_pue_is_at_least_one_and_outdoor_air_never_costs_more(
    it_w: float, nominal: float, outdoor: float, kind: str, supply_c: float
):
    compressor = facility_w(plant("dx", nominal=nominal, supply_c=supply_c), flat(it_w), outdoor, ONE)
    other = facility_w(plant(kind, nominal=nominal, supply_c=supply_c), flat(it_w), outdoor, ONE)
    assert np.all(other >= it_w)
    assert np.all(other <= compressor + 1e-9)
    hotter = facility_w(plant(kind, nominal=nominal, supply_c=supply_c), flat(it_w), outdoor + 1.0, ONE)
    assert np.all(hotter >= other - 1e-9)


@given(noise=st.floats(0.0, 8.0), kind=st.sampled_from(KINDS))
@settings(max_examples=10, deadline=None)
def test_over_a_year_outdoor_air_never_costs_more(noise: float, kind: str):
    weather = year_c(site()) + np.repeat(np.random.default_rng(5).normal(0.0, noise, 365), 24)
    load = its_load(5.0, spread=0.2)
    compressor, other = (run_year(plant(which), load, weather, ONE) for which in ("dx", kind))
    assert np.all(other.facility_kwh <= compressor.facility_kwh + 1e-6)
    assert np.all(other.pue >= 1.0)


def test_where_no_climate_is_said_the_latitude_tells_one():
    equator, north = (year_c(site(climate=None, lat=lat)) for lat in (0.0, 60.0))
    assert equator.shape == north.shape == (8760,)
    assert equator.mean() > north.mean() + 10
    assert np.ptp(north) > np.ptp(equator)
    assert year_c(site(climate=None, altitude_m=2000.0)).mean() == pytest.approx(year_c(site(climate=None)).mean() - 13.0)


def test_in_the_south_it_is_cold_in_july():
    months = {lat: year_c(site(lat=lat)).reshape(365, 24) for lat in (50.0, -50.0)}
    for lat, cold, warm in ((50.0, 24, 206), (-50.0, 206, 24)):
        assert months[lat][cold].mean() < 1.0 < 19.0 < months[lat][warm].mean()
        assert 14 <= int(months[lat][100].argmax()) <= 16, "afternoons stay afternoons"


def test_air_at_altitude_against_its_class():
    low, high = (air_of(site(altitude_m=metres), 8000.0) for metres in (0.0, 2400.0))
    assert high.flow_m3_h > 1.3 * low.flow_m3_h
    assert (low.highest_inlet_c, high.highest_inlet_c) == (35.0, 30.0)
    assert low.flow_m3_h / 3600 * 1.19 * 1005 * 12.0 == pytest.approx(8000.0, rel=0.02)


@pytest.mark.parametrize(("kind", "inlet"), [("dx", 24.0), ("free", 24.0), ("liquid", 24.0), ("fans", 36.0)])
def test_only_fans_let_the_outdoors_in(kind: str, inlet: float):
    assert inlet_of(site(cooling={"kind": kind, "capacity_kw": 10.0, "design_out_c": 36.0})) == inlet


@pytest.mark.parametrize(
    ("cooling", "altitude", "heat_kw", "states", "words"),
    [
        ({"kind": "dx"}, 0.0, 8.0, ("ok", "ok"), "heat 8.00 kW (P99) <= 10 kW"),
        ({"kind": "dx"}, 0.0, 10.1, ("fails", "ok"), "> 10 kW"),
        ({"kind": "dx", "design_out_c": 45.0}, 0.0, 9.5, ("fails", "ok"), "9.2 kW at 45 C outside (10 kW rated)"),
        (
            {"kind": "fans", "design_out_c": 45.0, "recirculates": True},
            0.0,
            9.5,
            ("ok", "fails", "ok"),
            "class A2 allows 10 to 35 C",
        ),
        ({"kind": "dx", "supply_c": 30.0}, 0.0, 8.0, ("ok", "ok"), "recommended 18 to 27 C"),
        ({"kind": "dx", "supply_c": 34.0}, 2000.0, 8.0, ("ok", "fails", "not_checked"), "at 2000 m"),
        ({"kind": "dx", "supply_c": 8.0}, 0.0, 8.0, ("ok", "fails"), "inlet 8 C"),
        ({"kind": "dx"}, 3500.0, 8.0, ("ok", "not_checked", "not_checked"), "ask the maker"),
        ({"kind": "dx", "design_out_c": 20.0}, 0.0, 8.0, ("ok", "ok"), "the year rises to 25.0 C, 5.0 K above the design"),
        (
            {"kind": "fans"},
            0.0,
            8.0,
            ("ok", "ok", "fails"),
            "the year falls to -5 C outside, class A2 allows 10 C: the servers' warm",
        ),
        ({"kind": "free", "recirculates": True}, 0.0, 8.0, ("ok", "ok", "ok"), "warm air is mixed in"),
        ({"kind": "dx"}, 1500.0, 8.0, ("ok", "ok", "not_checked"), "1500 m: thin air takes less heat from the condenser"),
    ],
    ids=[
        "fits",
        "too hot",
        "hot day",
        "outdoor air",
        "warm",
        "warm and high",
        "too cold",
        "beyond the classes",
        "cool design",
        "winter",
        "mixed",
        "high",
    ],
)
def test_what_is_held_against_capacity_and_class(
    cooling: dict[str, object], altitude: float, heat_kw: float, states: tuple[str, ...], words: str
):
    at = site(cooling={"capacity_kw": 10.0, **cooling}, altitude_m=altitude)
    checks = cooling_checks(at, air_of(at, heat_kw * 1e3), flat(heat_kw * 1e3))
    assert tuple(check.state for check in checks) == states
    assert any(words in check.words for check in checks), [check.words for check in checks]


def test_the_harmonic_mean_is_that_of_the_cop():
    """Electricity is heat over COP: two hours are as dear as the mean of both, never as one at their mean temperature."""
    of = plant(design_out_c=35.0)
    mean = of.mean_compressor_w(flat(3000.0), np.array([20.0, 40.0]))
    each = [3000.0 / cop(nominal=3.0, outdoor_c=celsius) for celsius in (20.0, 40.0)]
    np.testing.assert_allclose(mean, np.mean(each))
    assert len(mean) == SAMPLES


def test_in_the_cold_a_compressor_gains_no_more():
    at_10, at_minus_20 = (plant(nominal=3.0).compressor_w(flat(4500.0), celsius) for celsius in (10.0, -20.0))
    np.testing.assert_allclose(at_10, 1000.0)
    np.testing.assert_array_equal(at_10, at_minus_20)


def test_liquid_takes_its_share_and_the_rest_is_the_airs():
    """Water 10 K warmer than air: between 21 and 31 degrees outside only the air's share needs the compressor."""
    of = plant("liquid", liquid_share=0.7, cop=3.0, design_out_c=27.0)
    np.testing.assert_allclose([of.compressor_w(flat(3000.0), c)[0] for c in (20.0, 27.0)], [0.0, 300.0])
    np.testing.assert_allclose(
        of.compressor_w(flat(3000.0), 32.0), 3000.0 / cop(nominal=3.0, outdoor_c=32.0, nominal_outdoor_c=27.0)
    )
    at = site(cooling={"kind": "liquid", "capacity_kw": 10.0})
    assert air_of(at, 8000.0, liquid_share=0.7).flow_m3_h == pytest.approx(0.3 * air_of(at, 8000.0).flow_m3_h)


def test_walls_sun_and_people_are_moved_out_too():
    bare, sunny = plant(), plant(other_heat_w=300.0)
    more = facility_w(sunny, flat(5000.0), 35.0, ONE) - facility_w(bare, flat(5000.0), 35.0, ONE)
    np.testing.assert_allclose(more, 100.0)


def test_pue_by_hour_is_the_years_taken_apart():
    """IT of a mean hour weighs each; afternoons are warmer than nights."""
    of, load = plant(), its_load(5.0, spread=0.2)
    found = pue_by_hour(of, load, ONE)
    year = run_year(of, load, of.weather_c, ONE)
    assert len(found) == 24
    assert np.mean(found) == pytest.approx(float(year.facility_kwh.sum() / year.it_kwh.sum()), rel=1e-6)
    assert found[15] > found[3] > 1.0


@given(kilowatts=st.floats(0.2, 8.0), kind=st.sampled_from(KINDS))
@settings(max_examples=15, deadline=None)
def test_the_nearer_the_servers_the_meter_the_higher_the_pue(kilowatts: float, kind: str):
    of, load = plant(kind), its_load(kilowatts)
    year = run_year(of, load, of.weather_c, ONE)
    found = pue_by_category(of, year)
    assert 1.0 <= found[1] < found[2] < found[3]
    assert found[3] == pytest.approx(float(year.facility_kwh.sum() / year.it_kwh.sum()))
    bare = plant_of(site(cooling={"kind": kind, "capacity_kw": 10.0}), ledger())
    assert set(pue_by_category(bare, year)) == {2, 3}
