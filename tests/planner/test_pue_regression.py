"""From pilots' weather to a year's PUE: what was not seen stays uncertain, however many sites did not see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nearhall.planner.learning.pue_regression import PueBlocks, YearOfPue, year_of_pue
from nearhall.planner.learning.update import Prior
from nearhall.planner.serving.day import year_of_temperatures

YEAR = year_of_temperatures(mean_c=10.0, season_c=10.0, day_c=4.0)
TRUE = (np.log(0.4), 0.03, -0.8)
TRUTH = float(np.log(np.exp(TRUE[0] + TRUE[1] * (YEAR - YEAR.mean())).mean()))
PRIOR = Prior(mean=float(np.log(0.6)), sd=0.35, between_sd=0.15)


def blocks(outdoor_c: np.ndarray, seed: int = 1, own: float = 0.0) -> PueBlocks:
    random = np.random.default_rng(seed)
    load = random.uniform(0.3, 0.7, len(outdoor_c))
    logs = TRUE[0] + own + TRUE[1] * (outdoor_c - YEAR.mean()) + TRUE[2] * (load - 0.5)
    return PueBlocks(pue=1.0 + np.exp(logs + random.normal(0, 0.03, len(outdoor_c))), outdoor_c=outdoor_c, it_load=load)


def year(*sites: PueBlocks) -> YearOfPue:
    found = year_of_pue(sites, year_c=YEAR, year_load=0.5, prior=PRIOR)
    assert found is not None
    return found


def winter(seed: int) -> PueBlocks:
    return blocks(np.repeat(YEAR[: 24 * 28], 4), seed)


def test_a_whole_year_of_a_few_sites_tells_the_years_pue():
    found = year(*[blocks(YEAR[::4], seed) for seed in range(4)])
    assert found.data == pytest.approx(TRUTH, abs=0.02)
    assert found.posterior.typical == pytest.approx(TRUTH, abs=0.05)
    assert found.unseen_share < 0.01


def test_a_winter_does_not_narrow_the_summer_however_many_sites_see_it():
    whole = year(*[blocks(YEAR[::4], seed) for seed in range(8)])
    few, many = year(*[winter(seed) for seed in range(3)]), year(*[winter(seed) for seed in range(8)])
    assert few.unseen_share > 0.6
    assert few.posterior.typical_sd > 2 * whole.posterior.typical_sd
    assert many.posterior.typical_sd > 0.8 * few.posterior.typical_sd
    assert abs(few.posterior.typical - TRUTH) < 2 * few.posterior.typical_sd
    assert few.temperatures[1] < 8.0


def test_what_the_meters_class_allows_does_not_average_out():
    sure = year(*[blocks(YEAR[::4], seed) for seed in range(3)])
    unsure = year(*[replace(blocks(YEAR[::4], seed), class_sd=0.3) for seed in range(3)])
    assert unsure.posterior.typical_sd > 1.5 * sure.posterior.typical_sd


def test_blocks_that_are_like_their_neighbours_say_less():
    random = np.random.default_rng(4)
    walk = np.zeros(400)
    for i in range(1, 400):
        walk[i] = 0.97 * walk[i - 1] + random.normal(0, 0.05)
    plain = blocks(YEAR[:400])
    shuffled = replace(plain, pue=1.0 + (plain.pue - 1.0) * np.exp(random.permutation(walk)))
    alike = replace(plain, pue=1.0 + (plain.pue - 1.0) * np.exp(walk))
    assert year(alike).posterior.typical_sd > year(shuffled).posterior.typical_sd


def test_the_order_of_sites_changes_nothing():
    sites = [blocks(YEAR[::4], seed, own) for seed, own in ((1, -0.1), (2, 0.0), (3, 0.2))]
    assert year(*sites).posterior.typical == pytest.approx(year(*sites[::-1]).posterior.typical, abs=1e-9)
    low, high = sorted([PRIOR.mean, year(*sites).data])
    assert low <= year(*sites).posterior.typical <= high


def test_pilots_far_from_the_plan_are_flagged():
    assert year(*[blocks(YEAR[::4], seed, 2.0) for seed in range(3)]).posterior.conflict
    assert not year(*[blocks(YEAR[::4], seed) for seed in range(3)]).posterior.conflict


def test_too_few_blocks_tell_nothing():
    few = blocks(YEAR[:2])
    assert year_of_pue([few], year_c=YEAR, year_load=0.5, prior=PRIOR) is None
    assert year_of_pue([], year_c=YEAR, year_load=0.5, prior=PRIOR) is None
    gaps = blocks(YEAR[:50])
    gaps.pue[10:] = np.nan
    assert int(gaps.usable.sum()) == 10
    assert year(few, gaps).posterior.typical_sd > 0.0
    constant = PueBlocks(pue=np.full(5, 1.5), outdoor_c=np.full(5, 10.0), it_load=np.full(5, 0.5))
    assert year(constant).temperatures == (10.0, 10.0)
    three = PueBlocks(pue=np.array([1.4, 1.5, 1.6]), outdoor_c=np.array([1.0, 2.0, 3.0]), it_load=np.array([0.1, 0.3, 0.2]))
    assert year(three).posterior.typical_sd > 0.0
