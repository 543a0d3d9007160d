"""What a few sites' measurements say of the next site: a normal hierarchy on logarithms, the between-site spread integrated out.

    site s:  y_s ~ N(theta_s, se_s)      what was measured there, with its own standard error
             theta_s ~ N(mu, tau)        sites differ
             mu ~ N(m, s)                the plan's prior of a typical site
             tau ~ half-normal(t)        how much sites differ, before anything is seen

Gelman et al., "Bayesian Data Analysis", 3rd ed., 5.4: given tau everything is normal, so tau alone is put on a grid. Three pilots
hardly narrow tau, and so do not pose as three hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from nearhall.core.quantity import Z90
from nearhall.planner.samples.draws import Samples

GRID = 81
BETWEEN_SHARE: Mapping[str, float] = {
    "it_power_w": 0.15,
    "it_peak_w": 0.15,
    "feed_power_w": 0.15,
    "joules_per_request_in_slo": 0.2,
    "sent_bytes_per_day": 0.4,
    "requests_per_s": 0.3,
    "pue": 0.15,
}
"""By how much sites of a class differ, as a share, by what is measured: people and what they ask for more than machines (assumed;
the spread that the pilots show is learned)."""
TAU_TOP = 4.0
"""The grid ends at so many times the half-normal's scale."""
WEIGHT_LEAST = 1e-9
"""A point of the grid with less is left out of samples."""
SIGMAS = 6.0
"""Samples reach so far: one in a billion lies beyond."""
CONFLICT_Z = 3.0
"""Beyond so many standard deviations of what the prior expected to see, prior and data contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Of one number, on the scale on which it is normal (for positive ones the logarithm)."""

    mean: float
    sd: float
    """How sure the plan is of a typical site."""
    between_sd: float
    """Scale of the half-normal of the spread between sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One site's estimate and its standard error, on the same scale."""

    value: float
    se: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Mixtures of normals over the grid of tau."""

    weight: NDArray[np.float64]
    """Shape (GRID,), sums to 1."""
    tau: NDArray[np.float64]
    mean: NDArray[np.float64]
    """Of mu, given tau."""
    sd: NDArray[np.float64]
    z: float | None
    """How far the sites' mean lies from what the prior expected, in its standard deviations; None without data."""

    @property
    def conflict(self) -> bool:
        """Whether prior and data contradict each other: then neither is to be trusted before somebody has looked."""
        return self.z is not None and abs(self.z) > CONFLICT_Z

    @property
    def typical(self) -> float:
        """Mean of mu."""
        return float(np.sum(self.weight * self.mean))

    @property
    def typical_sd(self) -> float:
        """Standard deviation of mu."""
        second = np.sum(self.weight * (self.sd**2 + self.mean**2))
        return float(max(second - self.typical**2, 0.0) ** 0.5)

    def typical_quantile(self, q: float) -> float:
        """Quantile of mu."""
        return _mixture_quantile(q, self.weight, self.mean, self.sd)

    def new_site_quantile(self, q: float) -> float:
        """Quantile of theta for a site that nobody has measured."""
        return _mixture_quantile(q, self.weight, self.mean, np.hypot(self.sd, self.tau))

    def new_site_below(self, value: float) -> float:
        """Probability that theta of a new site is below this."""
        return float(np.sum(self.weight * ndtr((value - self.mean) / np.maximum(np.hypot(self.sd, self.tau), 1e-12))))

    def new_site(self, uniform: Samples) -> Samples:
        """Samples of theta for a new site, shape of `uniform` (in (0, 1)): the same uniforms give the same order."""
        spread = np.hypot(self.sd, self.tau)
        used = self.weight > WEIGHT_LEAST
        low, high = float((self.mean - SIGMAS * spread)[used].min()), float((self.mean + SIGMAS * spread)[used].max())
        values = np.linspace(low, high, 1001)
        z = (values[:, None] - self.mean[used]) / np.maximum(spread[used], 1e-12)
        below = np.asarray(ndtr(z)) @ (self.weight[used] / self.weight[used].sum())
        # On the normal's scale the distribution is nearly straight, so that between two grid points nothing is lost.
        inside: Samples = np.clip(below, 1e-15, 1.0 - 1e-15)
        straight: Samples = np.asarray(ndtri(inside))
        rising = np.concatenate([[True], np.diff(straight) > 0])
        return np.interp(np.asarray(ndtri(uniform)), straight[rising], values[rising])


