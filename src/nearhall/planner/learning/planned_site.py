"""What a plan knows of a site and a pilot leaves open: PUE at a weather nobody saw, and the work of each workload's request."""

from __future__ import annotations

import numpy as np

from nearhall.planner.learning.pue_regression import Curve
from nearhall.planner.plan import SitePlan
from nearhall.planner.power.cooling import facility_w, year_c

CURVE_C = np.arange(-40.0, 60.5, 1.0)
"""Temperatures of the curve; beyond them it is flat."""
OVERHEAD_LEAST = 1e-3


def planned_curve(site: SitePlan) -> Curve:
    """PUE - 1 over the outdoor temperature at the mean load, medians over the draws; its mean over the year is the plan's own."""
    it_w, one = site.load.mean_w, np.ones_like(site.load.mean_w)
    at = [float(np.median(np.asarray(facility_w(site.plant, it_w, float(c), one)) / it_w)) - 1.0 for c in CURVE_C]
    curve = Curve(outdoor_c=CURVE_C, overhead=np.maximum(np.array(at), OVERHEAD_LEAST))
    mean = float(np.exp(curve.log_overhead(year_c(site.site))).mean())
    planned = max(float(np.median(site.year.pue)) - 1.0, OVERHEAD_LEAST)
    return Curve(outdoor_c=CURVE_C, overhead=curve.overhead * (planned / mean))


def planned_work(site: SitePlan) -> tuple[tuple[str, float], ...]:
    """What a request of each workload that is answered on site takes, beside the others, medians over the draws."""
    local = [served for served in site.served if not served.at_hub]
    names = [served.point.workload.id for served in local]
    work = [site.load.work_share(name) / served.requests_per_year for name, served in zip(names, local, strict=True)]
    return tuple((name, float(np.median(of))) for name, of in zip(names, work, strict=True))
