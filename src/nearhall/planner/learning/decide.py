"""Scale, hold or stop: what a class of sites is worth after its pilots, by the same model that planned it.

SCALE when every gate holds of a new site; STOP when a site is unlikely to pay or a hard limit fails, and enough pilots say so;
HOLD otherwise, with what to measure next. Gates without anything to compare with count neither way. Simulated pilots decide
nothing: they show what a decision would look like, and are stamped REHEARSED.

Beliefs are drawn independently of each other: no correlation between, say, IT power and PUE is modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents.site_returns import SiteReturns
from nearhall.planner.learning.accept import SECONDS_LEAST, is_rehearsal, too_short
from nearhall.planner.learning.beliefs import Belief, Learned, Spread, learn, spread_of
from nearhall.planner.learning.gates import PILOTS, CostOf, Gate, HardLimit, Rival, Standing, Thresholds, gates
from nearhall.planner.learning.site_blocks import site_blocks
from nearhall.planner.learning.site_estimates import Season
from nearhall.planner.learning.told import sites_told
from nearhall.planner.samples.draws import Draws, Samples
from nearhall.planner.sensitivity.worth import evppi_usd

State = Literal["SCALE", "HOLD", "STOP"]
Stamp = Literal["MEASURED", "PARTLY MEASURED", "REHEARSED", "NOT MEASURED"]
NpvOf = Callable[[Mapping[str, Samples]], Samples]
"""Samples of a new site by belief's name, each of shape (samples,) -> its net present value against the hub, USD, same shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """A measurement that may turn the decision."""

    belief: str
    words: str
    why: str
    """What is in the way of knowing it, or what it is good for."""
    days: float
    evppi_usd: float
    """By how much a decision made with it is expected to be better than one without, for one new site."""
    blocking: bool
    """A gate that does not hold stands on it."""

    @property
    def usd_per_day(self) -> float:
        """What one day of metering is worth."""
        return self.evppi_usd / self.days


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
class Verdict:
    """Of one class of sites."""

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

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Names of beliefs that the pilots contradict."""
        return tuple(item.belief.name for item in self.quantities if item.conflict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the plan says of one class of sites, and what its returns are judged by."""

    site_class: str
    beliefs: Sequence[Belief]
    npv: NpvOf
    thresholds: Thresholds
    usd_per_request: CostOf | None = None
    rivals: Sequence[Rival] = ()
    limits: Sequence[HardLimit] = ()
    unpriced: Sequence[str] = ()
    """Workloads that only a site can answer, of which the plan does not say what that is worth."""
    season: Season | None = None
    """Without one no PUE can be learned."""


def decide(case: Case, returns: Sequence[SiteReturns], draws: Draws) -> Verdict:
    """The verdict on a class; `returns` of other classes are left out.

    Raises InputError for beliefs of the same name, and for a limit on a belief that is none.
    """
    _checked(case)
    mine = [site for site in returns if site.site_class == case.site_class]
    blocks = [site_blocks(site) for site in mine]
    learned = tuple(
        learn(belief, blocks, season=case.season, uniform=draws.uniform(f"decide/{case.site_class}/{belief.name}"))
        for belief in case.beliefs
    )
    before = case.npv({item.belief.name: item.samples_before for item in learned})
    after = case.npv({item.belief.name: item.samples_after for item in learned})
    judged = gates(
        Standing(
            learned=learned,
            npv=after,
            usd_per_request=case.usd_per_request,
            rivals=case.rivals,
            limits=case.limits,
            thresholds=case.thresholds,
            unpriced=case.unpriced,
            rehearsed=frozenset(site.id for site in mine if is_rehearsal(site)),
        )
    )
    stamp = stamp_of(learned, mine)
    state, would, sentence = _state(judged, stamp, case.thresholds.pilots_min)
    known = stamp in {"MEASURED", "PARTLY MEASURED"}
    return Verdict(
        site_class=case.site_class,
        state=state,
        would=would,
        stamp=stamp,
        sentence=sentence,
        reasons=_reasons(judged, mine),
        gates=judged,
        quantities=learned,
        npv_usd=(spread_of(before), spread_of(after)),
        p_npv_positive=(_share(before > 0), _share(after > 0)),
        next=_next(learned, judged, after if known else before, known=known),
        pilots=tuple(_seen(site, learned) for site in mine),
    )


def linear_npv(base_usd: float, sensitivities: Mapping[str, tuple[float, float]]) -> NpvOf:
    """A net present value by slopes: name -> (reference value, USD per unit above it)."""

    def npv(samples: Mapping[str, Samples]) -> Samples:
        size = len(next(iter(samples.values())))
        total = np.full(size, base_usd)
        for name, (reference, usd_per_unit) in sensitivities.items():
            total = total + usd_per_unit * (samples[name] - reference)
        return total

    return npv


