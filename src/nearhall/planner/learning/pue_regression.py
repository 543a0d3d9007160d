"""What pilots' PUE says of a whole year at a site that nobody has measured: log(PUE - 1) on outdoor temperature and IT load.

    block b of site s:  log(PUE_sb - 1) = Y_s + slope (T_sb - ...) + effect of load (u_sb - u) + noise
                        Y_s ~ N(mu, tau) plus what the meters' class allows

Y is the year's value: the mean over the year's hours lies in it, so that the plan's prior is of what the plan reckons with. The
slopes are the class's, not a site's: what a winter does not tell of them no second site in the same winter tells either. They
keep their prior where no block tells of them, and beyond the temperatures seen the slope may be another: a winter cannot narrow
the summer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.learning.update import GRID, TAU_TOP, Posterior, Prior

SLOPE_PER_K = (0.02, 0.015)
"""Prior of the slope with temperature: 2 % more overhead a kelvin, as cooling gets harder; mean and sd (assumed)."""
SLOPE_PER_LOAD = (-1.0, 0.7)
"""Prior of the slope with IT load (share of the budget): fixed losses weigh more at part load; mean and sd (assumed)."""
BLOCK_SD_LEAST = 0.02
"""Two blocks of the same weather differ at least so much on the logarithm."""
LIKENESS_MOST = 0.98
"""Of a block and the next: beyond this a week is hardly more than one block."""
BLOCKS_LEAST = 3

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
class YearOfPue:
    """log(PUE - 1) of a whole year."""

    posterior: Posterior
    """Its `new_site_quantile` is of a site that nobody has measured."""
    data: float
    """What the pilots say of it without the plan's own value."""
    temperatures: tuple[float, float]
    """Lowest and highest outdoor temperature that was seen."""
    unseen_share: float
    """Share of the year's hours that lie outside of those."""


def year_of_pue(sites: Sequence[PueBlocks], *, year_c: Column, year_load: float, prior: Prior) -> YearOfPue | None:
    """From pilots' blocks to the year `year_c` (shape (hours,)) at `year_load`; None when no site has three usable blocks.

    Normal given the spread between sites, which is on a grid as in `update`; each site's own value is integrated out (Gelman et
    al., "Bayesian Data Analysis", 3rd ed., 14.8 and 15.3). The year's mean is linear in the slope about the slope that is found.
    """
    used = [site for site in sites if int(site.usable.sum()) >= BLOCKS_LEAST]
    if not used:
        return None
    slope = SLOPE_PER_K[0]
    for _step in range(2):  # the year's mean bends so little with the slope that a further step changes nothing
        weight, mean, _ = _Model(used, year_c=year_c, year_load=year_load, slope=slope).posterior(prior)
        slope = float(np.sum(weight * mean[:, 1]))
    model = _Model(used, year_c=year_c, year_load=year_load, slope=slope)
    weight, mean, cover = model.posterior(prior)
    low, high = (float(end) for end in model.temperatures)
    unseen = _unseen_sd(year_c, slope, low, high)
    tau = np.linspace(0.0, TAU_TOP, GRID) * prior.between_sd
    data, data_sd = model.without_prior(prior)
    return YearOfPue(
        posterior=Posterior(
            weight=weight,
            tau=tau,
            mean=mean[:, 0],
            sd=np.hypot(np.sqrt(cover[:, 0, 0]), unseen),
            z=(data - prior.mean) / float(np.hypot(np.hypot(prior.sd, data_sd), unseen)),
        ),
        data=data,
        temperatures=(low, high),
        unseen_share=float(np.mean((year_c < low) | (year_c > high))),
    )


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

    def __init__(self, sites: Sequence[PueBlocks], *, year_c: Column, year_load: float, slope: float) -> None:
        centre = float(year_c.mean())
        overhead = np.exp(np.clip(slope * (year_c - centre), -20.0, 20.0))
        # log of the mean over the year of exp(slope (T - centre)), and how it moves with the slope.
        bend = float(np.average(year_c - centre, weights=overhead))
        offset = float(np.log(overhead.mean())) - bend * slope
        self._sums = [_sums(site, centre + bend, year_load, offset) for site in sites]
        seen = np.concatenate([site.outdoor_c[site.usable] for site in sites])
        self.temperatures = seen.min(), seen.max()

    def posterior(self, prior: Prior) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Weight, mean and covariance of (year's value, slope, effect of load) for each tau of the grid."""
        scale = np.linspace(0.0, TAU_TOP, GRID)
        log_weight = -0.5 * scale**2
        log_weight[0] += np.log(0.5)  # the trapezium's end
        mean, cover, likelihood = self._given(scale * prior.between_sd, prior.mean, prior.sd)
        log_weight = log_weight + likelihood
        weight = np.exp(log_weight - log_weight.max())
        return weight / weight.sum(), mean, cover

    def without_prior(self, prior: Prior) -> tuple[float, float]:
        """The year's value and its error as if the plan had none, at the spread between sites that the plan expects."""
        mean, cover, _ = self._given(np.array([prior.between_sd]), prior.mean, 100.0)
        return float(mean[0, 0]), float(cover[0, 0, 0]) ** 0.5

    def _given(self, tau: Column, value: float, sd: float) -> tuple[Column, Column, Column]:
        """Means (taus, 3), covariances (taus, 3, 3), log marginal likelihoods (taus,) up to what does not depend on tau."""
        start = np.array([value, SLOPE_PER_K[0], SLOPE_PER_LOAD[0]])
        own = np.diag([sd**-2, SLOPE_PER_K[1] ** -2, SLOPE_PER_LOAD[1] ** -2])
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


def _sums(site: PueBlocks, centre_c: float, centre_load: float, offset: float) -> _Sums:
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


def _unseen_sd(year_c: Column, slope: float, low: float, high: float) -> float:
    """What the year's value may be off because the slope beyond the temperatures seen may be another."""
    weights = np.exp(np.clip(slope * (year_c - year_c.mean()), -20.0, 20.0))
    hotter = float(np.average(np.maximum(year_c - high, 0.0), weights=weights))
    colder = float(np.average(np.maximum(low - year_c, 0.0), weights=weights))
    return SLOPE_PER_K[1] * float(np.hypot(hotter, colder))
