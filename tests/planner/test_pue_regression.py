"""From a pilot's weather to a year's PUE: what was not seen stays uncertain."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.day import year_of_temperatures
from nearhall.planner.pue_regression import YearEstimate, year_estimate

YEAR = year_of_temperatures(mean_c=10.0, season_c=10.0, day_c=4.0)
TRUE = (np.log(0.4), 0.03, -0.8)


def blocks(temperatures: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    load = random.uniform(0.3, 0.7, len(temperatures))
    logs = TRUE[0] + TRUE[1] * (temperatures - YEAR.mean()) + TRUE[2] * (load - 0.5)
    return 1.0 + np.exp(logs + random.normal(0, 0.03, len(temperatures))), temperatures, load


def estimate(temperatures: np.ndarray) -> YearEstimate:
    found = year_estimate(*blocks(temperatures), year_c=YEAR, year_load=0.5, prior_value=np.log(0.6), prior_sd=0.35)
    assert found is not None
    return found


TRUTH = float(np.log(np.exp(TRUE[0] + TRUE[1] * (YEAR - YEAR.mean())).mean()))


def test_a_whole_year_of_blocks_tells_the_years_pue():
    found = estimate(YEAR[::4])
    assert found.value == pytest.approx(TRUTH, abs=0.02)
    assert found.se < 0.01
    assert found.unseen_share < 0.01


def test_a_winter_does_not_narrow_the_summer():
    winter = estimate(YEAR[: 24 * 28])
    assert winter.unseen_share > 0.6
    assert winter.se > 10 * estimate(YEAR[::4]).se
    assert abs(winter.value - TRUTH) < 3 * winter.se


def test_too_few_blocks_tell_nothing():
    pue, outdoor, load = blocks(YEAR[:2])
    given = {"year_c": YEAR, "year_load": 0.5, "prior_value": 0.0, "prior_sd": 0.3}
    assert year_estimate(pue, outdoor, load, **given) is None
    pue, outdoor, load = blocks(YEAR[:50])
    pue[10:] = np.nan
    few = year_estimate(pue, outdoor, load, **given)
    assert few is not None
    assert few.se > 0.0
    constant = year_estimate(np.full(5, 1.5), np.full(5, 10.0), np.full(5, 0.5), **given)
    assert constant is not None
    assert few.temperatures[0] < few.temperatures[1]
    assert constant.temperatures == (10.0, 10.0)
    alone = year_estimate(pue[:3], outdoor[:3], load[:3], **given)
    assert alone is not None
