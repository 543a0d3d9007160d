"""Phases, learning, and the right to stop after the pilot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.money.cashflow import npv_usd
from nearhall.planner.money.rollout_phases import Phase, cash_in_steps, learned_factor, phases_of, value_rollout
from nearhall.planner.samples.draws import Draws

DRAWS = Draws(seed=5, samples=4000)
PHASES = phases_of(sites={"shop": 120}, pilot_sites=3, pilot_years=0.5, waves=[0.3, 0.7])
NOISE = {"shop": DRAWS.normal("pilot")}


def gains(mean: float, spread: float) -> np.ndarray:
    """Flows of 3000 USD to build and a yearly gain about `mean`."""
    yearly = mean + spread * DRAWS.normal("gain")
    return np.column_stack([np.full(4000, -3000.0), *[yearly] * 5])


def test_a_pilot_then_waves_a_year_apart():
    assert [(phase.name, phase.start_year, phase.count) for phase in PHASES] == [
        ("pilot", 0.0, 3),
        ("wave 1", 0.5, 35),
        ("wave 2", 1.5, 82),
    ]
    assert phases_of(sites={"shop": 2}, pilot_sites=3, pilot_years=0.5, waves=[1.0]) == (
        Phase(name="pilot", start_year=0.0, sites={"shop": 2}),
    )


def test_a_pilot_holds_every_kind_that_it_has_room_for():
    phases = phases_of(sites={"city": 80, "large": 40}, pilot_sites=3, pilot_years=0.5, waves=[0.3, 0.7])
    assert [dict(phase.sites) for phase in phases] == [
        {"city": 2, "large": 1},
        {"city": 23, "large": 12},
        {"city": 55, "large": 27},
    ]
    rare = phases_of(sites={"city": 80, "large": 40, "hall": 1}, pilot_sites=3, pilot_years=0.5, waves=[1.0])
    assert dict(rare[0].sites) == {"city": 1, "large": 1, "hall": 1}
    small = phases_of(sites={"city": 80, "large": 40, "hall": 1}, pilot_sites=2, pilot_years=0.5, waves=[1.0])
    assert dict(small[0].sites) == {"city": 1, "large": 1, "hall": 0}


def test_kinds_that_wait_for_an_answer_have_a_pilot_of_their_own():
    phases = phases_of(sites={"city": 80, "large": 40}, pilot_sites=3, pilot_years=0.5, waves=[1.0], waiting=["city"])
    assert [(phase.name, dict(phase.sites), phase.waits) for phase in phases] == [
        ("pilot", {"city": 0, "large": 3}, False),
        ("pilot, if the answers are good", {"city": 3, "large": 0}, True),
        ("wave 1", {"city": 77, "large": 37}, False),
    ]
    alone = phases_of(sites={"city": 80}, pilot_sites=3, pilot_years=0.5, waves=[1.0], waiting=["city"])
    assert [phase.waits for phase in alone] == [True, False]


@given(mean=st.floats(-1000, 3000), spread=st.floats(0, 1000), learning=st.floats(0, 0.3))
@settings(max_examples=25, deadline=None)
def test_money_in_steps_begins_with_the_pilot_and_ends_with_what_it_all_is_worth(mean: float, spread: float, learning: float):
    gain = {"shop": gains(mean, spread)}
    value = value_rollout(PHASES, gain, rate=0.08, noise=NOISE, learning=learning)
    cash = cash_in_steps(value, gain, rate=0.08)
    assert cash.shape == (4000, 4 * 5 + 6 + 1), "five years, of which the last begin after one and a half"
    assert np.allclose(cash[:, 0], -9000.0)
    assert np.allclose(cash[:, -1], value.with_option_usd)
    goes_on = value.goes_on["shop"]
    bought = cash[goes_on, 2] - cash[goes_on, 1]
    assert np.all(bought < -30_000), "wave 1 is bought after half a year"


@given(
    sites=st.dictionaries(st.sampled_from("abcde"), st.integers(0, 50), min_size=1),
    pilot=st.integers(1, 20),
    share=st.floats(0.05, 0.95),
    waiting=st.sets(st.sampled_from("abcde")),
)
def test_every_site_is_built_once(sites: dict[str, int], pilot: int, share: float, waiting: set[str]):
    phases = phases_of(sites=sites, pilot_sites=pilot, pilot_years=0.5, waves=[share, 1 - share], waiting=waiting)
    assert all(not phase.sites[kind] for phase in phases if phase.waits for kind in sites if kind not in waiting)
    assert {kind: sum(phase.sites[kind] for phase in phases) for kind in sites} == sites
    assert all(n >= 0 for phase in phases for n in phase.sites.values())


def test_everything_at_once_is_worth_the_sum_of_its_sites():
    gain = gains(900.0, 100.0)
    both = (Phase(name="pilot", start_year=0.0, sites={"shop": 2}), Phase(name="wave 1", start_year=0.0, sites={"shop": 8}))
    worth = value_rollout(both, {"shop": gain}, rate=0.08, noise=NOISE)
    assert np.allclose(worth.all_usd, 10 * npv_usd(gain, rate=0.08))
    later = (both[0], Phase(name="wave 1", start_year=2.0, sites={"shop": 8}))
    assert value_rollout(later, {"shop": gain}, rate=0.08, noise=NOISE).phases[1].npv_usd.mean() == pytest.approx(
        worth.phases[1].npv_usd.mean() / 1.08**2
    )


def test_a_doubtful_plan_is_worth_more_with_the_right_to_stop():
    doubtful = value_rollout(PHASES, {"shop": gains(760.0, 200.0)}, rate=0.08, noise=NOISE)
    assert doubtful.over_all_usd > 0
    assert 0.2 < doubtful.p_stop < 0.8
    assert doubtful.with_option_usd.mean() > doubtful.all_usd.mean()
    sure = value_rollout(PHASES, {"shop": gains(2000.0, 50.0)}, rate=0.08, noise=NOISE)
    assert sure.p_stop == 0.0
    assert np.allclose(sure.with_option_usd, sure.all_usd)
    hopeless = value_rollout(PHASES, {"shop": gains(100.0, 50.0)}, rate=0.08, noise=NOISE)
    assert hopeless.p_stop == 1.0
    assert np.allclose(hopeless.with_option_usd, hopeless.phases[0].npv_usd)


def test_a_pilot_that_tells_more_is_worth_more():
    gain = gains(760.0, 200.0)
    by_told = [value_rollout(PHASES, {"shop": gain}, rate=0.08, noise=NOISE, told=told) for told in (0.0, 0.5, 1.0)]
    worth = [float(value.with_option_usd.mean()) for value in by_told]
    assert worth[0] < worth[1] < worth[2]
    assert np.array_equal(by_told[0].with_option_usd, by_told[0].phases[0].npv_usd), "what tells nothing scales nothing doubtful"


@pytest.mark.parametrize("sure", [0.5, 0.8, 0.95])
def test_the_rest_is_built_where_it_is_as_sure_to_pay_as_is_asked(sure: float):
    value = value_rollout(PHASES, {"shop": gains(800.0, 200.0)}, rate=0.08, noise=NOISE, sure=sure)
    rest, goes_on = value.all_usd - value.phases[0].npv_usd, value.goes_on["shop"]
    assert 0.05 < goes_on.mean() < 0.95
    assert np.mean(rest[goes_on] > 0) >= sure
    more = value_rollout(PHASES, {"shop": gains(800.0, 200.0)}, rate=0.08, noise=NOISE, sure=min(1.0, sure + 0.04))
    assert np.all(goes_on | ~more.goes_on["shop"]), "who asks for more builds in fewer cases"


def test_each_kind_is_judged_by_its_own():
    phases = phases_of(sites={"city": 80, "large": 40}, pilot_sites=3, pilot_years=0.5, waves=[1.0], waiting=["city"])
    noise = {"city": DRAWS.normal("one"), "large": DRAWS.normal("other")}
    value = value_rollout(phases, {"city": gains(300.0, 50.0), "large": gains(2000.0, 50.0)}, rate=0.08, noise=noise)
    assert not value.goes_on["city"].any()
    assert value.goes_on["large"].all()
    assert value.p_stop == 0.0
    assert not value.by_kind_usd["city"].any(), "its pilot waits for an answer too"
    assert np.allclose(
        value.by_kind_usd["large"], 3 * npv_usd(gains(2000.0, 50.0), rate=0.08) + value.phases[2].by_kind_usd["large"]
    )


@given(mean=st.floats(-1000, 3000), spread=st.floats(0, 1000), told=st.floats(0, 1), learning=st.floats(0, 0.3))
@settings(max_examples=25, deadline=None)
def test_built_is_never_less_than_the_pilot_and_never_more_than_all(mean: float, spread: float, told: float, learning: float):
    worth = value_rollout(PHASES, {"shop": gains(mean, spread)}, rate=0.08, noise=NOISE, told=told, learning=learning)
    pilot, goes_on = worth.phases[0].npv_usd, worth.goes_on["shop"]
    assert np.allclose(worth.with_option_usd, np.where(goes_on, worth.all_usd, pilot))
    assert worth.p_stop == pytest.approx(1.0 - goes_on.mean())


@given(low=st.floats(0, 0.49), high=st.floats(0, 0.49))
def test_who_learns_more_builds_cheaper(low: float, high: float):
    less, more = sorted((low, high))
    assert learned_factor(before=3, sites=50, reference=3, learning=more) <= learned_factor(
        before=3, sites=50, reference=3, learning=less
    )
    assert learned_factor(before=0, sites=3, reference=3, learning=high) == 1.0


def test_a_doubling_takes_the_share_off():
    assert learned_factor(before=7, sites=1, reference=4, learning=0.2) == pytest.approx(0.8)
    learned = value_rollout(PHASES, {"shop": gains(900.0, 1.0)}, rate=0.08, noise=NOISE, learning=0.1)
    assert learned.phases[0].capex_factor == 1.0
    assert learned.phases[2].capex_factor < learned.phases[1].capex_factor < 1.0
    assert "cheaper to build" in learned.phases[2].words
    assert learned.phases[0].words == "pilot: 3 sites now"


def test_a_pilot_alone_has_nothing_to_stop():
    alone = value_rollout(PHASES[:1], {"shop": gains(900.0, 100.0)}, rate=0.08, noise=NOISE)
    assert alone.p_stop == 0.0
    assert alone.over_all_usd == 0.0


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ((), {}),
        ((Phase(name="pilot", start_year=0.0, sites={"shop": 0}),), {}),
        (PHASES, {"told": 1.1}),
        (PHASES, {"learning": 0.6}),
    ],
)
def test_what_is_no_rollout_is_refused(phases: tuple[Phase, ...], said: dict[str, float]):
    with pytest.raises(InputError, match="rollout"):
        value_rollout(phases, {"shop": gains(900.0, 100.0)}, rate=0.08, noise=NOISE, **said)