def update(prior: Prior, seen: Sequence[Seen], *, common_sd: float = 0.0) -> Posterior:
    """The posterior after these sites; without any, the prior itself.

    `common_sd` is of an error that all of them share, such as that of one season, which further sites do not average out: what is
    learned is mu plus that error, and mu is what its prior makes of it.
    """
    if common_sd > 0.0 and seen:
        return _without_common(prior, update(_with_common(prior, common_sd), seen), common_sd)
    tau = np.linspace(0.0, TAU_TOP, GRID) * prior.between_sd
    log_weight = -0.5 * (np.linspace(0.0, TAU_TOP, GRID)) ** 2
    log_weight[0] += np.log(0.5)  # the trapezium's end
    values, errors = np.array([s.value for s in seen]), np.array([s.se for s in seen])
    variance = errors[None, :] ** 2 + tau[:, None] ** 2 + 1e-18
    precision = 1.0 / prior.sd**2 + np.sum(1.0 / variance, axis=1)
    mean = (prior.mean / prior.sd**2 + np.sum(values / variance, axis=1)) / precision
    sd = precision**-0.5
    if seen:
        log_weight = log_weight + _log_marginal(values, variance, prior)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return Posterior(weight=weight, tau=tau, mean=mean, sd=sd, z=_conflict(prior, values, errors) if seen else None)


def _with_common(prior: Prior, common_sd: float) -> Prior:
    return Prior(mean=prior.mean, sd=float(np.hypot(prior.sd, common_sd)), between_sd=prior.between_sd)


def _without_common(prior: Prior, both: Posterior, common_sd: float) -> Posterior:
    """mu, given the posterior of mu and the common error together."""
    part = prior.sd**2 / (prior.sd**2 + common_sd**2)
    left = prior.sd * common_sd / float(np.hypot(prior.sd, common_sd))
    mean, sd = prior.mean + part * (both.mean - prior.mean), np.hypot(part * both.sd, left)
    return Posterior(weight=both.weight, tau=both.tau, mean=mean, sd=sd, z=both.z)


def combine_normal(*, mean: float, sd: float, readings: Sequence[float], reading_sd: float) -> tuple[float, float]:
    """Mean and standard deviation after readings of one and the same number, each with the same error."""
    precision = 1.0 / sd**2 + len(readings) / reading_sd**2
    return (mean / sd**2 + sum(readings) / reading_sd**2) / precision, precision**-0.5


def log_prior(*, p50: float, p90: float, between_share: float = 0.15) -> Prior:
    """The prior of a positive number by its quantiles; `between_share` is what sites differ by, as a share."""
    return Prior(mean=float(np.log(p50)), sd=max(float(np.log(p90 / p50)) / Z90, 1e-6), between_sd=between_share)


def _log_marginal(values: NDArray[np.float64], variance: NDArray[np.float64], prior: Prior) -> NDArray[np.float64]:
    """The logarithm of p(values | tau) for each tau, mu integrated out; shape (GRID,)."""
    precision = np.sum(1.0 / variance, axis=1)
    pooled = np.sum(values / variance, axis=1) / precision
    spread = prior.sd**2 + 1.0 / precision
    within = np.sum((values - pooled[:, None]) ** 2 / variance + np.log(variance), axis=1)
    return -0.5 * (within + np.log(precision) + np.log(spread) + (pooled - prior.mean) ** 2 / spread)


def _conflict(prior: Prior, values: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """The sites' mean against the prior predictive of it (Box 1980)."""
    expected = prior.sd**2 + (prior.between_sd**2 + float(np.mean(errors**2))) / len(values)
    return float((values.mean() - prior.mean) / expected**0.5)


def _mixture_quantile(q: float, weight: NDArray[np.float64], mean: NDArray[np.float64], sd: NDArray[np.float64]) -> float:
    """By bisection: a mixture's cumulative distribution has no inverse of its own."""
    ends = mean + sd * float(ndtri(q))
    low, high = float(ends.min()), float(ends.max())
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float(np.sum(weight * ndtr((middle - mean) / np.maximum(sd, 1e-12)))) < q:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
