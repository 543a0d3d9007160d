"""From a pilot's weather to the year's: by how much a site's facility power per IT power changes, and how sure that is.

A request's energy is its IT energy times PUE. IT energy has no season; PUE is of the pilot's weather, and the year has another.
Hours like those that were seen are taken from what was metered, the others from the plan's own cooling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, hypot, log, log1p

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.learning.pue_regression import BLOCKS_LEAST, Curve, PueBlocks, seen_hours, shape_of, slope_of, slope_sd

OVERHEAD_SD = 0.3
"""What the plan's overhead may be off in a weather that nobody saw, on the logarithm (assumed)."""
OVERHEAD = 0.5
"""PUE - 1 where neither plan nor pilot tells one (assumed)."""
Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Of one site, on the logarithm."""

    shift: float
    """Added to what was metered."""
    sd: float
    """Its error, which sites of the same season share."""


def year_steps(sites: Mapping[str, PueBlocks], *, year_c: Column, year_load: float, curve: Curve | None) -> dict[str, Step]:
    """The step of each site that metered PUE and outdoor temperature; `year_c` of shape (hours,) is the year to be stepped to."""
    used = {name: site for name, site in sites.items() if int(site.usable.sum()) >= BLOCKS_LEAST}
    if not used:
        return {}
    seen_c = np.concatenate([site.outdoor_c[site.usable] for site in used.values()])
    seen = seen_hours(year_c, float(seen_c.min()), float(seen_c.max()))
    slope = slope_of(list(used.values()), hours_c=year_c[seen] if seen.any() else seen_c, year_load=year_load, curve=curve)
    return {name: _step(site, (year_c[seen], year_c[~seen]), curve, slope) for name, site in used.items()}


def unknown_step(year_c: Column | None, curve: Curve | None) -> Step:
    """Of a site whose weather or IT energy nobody metered: any part of the year may have been it."""
    hours = np.array([5.0, 15.0]) if year_c is None else year_c  # without a climate ten kelvin between seasons
    shape = shape_of(curve, hours)
    overhead = np.exp(shape) if curve is not None else OVERHEAD * np.exp(shape - shape.mean())
    return Step(shift=0.0, sd=float(np.std(np.log1p(overhead))))


def _step(site: PueBlocks, year_c: tuple[Column, Column], curve: Curve | None, slope: tuple[float, float]) -> Step:
    """`year_c` are the hours that were seen and those that were not, `slope` its mean and error."""
    seen_c, other_c = year_c
    use = site.usable
    weight, here_c = site.it_load[use], site.outdoor_c[use]
    centre = float(np.average(here_c, weights=weight))

    def shape(at_c: Column) -> Column:
        return shape_of(curve, at_c) + slope[0] * (at_c - centre)

    pilot = float(np.average(site.pue[use] - 1.0, weights=weight))
    level = log(pilot) - log(float(np.average(np.exp(shape(here_c)), weights=weight)))
    share = len(seen_c) / (len(seen_c) + len(other_c))
    like = share * exp(level) * float(np.exp(shape(seen_c)).mean()) if len(seen_c) else 0.0
    away = abs(float(seen_c.mean()) - centre) if len(seen_c) else 0.0
    beyond, beyond_sd = _beyond(level, centre, other_c, curve)
    beyond *= 1.0 - share
    whole = 1.0 + like + beyond
    return Step(shift=log(whole) - log1p(pilot), sd=hypot(like * slope[1] * away, beyond * beyond_sd) / whole)


def _beyond(level: float, centre: float, hours_c: Column, curve: Curve | None) -> tuple[float, float]:
    """Overhead of the hours that nobody saw, mean, and its error: the plan's, or without a curve what the pilot's level makes."""
    if not len(hours_c):
        return 0.0, 0.0
    if curve is not None:
        return float(np.exp(curve.log_overhead(hours_c)).mean()), OVERHEAD_SD
    away = float(hours_c.mean()) - centre
    return exp(level) * float(np.exp(shape_of(None, hours_c)).mean()), hypot(OVERHEAD_SD, slope_sd(None) * away)
