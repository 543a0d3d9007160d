"""`decision.json` in, `report.html` out: scale, hold or stop, then what was believed, what was measured and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from nearhall.report.decision import figures as draw
from nearhall.report.decision import tables
from nearhall.report.formats import LINES_MAX, WIDTH
from nearhall.report.pages import render
from nearhall.report.plan.tables import evidence_counts
from nearhall.report.reader import elements
from nearhall.report.result_reader import ResultReader

DOCUMENT = "decision.json"
STAMPS: dict[str, str] = {
    "REHEARSED": "part of the pilots is simulated: this shows what a decision would look like, and decides nothing",
    "NOT MEASURED": "no pilot file was accepted: everything is still assumed",
    "PARTLY MEASURED": "some of what this rests on is measured, the rest is still assumed",
    "MEASURED": "all that pilots can tell was measured; prices are the plan's",
}
CLASSES_DRAWN_MAX = 8
"""Pictures of more kinds of sites nobody reads side by side."""
STEPS_SHOWN = 3
FAILING_SHOWN = 3
"""Of a class's conditions, in a terminal."""


def render_decision(decision: Mapping[str, Any]) -> str:
    """The report as one HTML page that stands alone. Parts that the document does not hold are named as missing."""
    reader = ResultReader(decision, DOCUMENT)
    found = tables.classes(reader)
    pictures: dict[str, Any] = {"worth": draw.worth(reader)}
    for index, row in enumerate(found[:CLASSES_DRAWN_MAX]):
        pictures[f"beliefs_{index}"] = draw.beliefs(reader, row["name"])
        pictures[f"gates_{index}"] = draw.gates(reader, row["pointer"])
    quantities = tables.quantities(reader)
    steps, worthless = tables.worthless(tables.next_steps(reader))
    horizon = reader.number("/horizon_years")
    return render(
        "decision.html.j2",
        pictures=pictures,
        name=_name(reader),
        software=reader.text("/software") or "nearhall",
        stamp=_stamp(reader),
        stamp_words=STAMPS.get(_stamp(reader), "the document does not say what this rests on"),
        headline=tables.headline(found),
        classes=found,
        drawn=CLASSES_DRAWN_MAX,
        counts=evidence_counts(reader),
        steps=steps,
        worthless=worthless,
        horizon=f" over {horizon:,.3g} years" if horizon else "",
        discount=discount(reader),
        notes=[str(note) for note in elements(reader.at("/notes"))],
        steps_shown=STEPS_SHOWN,
        quantities=quantities,
        too_short=sum("too short" in row["badge"][0] for row in quantities),
        assumptions=tables.assumptions(reader),
        conflicts=[row for row in quantities if row["badge"][0] == "conflict" and not _is_said(found, row)],
        pilots=tables.pilots(reader),
    )


def _is_said(found: Sequence[Mapping[str, Any]], quantity: Mapping[str, Any]) -> bool:
    """Whether the sentence of its kind of site begins with this quantity's conflict."""
    return any(row["name"] == quantity["site_class"] and f"{quantity['words']}: pilots lie" in row["said"] for row in found)


def _name(reader: ResultReader) -> str:
    """The plan's name, wherever the document keeps it."""
    return reader.text("/plan") or reader.text("/plan/name") or "a plan without a name"


def discount(reader: ResultReader) -> str:
    """By how much a later dollar counts for less, in words; nothing where the document does not say."""
    rate = reader.number("/discount_rate")
    return "" if rate is None else f", a dollar a year later counted for {100 * rate:.3g} % less"


def _stamp(reader: ResultReader) -> str:
    return reader.text("/stamp") or "NOT STAMPED"


