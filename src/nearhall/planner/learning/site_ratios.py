"""What all sites of a class say of one ratio: each site's own estimate, the error they share, and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, hypot

from nearhall.planner.learning.accept import Measure, accept
from nearhall.planner.learning.site_blocks import SiteBlocks
from nearhall.planner.learning.site_estimates import (
    Estimate,
    Season,
    energy_split,
    pue_blocks,
    ratio_estimate,
    weekdays_seen,
)
from nearhall.planner.learning.told import alike
from nearhall.planner.learning.update import Seen
from nearhall.planner.learning.year_step import Step, unknown_step, year_steps

YEAR_S = 365 * 86_400.0
INTERIM = "interim: less than 12 months"
STEP_TOLD = 0.005
"""A step from the pilot's weather to the year's that is told."""
WEEK = 7
_NO_WEATHER = "nobody metered IT energy and outdoor temperature with it: another season is not known, and the figure is less sure"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRatios:
    """Of one measure."""

    estimates: Mapping[str, Estimate | str]
    """By site; in words why there is none."""
    common_sd: float
    """An error that all sites share, on the logarithm: further sites do not average it out."""
    notes: tuple[str, ...]

    @property
    def found(self) -> dict[str, Estimate]:
        """The sites that tell something."""
        return {site: one for site, one in self.estimates.items() if isinstance(one, Estimate)}


def site_ratios(by_site: Mapping[str, Sequence[SiteBlocks]], measure: Measure, season: Season | None) -> SiteRatios:
    """The estimates of one measure; an energy per request is brought from the pilot's weather to the year's."""
    whole = SiteRatios(
        estimates={site: ratio_estimate(parts, measure) for site, parts in by_site.items()}, common_sd=0.0, notes=()
    )
    if measure.of == "joules_per_request_in_slo":
        whole = _split(_stepped(whole, by_site, season), by_site, measure)
    notes = [*alike(_weekdays(by_site, whole.found)), *whole.notes]
    if is_interim(by_site, whole.found):
        notes.append(INTERIM)
    return replace(whole, notes=tuple(notes))


def is_interim(by_site: Mapping[str, Sequence[SiteBlocks]], sites: Mapping[str, object]) -> bool:
    """Whether a site of these was metered for less than the year that a figure with a season takes."""
    return any(_seconds(by_site[site]) < YEAR_S for site in sites)


def _seconds(parts: Sequence[SiteBlocks]) -> float:
    return sum(part.returns.seconds for part in parts)


def _weekdays(by_site: Mapping[str, Sequence[SiteBlocks]], found: Mapping[str, Estimate]) -> list[tuple[str, str]]:
    seen = {site: weekdays_seen(by_site[site]) for site in found}
    return [(site, f"saw {days} of 7 weekdays: less sure of the others") for site, days in seen.items() if days < WEEK]


def _stepped(whole: SiteRatios, by_site: Mapping[str, Sequence[SiteBlocks]], season: Season | None) -> SiteRatios:
    """With each site's step to the year's weather, and the error of those steps."""
    found = {site: one for site, one in whole.found.items() if _seconds(by_site[site]) < YEAR_S}
    steps: dict[str, Step] = {}
    if season is not None:
        blocks = {site: pue_blocks(_weathered(by_site[site]), season) for site in found}
        steps = year_steps(blocks, year_c=season.year_c, year_load=season.year_load, curve=season.curve)
    unknown = unknown_step(None if season is None else season.year_c, None if season is None else season.curve)
    told = {site: steps.get(site, unknown) for site in found}
    notes = [
        (site, f"{100.0 * (exp(step.shift) - 1.0):+.0f} % from the pilot's weather to the year's")
        for site, step in steps.items()
        if abs(step.shift) > STEP_TOLD
    ]
    return SiteRatios(
        estimates={**whole.estimates, **{site: _moved(one, told[site]) for site, one in found.items()}},
        common_sd=hypot(whole.common_sd, max((step.sd for step in told.values()), default=0.0)),
        notes=(*whole.notes, *alike([*notes, *((site, _NO_WEATHER) for site in found if site not in steps)])),
    )


def _weathered(parts: Sequence[SiteBlocks]) -> list[SiteBlocks]:
    """The periods of which PUE is believed too."""
    return [part for part in parts if accept(part, Measure(of="pue")).accepted]


def _moved(one: Estimate, step: Step) -> Estimate:
    seen = Seen(value=one.seen.value + step.shift, se=one.seen.se)
    return replace(one, seen=seen, value=one.value * exp(step.shift))


def _split(whole: SiteRatios, by_site: Mapping[str, Sequence[SiteBlocks]], measure: Measure) -> SiteRatios:
    """With the error of how a site's energy was shared out among its workloads, where the site did not tell."""
    found = [(site, energy_split(part.returns, measure)) for site in whole.found for part in by_site[site]]
    splits = [(site, split) for site, split in found if split is not None and split.words]
    return SiteRatios(
        estimates=whole.estimates,
        common_sd=hypot(whole.common_sd, max((split.sd for _, split in splits), default=0.0)),
        notes=(*whole.notes, *alike((site, split.words) for site, split in splits)),
    )
