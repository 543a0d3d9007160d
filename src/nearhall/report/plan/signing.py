"""What the person who signs gets: each workload in the plan's words, where it is answered, and what stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nearhall.report.evidence_marks import Figure
from nearhall.report.formats import count, listed
from nearhall.report.plan.tables import PLACE_WORDS, Placed
from nearhall.report.reader import elements, members
from nearhall.report.result_reader import ResultReader

HERE = PLACE_WORDS["edge"][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A workload at all kinds of sites where the same is said of it."""

    first: Placed
    sites: str
    count: str
    why: Figure


def merged(placed: Sequence[Placed]) -> list[Placement]:
    """Rows that differ by the site's name only become one, so that nobody reads the same twice."""
    groups: dict[tuple[Any, ...], list[Placed]] = {}
    for row in placed:
        at = "" if row.at == row.site else row.at
        key = (row.workload, row.badge, at, row.limit.text, row.sure.text, row.why.text.replace(row.site, "the site"))
        groups.setdefault(key, []).append(row)
    return [_one(rows) for rows in groups.values()]


def _one(rows: Sequence[Placed]) -> Placement:
    first = rows[0]
    why = first.why
    if len(rows) > 1 and not why.missing:
        why = Figure(text=why.text.replace(first.site, "the site"), kind=why.kind, source=why.source)
    sites = sum(row.count for row in rows)
    names = listed(list(dict.fromkeys(row.site for row in rows)))
    return Placement(first=first, sites=names, count=f"{count(sites)} site{'' if sites == 1 else 's'}" if sites else "", why=why)


def at_sites(rows: Sequence[Placement]) -> list[Placement]:
    """Those that are answered at a site, or nowhere: what has to be bought, or cannot be."""
    return [row for row in rows if row.first.at == row.first.site or not row.first.at]


def gets(rows: Sequence[Placement]) -> list[dict[str, Any]]:
    """One line for each workload that is answered at a site: what it does, and where."""
    found: dict[str, dict[str, Any]] = {}
    for row in at_sites(rows):
        if row.first.at:
            one = found.setdefault(
                row.first.workload, {"name": row.first.workload, "words": row.first.words or row.first.model, "places": []}
            )
            one["places"].append({"sites": row.sites, "count": row.count})
    return list(found.values())


def stands(reader: ResultReader) -> list[tuple[str, str]]:
    """(kind of site, the servers that one of them gets for all that it answers)."""
    found: list[tuple[str, str]] = []
    for pointer, site in reader.items("/sites"):
        items = [item for _, item in reader.items(f"{pointer}/hardware")]
        if items:
            each = [f"{item.get('count', '?')} × {item.get('name') or item.get('id') or '?'}" for item in items]  # noqa: RUF001
            found.append((str(site.get("id", "?")), listed(each)))
    return found


def away(reader: ResultReader, rows: Sequence[Placement]) -> dict[str, Any] | None:
    """What hubs answer, and by which costs: rented by the request, so that nothing of it is bought here."""
    elsewhere = [row for row in rows if row.first.at and row.first.at != row.first.site]
    if not elsewhere:
        return None
    hubs = {str(point.get("id")) for _, point in reader.items("/placement/points") if point.get("kind") == "hub"}
    names = sorted({row.first.at for row in elsewhere})
    told = {row.first.workload: row.first.words for row in elsewhere}
    return {
        "names": listed(names),
        "are_hubs": set(names) <= hubs,
        "what": [{"name": name, "words": words} for name, words in told.items()],
    }


TERMS: dict[str, tuple[str, str]] = {
    r"curve [bcd]\b": (
        "curve B, C, D",
        "how much a breaker bears for an instant before it trips: three, five or ten times its amperes",
    ),
    r"\bdx\b": ("dx", "cooling by a compressor, as a refrigerator does it (direct expansion)"),
    r"\bvrla\b": ("vrla", "a sealed lead-acid battery"),
    r"\binrush\b": ("inrush", "the current that a device takes for an instant when it is switched on"),
    r"\bcrest\b": ("crest", "the highest instant of a current"),
    r"\bwalk[s]?[- ]in\b": ("walk-in", "a UPS takes its load from the mains bit by bit when power is back"),
    r"\bPUE\b": ("PUE", "the energy of a whole site over that of its servers; the nearer to one, the less is lost"),
}
"""What an engineer knows and a reader may not: how it is found in a document, what it is called, what it means."""
CLASSES: dict[str, str] = {
    "device": "one small box on a wall or shelf",
    "micro": "a cabinet, up to twenty kilowatts",
    "distributed": "a few cabinets, up to two hundred kilowatts",
    "regional": "larger than that",
}
"""The classes of sites, by size."""


def _strings(value: Any) -> Iterator[str]:
    """All words in a part of a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in members(value).values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in elements(cast("Any", value)):
            yield from _strings(part)


def terms_here(reader: ResultReader) -> list[tuple[str, str]]:
    """The engineer's words that occur on this page, with what they mean."""
    text = "\n".join(said for part in ("/sites", "/bill_of_materials", "/ledger") for said in _strings(reader.at(part)))
    # The sizing tells a site's PUE by that name wherever the document has it.
    text += " PUE" if any(reader.at(f"{pointer}/pue") for pointer, _ in reader.items("/sites")) else ""
    kinds = {str(site.get("class")): None for _, site in reader.items("/sites")}
    told = [term for pattern, term in TERMS.items() if re.search(pattern, text, re.IGNORECASE)]
    return told + [(f"class {name}", CLASSES[name]) for name in kinds if name in CLASSES]


def names_of_kinds(reader: ResultReader) -> list[str]:
    """What the plan calls its kinds of sites."""
    return [str(site.get("id", "?")) for _, site in reader.items("/sites")]


def words_here(reader: ResultReader) -> list[tuple[str, str]]:
    """Words of this page that a reader may not know, those that occur."""
    names = " ".join(
        str(item.get("name")) for pointer, _ in reader.items("/sites") for _, item in reader.items(f"{pointer}/hardware")
    )
    llm = any(reader.text(f"{pointer}/slo/of") == "ttft" for pointer, _ in reader.items("/workloads"))
    hubs = any(elements(link.get("workloads")) for _, link in reader.items("/placement/links"))
    told = [
        ("site", "a place of yours that gets a cabinet with servers; sites of one kind are planned alike"),
        ("case", "one draw of everything that is not known for sure; chances are shares of all cases"),
        ("P10, P50, P90", "P50 is the middle case, as often above as below; from P10 to P90 lie 8 of 10 cases"),
        ("P99", "only one case in a hundred lies above it"),
        ("pays", "returns more over the plan's years than there is without it"),
        ("pilot", "the first few sites, built to be measured before more is bought"),
        ("SCALE, HOLD, STOP", "what `nearhall decide` says after a pilot: buy the rest, measure on, or end it"),
        ("average", "of all cases; unlike the middle case it adds up, and a few cases far out pull it to their side"),
        (
            "return",
            "what is left after all costs, in today's dollars (net present value), against what there is without these sites",
        ),
    ]
    told += (
        [("hub", "a data center that answers for many sites; its servers are paid by the request, not bought here")]
        if hubs
        else []
    )
    told += (
        [("first word", "of an answer as it appears while the rest is still being written (an engineer's first token)")]
        if llm
        else []
    )
    told += [("MaxQ", "the maker's setting that spares power")] if "MaxQ" in names else []
    return told + terms_here(reader)
