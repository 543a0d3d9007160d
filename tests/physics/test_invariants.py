"""What must hold of conductors, queues, batteries and air whatever the numbers are, and of floats and arrays alike."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.physics import battery, breakers, heat, queues
from nearhall.physics.electrical import apparent_va, current_a, efficiency, ups_loss_w

amperes = st.floats(0.0, 400.0)
lines = st.tuples(amperes, amperes, amperes)
shares = st.floats(0.0, 1.0 / math.sqrt(3.0))
TABLE = {"minutes": (5.0, 10.0, 15.0, 30.0), "watts": (3400.0, 2300.0, 1800.0, 1050.0)}
LOADS = np.array([1.0, 20.0, 400.0, 1050.0, 2000.0, 2300.0, 3400.0, 9000.0])


@given(one=amperes, share=shares)
def test_what_goes_out_on_the_only_line_comes_back_in_the_neutral(one: float, share: float):
    """Kirchhoff: whatever its harmonics are, the root mean square of one line alone is that of the neutral."""
    assert breakers.neutral_a(lines_a=(one, 0.0, 0.0), triplen_share=share) == pytest.approx(one, abs=1e-9)


@given(three=lines, share=shares)
def test_the_neutral_is_the_same_however_the_lines_are_named_and_never_above_their_sum(
    three: tuple[float, float, float], share: float
):
    neutral = breakers.neutral_a(lines_a=three, triplen_share=share)
    assert neutral <= sum(three) + 1e-6
    for named in permutations(three):
        assert breakers.neutral_a(lines_a=named, triplen_share=share) == pytest.approx(neutral, rel=1e-9, abs=1e-4)


@pytest.mark.parametrize("supply", breakers.TRIPLEN_SHARE)
def test_rectifiers_never_carry_more_than_1_73_lines_in_the_neutral(supply: str):
    """Three rectifiers whose pulses do not overlap: the neutral's mean square is the sum of the lines', sqrt 3 of one line."""
    neutral = breakers.neutral_a(lines_a=(10.0, 10.0, 10.0), triplen_share=breakers.TRIPLEN_SHARE[supply])
    assert 0.0 < neutral <= 10.0 * math.sqrt(3.0) + 1e-9


def test_pulses_that_do_not_overlap_do_reach_that_limit():
    """A period of three rectifiers, each conducting for 50 degrees about its line's crests: by instants, without a formula."""
    turn = np.linspace(0.0, 2 * np.pi, 36_000, endpoint=False)

    def pulses(shift: float) -> np.ndarray:
        angle = (turn - shift) % (2 * np.pi)
        positive, negative = np.abs(angle - np.pi / 2) < np.radians(25), np.abs(angle - 3 * np.pi / 2) < np.radians(25)
        return np.where(positive, 1.0, 0.0) - np.where(negative, 1.0, 0.0)

    three = [pulses(shift) for shift in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)]
    line, neutral = np.sqrt(np.mean(three[0] ** 2)), np.sqrt(np.mean(sum(three) ** 2))
    assert neutral / line == pytest.approx(math.sqrt(3.0), rel=1e-3)
    expected = breakers.neutral_a(lines_a=(line,) * 3, triplen_share=breakers.TRIPLEN_SHARE["brick"])
    assert expected == pytest.approx(neutral, rel=0.01)


@given(banks=lines)
def test_lines_of_banks_follow_the_banks_when_these_change_places(banks: tuple[float, float, float]):
    found = breakers.delta_line_currents_a(ab_a=banks[0], bc_a=banks[1], ca_a=banks[2])
    turned = breakers.delta_line_currents_a(ab_a=banks[1], bc_a=banks[2], ca_a=banks[0])
    assert turned == pytest.approx((found[1], found[2], found[0]))
    alike = breakers.delta_line_currents_a(ab_a=banks[0], bc_a=banks[0], ca_a=banks[0])
    assert alike == pytest.approx((banks[0] * math.sqrt(3.0),) * 3)


@given(va=st.floats(1.0, 1e6), volts=st.floats(100.0, 690.0), phases=st.sampled_from([1, 3]))
def test_amperes_of_a_load_make_the_load_again(va: float, volts: float, phases: int):
    amps = current_a(apparent_va=va, volts=volts, phases=phases)
    assert breakers.rating_va(volts=volts, amps=amps, phases=phases) == pytest.approx(va)
    line_to_neutral = volts / math.sqrt(3.0)
    if phases == 3:
        assert breakers.rating_va(volts=line_to_neutral, amps=amps, phases=3, line_to_neutral=True) == pytest.approx(va)


