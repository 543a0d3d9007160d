"""Scale, hold or stop: what a kind of site is worth after its pilots, by the same model that planned it.

SCALE when every gate holds of a new site; STOP when a site is unlikely to pay or a hard limit fails, and enough pilots say so;
HOLD otherwise, with what to measure next. Gates without anything to compare with count neither way. Simulated pilots decide
nothing: they show what a decision would look like, and are stamped REHEARSED; beside real ones they count for nothing.

Beliefs are drawn independently of each other: no correlation between, say, IT power and PUE is modelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from nearhall.core.errors import InputError
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.accept import SECONDS_LEAST, is_rehearsal, too_short
from nearhall.planner.learning.beliefs import Belief, Learned, Spread, learn, spread_of
from nearhall.planner.learning.gates import (
    ENOUGH,
    PILOTS,
    CostOf,
    Gate,
    HardLimit,
    Rival,
    SamplesOf,
    Standing,
    Thresholds,
    favourable,
    gates,
)
from nearhall.planner.learning.next_measurements import Next, next_measurements
from nearhall.planner.learning.site_blocks import SiteBlocks, site_blocks
from nearhall.planner.learning.site_estimates import Season
from nearhall.planner.learning.told import sites_told
from nearhall.planner.samples.draws import Draws, Samples

State = Literal["SCALE", "HOLD", "STOP"]
Stamp = Literal["MEASURED", "PARTLY MEASURED", "REHEARSED", "NOT MEASURED"]
NUDGE = 0.7
"""What hangs on a belief changes when all of its samples are taken so many times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotSeen:
    """One site of one pilot file, and what was made of it."""

    origin: str
    site: str
    seconds: float
    """How long it lasted."""
    rehearsed: bool
    """An instrument of it is virtual: it shows how a decision would look, and is accepted for nothing."""
    short: str
    """That it lasted too short for a pilot, in words; empty where it did not."""
    used: tuple[str, ...]
    """Names of beliefs that it changed."""
    refused: tuple[tuple[str, tuple[str, ...]], ...]
    """Why it did not change others, and their names."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of beliefs that it changed as a pilot does."""
        return () if self.rehearsed else self.used


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What building every site of the kind takes, by the plan."""

    sites: int
    capex_usd: Samples
    """Of one, paid today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of one kind of site."""

    kind: str
    """The plan's id of it."""
    site_class: str
    state: State
    would: State
    """What the gates say, whether or not enough pilots stand behind it."""
    stamp: Stamp
    sentence: str
    reasons: tuple[str, ...]
    """What holds it up, or why it may go on."""
    gates: tuple[Gate, ...]
    quantities: tuple[Learned, ...]
    npv_usd: tuple[Spread, Spread]
    """What one new site returns against the hub, net present value, before and after the pilots."""
    p_npv_positive: tuple[float, float]
    """Before and after the pilots."""
    next: tuple[Next, ...]
    """The most worth a day of metering first."""
    pilots: tuple[PilotSeen, ...]
    scaling: Scaling | None = None
    better: Mapping[str, bool | None] = field(default_factory=dict[str, bool | None])
    """By belief that the pilots contradict: whether they lie on the side that speaks for more sites; None where nothing tells."""

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Names of beliefs that the pilots contradict."""
        return tuple(item.belief.name for item in self.quantities if item.conflict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the plan says of one kind of site, and what its returns are judged by."""

    kind: str
    """The plan's id of it."""
    site_class: str
    beliefs: Sequence[Belief]
    npv: SamplesOf
    """Of a new site: its net present value against the hub, USD."""
    thresholds: Thresholds
    usd_per_request: CostOf | None = None
    rivals: Sequence[Rival] = ()
    limits: Sequence[HardLimit] = ()
    unpriced: Sequence[str] = ()
    """Workloads that only a site can answer, of which the plan does not say what that is worth."""
    season: Season | None = None
    """Without one no PUE can be learned."""
    scaling: Scaling | None = None


