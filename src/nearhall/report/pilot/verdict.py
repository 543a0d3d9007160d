"""What a pilot says about where to host a model, in words: pure comparison of figures that `pilot.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from nearhall.core.evidence import STRENGTH, Kind
from nearhall.report.evidence_marks import Figure, Words, joined, said
from nearhall.report.formats import energy, listed, ms, signed_ms
from nearhall.report.reader import PilotReader, SiteView, WorkloadView, elements

GAIN_MS_MIN = 1.0
"""Sooner by less than this is no reason to buy anything: no person notices it and the run's own noise is near it."""
EVEN_MS_MAX = 5.0
"""An interval around nought that stays within this says that there is little between them; a wider one says nothing yet."""
CLOSURE_PERCENT_MAX = 5.0
"""Only for documents that do not say whether the books close: meters of class 1 can disagree by about 3 %, not by this."""

NOUGHT = ms(0)


class Finding(Enum):
    """How one workload's local answers compare with what the hub's would have been."""

    LOCAL = "local"
    """The whole interval says local is sooner, by something that matters."""
    EVEN = "even"
    HUB = "hub"
    UNSURE = "unsure"
    """The pairs differ too much among themselves."""
    UNKNOWN = "unknown"
    """Too few pairs, or none."""


class Verdict(Enum):
    """The pilot as a whole."""

    LOCAL = "local"
    MIXED = "mixed"
    EVEN = "even"
    HUB = "hub"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The first screen's words."""

    verdict: Verdict
    sentence: Words
    reasons: tuple[Words, ...]
    """The short paragraph, a sentence each."""
    rehearsed: bool
    """Some figure the verdict rests on was not measured: stamped REHEARSED."""
    unsupported: tuple[str, ...]
    """Why it cannot support a purchase; empty when it can."""
    warnings: tuple[Words, ...]
    """What casts doubt on the figures themselves, such as an energy balance that does not close."""