def decision_words(decision: Mapping[str, Any]) -> str:
    """The decision for a terminal: plain text, at most 40 lines, every figure followed by its evidence letter."""
    reader = ResultReader(decision, DOCUMENT)
    found = tables.classes(reader)
    lines = _wrapped(f"{_stamp(reader)}  {STAMPS.get(_stamp(reader), '')}".rstrip())
    for row in found:
        lines += ["", *_class_words(row)]
    lines += [] if found else ["", f"{DOCUMENT} judges no kind of site."]
    quantities = tables.quantities(reader)
    badges = [row["badge"][0] for row in quantities]
    changed = sum(badge != "still assumed" for badge in badges)
    rehearsed, short = sum("rehearsed" in badge for badge in badges), sum("too short" in badge for badge in badges)
    parts = [f"{rehearsed} only rehearsed"] if rehearsed else []
    parts += ["from less than a day" if short == rehearsed else f"{short} from less than a day"] if short else []
    how = f" ({', '.join(parts)})" if parts else ""
    lines += [
        "",
        *_wrapped(f"Pilots changed {changed} of {len(quantities)} quantities{how}; the others are as the plan took them"),
    ]
    said = " ".join(gate["words"] for row in found for gate in row["failing"])
    conflicts = [row["words"] for row in quantities if row["badge"][0] == "conflict" and row["words"] not in said]
    lines += [line for words in conflicts for line in _wrapped(f"! far from what the plan expected: {words}", 2)]
    lines += [line for row in tables.pilots(reader) if not row["accepted"] for line in _wrapped(_pilot_words(row), 2)]
    lines += ["", "Worth measuring next:", *_step_words(reader)]
    return "\n".join([*lines[: LINES_MAX - 1], "M measured  S simulated  V vendor  N norm  A assumed"])


def _class_words(row: Mapping[str, Any]) -> list[str]:
    """One class: the verdict, what a site returns, and each condition that does not hold."""
    rehearsed = f"{tables.REHEARSED}: " if row["rehearsed"] else ""
    lines = _wrapped(f"{row['name']}: {rehearsed}{row['verdict']}. {row['sentence'].marked}")
    before, after = ([figure.marked for figure in one["spread"]] for one in row["returns"])
    chances = [one["chance"].marked for one in row["returns"]]
    lines += _wrapped(f"  return of a site: {before[1]} before, {after[1]} after the pilots (P10 {after[0]}, P90 {after[2]})", 4)
    lines += _wrapped(f"  pays in {chances[0]} before, {chances[1]} after the pilots", 4)
    if row["spend"] is not None:
        low, middle, high = (figure.marked for figure in row["spend"]["all"])
        sites = f"all {row['spend']['sites']} sites" if row["spend"]["many"] else "it"
        lines += _wrapped(f"  building {sites} takes {middle} (P10 {low}, P90 {high})", 4)
    unsaid = [gate for gate in row["failing"] if gate["words"] not in row["said"]]
    failing, more = unsaid[:FAILING_SHOWN], len(unsaid) - FAILING_SHOWN
    lines += [line for gate in failing for line in _wrapped(f"  ! {gate['words']}: {gate['badge']}", 4)]
    rest = [f"{more} more fail{'s' if more == 1 else ''}"] if more > 0 else []
    rest += [f"{len(row['holding'])} other{'s hold' if len(row['holding']) != 1 else ' holds'}"] if row["holding"] else []
    rest += [f"{len(row['uncompared'])} without comparison (counting neither way)"] if row["uncompared"] else []
    return [*lines, *_wrapped(f"  conditions: {', '.join(rest)}", 4)] if rest else lines


def _pilot_words(row: Mapping[str, Any]) -> str:
    """Why a site's file was not accepted, and what it served for all the same."""
    why = ["its meters are virtual"] if row["rehearsal"] else []
    why += [row["short"]] if row["short"] else []
    why += [reason for reason, _ in row["refused"] if reason != row["short"]]
    used = "; used to rehearse, no more" if row["rehearsal"] and row["used"] else ""
    return f"! {row['site']} ({row['file']}) not accepted: {'; '.join(why) or 'it does not say why'}{used}"


def _step_words(reader: ResultReader) -> list[str]:
    steps, others = tables.worthless(tables.next_steps(reader))
    lines = [
        line
        for n, step in enumerate(steps[:STEPS_SHOWN], 1)
        for line in _wrapped(f" {n}. {step['what']} ({step['days'].marked})", 4)
    ]
    lines += [f" {others} {'other' if steps else 'measurement'}{_s(others)} would not change the decision"] if others else []
    return lines or [" nothing is ranked"]


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
