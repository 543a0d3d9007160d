"""Air against published figures: density, altitude, and what carries a kilowatt away."""

from __future__ import annotations

import psychrolib  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.physics.heat import CFM_PER_M3_S, airflow_cfm
from nearhall.planner.power.air import density_kg_m3, flow_m3_s, pressure_pa

FOOT_M = 0.3048


def kelvins(fahrenheit: float) -> float:
    return fahrenheit / 1.8


@pytest.mark.parametrize(("feet", "atmospheres"), [(0, 1.0), (2000, 0.93), (4000, 0.86), (8000, 0.74)])
def test_the_pressure_of_the_sheet(feet: float, atmospheres: float):
    """inres.com's sheet on cooling at altitude."""
    assert pressure_pa(feet * FOOT_M) / 101_325 == pytest.approx(atmospheres, abs=0.005)


def test_the_density_of_a_room():
    """20 degrees C, 50 %, 101,325 Pa: CoolProp's humid air says 1.1994 kg/m3."""
    assert density_kg_m3(celsius=20.0, relative_humidity=0.5) == pytest.approx(1.1994, rel=0.0005)


def test_a_kilowatt_at_55_fahrenheit_takes_154_cubic_feet_a_minute():
    """inres.com's sheet: 20 F of rise, sea level, air of 55 F (half humid here). Warmer air takes more: state the inlet."""
    cold, mild = (
        flow_m3_s(heat_w=1000.0, rise_k=kelvins(20.0), inlet_c=kelvins(inlet_f - 32.0)) * CFM_PER_M3_S for inlet_f in (55, 68)
    )
    assert cold == pytest.approx(154, rel=0.005)
    assert mild == pytest.approx(airflow_cfm(heat_kw=1.0, rise_f=20.0), rel=0.01)
    assert mild > cold


def test_thin_air_takes_more_of_it():
    low, high = (flow_m3_s(heat_w=4000.0, rise_k=12.0, inlet_c=24.0, altitude_m=metres) for metres in (0.0, 8000 * FOOT_M))
    assert high / low == pytest.approx(1 / 0.743, rel=0.005)


def test_it_stays_metric_when_somebody_else_asks_in_other_units():
    before = density_kg_m3(celsius=21.0)
    psychrolib.SetUnitSystem(psychrolib.IP)
    try:
        density_kg_m3.cache_clear()
        assert density_kg_m3(celsius=21.0) == before
    finally:
        psychrolib.SetUnitSystem(psychrolib.SI)


@given(celsius=st.floats(-30.0, 45.0), humid=st.floats(0.0, 1.0), altitude=st.floats(-400.0, 5500.0))
def test_warm_humid_and_high_air_is_thin(celsius: float, humid: float, altitude: float):
    density = density_kg_m3(celsius=celsius, relative_humidity=humid, altitude_m=altitude)
    assert 0.5 < density < 1.7
    assert density_kg_m3(celsius=celsius + 1.0, relative_humidity=humid, altitude_m=altitude) < density
    assert density_kg_m3(celsius=celsius, relative_humidity=humid, altitude_m=altitude + 100.0) < density