def stamp_of(learned: Sequence[Learned], returns: Sequence[SiteReturns]) -> Stamp:
    """How far what the verdict stands on was measured; a single site with a virtual instrument makes it a rehearsal."""
    if any(is_rehearsal(site) for site in returns) or any(item.kind is Kind.SIMULATED and item.sites for item in learned):
        return "REHEARSED"
    used = [item for item in learned if item.sites]
    if not used:
        return "NOT MEASURED"
    return "MEASURED" if len(used) == len(learned) else "PARTLY MEASURED"


def _checked(case: Case) -> None:
    names = [belief.name for belief in case.beliefs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two beliefs are called {twice[0]!r}", where=case.site_class, right="give each a name of its own")
    unknown = sorted({limit.belief for limit in case.limits} - set(names))
    if unknown:
        raise InputError(f"a limit is on {unknown[0]!r}, which is no belief", where=case.site_class, right=", ".join(names))


def _state(judged: Sequence[Gate], stamp: Stamp, pilots_min: int) -> tuple[State, State, str]:
    """The verdict, what the gates would have it be if enough pilots stood behind them, and both in words."""
    told = [gate for gate in judged if gate.counts and gate.name != PILOTS]
    stopping = [gate for gate in told if gate.stops]
    against = stopping or [gate for gate in told if not gate.holds]
    would: State = "STOP" if stopping else "HOLD" if against else "SCALE"
    since = _since(against)
    if stamp == "REHEARSED":
        measured = f"were these figures measured at {sites_told(pilots_min)}, the verdict would be {would}"
        return "HOLD", would, f"HOLD: {measured}, since {since}"
    if stamp == "NOT MEASURED":
        return (
            "HOLD",
            would,
            f"HOLD: no pilot file was accepted; on assumptions alone the verdict would be {would}, since {since}",
        )
    missing = _missing(judged)
    if missing and would != "HOLD":
        more = f"{sites_told(missing, what='more pilot site')} {'is' if missing == 1 else 'are'} needed"
        return "HOLD", would, f"HOLD: {more} before the verdict can be {would}, which it would be since {since}"
    ends: dict[State, str] = {"SCALE": "", "HOLD": "; measure what is named first", "STOP": "; more metering hardly turns this"}
    return would, would, f"{would}: {since}{ends[would]}"


def _since(against: Sequence[Gate]) -> str:
    """What speaks against scaling, or that nothing does."""
    if not against:
        return "every condition holds for a site that nobody has measured"
    more = len(against) - 1
    return against[0].words + (f"; {more} more condition{'s fail' if more > 1 else ' fails'}" if more else "")


def _missing(judged: Sequence[Gate]) -> int:
    """How many pilot sites are wanting; STOP takes as many as SCALE does."""
    for gate in judged:
        if gate.name == PILOTS and not gate.holds:
            return round(gate.needed or 0.0) - (gate.count or 0)
    return 0


def _reasons(judged: Sequence[Gate], returns: Sequence[SiteReturns]) -> tuple[str, ...]:
    counted = [gate for gate in judged if gate.counts]
    against = [gate.words for gate in counted if gate.stops] + [
        gate.words for gate in counted if not gate.holds and not gate.stops
    ]
    rehearsed = [site for site in returns if is_rehearsal(site)]
    first = [f"{_names(rehearsed)}: virtual meters, no instrument saw the energy"] if rehearsed else []
    short: dict[str, list[SiteReturns]] = {}
    for site in rehearsed:
        if site.seconds < SECONDS_LEAST:
            short.setdefault(too_short(site), []).append(site)
    told = [f"{_names(sites)} {lasted}" for lasted, sites in short.items()]
    return (*against, *first, *told) or tuple(gate.words for gate in counted)


def _names(sites: Sequence[SiteReturns]) -> str:
    return ", ".join(dict.fromkeys(site.id for site in sites))


def _next(learned: Sequence[Learned], judged: Sequence[Gate], npv: Samples, *, known: bool) -> tuple[Next, ...]:
    """Ranked by worth a day, those that hold up the decision first among equals.

    While nothing was measured, worth is told from what the plan held before: a rehearsal is no knowledge.
    """
    blocking = {name for gate in judged if gate.counts and not gate.holds for name in gate.beliefs}
    found = [
        Next(
            belief=item.belief.name,
            words=f"meter {item.belief.words} at {'another' if known and item.sites else 'a'} site",
            why=_why(item, known=known),
            days=item.belief.days,
            evppi_usd=evppi_usd(npv, item.samples_after if known else item.samples_before),
            blocking=item.belief.name in blocking,
        )
        for item in learned
    ]
    return tuple(sorted(found, key=lambda one: (-round(one.usd_per_day, 6), not one.blocking, one.belief)))


def _why(item: Learned, *, known: bool) -> str:
    if item.conflict:
        return "pilots and plan contradict each other"
    if item.refused:
        site, reason = item.refused[0]
        return f"{site}: {reason}"
    if not known:
        return f"{item.belief.evidence.kind.value} until a pilot with commissioned meters has measured it"
    return f"known from {len(item.sites)} {'site' if len(item.sites) == 1 else 'sites'}" if item.sites else "not measured yet"


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
