"""The laws against published numbers, for floats and arrays alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.physics.battery import hold_s, site_hold_s, thermal_hold_s
from nearhall.physics.electrical import apparent_va, current_a, efficiency, ups_loss_w
from nearhall.physics.heat import (
    air_rise_k,
    airflow_m3_s,
    cooling_asked_w,
    cooling_power_w,
    cop,
    envelope_heat_w,
    warmed_c,
)
from nearhall.physics.network import break_even_rtt_ms, distance_rtt_ms, great_circle_km, serialisation_ms
from nearhall.physics.power import dynamic_power_w, server_power_w
from nearhall.physics.pue import ANNUAL_SECONDS, category, is_interim, pue

CFM_PER_M3_S = 2118.88


def test_a_servers_power_lies_between_idle_and_busy():
    # MLPerf v2.1, NVIDIA Orin_TRT_MaxQ: idle 8.32 W, ResNet-50 offline 23.06 W.
    curve = {"idle_w": 8.32, "busy_w": 23.06}
    assert server_power_w(load=0.0, **curve) == 8.32
    assert server_power_w(load=1.0, **curve) == 23.06
    assert server_power_w(load=0.5, **curve) == pytest.approx(15.69)
    assert server_power_w(load=0.25, exponent=0.5, **curve) == pytest.approx(15.69)
    assert server_power_w(load=-1.0, **curve) == 8.32
    assert server_power_w(load=9.0, **curve) == 23.06
    assert dynamic_power_w(idle_w=8.32, power_w=15.69) == pytest.approx(7.37)
    assert dynamic_power_w(idle_w=8.32, power_w=8.0) == 0.0


def test_a_ups_of_ten_kilowatts_loses_650_watts_at_half_load():
    # Schneider Electric White Paper 25, as worked through by Packet Pushers.
    assert ups_loss_w(rating_w=10_000, load_w=5_000) == 650.0
    assert ups_loss_w(rating_w=10_000, load_w=0) == 400.0


@pytest.mark.parametrize(
    ("va", "volts", "phases", "amperes"),
    [
        (1_920, 120, 1, 16.0),
        (5_760, 240, 1, 24.0),
        (5_764, 208, 3, 16.0),
        (8_646, 208, 3, 24.0),
        (17_292, 208, 3, 48.0),
        (22_170, 400, 3, 32.0),
    ],
    ids=["120 V 20 A", "240 V 30 A", "208 V 20 A", "208 V 30 A", "208 V 60 A", "400 V 32 A"],
)
def test_currents_are_those_of_the_manual(va: float, volts: float, phases: int, amperes: float):
    # HP DL360 manual, table 4: what 80 % of a breaker carries; the last without derating.
    assert current_a(apparent_va=va, volts=volts, phases=phases) == pytest.approx(amperes, rel=2e-4)


def test_volt_amperes_of_a_brick_are_twice_its_watts():
    assert apparent_va(power_w=23.06, power_factor=0.353) == pytest.approx(65.3, abs=0.1)
    with pytest.raises(ZeroDivisionError):
        apparent_va(power_w=1.0, power_factor=0.0)


def test_efficiency_is_output_over_input():
    assert efficiency(in_w=200.0, out_w=180.0) == 0.9
    assert efficiency(in_w=0.0, out_w=0.0) == 0.0


def test_eight_kilowatts_warm_a_cabinet_by_nearly_five_kelvin_a_minute():
    assert warmed_c(temperature_c=24.0, net_heat_w=8_000, thermal_mass_j_per_k=100_000, seconds=60) == pytest.approx(28.8)
    assert thermal_hold_s(thermal_mass_j_per_k=100_000, headroom_k=4.8, heat_w=8_000) == pytest.approx(60.0)


def test_a_kilowatt_needs_some_157_cubic_feet_a_minute():
    # 3412 / (1.085 x 20 F) = 157.2 CFM per kilowatt at 20 degrees C; the sheet with a 55 F inlet (denser air) says 154.
    rise_k = 20 / 1.8
    assert airflow_m3_s(heat_w=1000, rise_k=rise_k) * CFM_PER_M3_S == pytest.approx(157.2, rel=0.01)
    assert airflow_m3_s(heat_w=1000, rise_k=rise_k, density_kg_m3=1.2345) * CFM_PER_M3_S == pytest.approx(154, rel=0.005)
    assert airflow_m3_s(heat_w=4000, rise_k=rise_k) * CFM_PER_M3_S == pytest.approx(628.9, rel=0.01)


@given(heat=st.floats(1, 1e5), rise=st.floats(1, 40))
def test_air_takes_up_what_it_was_sized_for(heat: float, rise: float):
    assert air_rise_k(heat_w=heat, airflow_m3_s=airflow_m3_s(heat_w=heat, rise_k=rise)) == pytest.approx(rise)


def test_cooling_follows_the_weather_and_its_limits():
    assert cop(nominal=3.0, outdoor_c=35.0) == 3.0
    assert cop(nominal=3.0, outdoor_c=25.0) == pytest.approx(3.6)
    assert cop(nominal=3.0, outdoor_c=90.0) == 1.0
    assert cooling_power_w(heat_w=300.0, cop=3.0, fan_w=25.0) == 125.0
    assert cooling_power_w(heat_w=-300.0, cop=3.0, fan_w=25.0) == 25.0
    asked = {"setpoint_c": 24.0, "gain_w_per_k": 200.0, "capacity_w": 1000.0}
    assert [cooling_asked_w(inlet_c=t, **asked) for t in (20.0, 25.0, 40.0)] == [0.0, 200.0, 1000.0]
    assert envelope_heat_w(outdoor_c=30.0, indoor_c=24.0, conductance_w_per_k=5.0) == 30.0
    assert envelope_heat_w(outdoor_c=20.0, indoor_c=24.0, conductance_w_per_k=5.0) == -20.0


def test_a_site_holds_as_long_as_its_weaker_part():
    assert hold_s(usable_j=3.6e6, load_w=1000.0) == 3600.0
    assert site_hold_s(battery_s=600.0, thermal_s=75.0) == 75.0
    assert site_hold_s(battery_s=60.0, thermal_s=75.0) == 60.0


def test_a_links_times():
    assert serialisation_ms(size_bytes=6_250, mbps=50.0) == 1.0
    assert distance_rtt_ms(kilometres=400) == 6.0
    assert distance_rtt_ms(kilometres=400, route_factor=2.0) == 8.0


@pytest.mark.parametrize(
    ("rtt", "gain", "even"),
    [(40.0, 30.0, 10.0), (40.0, 45.0, 0.0), (0.0, -8.0, 8.0), (40.0, 40.0, 0.0)],
    ids=["pays above 10 ms", "pays at any", "the hub is sooner here", "pays from the first millisecond"],
)
def test_the_round_trip_above_which_local_pays(rtt: float, gain: float, even: float):
    assert break_even_rtt_ms(rtt_ms=rtt, gain_ms=gain) == even


def test_pue_is_one_ratio_with_a_category():
    assert pue(facility_kwh=15.0, it_kwh=10.0) == 1.5
    assert pue(facility_kwh=15.0, it_kwh=0.0) is None
    assert category({"feed", "it", "ups_out"}) == (3, "it")
    assert category({"ups_out", "pdu"}) == (2, "pdu")
    assert category({"ups_out"}) == (1, "ups_out")
    assert category({"feed"}) is None
    assert is_interim(86_400.0)
    assert not is_interim(ANNUAL_SECONDS)


@given(it=st.floats(1, 1e4), distribution=st.floats(0, 1e3), other=st.floats(0, 1e3), overhead=st.floats(0, 1e4))
def test_a_better_category_never_flatters(it: float, distribution: float, other: float, overhead: float):
    pdu = it + distribution
    ups_out = pdu + other
    feed = ups_out + overhead
    values = [pue(facility_kwh=feed, it_kwh=energy) for energy in (ups_out, pdu, it)]
    assert None not in values
    assert values == sorted(values)


def _array(*values: float) -> np.ndarray:
    return np.array(values)


LOADS = (-0.5, 0.0, 0.3, 1.0, 2.0)
LAWS = {
    "server_power_w": lambda x: server_power_w(idle_w=8.0, busy_w=23.0, load=x, exponent=1.0),
    "dynamic_power_w": lambda x: dynamic_power_w(idle_w=0.5, power_w=x),
    "ups_loss_w": lambda x: ups_loss_w(rating_w=800.0, load_w=x),
    "apparent_va": lambda x: apparent_va(power_w=x, power_factor=0.9),
    "current_a": lambda x: current_a(apparent_va=x, volts=230.0, phases=3),
    "efficiency": lambda x: efficiency(in_w=x, out_w=0.9 * x),
    "cop": lambda x: cop(nominal=3.0, outdoor_c=x * 60),
    "cooling_power_w": lambda x: cooling_power_w(heat_w=x, cop=3.0, fan_w=2.0),
    "cooling_asked_w": lambda x: cooling_asked_w(inlet_c=24 + x, setpoint_c=24.2, gain_w_per_k=10.0, capacity_w=5.0),
    "warmed_c": lambda x: warmed_c(temperature_c=20.0, net_heat_w=x, thermal_mass_j_per_k=10.0, seconds=3.0),
    "envelope_heat_w": lambda x: envelope_heat_w(outdoor_c=x, indoor_c=1.0, conductance_w_per_k=2.0),
    "air_rise_k": lambda x: air_rise_k(heat_w=x, airflow_m3_s=0.1),
    "airflow_m3_s": lambda x: airflow_m3_s(heat_w=x, rise_k=10.0),
    "hold_s": lambda x: hold_s(usable_j=x, load_w=3.0),
    "thermal_hold_s": lambda x: thermal_hold_s(thermal_mass_j_per_k=10.0, headroom_k=x, heat_w=3.0),
    "site_hold_s": lambda x: site_hold_s(battery_s=x, thermal_s=0.5),
    "serialisation_ms": lambda x: serialisation_ms(size_bytes=x, mbps=50.0),
    "distance_rtt_ms": lambda x: distance_rtt_ms(kilometres=x),
    "break_even_rtt_ms": lambda x: break_even_rtt_ms(rtt_ms=0.4, gain_ms=x),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_a_law_says_the_same_of_floats_and_arrays(law: object):
    each = [law(load) for load in LOADS]  # type: ignore[operator]
    assert all(isinstance(value, float | int) for value in each)
    np.testing.assert_allclose(law(_array(*LOADS)), each)  # type: ignore[operator]
    assert math.isfinite(sum(each))


def test_the_way_from_berlin_to_frankfurt():
    assert great_circle_km(52.52, 13.405, 50.11, 8.68) == pytest.approx(424, abs=2)
    assert great_circle_km(0.0, 0.0, 0.0, 180.0) == pytest.approx(20_015, abs=1)
    assert great_circle_km(10.0, 20.0, 10.0, 20.0) == 0.0
