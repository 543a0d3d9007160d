"""The rows of a decision's tables: what was believed, what was measured, what is believed now, and what holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.core.evidence import weakest
from nearhall.report.evidence_marks import NOT_STATED, Figure, kind_named
from nearhall.report.formats import (
    NO_VALUE,
    capital,
    chance,
    count,
    full_stop,
    money,
    percent,
    plain,
    ratio,
    significant,
    size,
    watts,
)
from nearhall.report.reader import elements, members
from nearhall.report.result_reader import Form, ResultReader

VERDICTS: dict[str, tuple[str, str]] = {
    "SCALE": ("good", "build more of them"),
    "HOLD": ("warn", "measure more first"),
    "STOP": ("bad", "build no more of them"),
}
REHEARSED = "REHEARSED"
FAVOURABLE: dict[Any, str] = {
    True: "This is better than planned, but the plan or a meter is wrong: look which before you rely on it",
    False: "This is worse than planned, and the plan or a meter is wrong: look which before you build more",
    None: "Look for the reason before you believe either",
}
"""What a conflict means, by the side on which the pilots lie."""
WORTH_LEAST_USD = 0.5
"""What is worth less would be told as nothing."""


def classes(reader: ResultReader) -> list[dict[str, Any]]:
    """Each kind of site: what to do, why, what it returns, and every condition."""
    return [_class(reader, pointer, row) for pointer, row in reader.items("/site_classes")]


def _class(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> dict[str, Any]:
    name, verdict = kind_named_in(row), str(row.get("verdict") or "not said")
    tone, meaning = VERDICTS.get(verdict, ("warn", "the document does not say what to do"))
    gates = [_gate(reader, name, at, gate) for at, gate in reader.items(f"{pointer}/gates")]
    said = {gate["words"] for gate in gates}
    return {
        "pointer": pointer,
        "name": name,
        "title": _title(row),
        "spend": _spend(reader, name, f"{pointer}/scaling"),
        "verdict": verdict,
        "rehearsed": str(row.get("stamp") or "") == REHEARSED,
        "tone": tone,
        "meaning": meaning,
        "said": reader.text(f"{pointer}/sentence"),
        "sentence": rested(reader, name, f"{pointer}/sentence", _sentence(reader.text(f"{pointer}/sentence"), verdict)),
        "reasons": [
            rested(reader, name, f"{pointer}/reasons", full_stop(str(reason)))
            for reason in dict.fromkeys(r for r in elements(row.get("reasons")) if isinstance(r, str))
            if reason and reason not in said
        ],
        "before": _chance(reader, name, f"{pointer}/p_npv_positive/prior"),
        "after": _chance(reader, name, f"{pointer}/p_npv_positive/posterior"),
        "returns": [_returned(reader, name, pointer, part) for part in ("prior", "posterior")],
        "failing": sorted((gate for gate in gates if gate["state"] == "fails"), key=lambda gate: gate["tone"] != "bad"),
        "holding": [gate for gate in gates if gate["state"] == "holds"],
        "uncompared": [gate for gate in gates if gate["state"] == "uncompared"],
    }


def kind_named_in(row: Mapping[str, Any]) -> str:
    """The kind of site that a row is of, as the plan calls it; its class where the document names no kind."""
    return str(row.get("kind_of_site") or row.get("site_class") or row.get("class") or "?")


def _title(row: Mapping[str, Any]) -> str:
    """How a kind of site is called above what is told of it."""
    kind, site_class = row.get("kind_of_site"), str(row.get("class") or "?")
    return f"{kind} (class {site_class})" if isinstance(kind, str) and kind else f"Sites of class {site_class}"


def _spend(reader: ResultReader, name: str, pointer: str) -> dict[str, Any] | None:
    """What building all of them takes, and one of them; None where the document does not say."""
    sites = reader.number(f"{pointer}/sites")
    if sites is None or reader.number(f"{pointer}/capex_usd/p50") is None:
        return None
    return {
        "sites": count(sites),
        "many": sites > 1,
        "each": _given(reader, name, f"{pointer}/capex_usd_each/p50", money),
        "all": [_given(reader, name, f"{pointer}/capex_usd/{at}", money) for at in ("p10", "p50", "p90")],
    }


def _returned(reader: ResultReader, name: str, pointer: str, part: str) -> dict[str, Any]:
    """Money of one new site, before or after the pilots: the chance that it pays, and its spread."""
    return {
        "chance": _chance(reader, name, f"{pointer}/p_npv_positive/{part}"),
        "spread": [_given(reader, name, f"{pointer}/npv_usd/{part}/{at}", money) for at in ("p10", "p50", "p90")],
    }


def _sentence(said: str, verdict: str) -> str:
    """The sentence without the verdict, which stands before it."""
    return full_stop(capital(said.removeprefix(f"{verdict}: ")))


def rested(reader: ResultReader, site_class: str, pointer: str, text: str) -> Figure:
    """A figure that follows from a class's quantities: as weak as the weakest of them, unless the document says otherwise."""
    if not text:
        return Figure(text=NO_VALUE, missing=reader.missing(pointer))
    kind, source = reader.evidence.find(pointer)
    if source != NOT_STATED:
        return Figure(text=text, kind=kind, source=source)
    kinds = [_kind(reader, at, row) for at, row in reader.items("/quantities") if kind_named_in(row) == site_class]
    told = ", ".join(f"{kinds.count(kind)} {kind.value}" for kind in dict.fromkeys(kinds))
    return Figure(
        text=text, kind=weakest(kinds), source=f"from what is believed of this kind of site: {told}" if told else NOT_STATED
    )


