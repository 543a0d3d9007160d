"""From the pilot's weather to the year's: a winter's energy per request is no year's, and says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.accept import Measure
from nearhall.planner.learning.beliefs import Learned, learn
from nearhall.planner.learning.pue_regression import Curve, PueBlocks, year_of_pue
from nearhall.planner.learning.site_blocks import site_blocks
from nearhall.planner.learning.site_estimates import Season
from nearhall.planner.learning.site_ratios import INTERIM, site_ratios
from nearhall.planner.learning.year_step import unknown_step, year_steps
from nearhall.planner.samples.draws import Draws
from planner.metered_site import site
from planner.test_decide import JOULES, POWER, PUE, SEASON

DRAWS = Draws(seed=3, samples=500)
YEAR = SEASON.year_c
MEASURE = JOULES.measure


def overhead(outdoor_c: float | np.ndarray) -> np.ndarray:
    """Free cooling up to 8 °C, a compressor beyond: more with each degree."""
    return 0.20 + 0.03 * np.maximum(np.asarray(outdoor_c) - 8.0, 0.0)


CURVE = Curve(outdoor_c=np.linspace(-15.0, 40.0, 111), overhead=overhead(np.linspace(-15.0, 40.0, 111)))
TRUE_J = 400.0 * (1.0 + float(overhead(YEAR).mean()))
"""400 W for one request a second, and what the year's weather adds."""


def weeks(middle_c: float, name: str = "a", *, days: int = 28, **changes: object) -> SiteReturns:
    def outdoor(index: int) -> float:
        return middle_c + 4.0 * float(np.sin(index / 96 * 2 * np.pi))

    def watts(index: int) -> dict[str, float]:
        over = 400.0 * float(overhead(outdoor(index)))
        return {"feed": 400.0 + over, "ups_in": 400.0, "ups_out": 400.0, "it": 400.0, "cooling": over}

    return site(name, watts=watts, outdoor_c=outdoor, blocks=96 * days, **changes)


def learned(*returns: SiteReturns, season: Season | None = SEASON) -> Learned:
    return learn(JOULES, [site_blocks(one) for one in returns], season=season, uniform=DRAWS.uniform("x"))


@pytest.mark.parametrize(("middle_c", "curve"), [(0.0, None), (10.0, None), (0.0, CURVE), (10.0, CURVE), (22.0, CURVE)])
def test_any_seasons_interval_holds_the_years_energy(middle_c: float, curve: Curve | None):
    found = learned(*[weeks(middle_c, name) for name in "abc"], season=replace(SEASON, curve=curve))
    assert found.new_site.p10 < TRUE_J < found.new_site.p90
    assert INTERIM in found.notes
    assert found.data is not None
    if curve is not None:
        assert found.data == pytest.approx(TRUE_J, rel=0.05)
    if middle_c == 0.0:
        assert any("from the pilot's weather to the year's" in note for note in found.notes)


def test_more_sites_in_the_same_winter_do_not_average_the_season_out():
    few, many = (learned(*[weeks(0.0, f"s{i}") for i in range(count)]) for count in (3, 12))
    assert few.posterior is not None
    assert many.posterior is not None
    assert many.posterior.p90 / many.posterior.p10 > 0.8 * few.posterior.p90 / few.posterior.p10


def test_a_whole_year_takes_no_step_and_is_not_interim():
    days = np.arange(96 * 365) // 96
    mild = 10.0 + 12.0 * np.sin(days / 365 * 2 * np.pi)

    def watts(index: int) -> dict[str, float]:
        over = 400.0 * float(overhead(mild[index]))
        return {"feed": 400.0 + over, "ups_in": 400.0, "ups_out": 400.0, "it": 400.0, "cooling": over}

    blocks = [site_blocks(site("a", watts=watts, outdoor_c=lambda i: float(mild[i]), blocks=96 * 365))]
    told = site_ratios({"a": blocks}, MEASURE, SEASON)
    assert told.common_sd == 0.0
    assert told.notes == ()
    assert told.found["a"].value == pytest.approx(400.0 * (1.0 + float(overhead(mild).mean())), rel=1e-6)


