"""A plan report's rows as tables: answers' times, alternatives, energy and cost, memory, months, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.report.plan import cabinet, tables
from nearhall.report.plan.tables import Placed
from nearhall.report.result_reader import ResultReader
from nearhall.report.sheet import Cell, Sheet, sheet


def deciding_words(reader: ResultReader) -> str:
    """In how many cases a limit has to be kept: what the plan asks for, 95 % where it does not say."""
    asked = reader.number("/verdict/thresholds/min_p_slo")
    return f"{100 * (0.95 if asked is None else asked):g} %"


def latencies(reader: ResultReader, shown: int) -> Sheet:
    """Each workload's time here and at the best hub."""
    heads = [
        "workload",
        "arises at",
        "answered at",
        "#network",
        "#mean queue without bursts",
        "#queue",
        "#service",
        "#safe sum, middle case",
    ]
    rows = [
        [Cell(text=row["workload"], sub=row["until"], strong=True), row["site"], row["at"], *row["figures"]]
        for row in tables.latencies(reader)[:shown]
    ]
    return sheet([*heads, f"#in {deciding_words(reader)} of cases", "#limit"], rows)


def alternatives(reader: ResultReader, placed: Sequence[Placed]) -> Sheet:
    """Every place that was looked at for each workload."""
    rows = [
        [
            Cell(text=row.workload, sub=row.site, strong=True),
            Cell(text=f"{option['at']}{' (hub)' if option['hub'] else ''}", sub="chosen" if option["at"] == row.at else ""),
            option["p99_between"],
            option["sure"],
            Cell(text="not possible") if option["usd"].missing and not option["allowed"] else option["usd"],
            Cell(text=_against(option), note=True),
        ]
        for row in placed
        for option in row.alternatives
    ]
    heads = [
        "workload",
        "place",
        f"#safe sum for 99 of 100 answers, middle case to {deciding_words(reader)}",
        "#limit is kept",
        "#extra a year, each site",
        "what speaks against it",
    ]
    return sheet(heads, rows)


def _against(option: Mapping[str, Any]) -> str:
    if option["against"]:
        return "; ".join(option["against"])
    return "nothing" if option["allowed"] else "not said"


def per_thousand(reader: ResultReader) -> Sheet:
    """Energy and all costs of a thousand answers."""
    rows = [[Cell(text=row["workload"], strong=True), *row["figures"]] for row in tables.per_thousand(reader)]
    return sheet(["workload", "#energy, own site", "#energy, hub", "#cost, own site", "#cost, hub"], rows)


def memory(reader: ResultReader) -> Sheet:
    """What was looked at for each model and server."""
    rows = [
        [
            Cell(text=row["workload"], sub=row["hardware"], strong=True),
            row["bits"],
            row["p95"],
            row["usable"],
            _fits(row),
            Cell(text="; ".join(figure.text for figure in row["smaller"]), note=True),
        ]
        for row in tables.memory(reader)
    ]
    return sheet(["model on server", "#weights", "#needs, P95", "#usable", "", "smaller"], rows)


def _fits(row: Mapping[str, Any]) -> Cell:
    if not row["known"]:
        return Cell()
    return Cell(badge="fits", tone="good") if row["fits"] else Cell(badge="does not fit", tone="bad")


def months(reader: ResultReader, shown: int) -> Sheet:
    """PUE month by month, and of the year, each the ratio of sums over all cases."""
    rows = [[Cell(text=row["site"], strong=True), *row["figures"], row["year"]] for row in cabinet.pue_by_month(reader)[:shown]]
    return sheet(["", *(f"#{month}" for month in cabinet.MONTHS), "#year"], rows)


def ledger(entries: Sequence[Mapping[str, Any]]) -> Sheet:
    """Inputs, each with its own evidence."""
    rows = [
        [
            Cell(text=entry["words"], sub=entry["name"], badge="default" if entry["is_default"] else "", tone="warn"),
            entry["value"],
            Cell(text=entry["between"]),
            entry["swing"],
            Cell(text=f"{entry['source']}{'; ask: ' + entry['ask'] if entry['ask'] else ''}", note=True),
        ]
        for entry in entries
    ]
    return sheet(["what", "#value", "#P10 to P90", "#moves the return by", "source"], rows)
