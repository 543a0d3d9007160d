"""How high a site's IT power goes: what a pilot tells of its peak, and how surely."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.learning.peak_estimates import SE_OF_ONE, peak_estimate
from nearhall.planner.learning.site_blocks import SiteBlocks, site_blocks
from nearhall.planner.learning.site_estimates import Estimate
from planner.metered_site import WATTS, site


def busy(name: str = "a", *, blocks: int, peak: float = 4.0, noise: float = 0.0) -> SiteBlocks:
    """400 W, and for three hours a day so many times that; days differ by chance."""
    day = np.random.default_rng(1).normal(0.0, noise, blocks // 96 + 1)

    def watts(index: int) -> dict[str, float]:
        factor = (peak if index % 96 >= 84 else 1.0) * float(np.exp(day[index // 96]))
        return {position: power * factor for position, power in WATTS.items()}

    return site_blocks(site(name, blocks=blocks, watts=watts))


def test_a_peak_of_a_few_hours_is_seen_and_a_mean_hides_it():
    found = peak_estimate([busy(blocks=96 * 14)])
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(1600.0, rel=1e-6)
    assert found.seen.value == pytest.approx(np.log(1600.0))
    assert found.blocks == 96 * 14


def test_days_that_differ_make_it_less_sure_and_more_of_them_surer():
    errors = [
        found.seen.se
        for days, noise in ((14, 0.0), (14, 0.2), (112, 0.2), (2, 0.2))
        if isinstance(found := peak_estimate([busy(blocks=96 * days, noise=noise)]), Estimate)
    ]
    alike, differing, many, few = errors
    assert alike < differing
    assert many < differing
    assert few > many


def test_one_quarter_of_an_hour_tells_little():
    found = peak_estimate([busy(blocks=1)])
    assert isinstance(found, Estimate)
    assert found.seen.se >= SE_OF_ONE


def test_without_a_meter_of_it_power_there_is_none():
    blind = site_blocks(site(watts=lambda _: {"feed": 600.0}, blocks=8))
    assert peak_estimate([blind]) == "no block holds its IT power"
    idle = site_blocks(site(watts=lambda _: dict.fromkeys(WATTS, 0.0), blocks=8))
    assert peak_estimate([idle]) == "no block holds its IT power"
