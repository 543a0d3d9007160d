"""`decision.json` in, `report.html` out: scale, hold or stop, then what was believed, what was measured and what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from nearhall.report import decision_figures as draw
from nearhall.report import decision_tables as tables
from nearhall.report.pages import render
from nearhall.report.plan_reader import ResultReader
from nearhall.report.plan_tables import evidence_counts
from nearhall.report.summary import LINES_MAX, WIDTH

DOCUMENT = "decision.json"
STAMPS: dict[str, str] = {
    "REHEARSED": "part of the returns is simulated: this shows what a decision would look like, and decides nothing",
    "NOT MEASURED": "no pilot's returns were accepted: everything is still assumed",
    "PARTLY MEASURED": "some of what this rests on is measured, the rest is still assumed",
    "MEASURED": "what the verdict rests on was measured at pilots",
}
CLASSES_DRAWN_MAX = 8
"""Pictures of more kinds of sites nobody reads side by side."""
STEPS_SHOWN = 3


def render_decision(decision: Mapping[str, Any]) -> str:
    """The report as one HTML page that stands alone. Parts that the document does not hold are named as missing."""
    reader = ResultReader(decision, DOCUMENT)
    found = tables.classes(reader)
    pictures: dict[str, Any] = {"worth": draw.worth(reader)}
    for index, row in enumerate(found[:CLASSES_DRAWN_MAX]):
        pictures[f"beliefs_{index}"] = draw.beliefs(reader, row["name"])
        pictures[f"gates_{index}"] = draw.gates(reader, row["pointer"])
    quantities = tables.quantities(reader)
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
        steps=tables.next_steps(reader),
        steps_shown=STEPS_SHOWN,
        quantities=quantities,
        conflicts=[row for row in quantities if row["badge"][0] == "conflict"],
        pilots=tables.pilots(reader),
    )


def _name(reader: ResultReader) -> str:
    """The plan's name, wherever the document keeps it."""
    return reader.text("/plan") or reader.text("/plan/name") or "a plan without a name"


def _stamp(reader: ResultReader) -> str:
    return reader.text("/stamp") or "NOT STAMPED"


def decision_words(decision: Mapping[str, Any]) -> str:
    """The decision for a terminal: plain text, at most 40 lines, every figure followed by its evidence letter."""
    reader = ResultReader(decision, DOCUMENT)
    found = tables.classes(reader)
    lines = _wrapped(f"{_stamp(reader)}  {STAMPS.get(_stamp(reader), '')}".rstrip())
    for row in found:
        lines += ["", *_wrapped(f"{row['name']}: {row['verdict']}. {row['sentence'].marked}")]
        lines += _wrapped(f"  gains over the hub: {row['before'].marked} before, {row['after'].marked} after the pilots", 4)
        lines += [
            line
            for gate in row["gates"]
            if gate["tone"] != "good"
            for line in _wrapped(f"  ! {gate['words']}: {gate['badge']}", 4)
        ]
    lines += [] if found else ["", f"{DOCUMENT} judges no kind of site."]
    quantities = tables.quantities(reader)
    replaced = sum(row["badge"][0] != "still assumed" for row in quantities)
    conflicts = [row["words"] for row in quantities if row["badge"][0] == "conflict"]
    lines += ["", f"Replaced: {replaced} of {len(quantities)} quantities; the others are as the plan took them"]
    lines += [line for words in conflicts for line in _wrapped(f"! far from what the plan expected: {words}", 2)]
    refused = [row for row in tables.pilots(reader) if not row["accepted"]]
    lines += [line for row in refused for line in _wrapped(f"! {row['site']} ({row['file']}): {'; '.join(row['reasons'])}", 2)]
    lines += ["", "Worth measuring next:"]
    steps = tables.next_steps(reader)[:STEPS_SHOWN]
    lines += [line for n, step in enumerate(steps, 1) for line in _wrapped(f" {n}. {step['what']} ({step['days'].marked})", 4)]
    lines += [] if steps else [" nothing is ranked"]
    return "\n".join([*lines[: LINES_MAX - 1], "M measured  S simulated  V vendor  N norm  A assumed"])


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