@given(peak=st.floats(1.0, 200.0), threshold=st.floats(10.0, 2000.0), running=st.floats(0.0, 300.0), supplies=st.integers(1, 500))
def test_so_many_at_once_stay_below_the_threshold_and_one_more_would_not(
    peak: float, threshold: float, running: float, supplies: int
):
    together = breakers.at_once(inrush_peak_a=peak, threshold_a=threshold, running_peak_a=running)
    assert together >= 0
    if together > 0:
        assert running + together * peak < threshold
    assert running + (together + 1) * peak >= threshold * (1.0 - 1e-6)


@given(
    peak=st.floats(1.0, 200.0),
    threshold=st.floats(10.0, 2000.0),
    running=st.floats(0.0, 300.0),
    beside=st.floats(0.0, 1.0),
    supplies=st.integers(1, 200),
)
def test_each_step_of_a_staggered_start_stays_below_the_threshold_beside_what_runs(
    peak: float, threshold: float, running: float, beside: float, supplies: int
):
    at = {"supplies": supplies, "inrush_peak_a": peak, "threshold_a": threshold, "beside_peak_a": beside * running}
    steps = breakers.stagger(running_peak_a=running, **at)
    lighter = breakers.stagger(running_peak_a=running * 0.5 + beside * running * 0.5, **at)
    if steps is None:
        return
    assert lighter is not None
    assert len(lighter) <= len(steps), "what runs with less takes no more steps"
    on, each = 0, (1.0 - beside) * running / supplies
    for step in steps:
        assert beside * running + on * each + step * peak < threshold * (1 + 1e-9)
        on += step
    assert on == supplies


@pytest.mark.parametrize("code", ["NEC", "IEC"])
def test_each_rating_is_enough_for_itself_and_not_for_a_thousandth_more(code: str):
    ratings = breakers.standard_ratings_a(code)
    assert list(ratings) == sorted(set(ratings))
    for rating, larger in pairwise(ratings):
        assert breakers.next_breaker_a(design_a=rating, code=code) == rating
        assert breakers.next_breaker_a(design_a=rating * 1.001, code=code) == larger


@given(servers=st.integers(1, 60), load=st.floats(0.0, 0.98))
def test_erlangs_recursion_is_the_sum_it_stands_for(servers: int, load: float):
    """B = (a^c / c!) / sum of a^k / k!; C = (a^c / c!) / (a^c / c! + (1 - rho) sum to c - 1)."""
    offered = load * servers
    terms = [offered**k / math.factorial(k) for k in range(servers + 1)]
    blocked = terms[-1] / sum(terms)
    waiting = terms[-1] / (terms[-1] + (1.0 - load) * sum(terms[:-1]))
    assert queues.erlang_b(servers=servers, offered=offered) == pytest.approx(blocked, rel=1e-9, abs=1e-300)
    assert queues.erlang_c(servers=servers, offered=offered) == pytest.approx(waiting, rel=1e-9, abs=1e-300)
    assert 0.0 <= blocked <= waiting * (1.0 + 1e-12)


@given(servers=st.integers(1, 40), load=st.floats(0.01, 0.95), cv=st.floats(0.0, 3.0), q=st.floats(0.5, 0.999))
def test_more_servers_never_wait_longer_and_more_load_never_shorter(servers: int, load: float, cv: float, q: float):
    def wait(count: int, rate: float) -> tuple[float, float]:
        given_ = {"arrivals_per_s": rate, "service_s": 0.02, "arrival_cv": 1.0, "service_cv": cv}
        return queues.mean_wait_s(servers=count, **given_), queues.wait_quantile_s(servers=count, q=q, **given_)

    rate = load * servers / 0.02
    for fewer, more in zip(wait(servers, rate), wait(servers + 1, rate), strict=True):
        assert more <= fewer + 1e-12
    for lighter, heavier in zip(wait(servers, rate * 0.9), wait(servers, rate), strict=True):
        assert lighter <= heavier + 1e-12


