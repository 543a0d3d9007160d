"""What pilots' PUE says of a whole year at a site that nobody has measured: log(PUE - 1) on outdoor temperature and IT load.

    block b of site s:  log(PUE_sb - 1) = Y_s + plan(T_sb) + slope (T_sb - ...) + effect of load (u_sb - u) + noise
                        Y_s ~ N(mu, tau) plus what the meters' class allows

Only hours of a weather that was seen are learned: Y is the value of those. plan(T) is the shape of the plan's own cooling over
the temperature, where the plan tells it, and the slope what is steeper or flatter than that. It is the class's, not a site's:
what a winter does not tell of it no second site in the same winter tells either. Hours of a weather that nobody saw keep the
plan's own figure, no surer than it was: beyond free cooling begins a compressor, of which the winter knows nothing. The year is
the mean of both over its hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.learning.update import GRID, TAU_TOP, Posterior, Prior

SLOPE_PER_K = (0.02, 0.03)
"""Prior of the slope with temperature where the plan tells no curve: 2 % more overhead a kelvin, as cooling gets harder; the sd
spans fans that hardly follow the weather, and a compressor that takes over from them within 15 K (assumed)."""
SLOPE_OF_CURVE_SD = 0.015
"""By how much the slope may be off the plan's own curve (assumed)."""
SLOPE_PER_LOAD = (-1.0, 0.7)
"""Prior of the slope with IT load (share of the budget): fixed losses weigh more at part load; mean and sd (assumed)."""
SEEN_BEYOND_K = 2.0
"""A weather that is no further from one that was seen counts as seen."""
BLOCK_SD_LEAST = 0.02
"""Two blocks of the same weather differ at least so much on the logarithm."""
LIKENESS_MOST = 0.98
"""Of a block and the next: beyond this a week is hardly more than one block."""
BLOCKS_LEAST = 3
LEVELS_FREE_SD = 10.0
"""So wide that a site's level is what its blocks say."""

