"""Whether what a site returned may replace an assumption: a meter in the wrong place, or one that lies, is worse than none.

Refused in words, so that the metering can be mended; the plan's own number then stays, and wider where the returns contradict
themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, isclose
from typing import Literal

import numpy as np

from nearhall.core.evidence import Kind, weakest
from nearhall.documents.site_returns import SiteReturns, WorkloadReturn
from nearhall.physics.balance import RESOLUTION_KWH, Balance, MeteredEnergy, energy_balance
from nearhall.physics.pue import CATEGORY_BY_POSITION
from nearhall.planner.learning.site_blocks import IT, SiteBlocks
from nearhall.planner.learning.told import lasted, percent

COVERAGE_LEAST = 0.9
CLOCK_ERROR_MS_MAX = 2000.0
"""Two seconds shift 0.2 % of a 15-minute block into its neighbour: as much as the best class of meter may be off."""
SECONDS_LEAST = 86_400.0
"""A day: load, people and weather have no shorter cycle that a mean may be taken over."""
BATTERY_SHARE_MAX = 0.1
"""A site that ran on its battery for more of its blocks was not as it will be."""
READ_APART_S = 1.0
"""Registers are read one after the other, and step, within so long of each other."""
UPS_LOSS_MOST = 0.2
"""Of its input: a UPS at a tenth of its load loses so much. What is missing beyond that is a current transformer that is off."""
LINES_LOSS_MOST = 0.05
"""Between the UPS's output, the distribution and the IT equipment."""
CHECK = "check their current transformers and phases"
POSITIONS_READ = ("feed", "ups_in", "ups_out", "pdu", "it", "cooling", "other")