def test_without_a_thermometer_the_season_is_unknown_and_said():
    bare = learned(*[replace(weeks(0.0, n), blocks=[replace(b, outdoor_c=None) for b in weeks(0.0, n).blocks]) for n in "abc"])
    known = learned(*[weeks(0.0, name) for name in "abc"])
    assert bare.data != known.data
    assert any("nobody metered IT energy and outdoor temperature with it" in note for note in bare.notes)
    assert bare.kind is Kind.MEASURED
    flat = learned(*[weeks(0.0, name) for name in "abc"], season=None)
    assert any("nobody metered" in note for note in flat.notes)
    assert unknown_step(None, None).sd > 0.02
    assert unknown_step(YEAR, CURVE).sd == pytest.approx(float(np.std(np.log1p(overhead(YEAR)))), rel=0.01)
    assert year_steps({}, year_c=YEAR, year_load=0.5, curve=None) == {}


def test_weather_that_the_year_never_has_leaves_the_plans_curve():
    hot = PueBlocks(pue=np.full(50, 1.9), outdoor_c=np.full(50, 60.0), it_load=np.full(50, 0.5))
    step = year_steps({"a": hot}, year_c=YEAR, year_load=0.5, curve=CURVE)["a"]
    assert step.shift == pytest.approx(np.log(1.0 + float(overhead(YEAR).mean())) - np.log(1.9), abs=0.02)


@pytest.mark.parametrize("belief", [POWER, replace(POWER, name="r", measure=Measure(of="requests_per_s", workload="cams"))])
def test_what_has_a_season_is_interim_under_a_year(belief: object):
    found = learn(belief, [site_blocks(site("a"))], season=SEASON, uniform=DRAWS.uniform("x"))  # type: ignore[arg-type]
    assert INTERIM in found.notes


@pytest.mark.parametrize(("days", "told"), [(1, "saw 1 of 7 weekdays"), (5, "saw 5 of 7 weekdays"), (7, ""), (14, "")])
def test_weekdays_that_were_not_seen_widen(days: int, told: str):
    found = site_ratios({"a": [site_blocks(site("a", blocks=96 * days))]}, POWER.measure, SEASON)
    assert any(told in note for note in found.notes) if told else not any("weekdays" in note for note in found.notes)
    week = site_ratios({"a": [site_blocks(site("a", blocks=96 * 7))]}, POWER.measure, SEASON).found["a"].seen.se
    assert found.found["a"].seen.se > 2 * week if told else found.found["a"].seen.se <= week


@given(
    middle_c=st.floats(-5.0, 4.0),
    level=st.floats(0.05, 0.9),
    slope=st.floats(-0.02, 0.08),
    sites=st.integers(1, 6),
    by_curve=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_winter_does_not_narrow_the_summer(middle_c: float, level: float, slope: float, sites: int, *, by_curve: bool):
    """Hours warmer than any that was seen are no surer than the plan was, whatever the winter showed."""
    prior = PUE.prior
    outdoor = middle_c + 4.0 * np.sin(np.arange(96 * 14) / 96 * 2 * np.pi)
    pue = 1.0 + level * np.exp(slope * (outdoor - middle_c))
    pilots = [PueBlocks(pue=pue, outdoor_c=outdoor, it_load=np.full(len(pue), 0.5)) for _ in range(sites)]
    summer = YEAR[middle_c + 6.1 < YEAR]
    found = year_of_pue(pilots, year_c=summer, year_load=0.5, prior=prior, curve=CURVE if by_curve else None)
    assert found is not None
    assert found.unseen_share == 1.0
    assert found.posterior.typical_sd >= prior.sd * 0.999
    assert found.posterior.z is None