def decide(case: Case, returns: Sequence[SiteReturns], draws: Draws) -> Verdict:
    """The verdict on a kind of site; all `returns` are taken to be of that kind (`join` says which are).

    Raises InputError for beliefs of the same name, and for a limit on a belief that is none.
    """
    _checked(case)
    learned = _learned(case, [site_blocks(site) for site in returns], draws)
    before = case.npv({item.belief.name: item.samples_before for item in learned})
    standing = standing_of(case, learned)
    judged = gates(standing)
    stamp = stamp_of(learned, returns)
    state, would, sentence = _state(judged, stamp, case.thresholds.pilots_min)
    known = stamp in {"MEASURED", "PARTLY MEASURED"}
    then = (
        standing if known else replace(standing, learned=[replace(item, samples_after=item.samples_before) for item in learned])
    )
    return Verdict(
        kind=case.kind,
        site_class=case.site_class,
        state=state,
        would=would,
        stamp=stamp,
        sentence=sentence,
        reasons=_reasons(judged, returns, stamp),
        gates=judged,
        quantities=learned,
        npv_usd=(spread_of(before), spread_of(standing.npv)),
        p_npv_positive=(_share(before > 0), _share(standing.npv > 0)),
        next=next_measurements(then, judged, case.npv, draws=draws, kind=case.kind, known=known),
        pilots=tuple(_seen(site, learned) for site in returns),
        scaling=case.scaling,
        better={item.belief.name: favourable(standing, item) for item in learned if item.conflict},
    )


def _learned(case: Case, blocks: Sequence[SiteBlocks], draws: Draws) -> tuple[Learned, ...]:
    """What real pilots teach; only where they teach nothing at all, what a rehearsal would."""

    def taught(*, rehearse: bool) -> tuple[Learned, ...]:
        return tuple(
            learn(
                belief,
                blocks,
                season=case.season,
                uniform=draws.uniform(f"decide/{case.kind}/{belief.name}"),
                rehearse=rehearse,
            )
            for belief in case.beliefs
        )

    real = taught(rehearse=False)
    return real if not blocks or any(item.sites for item in real) else taught(rehearse=True)


def standing_of(case: Case, learned: Sequence[Learned]) -> Standing:
    """All that the gates are judged by, with what the return and each cost hang on."""
    given = {item.belief.name: item.samples_after for item in learned}
    npv, costs = case.npv(given), _costs(case, given)
    slopes: dict[str, float] = {}
    hang: dict[str, list[str]] = {workload: [] for workload in costs}
    for name, samples in given.items():
        nudged = given | {name: NUDGE * samples}
        moved = case.npv(nudged)
        if not np.array_equal(moved, npv):
            slopes[name] = float(np.mean(npv - moved))
        for workload, both in _costs(case, nudged).items():
            if not all(np.array_equal(one, other) for one, other in zip(both, costs[workload], strict=True)):
                hang[workload].append(name)
    return Standing(
        learned=learned,
        npv=npv,
        usd_per_request=case.usd_per_request,
        rivals=case.rivals,
        limits=case.limits,
        thresholds=case.thresholds,
        unpriced=case.unpriced,
        npv_slopes=slopes,
        cost_beliefs={workload: tuple(names) for workload, names in hang.items()},
    )


def _costs(case: Case, given: Mapping[str, Samples]) -> dict[str, tuple[Samples, Samples]]:
    """By workload with a rival: a request's cost at the site and by the hub."""
    if case.usd_per_request is None:
        return {}
    return {
        rival.workload: (case.usd_per_request(given, rival.workload), rival.usd_per_request_in_slo(given))
        for rival in case.rivals
        if rival.answers
    }


def linear_npv(base_usd: float, sensitivities: Mapping[str, tuple[float, float]]) -> SamplesOf:
    """A net present value by slopes: name -> (reference value, USD per unit above it)."""

    def npv(samples: Mapping[str, Samples]) -> Samples:
        size = len(next(iter(samples.values())))
        total = np.full(size, base_usd)
        for name, (reference, usd_per_unit) in sensitivities.items():
            total = total + usd_per_unit * (samples[name] - reference)
        return total

    return npv


def stamp_of(learned: Sequence[Learned], returns: Sequence[SiteReturns]) -> Stamp:
    """How far what the verdict stands on was measured; what stands on a simulation is a rehearsal."""
    used = [item for item in learned if item.sites]
    if any(item.rehearsed for item in used) or (not used and any(is_rehearsal(site) for site in returns)):
        return "REHEARSED"
    if not used:
        return "NOT MEASURED"
    return "MEASURED" if len(used) == len(learned) else "PARTLY MEASURED"


