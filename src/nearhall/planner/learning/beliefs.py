"""What the plan holds of one figure of a new site, and what it holds after the pilots: prior, data, posterior, next site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Literal

import numpy as np
from scipy.special import ndtri

from nearhall.core.errors import InputError
from nearhall.core.evidence import Evidence, Kind, weakest
from nearhall.core.quantity import Z90
from nearhall.planner.learning.accept import SECONDS_LEAST, Acceptance, Measure, accept, accept_all, is_rehearsal
from nearhall.planner.learning.peak_estimates import peak_estimate
from nearhall.planner.learning.pue_regression import BLOCKS_LEAST, year_of_pue
from nearhall.planner.learning.site_blocks import SiteBlocks
from nearhall.planner.learning.site_estimates import (
    Estimate,
    Season,
    kept_estimate,
    kept_notes,
    pue_blocks,
    pue_category,
)
from nearhall.planner.learning.site_ratios import INTERIM, is_interim, site_ratios
from nearhall.planner.learning.slo_blocks import CONCENTRATIONS, MEANS, ShareKept, share_kept
from nearhall.planner.learning.told import alike, percent
from nearhall.planner.learning.update import BETWEEN_SHARE, CONFLICT_Z, Posterior, Prior, update
from nearhall.planner.samples.draws import Samples

WIDEN = 1.5
"""Where returns contradict themselves, the plan's own spread is taken so many times (assumed): something is not understood."""
PREDICTED = 50_000
"""Sets of sites drawn by the plan's own word on a share, to tell how unlikely the pilots are: beyond z = 4 all are alike."""
BESIDE_REAL = "rehearsed: beside real pilots it teaches nothing"
"""Why a rehearsal is left out."""
UNSEEN_TOLD = 0.02
"""From such a share of a year's hours on it is said that they were not seen."""
SLO_SHARE = 0.99
"""Of a block's requests, for a block to count as kept: SLOs are of the 99th percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """One figure of a site of the class, as the plan has it."""

    name: str
    words: str
    unit: str
    form: Literal["log", "pue", "share"]
    """Normal on the logarithm; on log(PUE - 1); or a share of blocks."""
    measure: Measure
    p50: float
    """For a share: the plan's own probability that a block keeps the SLO."""
    p90: float | None = None
    evidence: Evidence
    between_share: float | None = None
    """By how much sites differ, as a share; None for what is assumed of such a measure."""
    prior_sites: float = 2.0
    """For a share: the plan's own word counts as much as so many sites (assumed)."""
    days: float = 14.0
    """Of metering that it takes to know it at one more site (assumed: two weeks hold every weekday twice)."""

    def __post_init__(self) -> None:
        least = 1.0 if self.form == "pue" else 0.0
        spread = self.p90 is not None and least < self.p50 <= self.p90
        if not (0.0 <= self.p50 <= 1.0 if self.form == "share" else spread):
            right = "0 to 1" if self.form == "share" else f"{least:g} < p50 <= p90"
            raise InputError(f"p50 {self.p50:g} and p90 {self.p90} are no prior", where=self.name, right=right)

    @property
    def prior(self) -> Prior:
        """On the normal scale; not for a share."""
        low = 1.0 if self.form == "pue" else 0.0
        p90 = self.p50 if self.p90 is None else self.p90
        between = BETWEEN_SHARE[self.measure.of] if self.between_share is None else self.between_share
        sd = max(log((p90 - low) / (self.p50 - low)) / Z90, 1e-6)
        return Prior(mean=log(self.p50 - low), sd=sd, between_sd=max(between, 1e-6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A figure that is not certain."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A belief after the pilots."""

    belief: Belief
    prior: Spread
    """Of a new site, before."""
    posterior: Spread | None
    """Of a typical site, after; None for a share, of which only the next site matters."""
    new_site: Spread
    """Of a site that nobody has measured, after."""
    data: float | None
    """The mean over pilots, as a person reads it; None where none was accepted."""
    sites: tuple[str, ...]
    """Whose returns were accepted."""
    blocks: int
    z: float | None
    """How far the pilots lie from what the plan expected, in standard deviations."""
    conflict: bool
    widened: bool
    refused: tuple[tuple[str, str], ...]
    """Site, and why its returns were not taken."""
    notes: tuple[str, ...]
    kind: Kind
    """The weakest evidence that the posterior stands on; the belief's own while nothing was accepted."""
    samples_before: Samples
    samples_after: Samples
    """Of a new site, on the same uniforms."""
    before: Posterior | ShareKept
    """Where the samples are of, on the normal scale or of a share."""
    after: Posterior | ShareKept
    rehearsed: bool = False
    """It stands on a rehearsal: instruments of the sites it was learned from are virtual, or the evidence itself is simulated."""
    short: bool = False
    """No site that it was learned from lasted as long as a pilot must: possible in a rehearsal alone."""


def learn(
    belief: Belief, returns: Sequence[SiteBlocks], *, season: Season | None, uniform: Samples, rehearse: bool = True
) -> Learned:
    """What the returns say of the belief; `uniform` in (0, 1), shape (samples,), serves before and after alike.

    Simulated returns teach only where no real ones do, and nothing without `rehearse`.
    """
    ordered = sorted(returns, key=lambda site: (site.returns.id, site.returns.start_s))
    checks, real = _checked(ordered, belief.measure, rehearse=rehearse)
    by_site: dict[str, list[SiteBlocks]] = {}
    for site, check in zip(ordered, checks, strict=True):
        if check.accepted:
            by_site.setdefault(site.returns.id, []).append(site)
    if belief.form == "share":
        learned = _learn_share(belief, by_site, checks, uniform)
    else:
        learned = _learn_normal(belief, by_site, checks, season, uniform)
    lasted = [sum(part.returns.seconds for part in by_site[site]) for site in learned.sites]
    return replace(learned, short=bool(lasted) and max(lasted) < SECONDS_LEAST, rehearsed=bool(learned.sites) and not real)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the pilots tell, on the normal scale."""

    after: Posterior
    data: float | None
    sites: tuple[str, ...]
    blocks: int
    silent: tuple[tuple[str, str], ...]
    """Accepted sites that tell nothing, and why."""
    notes: tuple[str, ...] = ()


def _learn_normal(
    belief: Belief, by_site: dict[str, list[SiteBlocks]], checks: Sequence[Acceptance], season: Season | None, uniform: Samples
) -> Learned:
    widened = any(check.inconsistent for check in checks)
    held = replace(belief.prior, sd=belief.prior.sd * WIDEN) if widened else belief.prior
    if belief.form == "pue":
        told = _told_pue(held, by_site, season)
    elif belief.measure.of == "it_peak_w":
        told = _told_peak(held, by_site)
    else:
        told = _told(belief, held, by_site, season)
    before, after = update(belief.prior, []), told.after
    low = 1.0 if belief.form == "pue" else 0.0

    def spread(quantile: Callable[[float], float]) -> Spread:
        p10, p50, p90 = (low + float(np.exp(quantile(q))) for q in (0.1, 0.5, 0.9))
        return Spread(p10=p10, p50=p50, p90=p90)

    return Learned(
        belief=belief,
        prior=spread(before.new_site_quantile),
        posterior=spread(after.typical_quantile),
        new_site=spread(after.new_site_quantile),
        data=None if told.data is None else low + float(np.exp(told.data if belief.form == "pue" else _pooled(held, after))),
        sites=told.sites,
        blocks=told.blocks,
        z=after.z,
        conflict=after.conflict,
        widened=widened,
        refused=(*_refused(checks), *told.silent),
        notes=told.notes,
        kind=_kind(belief, checks, told.sites),
        samples_before=low + np.exp(before.new_site(uniform)),
        samples_after=low + np.exp(after.new_site(uniform)),
        before=before,
        after=after,
    )


def _pooled(prior: Prior, after: Posterior) -> float:
    """What the sites say together, each counted by how sure it is: what has to be weighed with the plan's own to give `after`.

    Given the spread between sites, the mean is K times theirs and 1 - K times the plan's, with K = 1 - (its sd / the plan's)^2.
    """
    moved = float(np.sum(after.weight * (1.0 - (after.sd / prior.sd) ** 2)))
    return prior.mean + (after.typical - prior.mean) / max(moved, 1e-12)


def _told_peak(prior: Prior, by_site: dict[str, list[SiteBlocks]]) -> _Told:
    estimates = {site: peak_estimate(parts) for site, parts in by_site.items()}
    found = {site: one for site, one in estimates.items() if isinstance(one, Estimate)}
    values = [one.seen.value for one in found.values()]
    return _Told(
        after=update(prior, [one.seen for one in found.values()]),
        data=float(np.mean(values)) if values else None,
        sites=tuple(found),
        blocks=sum(one.blocks for one in found.values()),
        silent=tuple((site, one) for site, one in estimates.items() if isinstance(one, str)),
        notes=("of the days that were metered: a busier season is not in it",) if found else (),
    )


def _told(belief: Belief, prior: Prior, by_site: dict[str, list[SiteBlocks]], season: Season | None) -> _Told:
    told = site_ratios(by_site, belief.measure, season)
    found = told.found
    values = [one.seen.value for one in found.values()]
    return _Told(
        after=update(prior, [one.seen for one in found.values()], common_sd=told.common_sd),
        data=float(np.mean(values)) if values else None,
        sites=tuple(found),
        blocks=sum(one.blocks for one in found.values()),
        silent=tuple((site, one) for site, one in told.estimates.items() if isinstance(one, str)),
        notes=told.notes,
    )


def _told_pue(prior: Prior, by_site: dict[str, list[SiteBlocks]], season: Season | None) -> _Told:
    if season is None:
        why = "the plan tells no climate to set its PUE against: give the site's climate"
        return _Told(after=update(prior, []), data=None, sites=(), blocks=0, silent=tuple((site, why) for site in by_site))
    blocks = {site: pue_blocks(parts, season) for site, parts in by_site.items()}
    usable = {site: one for site, one in blocks.items() if int(one.usable.sum()) >= BLOCKS_LEAST}
    why = f"fewer than {BLOCKS_LEAST} blocks hold a PUE above 1 and an outdoor temperature"
    silent = tuple((site, why) for site in blocks if site not in usable)
    year = year_of_pue(list(usable.values()), year_c=season.year_c, year_load=season.year_load, prior=prior, curve=season.curve)
    if year is None:
        return _Told(after=update(prior, []), data=None, sites=(), blocks=0, silent=silent)
    low, high = year.temperatures
    notes = list(alike((site, pue_category(by_site[site])) for site in usable))
    if is_interim(by_site, usable):
        notes.append(INTERIM)
    if year.unseen_share > UNSEEN_TOLD:
        notes.append(
            f"seen at {low:.0f} to {high:.0f} °C; "
            f"{percent(year.unseen_share)} of the year's hours lie outside and stay as planned"
        )
    return _Told(
        after=year.posterior,
        data=year.data,
        sites=tuple(usable),
        blocks=sum(int(one.usable.sum()) for one in usable.values()),
        silent=silent,
        notes=tuple(notes),
    )


def _learn_share(belief: Belief, by_site: dict[str, list[SiteBlocks]], checks: Sequence[Acceptance], uniform: Samples) -> Learned:
    counted = {site: kept_estimate(parts, belief.measure.workload or "", share=SLO_SHARE) for site, parts in by_site.items()}
    kept = {site: blocks for site, blocks in counted.items() if blocks.blocks}
    before, after = (
        share_kept(blocks, prior_share=belief.p50, prior_sites=belief.prior_sites) for blocks in ([], list(kept.values()))
    )
    samples = before.new_site_samples(uniform), after.new_site_samples(uniform)
    silent = [(site, "no block had requests of this workload") for site in counted if site not in kept]
    told = {site: kept_notes(by_site[site], belief.measure.workload or "", share=SLO_SHARE) for site in kept}
    shares = [blocks.kept / blocks.blocks for blocks in kept.values()]
    z = _share_z(before, shares) if shares else None
    return Learned(
        belief=belief,
        prior=spread_of(samples[0]),
        posterior=None,
        new_site=spread_of(samples[1]),
        data=float(np.mean(shares)) if shares else None,
        sites=tuple(sorted(kept)),
        blocks=sum(blocks.blocks for blocks in kept.values()),
        z=z,
        conflict=z is not None and abs(z) > CONFLICT_Z,
        widened=False,
        refused=(*_refused(checks), *silent),
        notes=alike((site, note) for site, notes in told.items() for note in notes),
        kind=_kind(belief, checks, kept),
        samples_before=samples[0],
        samples_after=samples[1],
        before=before,
        after=after,
    )


def _share_z(before: ShareKept, shares: Sequence[float]) -> float:
    """How unlikely the sites' mean share was by the plan, as a standard normal's deviation (prior predictive; Box 1980)."""
    random = np.random.default_rng(0)
    at = random.choice(before.weight.size, size=PREDICTED, p=before.weight.ravel() / before.weight.sum())
    mean, alike_ = MEANS[at // len(CONCENTRATIONS)], CONCENTRATIONS[at % len(CONCENTRATIONS)]
    a, b = np.maximum(mean * alike_, 1e-6), np.maximum((1.0 - mean) * alike_, 1e-6)
    expected = random.beta(a, b, size=(len(shares), PREDICTED)).mean(axis=0)
    seen = float(np.mean(shares))
    same = np.abs(expected - seen) <= 1e-3  # a share of blocks is told no finer
    below = float(np.mean(np.where(same, 0.5, expected < seen)))
    return float(ndtri(min(max(below, 0.5 / PREDICTED), 1.0 - 0.5 / PREDICTED)))


def _checked(ordered: Sequence[SiteBlocks], measure: Measure, *, rehearse: bool) -> tuple[list[Acceptance], bool]:
    """Each site's check, and whether a real one is accepted: then, or without `rehearse`, simulated ones are left out."""
    alone = [accept(site, measure) for site in ordered]
    virtual = [is_rehearsal(site.returns) or check.kind is Kind.SIMULATED for site, check in zip(ordered, alone, strict=True)]
    real = any(check.accepted and not made_up for check, made_up in zip(alone, virtual, strict=True))
    without = real or not rehearse
    kept = iter(accept_all([s for s, made_up in zip(ordered, virtual, strict=True) if not (without and made_up)], measure))
    return [_left_out(c) if without and made_up else next(kept) for c, made_up in zip(alone, virtual, strict=True)], real


def _left_out(check: Acceptance) -> Acceptance:
    """A rehearsal beside real pilots."""
    why = check.reasons or (BESIDE_REAL,)
    return replace(check, accepted=False, reasons=why, inconsistent=False)


def _refused(checks: Sequence[Acceptance]) -> tuple[tuple[str, str], ...]:
    return tuple((check.site, reason) for check in checks for reason in check.reasons)


def _kind(belief: Belief, checks: Sequence[Acceptance], used: object) -> Kind:
    """Of what was used; a posterior that stands on a simulation is simulated whatever else there is."""
    kinds = [check.kind for check in checks if check.accepted] if used else []
    return weakest(kinds) if kinds else belief.evidence.kind


def spread_of(samples: Samples) -> Spread:
    """P10, P50 and P90 of samples."""
    p10, p50, p90 = (float(np.quantile(samples, q)) for q in (0.1, 0.5, 0.9))
    return Spread(p10=p10, p50=p50, p90=p90)