@given(servers=st.integers(1, 20), q=st.floats(0.1, 0.999))
def test_queues_say_the_same_of_floats_and_arrays(servers: int, q: float):
    rates = np.array([0.0, 0.1, 0.5, 0.99, 1.0, 1.5]) * servers
    at = {"service_s": 1.0, "arrival_cv": 1.3, "service_cv": 0.4}
    np.testing.assert_allclose(
        queues.mean_wait_s(servers=servers, arrivals_per_s=rates, **at),
        [queues.mean_wait_s(servers=servers, arrivals_per_s=float(rate), **at) for rate in rates],
    )
    np.testing.assert_allclose(
        queues.wait_quantile_s(servers=servers, arrivals_per_s=rates, q=q, **at),
        [queues.wait_quantile_s(servers=servers, arrivals_per_s=float(rate), q=q, **at) for rate in rates],
    )


def test_service_that_takes_no_time_makes_nobody_wait():
    assert queues.mean_wait_s(servers=2, arrivals_per_s=10.0, service_s=0.0) == 0.0
    assert queues.mean_wait_s(servers=2, arrivals_per_s=10.0, service_s=0.1) > 0.0


@given(rate=st.floats(0.1, 400.0), wait_s=st.floats(0.001, 2.0), q=st.floats(0.5, 0.999), cv=st.floats(0.0, 3.0))
def test_the_servers_needed_keep_the_wait_and_one_fewer_does_not(rate: float, wait_s: float, q: float, cv: float):
    at = {"arrivals_per_s": rate, "service_s": 0.05, "q": q, "arrival_cv": 0.5, "service_cv": cv}
    needed = queues.servers_needed(wait_s=wait_s, **at)
    assert needed is not None
    assert queues.wait_quantile_s(servers=needed, **at) <= wait_s * (1.0 + 1e-12)
    if needed > 1:
        assert queues.wait_quantile_s(servers=needed - 1, **at) > wait_s * (1.0 - 1e-12)


@given(offered=st.floats(0.1, 400.0), burst_s=st.floats(0.01, 600.0), wait_s=st.floats(0.001, 60.0))
def test_at_the_end_of_a_burst_what_is_left_takes_just_the_wait(offered: float, burst_s: float, wait_s: float):
    worth = queues.worth_in_burst(offered=offered, burst_s=burst_s, wait_s=wait_s)
    assert (offered - worth) * burst_s / worth == pytest.approx(wait_s, rel=1e-6)
    assert queues.worth_in_burst(offered=offered, burst_s=1e12, wait_s=wait_s) == pytest.approx(offered)


@given(load_w=st.floats(10.0, 20_000.0), more=st.floats(1.0, 5.0))
def test_more_load_never_holds_longer(load_w: float, more: float):
    held, shorter = (battery.table_hold_s(load_w=load, **TABLE) for load in (load_w, load_w * more))
    assert shorter <= held * (1.0 + 1e-12)
    assert battery.ratio_hold_s(known_s=600.0, known_w=2300.0, load_w=load_w * more) <= battery.ratio_hold_s(
        known_s=600.0, known_w=2300.0, load_w=load_w
    )


def test_a_table_out_of_order_is_the_same_table():
    turned = {"minutes": TABLE["minutes"][::-1], "watts": TABLE["watts"][::-1]}
    np.testing.assert_allclose(battery.table_hold_s(load_w=LOADS, **turned), battery.table_hold_s(load_w=LOADS, **TABLE))


def test_batteries_say_the_same_of_floats_and_arrays():
    table = battery.table_hold_s(load_w=LOADS, **TABLE)
    np.testing.assert_allclose(table, [battery.table_hold_s(load_w=float(load), **TABLE) for load in LOADS])
    one_row = {"minutes": (10.0,), "watts": (2300.0,)}
    np.testing.assert_allclose(
        battery.table_hold_s(load_w=LOADS, **one_row), [battery.table_hold_s(load_w=float(load), **one_row) for load in LOADS]
    )
    warmth = np.array([-40.0, 0.0, 24.9, 25.0, 26.0, 60.0])
    for chem in battery.CAPACITY_PER_K:
        np.testing.assert_allclose(
            battery.capacity_factor(ageing=0.9, celsius=warmth, chem=chem),
            [battery.capacity_factor(ageing=0.9, celsius=float(c), chem=chem) for c in warmth],
        )
    np.testing.assert_allclose(battery.life_factor(celsius=warmth), [battery.life_factor(celsius=float(c)) for c in warmth])


