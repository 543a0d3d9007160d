"""The rows of a decision's tables: what was believed, what was measured, what is believed now, and what holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.core.evidence import weakest
from nearhall.report.evidence_marks import NOT_STATED, Figure, kind_named
from nearhall.report.formats import NO_VALUE, chance, count, full_stop, money, significant
from nearhall.report.pilot_reader import elements, members
from nearhall.report.plan_reader import Form, ResultReader
from nearhall.report.plan_tables import amount, capital

VERDICTS: dict[str, tuple[str, str]] = {
    "SCALE": ("good", "build more of them"),
    "HOLD": ("warn", "measure more first"),
    "STOP": ("bad", "build no more of them"),
}


def classes(reader: ResultReader) -> list[dict[str, Any]]:
    """Each kind of site: what to do, why, and every condition."""
    return [_class(reader, pointer, row) for pointer, row in reader.items("/site_classes")]


def _class(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> dict[str, Any]:
    name, verdict = str(row.get("class") or "?"), str(row.get("verdict") or "not said")
    tone, meaning = VERDICTS.get(verdict, ("warn", "the document does not say what to do"))
    return {
        "pointer": pointer,
        "name": name,
        "verdict": verdict,
        "tone": tone,
        "meaning": meaning,
        "sentence": rested(reader, name, f"{pointer}/sentence", _sentence(reader.text(f"{pointer}/sentence"), verdict)),
        "reasons": [
            rested(reader, name, f"{pointer}/reasons", full_stop(str(reason)))
            for reason in dict.fromkeys(r for r in elements(row.get("reasons")) if isinstance(r, str))
            if reason
        ],
        "before": _chance(reader, name, f"{pointer}/p_npv_positive/prior"),
        "after": _chance(reader, name, f"{pointer}/p_npv_positive/posterior"),
        "gates": [_gate(reader, name, at, gate) for at, gate in reader.items(f"{pointer}/gates")],
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
    kinds = [_kind(reader, at, row) for at, row in reader.items("/quantities") if str(row.get("site_class")) == site_class]
    told = ", ".join(f"{kinds.count(kind)} {kind.value}" for kind in dict.fromkeys(kinds))
    return Figure(text=text, kind=weakest(kinds), source=f"from what is believed of this class: {told}" if told else NOT_STATED)


def _kind(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> Any:
    return kind_named(row["kind"]) if row.get("kind") else reader.evidence.find(f"{pointer}/posterior")[0]


def _chance(reader: ResultReader, site_class: str, pointer: str) -> Figure:
    value = reader.number(pointer)
    return rested(reader, site_class, pointer, chance(value) if value is not None else "")


def _gate(reader: ResultReader, site_class: str, pointer: str, gate: Mapping[str, Any]) -> dict[str, Any]:
    holds, stops = gate.get("holds") is True, gate.get("stops") is True
    needed = reader.number(f"{pointer}/needed")
    counted = reader.number(f"{pointer}/probability") is None
    told = "" if needed is None else count(needed) if counted else chance(needed)
    return {
        "words": str(gate.get("words") or gate.get("name") or "?"),
        "probability": _chance(reader, site_class, f"{pointer}/probability"),
        "needed": reader.texts(f"{pointer}/needed", told) if told else Figure(text=NO_VALUE, missing="not said"),
        "badge": "holds" if holds else "fails for good" if stops else "does not hold yet",
        "tone": "good" if holds else "bad" if stops else "warn",
    }


def quantities(reader: ResultReader) -> list[dict[str, Any]]:
    """What was believed, measured and is believed now, of each quantity."""
    return [_quantity(reader, pointer, row) for pointer, row in reader.items("/quantities")]


def _quantity(reader: ResultReader, pointer: str, row: Mapping[str, Any]) -> dict[str, Any]:
    unit, z = str(row.get("unit") or ""), reader.number(f"{pointer}/z")

    def form(value: float) -> str:
        return amount(value, unit)

    spreads = {
        name: {
            "middle": reader.median(f"{pointer}/{name}", form),
            "between": reader.between(f"{pointer}/{name}", form if unit == "B" else significant),
        }
        for name in ("prior", "posterior", "new_site")
    }
    notes = [str(note) for note in elements(row.get("notes"))]
    notes += ["believed more widely, since pilots disagree with each other's books"] if row.get("widened") is True else []
    return {
        "site_class": str(row.get("site_class") or ""),
        "name": str(row.get("name") or "?"),
        "words": str(row.get("words") or row.get("name") or "?"),
        **spreads,
        "data": reader.figure(f"{pointer}/data/value", form, missing="no pilot was accepted for it"),
        "sites": _of_sites(members(row.get("data"))),
        # How far the data lie from the prior is known as well as the data.
        "z": reader.texts(f"{pointer}/data", f"z = {z:+.1f}".replace("-", "\u2212")) if z is not None else None,
        "badge": _state(row),
        "refused": str(row.get("refused") or ""),
        "notes": notes,
    }


def _of_sites(data: Mapping[str, Any]) -> str:
    sites, blocks = data.get("n_sites"), data.get("n_blocks")
    told = [f"{sites} site{'' if sites == 1 else 's'}"] if isinstance(sites, int) else []
    told += [f"{blocks:,} blocks"] if isinstance(blocks, int) else []
    return ", ".join(told)


def _state(row: Mapping[str, Any]) -> tuple[str, str]:
    if row.get("conflict") is True:
        return "conflict", "bad"
    if row.get("accepted") is not True:
        return "still assumed", "warn"
    return ("rehearsed", "warn") if row.get("kind") == "simulated" else ("measured", "good")


def next_steps(reader: ResultReader) -> list[dict[str, Any]]:
    """What to measure next: what stands in the way of a verdict first, then what is worth most a day."""
    rows = sorted(
        reader.items("/next"),
        key=lambda row: (row[1].get("blocking") is not True, -(reader.number(f"{row[0]}/usd_per_day") or 0.0)),
    )
    return [_step(reader, pointer, step) for pointer, step in rows]


def _step(reader: ResultReader, pointer: str, step: Mapping[str, Any]) -> dict[str, Any]:
    what, words = str(step.get("what") or "?"), str(step.get("words") or "")
    worth = reader.number(f"{pointer}/usd_per_day")
    title = words or what
    site_class = str(step.get("site_class") or "")
    return {
        "what": capital(title),
        "name": what,
        "site_class": site_class,
        "words": full_stop(capital(str(step.get("why") or ""))),
        "blocking": step.get("blocking") is True,
        "days": _given(reader, site_class, f"{pointer}/days", lambda v: f"{v:,.3g} day{'' if v == 1 else 's'}"),
        "evppi": _given(reader, site_class, f"{pointer}/evppi_usd", money),
        "usd_per_day": _given(reader, site_class, f"{pointer}/usd_per_day", lambda v: f"{money(v)} a day") if worth else None,
    }


def _given(reader: ResultReader, site_class: str, pointer: str, form: Form) -> Figure:
    value = reader.number(pointer)
    return rested(reader, site_class, pointer, form(value) if value is not None else "")


def pilots(reader: ResultReader) -> list[dict[str, Any]]:
    """Each site's returns and what was made of them."""
    return [
        {
            "file": str(row.get("file") or "?"),
            "site": str(row.get("site") or "?"),
            "site_class": str(row.get("site_class") or ""),
            "accepted": row.get("accepted") is True,
            "quantities": [str(name) for name in elements(row.get("quantities"))],
            "reasons": [str(reason) for reason in elements(row.get("reasons"))],
        }
        for _, row in reader.items("/pilots")
    ]


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """What to do, for all kinds of sites in one line."""
    if rows and len({row["verdict"] for row in rows}) == 1:
        everywhere = " for all kinds of sites" if len(rows) > 1 else ""
        return f"{rows[0]['verdict']}{everywhere}: {rows[0]['meaning']}"
    return "; ".join(f"{row['name']}: {row['verdict']}" for row in rows)