def _kind(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> Any:
    return kind_named(row["kind"]) if row.get("kind") else reader.evidence.find(f"{pointer}/posterior")[0]


def _chance(reader: ResultReader, site_class: str, pointer: str) -> Figure:
    value = reader.number(pointer)
    return rested(reader, site_class, pointer, chance(value) if value is not None else "")


def _gate(reader: ResultReader, site_class: str, pointer: str, gate: Mapping[str, Any]) -> dict[str, Any]:
    holds, stops = gate.get("holds") is True, gate.get("stops") is True
    state = "uncompared" if gate.get("counts") is False else "holds" if holds else "fails"
    probability = reader.number(f"{pointer}/probability")
    return {
        "words": str(gate.get("words") or gate.get("name") or "?"),
        "state": state,
        "found": _chance(reader, site_class, f"{pointer}/probability") if probability is not None else None,
        "there": _there(reader, pointer),
        "needed": _needed(reader, pointer, counted=probability is None),
        "badge": "no comparison" if state == "uncompared" else "holds" if holds else "fails" if stops else "does not hold yet",
        "tone": "good" if holds else "bad" if stops else "warn",
    }


def _there(reader: ResultReader, pointer: str) -> str:
    """How many there are, where that is what is asked: a count of files, which rests on nothing else."""
    there = reader.number(f"{pointer}/count")
    return "" if there is None else count(there)


def _needed(reader: ResultReader, pointer: str, *, counted: bool) -> Figure:
    needed = reader.number(f"{pointer}/needed")
    told = reader.text(f"{pointer}/needed_words") or ("" if needed is None else count(needed) if counted else chance(needed))
    return reader.texts(f"{pointer}/needed", told) if told else Figure(text=NO_VALUE, missing="not said")


def quantities(reader: ResultReader) -> list[dict[str, Any]]:
    """What was believed, measured and is believed now, of each quantity."""
    return [_quantity(reader, pointer, row) for pointer, row in reader.items("/quantities")]


def _form(row: Mapping[str, Any]) -> Form:
    """How a quantity is written: always with its unit."""
    unit, form = str(row.get("unit") or ""), row.get("form")
    if form == "share":
        return chance
    if form == "pue":
        return ratio
    known: dict[str, Form] = {
        "B": size,
        "W": watts,
        "1": _rounded,
        "1/s": lambda value: f"{_rounded(value)}/s",
    }
    return known.get(unit) or (lambda value: f"{_rounded(value)} {plain(unit)}".strip())


def _rounded(value: float) -> str:
    """Three digits; 9.9999 is 10.0, not 10.00."""
    return significant(float(f"{value:.3g}"))


def _quantity(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> dict[str, Any]:
    form, z = _form(row), reader.number(f"{pointer}/z")
    spreads = {
        name: {
            "middle": reader.median(f"{pointer}/{name}", form),
            "between": reader.between(f"{pointer}/{name}", form),
        }
        for name in ("prior", "posterior", "new_site")
    }
    notes = [str(note) for note in elements(row.get("notes"))]
    notes += ["believed more widely, since pilots disagree with each other's books"] if row.get("widened") is True else []
    return {
        "site_class": kind_named_in(row),
        "name": str(row.get("name") or "?"),
        "words": str(row.get("words") or row.get("name") or "?"),
        **spreads,
        "data": reader.figure(
            f"{pointer}/data/value", percent if row.get("form") == "share" else form, missing="no pilot was accepted for it"
        ),
        "sites": _of_sites(members(row.get("data"))),
        # How far the data lie from the prior is known as well as the data.
        "z": reader.texts(f"{pointer}/data", f"z = {z:+.1f}".replace("-", "\u2212")) if z is not None else None,
        "badge": _state(row),
        "means": FAVOURABLE[row["favourable"] if row.get("favourable") in (True, False) else None],
        "refused": str(row.get("refused") or ""),
        "notes": notes,
    }


def _of_sites(data: Mapping[str, Any]) -> str:
    sites, blocks = data.get("n_sites"), data.get("n_blocks")
    told = [f"{sites} site{'' if sites == 1 else 's'}"] if isinstance(sites, int) else []
    told += [f"{blocks:,} block{'' if blocks == 1 else 's'}"] if isinstance(blocks, int) else []
    return ", ".join(told)


def _state(row: Mapping[str, Any]) -> tuple[str, str]:
    if row.get("conflict") is True:
        return "conflict", "bad"
    if row.get("accepted") is not True:
        return "still assumed", "warn"
    if row.get("kind") == "simulated":
        return ("rehearsed, too short" if row.get("too_short") is True else "rehearsed"), "warn"
    return ("too short", "warn") if row.get("too_short") is True else ("measured", "good")


def next_steps(reader: ResultReader) -> list[dict[str, Any]]:
    """What to measure next: what stands in the way of a verdict first, then what is worth most a day."""
    rows = sorted(
        reader.items("/next"),
        key=lambda row: (row[1].get("blocking") is not True, -(reader.number(f"{row[0]}/usd_per_day") or 0.0)),
    )
    return [_step(reader, pointer, step) for pointer, step in rows]


def worthless(steps: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """The steps that may turn the decision or that a condition waits for, and how many others there are."""
    kept = [step for step in steps if step["blocking"] or step["evppi"] is not None]
    return kept, len(steps) - len(kept)


def _step(reader: ResultReader, pointer: str, step: Mapping[str, Any]) -> dict[str, Any]:
    what, words = str(step.get("what") or "?"), str(step.get("words") or "")
    worth = (reader.number(f"{pointer}/evppi_usd") or 0.0) >= WORTH_LEAST_USD
    title = words or what
    site_class = kind_named_in(step)
    return {
        "what": capital(title),
        "name": what,
        "site_class": site_class,
        "words": full_stop(capital(str(step.get("why") or ""))),
        "blocking": step.get("blocking") is True,
        "days": _given(reader, site_class, f"{pointer}/days", lambda v: f"{v:,.3g} day{'' if v == 1 else 's'}"),
        "evppi": _given(reader, site_class, f"{pointer}/evppi_usd", money) if worth else None,
        "usd_per_day": _given(reader, site_class, f"{pointer}/usd_per_day", lambda v: f"{money(v)} a day") if worth else None,
    }


def _given(reader: ResultReader, site_class: str, pointer: str, form: Form) -> Figure:
    value = reader.number(pointer)
    return rested(reader, site_class, pointer, form(value) if value is not None else "")


def pilots(reader: ResultReader) -> list[dict[str, Any]]:
    """Each site of each pilot file, and what was made of it."""
    return [_pilot(reader, pointer, row) for pointer, row in reader.items("/pilots")]


def _pilot(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> dict[str, Any]:
    used = [str(name) for name in elements(row.get("used"))]
    refused = [
        (str(members(part).get("why") or "?"), [str(name) for name in elements(members(part).get("for"))])
        for part in elements(row.get("refused"))
    ]
    seconds = reader.number(f"{pointer}/seconds")
    rehearsal, accepted = row.get("rehearsal") is True, row.get("accepted") is True
    return {
        "file": str(row.get("file") or "?"),
        "site": str(row.get("site") or "?"),
        "site_class": kind_named_in(row),
        "lasted": lasted(seconds) if seconds is not None else NO_VALUE,
        "accepted": accepted,
        "rehearsal": rehearsal,
        "short": str(row.get("too_short") or ""),
        "badge": ("not accepted", "bad") if not accepted else ("accepted in part", "warn") if refused else ("accepted", "good"),
        "used": used,
        "refused": refused,
    }


def assumptions(reader: ResultReader) -> list[dict[str, str]]:
    """What the decision takes for granted besides the plan's own numbers."""
    rows: list[dict[str, str]] = []
    for pointer, row in reader.items("/assumptions"):
        value = reader.number(f"{pointer}/value")
        rows.append(
            {
                "name": str(row.get("name") or "?"),
                "words": str(row.get("words") or ""),
                "value": NO_VALUE if value is None else _rounded(value),
                "kind": str(row.get("kind") or ""),
                "source": str(row.get("source") or ""),
            }
        )
    return rows


def lasted(seconds: float) -> str:
    """How long a pilot was, in the unit in which a person would count it."""
    for unit, name, least in ((86_400.0, "days", 2.0), (3600.0, "h", 2.0), (60.0, "min", 2.0)):
        if seconds >= least * unit:
            return f"{_rounded(seconds / unit)} {name}"
    return f"{seconds:.0f} s"


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """What to do, for all kinds of sites in one line."""
    if not rows:
        return ""
    if len({(row["verdict"], row["rehearsed"]) for row in rows}) > 1:
        return "; ".join(f"{row['name']}: {_called(row)}" for row in rows)
    everywhere = " for all kinds of sites" if len(rows) > 1 else ""
    does = "" if rows[0]["rehearsed"] else f": {rows[0]['meaning']}"
    return f"{_called(rows[0])}{everywhere}{does}"


def _called(row: Mapping[str, Any]) -> str:
    return f"{REHEARSED}: {row['verdict']}" if row["rehearsed"] else str(row["verdict"])