Column = NDArray[np.float64]
"""One value per block, shape (blocks,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PueBlocks:
    """One site's blocks, in order of time."""

    pue: Column
    outdoor_c: Column
    it_load: Column
    """IT power over the budget."""
    class_sd: float = 0.0
    """What the meters' class allows log(PUE - 1) to be off: the same in all blocks, so that it does not average out."""

    @property
    def usable(self) -> NDArray[np.bool_]:
        """The blocks that can be counted with."""
        return np.isfinite(self.pue) & (self.pue > 1.0) & np.isfinite(self.outdoor_c) & np.isfinite(self.it_load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What the plan's own cooling makes of the outdoor temperature."""

    outdoor_c: Column
    """Rising."""
    overhead: Column
    """PUE - 1 at each, more than 0."""

    def log_overhead(self, outdoor_c: Column) -> Column:
        """log(PUE - 1), straight between the curve's points and flat beyond its ends."""
        return np.interp(outdoor_c, self.outdoor_c, np.log(self.overhead))


@dataclass(frozen=True, slots=True, kw_only=True)
class YearOfPue:
    """log(PUE - 1) of a whole year."""

    posterior: Posterior
    """Its `new_site_quantile` is of a site that nobody has measured."""
    data: float
    """What the pilots say of the hours that they saw; the others as the plan has them."""
    temperatures: tuple[float, float]
    """Lowest and highest outdoor temperature that was seen."""
    unseen_share: float
    """Share of the year's hours that lie outside of those."""


def shape_of(curve: Curve | None, outdoor_c: Column) -> Column:
    """How log(PUE - 1) goes with the temperature before anything is measured, up to a constant."""
    return SLOPE_PER_K[0] * outdoor_c if curve is None else curve.log_overhead(outdoor_c)


def slope_sd(curve: Curve | None) -> float:
    """How sure that shape is, per kelvin."""
    return SLOPE_PER_K[1] if curve is None else SLOPE_OF_CURVE_SD


def seen_hours(year_c: Column, low: float, high: float) -> NDArray[np.bool_]:
    """Which hours of a year had a weather like one between these temperatures."""
    return (year_c >= low - SEEN_BEYOND_K) & (year_c <= high + SEEN_BEYOND_K)


def year_of_pue(
    sites: Sequence[PueBlocks], *, year_c: Column, year_load: float, prior: Prior, curve: Curve | None = None
) -> YearOfPue | None:
    """From pilots' blocks to the year `year_c` (shape (hours,)) at `year_load`; None when no site has three usable blocks.

    Normal given the spread between sites, which is on a grid as in `update`; each site's own value is integrated out (Gelman et
    al., "Bayesian Data Analysis", 3rd ed., 14.8 and 15.3). What was seen and what was not are added up as logarithms, to the
    second order in their errors.
    """
    used = [site for site in sites if int(site.usable.sum()) >= BLOCKS_LEAST]
    if not used:
        return None
    seen_c = np.concatenate([site.outdoor_c[site.usable] for site in used])
    low, high = float(seen_c.min()), float(seen_c.max())
    seen = seen_hours(year_c, low, high)
    shape = shape_of(curve, year_c)
    tau = np.linspace(0.0, TAU_TOP, GRID) * prior.between_sd
    planned = [_planned(prior, year_c, shape, hours, slope_sd(curve)) for hours in (seen, ~seen)]
    if not seen.any():
        nothing = Posterior(
            weight=_half_normal(), tau=tau, mean=np.full(GRID, planned[1].mean), sd=np.full(GRID, planned[1].sd), z=None
        )
        return YearOfPue(posterior=nothing, data=prior.mean, temperatures=(low, high), unseen_share=1.0)
    held = planned[0]
    model = _Model(used, hours_c=year_c[seen], year_load=year_load, curve=curve, slope=0.0)
    weight, mean, cover = model.posterior(held)
    for _step in range(2):  # the mean bends so little with the slope that the last step changes nothing
        slope = float(np.sum(weight * mean[:, 1]))
        model = _Model(used, hours_c=year_c[seen], year_load=year_load, curve=curve, slope=slope)
        weight, mean, cover = model.posterior(held)
    data, data_sd = model.without_prior(held)
    share = float(seen.mean())
    year_mean, year_sd = _added(share, (mean[:, 0], cover[:, 0, 0] ** 0.5), (planned[1].mean, planned[1].sd))
    return YearOfPue(
        posterior=Posterior(
            weight=weight,
            tau=tau,
            mean=year_mean,
            sd=year_sd,
            z=(data - held.mean) / float(np.hypot(held.sd, data_sd)),
        ),
        data=float(np.logaddexp(np.log(share) + data, np.log(max(1.0 - share, 1e-300)) + planned[1].mean)),
        temperatures=(low, high),
        unseen_share=1.0 - share,
    )


def slope_of(sites: Sequence[PueBlocks], *, hours_c: Column, year_load: float, curve: Curve | None) -> tuple[float, float]:
    """By how much the slope differs from the plan's shape, and how sure that is, per kelvin; levels are each site's own."""
    model = _Model(sites, hours_c=hours_c, year_load=year_load, curve=curve, slope=0.0)
    return model.slope()


def _planned(prior: Prior, year_c: Column, shape: Column, hours: NDArray[np.bool_], slope_sd: float) -> Prior:
    """The plan's own figure of some hours of the year: its year's value, moved along the shape, and less sure for that."""
    if not hours.any():
        return prior
    moved = float(np.log(np.exp(shape[hours]).mean() / np.exp(shape).mean()))
    away = float(year_c[hours].mean() - year_c.mean())
    return Prior(mean=prior.mean + moved, sd=float(np.hypot(prior.sd, slope_sd * away)), between_sd=prior.between_sd)


def _added(share: float, seen: tuple[Column, Column], unseen: tuple[float, float]) -> tuple[Column, Column]:
    """Mean and sd of log(share exp(seen) + (1 - share) exp(unseen)), of (mean, sd) each."""
    if share >= 1.0:
        return seen
    parts = np.log(share) + seen[0], np.log1p(-share) + unseen[0]
    whole = np.logaddexp(*parts)
    part = np.exp(parts[0] - whole)
    bent = 0.5 * part * (1.0 - part) * (seen[1] ** 2 + unseen[1] ** 2)
    return whole + bent, np.hypot(part * seen[1], (1.0 - part) * unseen[1])


def _half_normal() -> Column:
    """Weights of the grid of tau before anything is seen; shape (GRID,), sums to 1."""
    weight = np.exp(-0.5 * np.linspace(0.0, TAU_TOP, GRID) ** 2)
    weight[0] *= 0.5  # the trapezium's end
    return weight / weight.sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """Of one site, each over the variance of its noise: all that a normal model needs of its blocks."""

    xx: NDArray[np.float64]
    """Shape (3, 3): columns are 1, temperature, load."""
    xy: NDArray[np.float64]
    x1: NDArray[np.float64]
    y1: float
    n1: float
    class_sd: float


class _Model:
    """The regression, linear about one slope."""

    def __init__(
        self, sites: Sequence[PueBlocks], *, hours_c: Column, year_load: float, curve: Curve | None, slope: float
    ) -> None:
        centre = float(hours_c.mean())
        overhead = np.exp(np.clip(shape_of(curve, hours_c) + slope * (hours_c - centre), -20.0, 20.0))
        # log of the mean over the hours of exp(shape + slope (T - centre)), and how it moves with the slope.
        bend = float(np.average(hours_c - centre, weights=overhead))
        offset = float(np.log(overhead.mean())) - bend * slope
        self._sums = [
            _sums(site, centre + bend, year_load, offset - shape_of(curve, site.outdoor_c[site.usable])) for site in sites
        ]
        self._slope_sd = slope_sd(curve)

    def posterior(self, prior: Prior) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Weight, mean and covariance of (the hours' value, slope, effect of load) for each tau of the grid."""
        tau = np.linspace(0.0, TAU_TOP, GRID) * prior.between_sd
        mean, cover, likelihood = self._given(tau, prior.mean, prior.sd)
        log_weight = np.log(_half_normal()) + likelihood
        weight = np.exp(log_weight - log_weight.max())
        return weight / weight.sum(), mean, cover

    def without_prior(self, prior: Prior) -> tuple[float, float]:
        """The hours' value and its error as if the plan had none, at the spread between sites that the plan expects."""
        mean, cover, _ = self._given(np.array([prior.between_sd]), prior.mean, 100.0)
        return float(mean[0, 0]), float(cover[0, 0, 0]) ** 0.5

    def slope(self) -> tuple[float, float]:
        """Mean and sd of the slope where nothing is held of any site's level."""
        mean, cover, _ = self._given(np.array([LEVELS_FREE_SD]), 0.0, LEVELS_FREE_SD)
        return float(mean[0, 1]), float(cover[0, 1, 1]) ** 0.5

    def _given(self, tau: Column, value: float, sd: float) -> tuple[Column, Column, Column]:
        """Means (taus, 3), covariances (taus, 3, 3), log marginal likelihoods (taus,) up to what does not depend on tau."""
        start = np.array([value, 0.0, SLOPE_PER_LOAD[0]])
        own = np.diag([sd**-2, self._slope_sd**-2, SLOPE_PER_LOAD[1] ** -2])
        precision, right = np.tile(own, (len(tau), 1, 1)), np.tile(own @ start, (len(tau), 1))
        likelihood = np.zeros(len(tau))
        for site in self._sums:
            # The site's own deviation integrated out (Woodbury): it adds variance v to what all of its blocks have in common.
            v = tau**2 + site.class_sd**2
            shrink = v / (1.0 + v * site.n1)
            precision += site.xx - shrink[:, None, None] * np.outer(site.x1, site.x1)
            right += site.xy - shrink[:, None] * site.x1 * site.y1
            likelihood += 0.5 * shrink * site.y1**2 - 0.5 * np.log1p(v * site.n1)
        cover = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        mean = np.einsum("tij,tj->ti", cover, right)
        likelihood += 0.5 * np.einsum("ti,ti->t", right, mean) - 0.5 * np.asarray(np.linalg.slogdet(precision)[1])
        return mean, cover, likelihood


def _sums(site: PueBlocks, centre_c: float, centre_load: float, offset: Column) -> _Sums:
    used = site.usable
    y = np.log(site.pue[used] - 1.0) + offset
    x = np.column_stack([np.ones_like(y), site.outdoor_c[used] - centre_c, site.it_load[used] - centre_load])
    variance = _noise_variance(x, y)
    return _Sums(
        xx=x.T @ x / variance,
        xy=x.T @ y / variance,
        x1=x.sum(axis=0) / variance,
        y1=float(y.sum()) / variance,
        n1=len(y) / variance,
        class_sd=site.class_sd,
    )


def _noise_variance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of a plain fit's residuals, as far as the data allow one, times what neighbours' likeness takes from their number."""
    varies = np.ptp(x, axis=0) > 1e-9
    varies[0] = True
    columns = x[:, varies]
    if len(y) <= columns.shape[1]:
        return max(float(np.var(y)), BLOCK_SD_LEAST**2)
    residual = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    variance = max(float(np.sum(residual**2)) / (len(y) - columns.shape[1]), BLOCK_SD_LEAST**2)
    square = float(np.sum(residual**2))
    likeness = float(np.sum(residual[1:] * residual[:-1])) / square if square > 0 else 0.0
    likeness = min(max(likeness, 0.0), LIKENESS_MOST)
    return variance * (1.0 + likeness) / (1.0 - likeness)