def _checked(case: Case) -> None:
    names = [belief.name for belief in case.beliefs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two beliefs are called {twice[0]!r}", where=case.kind, right="give each a name of its own")
    unknown = sorted({belief for limit in case.limits for belief in limit.beliefs} - set(names))
    if unknown:
        raise InputError(f"a limit is on {unknown[0]!r}, which is no belief", where=case.kind, right=", ".join(names))


def _state(judged: Sequence[Gate], stamp: Stamp, pilots_min: int) -> tuple[State, State, str]:
    """The verdict, what the gates would have it be if enough pilots stood behind them, and both in words."""
    told = [gate for gate in judged if gate.counts and gate.name != PILOTS]
    stopping = [gate for gate in told if gate.stops]
    against = stopping or [gate for gate in told if not gate.holds]
    would: State = "STOP" if stopping else "HOLD" if against else "SCALE"
    since = _since(against, judged)
    if stamp == "REHEARSED":
        measured = f"were these figures measured at {sites_told(pilots_min)}, the verdict would be {would}"
        return "HOLD", would, f"HOLD: {measured}, since {since}"
    if stamp == "NOT MEASURED":
        return (
            "HOLD",
            would,
            f"HOLD: no pilot file was accepted; on assumptions alone the verdict would be {would}, since {since}",
        )
    more = _missing(judged)
    if more and would != "HOLD":
        return "HOLD", would, f"HOLD: {more} before the verdict can be {would}, which it would be since {since}"
    ends: dict[State, str] = {"SCALE": "", "HOLD": "; measure what is named first", "STOP": "; more metering hardly turns this"}
    return would, would, f"{would}: {since}{ends[would]}"


def _since(against: Sequence[Gate], judged: Sequence[Gate]) -> str:
    """What speaks against scaling, or that nothing does; and how many of all conditions fail."""
    counted = [gate for gate in judged if gate.counts]
    failing = sum(not gate.holds for gate in counted)
    does = "fails" if failing == 1 else "fail"
    said = against[0].words if against else "every other condition holds for a site that nobody has measured"
    return f"{said} ({failing} of {len(counted)} conditions {does})" if failing else said.replace("every other", "every")


def _missing(judged: Sequence[Gate]) -> str:
    """How many pilot sites are wanting, or of which figure; nothing where enough are there. STOP takes as many as SCALE does."""
    for gate in judged:
        if gate.name == PILOTS and not gate.holds:
            missing = round(gate.needed or 0.0) - (gate.count or 0)
            are = "is" if missing == 1 else "are"
            return f"{sites_told(missing, what='more pilot site')} {are} needed" if gate.topic == ENOUGH else gate.words
    return ""


def _reasons(judged: Sequence[Gate], returns: Sequence[SiteReturns], stamp: Stamp) -> tuple[str, ...]:
    counted = [gate for gate in judged if gate.counts]
    against = [gate.words for gate in counted if gate.stops] + [
        gate.words for gate in counted if not gate.holds and not gate.stops
    ]
    rehearsed = [site for site in returns if is_rehearsal(site) and stamp == "REHEARSED"]
    first = [f"{_names(rehearsed)}: virtual meters, no instrument saw the energy"] if rehearsed else []
    short: dict[str, list[SiteReturns]] = {}
    for site in rehearsed:
        if site.seconds < SECONDS_LEAST:
            short.setdefault(too_short(site), []).append(site)
    told = [f"{_names(sites)} {lasted}" for lasted, sites in short.items()]
    return (*against, *first, *told) or tuple(gate.words for gate in counted)


def _names(sites: Sequence[SiteReturns]) -> str:
    return ", ".join(dict.fromkeys(site.id for site in sites))


def _seen(site: SiteReturns, learned: Sequence[Learned]) -> PilotSeen:
    refused: dict[str, list[str]] = {}
    for item in learned:
        for reason in dict.fromkeys(reason for name, reason in item.refused if name == site.id):
            refused.setdefault(reason, []).append(item.belief.name)
    return PilotSeen(
        origin=site.origin,
        site=site.id,
        seconds=site.seconds,
        rehearsed=is_rehearsal(site),
        short=too_short(site) if site.seconds < SECONDS_LEAST else "",
        used=tuple(item.belief.name for item in learned if site.id in item.sites),
        refused=tuple((reason, tuple(names)) for reason, names in refused.items()),
    )


def _share(holds: np.ndarray) -> float:
    return float(np.count_nonzero(holds)) / len(holds)