@given(ageing=st.floats(0.5, 1.0), celsius=st.floats(-60.0, 80.0), chem=st.sampled_from(sorted(battery.CAPACITY_PER_K)))
def test_no_temperature_gives_a_battery_more_than_its_age_left(ageing: float, celsius: float, chem: str):
    assert 0.0 <= battery.capacity_factor(ageing=ageing, celsius=celsius, chem=chem) <= ageing
    assert 0.0 < battery.life_factor(celsius=celsius) <= 1.0


@given(watts=st.floats(1.0, 1e6), rise_f=st.floats(1.0, 60.0))
def test_cubic_feet_and_cubic_metres_tell_the_same_air(watts: float, rise_f: float):
    """The rule of thumb is air of 0.075 lb/ft3 (1.2014 kg/m3): within half a percent of the formula, in any units."""
    metric = heat.airflow_m3_s(heat_w=watts, rise_k=rise_f / 1.8, density_kg_m3=0.075 * 0.45359237 / 0.3048**3)
    assert metric * heat.CFM_PER_M3_S == pytest.approx(heat.airflow_cfm(heat_kw=watts / 1e3, rise_f=rise_f), rel=0.005)
    assert pytest.approx(60.0 / 0.3048**3, rel=1e-6) == heat.CFM_PER_M3_S


@given(ashrae=st.sampled_from(sorted(heat.ASHRAE)), low=st.floats(0.0, 3050.0), high=st.floats(0.0, 3050.0))
def test_the_higher_a_site_the_cooler_its_air_has_to_be(ashrae: str, low: float, high: float):
    at_low, at_high = (heat.highest_inlet_c(ashrae=ashrae, altitude_m=metres) for metres in sorted((low, high)))
    assert heat.ASHRAE[ashrae][0] < at_high <= at_low <= heat.ASHRAE[ashrae][1]
    several = heat.highest_inlet_c(ashrae=ashrae, altitude_m=np.array([low, high]))
    assert several.tolist() == [heat.highest_inlet_c(ashrae=ashrae, altitude_m=metres) for metres in (low, high)]


@given(it_w=st.floats(0.0, 10_000.0), power_factor=st.floats(0.3, 1.0))
def test_nothing_gets_smaller_on_its_way_from_the_equipment_to_the_feed(it_w: float, power_factor: float):
    """On mains, with the battery at rest."""
    assert apparent_va(power_w=it_w, power_factor=power_factor) >= it_w
    into = it_w + ups_loss_w(rating_w=10_000.0, load_w=it_w)
    assert into >= it_w
    assert 0.0 <= efficiency(in_w=into, out_w=it_w) < 1.0
    assert heat.distribution_loss_w(rating_w=10_000.0, load_w=it_w) > 0.0


def test_what_a_room_has_to_get_rid_of():
    """White paper 25's sum for 5 kW on a UPS of 10 kW: 0.65 kW of it, 0.2 kW of distribution, 10 m2 of light, two people."""
    losses = {"ups_loss_w": ups_loss_w(rating_w=10_000.0, load_w=5000.0), "distribution_w": 200.0}
    assert heat.room_heat_w(it_w=5000.0) == 5000.0
    assert heat.room_heat_w(it_w=5000.0, **losses, floor_m2=10.0, people=2, envelope_w=-65.0) == pytest.approx(6200.0)


def test_a_unit_moves_less_on_a_hot_day_and_never_more_than_it_is_rated():
    assert [heat.cooling_capacity_w(rated_w=5000.0, outdoor_c=c) for c in (10.0, 35.0, 45.0)] == [5000.0, 5000.0, 4600.0]
    many = heat.cooling_capacity_w(rated_w=5000.0, outdoor_c=np.array([10.0, 45.0]))
    assert many.tolist() == [5000.0, 4600.0]


@pytest.mark.parametrize("ashrae", sorted(heat.ASHRAE))
def test_what_is_recommended_is_allowed(ashrae: str):
    (low, high), (coldest, hottest) = heat.RECOMMENDED_C[ashrae], heat.ASHRAE[ashrae]
    assert coldest <= low < high <= hottest
