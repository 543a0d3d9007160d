"""The share of 15-minute blocks in which a site keeps its SLO: beta-binomial with sites that differ.

Requests a second apart succeed and fail together, so the block is the unit, not the request: a block counts as kept when at least
the SLO's own share of its requests was in time. Each site has a share of its own, drawn from a beta distribution whose mean and
concentration are both on a grid (Gelman et al., "Bayesian Data Analysis", 3rd ed., 5.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, expit

from nearhall.planner.samples.draws import Samples

MEANS = expit(np.linspace(-6.0, 11.0, 121))
"""From 0.2 % to all but 17 in a million."""
CONCENTRATIONS = np.geomspace(0.3, 2000.0, 25)
"""How alike sites are: at 0.3 most keep all or nothing, at 2000 all are the same."""
SHARES = np.concatenate([np.linspace(0.0, 0.9, 61), np.linspace(0.905, 0.99, 35), np.linspace(0.9905, 1.0, 40)])
BLOCKS_MAX = 96
"""A day's. Blocks of one site are alike, so that more of them say more of that site and hardly more of the next."""


REQUESTS_LEAST = 800
"""A block that is judged holds so many requests; blocks with fewer are taken together with their neighbours. Of 45 requests not
one may be late for 99 % to be in time, so that a site with half as many late as it may have would seem to fail in one block of
five; of 800 it does in one of 25."""
WEEK_DAYS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Blocks of one site."""

    kept: int
    blocks: int
    weekdays: int = WEEK_DAYS
    """How many days of the week they are of: a Monday tells nothing of a Saturday's load."""

    @property
    def counts_for(self) -> float:
        """How many blocks they count for, of which each is a trial of its own."""
        return min(float(self.blocks), BLOCKS_MAX * self.weekdays / WEEK_DAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareKept:
    """The posterior over (mean, concentration)."""

    weight: NDArray[np.float64]
    """Shape (means, concentrations), sums to 1."""

    @property
    def new_site(self) -> float:
        """Probability that a block of a site that nobody has measured keeps the SLO."""
        return float(np.sum(self.weight * MEANS[:, None]))

    def new_site_below(self, share: float) -> float:
        """Probability that a new site keeps less than this share of its blocks."""
        a = MEANS[:, None] * CONCENTRATIONS[None, :]
        b = (1.0 - MEANS[:, None]) * CONCENTRATIONS[None, :]
        return float(np.sum(self.weight * betainc(a, b, share)))

    def new_site_samples(self, uniform: Samples) -> Samples:
        """Samples of a new site's share, shape of `uniform` (in (0, 1)): the same uniforms give the same order."""
        return np.interp(uniform, _below() @ self.weight.ravel(), SHARES)

    def new_site_quantile(self, q: float) -> float:
        """Quantile of a new site's share, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.new_site_below(middle) < q else (low, middle)
        return 0.5 * (low + high)


@cache
def _below() -> NDArray[np.float64]:
    """Probability of a share below each of SHARES at each point of the grid, shape (shares, means x concentrations)."""
    a = (MEANS[:, None] * CONCENTRATIONS[None, :]).ravel()
    b = ((1.0 - MEANS[:, None]) * CONCENTRATIONS[None, :]).ravel()
    return np.asarray(betainc(a, b, SHARES[:, None]), dtype=np.float64)


def kept_blocks(blocks: Sequence[tuple[int, int]], *, share: float) -> Kept:
    """Blocks given as (good, total) requests, in order of time; those without requests tell nothing, few are taken together."""
    judged: list[tuple[int, int]] = []
    good = total = 0
    for more_good, more in blocks:
        good, total = good + more_good, total + more
        if total >= REQUESTS_LEAST:
            judged.append((good, total))
            good = total = 0
    if total and judged:
        judged[-1] = (judged[-1][0] + good, judged[-1][1] + total)
    elif total:
        judged.append((good, total))
    return Kept(kept=sum(good >= share * total for good, total in judged), blocks=len(judged))


def share_kept(sites: Sequence[Kept], *, prior_share: float, prior_sites: float = 2.0) -> ShareKept:
    """The posterior; the plan's own probability counts as much as `prior_sites` sites (assumed)."""
    held = min(max(prior_share, 0.01), 0.99)
    log_weight = (held * prior_sites - 1.0) * np.log(MEANS) + ((1.0 - held) * prior_sites - 1.0) * np.log1p(-MEANS)
    log_weight = log_weight + np.log(np.gradient(MEANS))  # the grid is even on the logit
    a = MEANS[:, None] * CONCENTRATIONS[None, :]
    b = (1.0 - MEANS[:, None]) * CONCENTRATIONS[None, :]
    total = np.broadcast_to(log_weight[:, None], a.shape).copy()
    for site in sites:
        scale = site.counts_for / max(site.blocks, 1)
        kept, lost = site.kept * scale, (site.blocks - site.kept) * scale
        total += betaln(a + kept, b + lost) - betaln(a, b)
    weight = np.exp(total - total.max())
    return ShareKept(weight=weight / weight.sum())