Of = Literal[
    "it_power_w",
    "it_peak_w",
    "feed_power_w",
    "joules_per_request_in_slo",
    "sent_bytes_per_day",
    "requests_per_s",
    "pue",
    "slo_share",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is read from a site's returns."""

    of: Of
    workload: str | None = None
    """For figures of one workload."""
    limit_ms: float | None = None
    """What the plan lets an answer in time take; None where it tells no limit."""
    first_token: bool = False
    """Whether that limit is to the first token, not of the whole answer."""
    work: tuple[tuple[str, float], ...] = ()
    """What a request of each workload takes by the plan, in any unit alike; to share out energy that a site did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a measure stands on."""

    parts: tuple[str, ...]
    positions: tuple[tuple[str, ...], ...] = ()
    """One instrument of each group; the first that is there is read."""


NEEDS: Mapping[Of, Need] = {
    "it_power_w": Need(parts=("energy",), positions=(IT,)),
    "it_peak_w": Need(parts=("energy",), positions=(IT,)),
    "feed_power_w": Need(parts=("energy",), positions=(("feed",),)),
    "joules_per_request_in_slo": Need(parts=("energy", "requests"), positions=(("feed",),)),
    "sent_bytes_per_day": Need(parts=("bytes",)),
    "requests_per_s": Need(parts=("requests",)),
    "pue": Need(parts=("energy", "outdoor"), positions=(("feed",), IT)),
    "slo_share": Need(parts=("requests",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Of one site's returns for one measure."""

    site: str
    accepted: bool
    reasons: tuple[str, ...]
    """Why not, each with what would mend it; empty where accepted."""
    kind: Kind
    """The weakest evidence among what the measure stands on."""
    inconsistent: bool = False
    """The returns contradict themselves: then the plan's own number is less sure than it was."""


def accept(site: SiteBlocks, measure: Measure) -> Acceptance:
    """Checks one site's returns for one measure; every reason at once."""
    need, returns = NEEDS[measure.of], site.returns
    reasons = [*_period(returns), *_workload(returns, measure)]
    read = [next((p for p in group if returns.at(p) and p in returns.energy_kwh), None) for group in need.positions]
    for group, position in zip(need.positions, read, strict=True):
        if position is None:
            reasons.append(f"no meter at {' or '.join(group)}: install one and commission it")
    positions = [position for position in read if position is not None]
    parts = [returns.kind(part) for part in need.parts if part != "energy"]
    reasons += _evidence(returns, positions, parts) if len(positions) == len(read) else []
    kinds = [*parts, *(meter.kind for position in positions for meter in returns.at(position))]
    inconsistent = False
    if need.positions and not reasons:
        found = energy_reasons(site)
        doubts = [] if found else [doubt for position in positions if (doubt := _doubt(site, position)) is not None]
        inconsistent = bool(found) or any(doubt.contradicts for doubt in doubts)
        reasons += found or [doubt.words for doubt in doubts]
    return Acceptance(
        site=returns.id, accepted=not reasons, reasons=tuple(reasons), kind=weakest(kinds), inconsistent=inconsistent
    )


def accept_all(sites: Sequence[SiteBlocks], measure: Measure) -> list[Acceptance]:
    """Each site's returns for one measure, in their order. Where IT energy is metered at different positions, they are not mixed.

    What is metered at the UPS's output has in it what the lines lose and whatever else the UPS feeds: another figure than at the
    equipment. The position of most sites is taken, of as many the one next to the equipment.
    """
    checks = [accept(site, measure) for site in sites]
    if IT not in NEEDS[measure.of].positions:
        return checks
    at = [site.first(IT) or "" for site in sites]
    taken = {check.site: position for check, position in zip(checks, at, strict=True) if check.accepted}
    if len(set(taken.values())) < 2 and all(taken.get(c.site) == p for c, p in zip(checks, at, strict=True) if c.accepted):
        return checks
    most = max(IT, key=lambda position: (list(taken.values()).count(position), -IT.index(position)))
    return [
        replace(check, accepted=False, reasons=(_other_category(position, most),))
        if check.accepted and position != most
        else check
        for check, position in zip(checks, at, strict=True)
    ]


def _other_category(position: str, most: str) -> str:
    other, taken = CATEGORY_BY_POSITION[position], CATEGORY_BY_POSITION[most]
    return (
        f"its IT energy is metered at {position} (category {other}), the others' at {most} (category {taken}): "
        f"two figures that are not mixed; meter it at {most} too"
    )


def is_rehearsal(returns: SiteReturns) -> bool:
    """Whether an instrument of the site is virtual. A rehearsal may be as short as it likes, since it decides nothing."""
    return any(meter.kind is Kind.SIMULATED for meter in returns.meters)


def too_short(returns: SiteReturns) -> str:
    """That a period is no pilot yet, in words."""
    return f"lasted {lasted(returns.seconds)}: a pilot lasts a day at least, so that a whole cycle of load is in it"


def balance(site: SiteBlocks) -> Balance:
    """Whether the site's meters agree, over the blocks that ran on mains and in which all of them were read.

    Without a UPS the IT meter stands where its input would.
    """
    energies = _energies(site)
    if "ups_in" not in energies and "ups_out" not in energies and "it" in energies:
        energies["ups_in"] = energies.pop("it")
    return energy_balance(energies)


def _energies(site: SiteBlocks) -> dict[str, MeteredEnergy]:
    """By position; of the strongest kind of instruments present alone: a real one and a virtual one see different loads."""
    returns = site.returns
    real = any(meter.kind is Kind.MEASURED for meter in returns.meters)
    positions = [p for p in POSITIONS_READ if p in site.kwh and all((m.kind is Kind.MEASURED) is real for m in returns.at(p))]
    used = ~site.on_battery
    for position in positions:
        used &= np.isfinite(site.kwh[position])
    seconds = float(site.seconds[used].sum())
    moments = min(100.0, 100.0 * READ_APART_S * hypot(1.0, 1.0) / max(seconds, 1.0))
    return {
        position: MeteredEnergy(
            kwh=float(site.kwh[position][used].sum()), class_percent=class_percent(returns, position), moments_percent=moments
        )
        for position in positions
    }


def energy_reasons(site: SiteBlocks) -> tuple[str, ...]:
    """What contradicts itself in the energy; empty where nothing does."""
    battery, blocks = int(site.on_battery.sum()), len(site.seconds)
    if battery > BATTERY_SHARE_MAX * blocks:
        return (f"{battery} of {blocks} blocks ran on the battery: meter a period on mains",)
    found = balance(site)
    if found.closes is False:
        return (f"the energy balance does not close: {'; '.join(found.findings)}; check current transformers and phases",)
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubt:
    """Why a meter cannot be believed."""

    words: str
    contradicts: bool
    """Another one says otherwise; else there is none to say anything."""


def _doubt(site: SiteBlocks, position: str) -> _Doubt | None:
    """Why no other meter vouches for the one at a position; None where one does.

    The feed is compared with all that hangs on it. IT energy is compared with its neighbours on the way from the feed: less than
    what goes in above it, by no more than what a UPS and lines lose.
    """
    energies = _energies(site)
    into = _into_ups(energies)
    have = ", ".join(sorted(site.kwh))
    below = [at for at in ("ups_out", "pdu", "it") if at in energies]
    if position == "feed":
        if "ups_in" in energies and "cooling" in energies:
            return None  # the balance has compared it
        if "cooling" in energies and into is not None and below:
            return _implausible("ups_in", into, below[0], energies[below[0]])
        words = f"nothing vouches for its energy meters (at {have}): meter ups_in and cooling too, to close the balance"
        return _Doubt(words=words, contradicts=False)
    above = {} if into is None else {"ups_in": into}
    above |= {at: energies[at] for at in below[: below.index(position)]} if position in below else {}
    if position not in below or not above:
        right = f"meter ups_in, ups_out or cooling too, to compare {position} with what goes in above it"
        return _Doubt(words=f"nothing vouches for its energy meters (at {have}): {right}", contradicts=False)
    upper = list(above)[-1]
    return _implausible(upper, above[upper], position, energies[position])


def _into_ups(energies: Mapping[str, MeteredEnergy]) -> MeteredEnergy | None:
    """What goes into the UPS, or where there is none to the IT equipment: metered, or what the feed leaves beside the cooling."""
    if "ups_in" in energies or "feed" not in energies or "cooling" not in energies:
        return energies.get("ups_in")
    beside = [energies[at] for at in ("cooling", "other") if at in energies]
    left = max(energies["feed"].kwh - sum(part.kwh for part in beside), 0.0)
    error = hypot(energies["feed"].tolerance_kwh, *(part.tolerance_kwh for part in beside))
    return MeteredEnergy(kwh=left, class_percent=100.0 * error / max(left, RESOLUTION_KWH))


def _implausible(upper: str, into: MeteredEnergy, lower: str, out: MeteredEnergy) -> _Doubt | None:
    """Why what comes out cannot be of what goes in; None where it can."""
    most = UPS_LOSS_MOST if upper == "ups_in" else LINES_LOSS_MOST
    allowed = hypot(into.tolerance_kwh, out.tolerance_kwh) + RESOLUTION_KWH
    loss = into.kwh - out.kwh
    share = abs(loss) / max(into.kwh, RESOLUTION_KWH)
    above = {"ups_in": "what goes into the UPS"}.get(upper, upper)
    if loss < -allowed:
        return _Doubt(words=f"{lower} says {percent(share)} more than {above}: {CHECK}", contradicts=True)
    if loss > most * into.kwh + allowed:
        words = f"{lower} says {percent(share)} less than {above}, where at most {percent(most)} is lost: {CHECK}"
        return _Doubt(words=words, contradicts=True)
    return None


def class_percent(returns: SiteReturns, position: str) -> float | None:
    """The widest class of the instruments at a position; None where one names none."""
    classes = [meter.class_percent for meter in returns.at(position)]
    known = [percent for percent in classes if percent is not None]
    return max(known) if known and len(known) == len(classes) else None


def _period(returns: SiteReturns) -> list[str]:
    reasons: list[str] = []
    if returns.seconds < SECONDS_LEAST and not is_rehearsal(returns):
        reasons.append(too_short(returns))
    if returns.coverage < COVERAGE_LEAST:
        silent = f" (nothing came from {', '.join(returns.silent)})" if returns.silent else ""
        reasons.append(f"figures cover {percent(returns.coverage)} of the period{silent}: {percent(COVERAGE_LEAST)} at least")
    if returns.clock_error_ms is None:
        reasons.append("nobody compared its clock: synchronise it and record the difference")
    elif abs(returns.clock_error_ms) > CLOCK_ERROR_MS_MAX:
        error_s = abs(returns.clock_error_ms) / 1000.0
        reasons.append(f"its clock is {error_s:.1f} s off: {CLOCK_ERROR_MS_MAX / 1000.0:g} s at most, synchronise it")
    return reasons


def _workload(returns: SiteReturns, measure: Measure) -> list[str]:
    if measure.workload is None:
        return []
    for workload in returns.workloads:
        if workload.id == measure.workload:
            return _limit(workload, measure)
    known = ", ".join(workload.id for workload in returns.workloads) or "none"
    return [f"it ran no workload {measure.workload!r} (it ran: {known}): name workloads in plan and pilot alike"]


def _limit(workload: WorkloadReturn, measure: Measure) -> list[str]:
    """In time must mean the same in plan and pilot."""
    counted_ms = workload.limit_ms
    if measure.limit_ms is not None and workload.first_token is not None and workload.first_token != measure.first_token:
        said = {True: "to the first token", False: "of the whole answer"}
        return [
            f"its answers in time of {measure.workload} are told by the time {said[workload.first_token]}, "
            f"the plan's limit is {said[measure.first_token]}: count them as the plan does"
        ]
    if counted_ms is None or measure.limit_ms is None or isclose(counted_ms, measure.limit_ms, rel_tol=1e-6):
        return []
    return [
        f"its answers in time of {measure.workload} kept {counted_ms:g} ms, the plan's keep {measure.limit_ms:g} ms: "
        "count them against the plan's limit"
    ]


def _evidence(returns: SiteReturns, positions: Sequence[str], parts: Sequence[Kind]) -> list[str]:
    """What is wrong with the kinds of evidence, and with how far the registers reach."""
    reasons: list[str] = []
    meters = {meter.kind for position in positions for meter in returns.at(position)}
    if Kind.SIMULATED in meters and len(meters) > 1:
        reasons.append("of its meters one is real and one virtual, which do not see the same load: use meters of one kind")
    found = weakest([*meters, *parts])
    if found not in {Kind.MEASURED, Kind.SIMULATED}:
        reasons.append(f"it is {found.value}, not measured: commission the meter (class, ratio, phase, serial, who, when)")
    if positions and returns.register_coverage < COVERAGE_LEAST:
        reasons.append(
            f"meter readings cover {percent(returns.register_coverage)} of the period: {percent(COVERAGE_LEAST)} at least"
        )
    return reasons
