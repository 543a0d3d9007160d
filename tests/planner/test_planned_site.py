"""What a plan tells decide of its sites beside the figures that pilots measure."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.learning.cases import cases
from nearhall.planner.learning.planned_site import planned_curve, planned_work
from nearhall.planner.power.cooling import free_below_c, year_c
from planner.planned import EXAMPLES, example


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_curve_rises_with_the_weather_and_has_the_years_mean(name: str):
    planned = example(name)
    for site in (one for one in planned.sites if one.built):
        curve = planned_curve(site)
        assert np.all(np.diff(curve.overhead) >= -1e-9)
        mean = float(np.exp(curve.log_overhead(year_c(site.site))).mean())
        assert mean == pytest.approx(float(np.median(site.year.pue)) - 1.0, rel=1e-6)
        if np.isfinite(free_below_c(site.site)):
            below, above = np.exp(curve.log_overhead(np.array([free_below_c(site.site) - 1.0, free_below_c(site.site) + 2.0])))
            assert above > below, "where free cooling ends a compressor begins"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_work_of_requests_adds_up_to_the_sites(name: str):
    planned = example(name)
    for site in (one for one in planned.sites if one.built):
        work = dict(planned_work(site))
        local = [served for served in site.served if not served.at_hub]
        assert set(work) == {served.point.workload.id for served in local}
        shares = [work[s.point.workload.id] * float(np.median(s.requests_per_year)) for s in local]
        assert sum(shares) == pytest.approx(1.0, rel=0.1)
    for case in cases(planned):
        assert case.season is not None
        assert case.season.curve is not None