def find(workload: WorkloadView) -> Finding:
    """How a workload compares, from the paired gain and its interval (hub's time less local time, milliseconds).

    Where there is next to no round trip, no gain is the place's: what is left is the hub's second gateway and encryption.
    """
    value, low, high = (workload.number(f"latency_ms/gain_p50/{key}") for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return Finding.UNKNOWN
    if high <= -GAIN_MS_MIN:
        return Finding.HUB
    trip = workload.link_rtt_ms
    if trip is not None and trip < GAIN_MS_MIN:
        return Finding.EVEN
    if low >= GAIN_MS_MIN:
        return Finding.LOCAL
    return Finding.EVEN if max(-low, high) <= EVEN_MS_MAX else Finding.UNSURE


def decide(pilot: Mapping[str, Any]) -> Decision:
    """The verdict on a whole pilot."""
    reader = PilotReader(pilot)
    compared = [(workload, find(workload)) for workload in reader.workloads]
    known = [(w, f) for w, f in compared if f not in {Finding.UNKNOWN, Finding.UNSURE}]
    verdict = _overall([finding for _, finding in known])
    unsupported = tuple(_unsupported(reader))
    return Decision(
        verdict=verdict,
        sentence=_sentence(verdict, reader, compared),
        reasons=tuple(_reasons(verdict, reader, compared)),
        rehearsed=_rehearsed(reader),
        unsupported=unsupported,
        warnings=tuple(_warnings(reader)),
    )


def _overall(findings: list[Finding]) -> Verdict:
    kinds = set(findings)
    if not kinds:
        return Verdict.UNKNOWN
    if len(kinds) == 1:
        return Verdict(kinds.pop().value)
    return Verdict.MIXED if Finding.LOCAL in kinds else Verdict.EVEN


def _sentence(verdict: Verdict, reader: PilotReader, compared: list[tuple[WorkloadView, Finding]]) -> Words:
    trip = _trips(reader)
    local = [(w, f) for w, f in compared if f is Finding.LOCAL]
    if verdict is Verdict.UNKNOWN:
        return said("No verdict yet: too few answers were compared with the hub's.")
    if verdict is Verdict.LOCAL:
        open_ = any(f is not Finding.LOCAL and w.number("requests/local") for w, f in compared)
        whom = f" for {listed(_names(compared, {Finding.LOCAL}))}" if open_ else ""
        words = "Answering on site pays in speed{whom}: {gain} sooner than the hub at a round trip of {trip}."
        return said(words, whom=whom, gain=_span(local), trip=trip)
    if verdict is Verdict.MIXED:
        rest = [
            f"the hub {how} for {listed(names)}"
            for finding, how in ((Finding.EVEN, "is about as fast"), (Finding.HUB, "is sooner"))
            if (names := _names(compared, {finding}))
        ]
        words = "Answering on site pays in speed for {local}; {rest}, at a round trip of {trip}."
        return said(words, local=listed(_names(compared, {Finding.LOCAL})), rest=listed(rest), trip=trip)
    if verdict is Verdict.EVEN:
        words = "At this round trip, {trip}, the hub answers about as fast: speed alone does not pay for a small site."
        return said(words, trip=trip)
    return said("At this round trip, {trip}, the hub answers sooner: speed is no reason for a small site.", trip=trip)


def _reasons(verdict: Verdict, reader: PilotReader, compared: list[tuple[WorkloadView, Finding]]) -> list[Words]:
    if verdict is Verdict.UNKNOWN:
        return [said("Requests were served, but a claim of gain needs pairs: the same request asked of both. Run longer.")]
    lines = _above_which(verdict, reader)
    if verdict is Verdict.EVEN:
        lines.insert(0, _left_over(compared))
    if any(w.chat and f is not Finding.UNKNOWN for w, f in compared):
        lines.append(said("Chat is compared by its time to the first token, in pairs."))
    unsure = [w.label for w, f in compared if f is Finding.UNSURE]
    if unsure:
        lines.append(said("For {names} the pairs differ too much among themselves to tell yet.", names=listed(unsure)))
    missing = [w.label for w, f in compared if f is Finding.UNKNOWN and w.number("requests/local")]
    if missing:
        lines.append(said("Not compared, for want of pairs: {names}.", names=listed(missing)))
    absent = [
        w.label for w, f in compared if f is Finding.UNKNOWN and not w.number("requests/local") and w.number("requests/hub")
    ]
    if absent:
        lines.append(said("The hub answered all of {names}, so there is nothing to compare there.", names=listed(absent)))
    lines += _energy(reader)
    kept = sorted({w.id for w, _ in compared if w.residency == "site"})
    if kept:
        lines.append(
            said("Only counts leave the site for {names}: residency may decide where speed does not.", names=listed(kept))
        )
    return lines


def _left_over(compared: list[tuple[WorkloadView, Finding]]) -> Words:
    """By how much the answers differ where that is next to nothing, and what it comes from where there is no round trip."""
    even = [(w, f) for w, f in compared if f is Finding.EVEN]
    near = all(w.link_rtt_ms is not None and w.link_rtt_ms < GAIN_MS_MIN for w, _ in even)
    cause = ": what the hub's second gateway and encryption take, not distance" if near else ""
    return said(f"In pairs the answers differ by {{gain}}{cause}.", gain=_span(even))


def _above_which(verdict: Verdict, reader: PilotReader) -> list[Words]:
    """From which round trip local pays, and what else may speak for a site when speed does not."""
    bounds = _break_even(reader)
    slower = verdict in {Verdict.EVEN, Verdict.HUB}
    why = ", or for residency (data that may not leave) and autonomy (serving on when the link is cut)" if slower else ""
    if not bounds:
        return [said(f"No round trip above which a site pays could be told from this run{why}.")] if slower else []
    (low_name, low), (high_name, high) = bounds[0], bounds[-1]
    if slower and high.text == NOUGHT:
        return [said(f"A small site pays only at a longer round trip than this{why}.")]
    if high.text == NOUGHT:
        words = "It pays above a round trip of {least} at the latest: the hub took longer even without the way to it."
        return [said(words, least=replace(high, text=ms(GAIN_MS_MIN)))]
    low = replace(low, text=ms(GAIN_MS_MIN)) if low.text == NOUGHT else low
    first = "A small site pays only above" if slower else "It pays above"
    if len(bounds) == 1:
        return [said(f"{first} a round trip of {{low}}{why}.", low=low)]
    words = f"{first} a round trip of {{low}} ({{low_name}}) to {{high}} ({{high_name}}){why}."
    return [said(words, low=low, low_name=low_name, high=high, high_name=high_name)]


def _energy(reader: PilotReader) -> list[Words]:
    """What a thousand requests take here and at a hub: speed is not the whole of a decision."""
    found: dict[str, Figure] = {}
    for place in ("local", "hub"):
        below = f"per_thousand/{place}/energy_kwh"
        values = [(value, w.figure(below, energy)) for w in reader.workloads if (value := w.number(below)) is not None]
        if values:
            found[place] = _range(values)
    if len(found) < 2:
        return []
    words = "A thousand requests take {local} on site, its idle time too, and {hub} at a hub shared by many."
    return [said(words, local=found["local"], hub=found["hub"])]


def _unsupported(reader: PilotReader) -> list[str]:
    """What stands in for the world: a purchase needs the link, the power and the compared latencies measured."""
    weak: list[str] = []
    link = {_kind(reader, f"{site.pointer}/link/rtt_ms") for site in reader.sites}
    power = {_kind(reader, f"{site.pointer}/energy/facility_kwh") for site in reader.sites}
    for what, kinds in (("the link", link), ("power", power)):
        weaker = sorted((kind for kind in kinds if kind is not Kind.MEASURED), key=STRENGTH.__getitem__)
        if weaker or not kinds:
            weak.append(f"{what} is {weaker[0].value if weaker else 'unknown'}")
    gains = {_kind(reader, f"{w.pointer}/latency_ms/gain_p50/value") for w in reader.workloads if find(w) is not Finding.UNKNOWN}
    if not gains:
        weak.append("no gain was compared")
    elif gains != {Kind.MEASURED} and not weak:
        weak.append("the hub's latency is not measured")
    if _warnings(reader):
        weak.append("the energy balance does not close")
    return weak


def _rehearsed(reader: PilotReader) -> bool:
    pointers = [f"{s.pointer}/{below}" for s in reader.sites for below in ("link/rtt_ms", "energy/facility_kwh")]
    pointers += [f"{w.pointer}/latency_ms/gain_p50/value" for w in reader.workloads]
    held = [p for p in pointers if reader.number(p) is not None]
    return not held or any(_kind(reader, p) is not Kind.MEASURED for p in held)


def _kind(reader: PilotReader, pointer: str) -> Kind:
    return reader.evidence.find(pointer)[0]


def _warnings(reader: PilotReader) -> list[Words]:
    return [warning for site in reader.sites for warning in balance_warnings(site)]


def balance_warnings(site: SiteView) -> list[Words]:
    """Which meters do not agree, in words; empty while the energy balance closes, or where nothing could be compared.

    The hub's findings name the meter, in the document or as an event of kind `balance`; without them the closure is judged.
    """
    reader = site.reader
    books = f"{site.pointer}/energy"
    closes = reader.at(f"{books}/closes")
    told = [str(text) for text in elements(reader.at(f"{books}/findings"))] or [
        str(item.get("text", ""))
        for _, item in reader.items("/events")
        if item.get("kind") == "balance" and item.get("level") != "info" and item.get("site") == site.id
    ]
    closure = reader.number(f"{books}/closure_percent")
    if closes is False or (closes is None and (told or (closure is not None and abs(closure) > CLOSURE_PERCENT_MAX))):
        why = "; ".join(dict.fromkeys(told)) or f"feed and the sum below it differ by {abs(closure or 0.0):.1f} %"
        by = reader.texts(f"{books}/closure_percent", "by its registers")
        return [said("{site}: the meters do not agree, {by}: {why}", site=site.id, why=why, by=by)]
    return []


def _span(known: list[tuple[WorkloadView, Finding]]) -> Figure:
    """The least and the greatest gain, as the document holds them."""
    below = "latency_ms/gain_p50/value"
    form = ms if all((w.number(below) or 0.0) >= 0 for w, _ in known) else signed_ms
    return _range([(w.number(below) or 0.0, w.figure(below, form)) for w, _ in known])


def _trips(reader: PilotReader) -> Figure:
    """The sites' round trips to the hub."""
    below = "link/rtt_ms"
    found = [(value, s.figure(below, ms)) for s in reader.sites if (value := reader.number(f"{s.pointer}/{below}")) is not None]
    return _range(found) if found else Figure(text="unknown length", missing="no site reported its round trip")


def _range(found: list[tuple[float, Figure]]) -> Figure:
    ordered = sorted(found, key=lambda pair: pair[0])
    low, high = ordered[0][1], ordered[-1][1]
    unit = high.text.rpartition(" ")[2]
    text = low.text if low.text == high.text else f"{low.text.removesuffix(f' {unit}')} to {high.text}"
    return joined(text, [figure for _, figure in ordered])


def _break_even(reader: PilotReader) -> list[tuple[str, Figure]]:
    """(workload, round trip above which local pays): the least and the greatest, one where they agree, none when unknown."""
    found = sorted(
        (
            (value, w.label, w.figure("break_even_rtt_ms", ms))
            for w in reader.workloads
            if find(w) not in {Finding.UNKNOWN, Finding.UNSURE} and (value := w.number("break_even_rtt_ms")) is not None
        ),
        key=lambda item: item[0],
    )
    if not found:
        return []
    ends = [(label, figure) for _, label, figure in (found[0], found[-1])]
    if ends[0][1].text == ends[1][1].text:
        return [(ends[0][0], joined(ends[0][1].text, [figure for _, _, figure in found]))]
    return ends


def pays_above(workload: WorkloadView, value: float) -> str:
    """The round trip from which a site pays. Below `GAIN_MS_MIN` no gain is claimed, so it is not said to pay from nought on."""
    return ms(value) if value > 0 or find(workload) is not Finding.LOCAL else f"\u2264 {ms(GAIN_MS_MIN)}"


def _names(compared: list[tuple[WorkloadView, Finding]], wanted: set[Finding]) -> list[str]:
    """Workloads with these findings; with their site's name where another site's differs."""
    hits = [w for w, f in compared if f in wanted]
    others = {w.id for w, f in compared if f not in wanted and f is not Finding.UNKNOWN}
    return list(dict.fromkeys(w.label if w.id in others else w.id for w in hits))
