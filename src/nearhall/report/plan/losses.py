"""What could be lost, for the person who signs: by the pilot alone, and by all steps; and the money of each year."""

from __future__ import annotations

from math import isfinite
from typing import Any

from nearhall.report.evidence_marks import Figure, Words, said
from nearhall.report.formats import NO_VALUE, money
from nearhall.report.plan.steps import NOTHING, asked, phases, signed
from nearhall.report.plan.tables import led
from nearhall.report.result_reader import ResultReader
from nearhall.report.sheet import Cell, Sheet, sheet


def losses(reader: ResultReader) -> list[Words]:
    """Sentences with their figures; none where nothing is built."""
    if reader.text("/verdict/state") in NOTHING or not phases(reader):
        return []
    return [*_pilot(reader), *_most_out(reader), *_who_decides(reader)]


def _years(reader: ResultReader) -> Figure:
    return reader.figure("/plan/horizon_years", lambda n: f"{n:g} years")


def _pilot(reader: ResultReader) -> list[Words]:
    """What the pilot loses where it is all that is ever built, and where it is switched off at once."""
    phase = signed(reader)
    low = reader.number(f"{phase}/npv/p10")
    if phase is None or low is None or len(phases(reader)) < 2:
        return []
    ends = (
        "The pilot alone, if it runs on: one case in ten loses more than {usd} over {years}, after all costs."
        if low < 0
        else "The pilot alone, if it runs on: even in a bad case, one in ten, it returns {usd} over {years}, after all costs."
    )
    off = "The pilot switched off and worth nothing: its whole price, {usd} in the middle case, {most} in a dear one (P90)."
    middle, most = reader.median(f"{phase}/capex", money), reader.figure(f"{phase}/capex/p90", money)
    return [
        said(ends, usd=reader.figure(f"{phase}/npv/p10", lambda v: money(abs(v))), years=_years(reader)),
        said(off, usd=middle, most=most),
    ]


def _cash(reader: ResultReader) -> tuple[list[float], dict[str, list[float]]]:
    """The ends of years and the money in less money out up to each, by quantile; nothing where they do not match."""
    base = led(reader)
    columns = {name: reader.series(f"{base}/cash_by_year/{name}") for name in ("p10", "p50", "p90")}
    years = reader.series(f"{base}/years") or [float(year) for year in range(len(columns["p50"]))]
    return (years, columns) if all(len(column) == len(years) for column in columns.values()) else ([], {})


def _most_out(reader: ResultReader) -> list[Words]:
    """The most money that is out at one time, in the middle case and in a bad one, and when."""
    years, columns = _cash(reader)
    told: dict[str, str | Figure] = {}
    base = f"{led(reader)}/cash_by_year"
    for name in ("p50", "p10"):
        lowest = min(zip(columns.get(name, []), years, strict=True), default=(0.0, 0.0)) if years else (0.0, 0.0)
        if not lowest[0] < 0:
            return []
        told |= {
            name: reader.texts(base, money(-lowest[0])),
            f"{name}_when": reader.texts(base, f"the end of year {lowest[1]:g}" if lowest[1] else "the start"),
        }
    words = (
        "{how}: the most money that is out at one time is {p50} in the middle case, at {p50_when}; in a bad case, as one in ten "
        "is, it is {p10} or more, at {p10_when}."
    )
    return [said(words, how="In all steps" if led(reader) != "/money" else "All at once", **told)]


def _who_decides(reader: ResultReader) -> list[Words]:
    """Whoever signs decides again after the pilot, and what happens until then."""
    later = next((phase for phase in phases(reader) if reader.number(f"{phase}/year")), None)
    if later is None:
        return []
    words = (
        "Who decides: you, {first}again after {months} of the pilot: SCALE buys the rest, HOLD keeps measuring and buys nothing, "
        "STOP ends it."
    )
    first = "first when the answers are in, " if asked(reader) is not None else ""
    return [said(words, first=first, months=reader.figure(f"{later}/year", lambda year: f"{12 * year:,.0f} months"))]


def cash_table(reader: ResultReader) -> Sheet:
    """The values that the picture of the cash draws, for whoever cannot rest a pointer on it."""
    years, columns = _cash(reader)
    base = f"{led(reader)}/cash_by_year"

    def told(value: float) -> Figure:
        return reader.texts(base, money(value)) if isfinite(value) else Figure(text=NO_VALUE, missing=reader.missing(base))

    rows: list[list[Any]] = [
        [
            Cell(text="start" if year == 0 else f"{year:g}", chosen=True),
            *(told(columns[name][n]) for name in ("p10", "p50", "p90")),
        ]
        for n, year in enumerate(years)
    ]
    return sheet(["end of year", "#bad case (P10)", "#middle case (P50)", "#good case (P90)"], rows)


def later_end(reader: ResultReader) -> tuple[str, str] | None:
    """(end of the picture, when the last sites are built), in years, where steps make it longer than the plan's years."""
    years, _ = _cash(reader)
    horizon = reader.number("/plan/horizon_years")
    if not years or horizon is None or years[-1] <= horizon:
        return None
    return f"{years[-1]:g}", f"{years[-1] - horizon:g}"
