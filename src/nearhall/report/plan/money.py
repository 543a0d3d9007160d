"""The money of a plan report in tables: kinds of sites, the fleet, one site's year, the steps, and what to buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.report.evidence_marks import Figure, joined, kind_named
from nearhall.report.formats import NO_VALUE, capital, chance, count, full_stop, money, significant
from nearhall.report.result_reader import ResultReader
from nearhall.report.sheet import Cell, Row, Sheet, sheet, total

ADVICE: dict[str, tuple[str, str]] = {
    "pilot": ("pilot, then build", "good"),
    "open": ("pilot decides", "warn"),
    "leave": ("leave out", "bad"),
    "unpriced": ("say its worth", "warn"),
}
COST_WORDS: dict[str, str] = {
    "purchase": "buying it, spread over the years",
    "energy": "energy",
    "demand": "demand charge",
    "operations": "visits, spares, upkeep",
    "uplink": "the line",
    "requests": "the hub's servers",
    "egress": "bytes leaving the cloud",
}


def by_kind(reader: ResultReader) -> Sheet:
    """What to do with each kind of site, and why."""
    money_at = {str(row.get("site")): pointer for pointer, row in reader.items("/money/by_site")}
    rows: list[Sequence[Any]] = []
    for pointer, kind in reader.items("/verdict/by_kind"):
        name = str(kind.get("site", "?"))
        at = money_at.get(name, "/money/by_site/none")
        words, tone = ADVICE.get(str(kind.get("verdict")), ("not said", "warn"))
        sites = reader.number(f"{pointer}/count")
        rows.append(
            [
                Cell(text=name, strong=True, sub=f"{sites:,.0f} site{'' if sites == 1 else 's'}" if sites is not None else ""),
                Cell(badge=words, tone=tone),
                reader.figure(f"{pointer}/p_npv_positive", chance),
                reader.median(f"{at}/capex", money),
                Cell(figure=reader.median(f"{at}/npv", money), sub_figure=reader.between(f"{at}/npv", money)),
                reader.median(f"{pointer}/must_be_worth", lambda v: f"{money(v)} a year" if v > 0 else "in any case"),
                Cell(figure=reader.texts(f"{pointer}/words", full_stop(capital(str(kind.get("words") or "")))), note=True),
            ]
        )
    return sheet(
        ["kind of site", "advice", "#chance it pays", "#to build one", "#return of one, P50", "#pays if worth", "why"], rows
    )


def fleet(reader: ResultReader) -> Sheet:
    """The whole fleet over the horizon, with and without its sites: averages in today's money, which add up."""
    return _compared(reader, "/money/fleet", "/money/npv/mean", ("over the horizon", "with these sites", "without"))


def years(reader: ResultReader) -> list[dict[str, Any]]:
    """One site of each kind in an average year."""
    found: list[dict[str, Any]] = []
    for pointer, row in reader.items("/money/by_site"):
        made = _compared(reader, f"{pointer}/yearly", "", ("a year of one site", "with its own", "without"))
        if made.rows:
            times = reader.number(f"{pointer}/years_factor")
            mean = reader.figure(f"{pointer}/npv/mean", money)
            found.append({"site": str(row.get("site", "?")), "table": made, "times": times, "mean": mean})
    return found


def _compared(reader: ResultReader, base: str, mean: str, heads: tuple[str, str, str]) -> Sheet:
    """Value less costs, on both sides, and the difference."""
    names = [name for name in COST_WORDS if any(reader.number(f"{base}/{side}/{name}") for side in ("site", "hub"))]
    sides = {side: reader.mapping(f"{base}/{side}") for side in ("site", "hub")}
    if not names or not all(sides.values()):
        return sheet([], [])

    def amount(side: str, name: str) -> float:
        return reader.number(f"{base}/{side}/{name}") or 0.0

    def three(site: float, hub: float) -> list[Figure]:
        return [reader.texts(f"{base}/{side}", told) for side, told in (("site", money(site)), ("hub", money(hub)))] + [
            reader.texts(base, _signed(site - hub))
        ]

    rows: list[Sequence[Any] | Row] = []
    if amount("site", "value") or amount("hub", "value"):
        rows.append(["what its answers are worth", *three(amount("site", "value"), amount("hub", "value"))])
    rows += [[COST_WORDS[name], *three(-amount("site", name), -amount("hub", name))] for name in names]
    left = {side: amount(side, "value") - sum(amount(side, name) for name in COST_WORDS) for side in ("site", "hub")}
    rows.append(total("left over" if not mean else "average return", *three(left["site"], left["hub"])))
    return sheet([heads[0], f"#{heads[1]}", f"#{heads[2]}", "#difference"], rows)


def _signed(value: float) -> str:
    return f"+{money(value)}" if value > 0 else money(value)


def rollout(reader: ResultReader) -> Sheet:
    """The phases: which sites, what they take, what they return."""
    rows: list[Sequence[Any]] = []
    for pointer, row in reader.items("/money/rollout"):
        which = str(row.get("which") or "")
        words = str(row.get("words") or "")
        start = reader.number(f"{pointer}/year")
        rows.append(
            [
                Cell(text=str(row.get("phase", "?")), strong=True),
                Cell(text=_when(start)),
                Cell(text=f"{reader.number(f'{pointer}/sites') or 0:,.0f}"),
                reader.median(f"{pointer}/capex", money),
                reader.median(f"{pointer}/npv", money),
                reader.between(f"{pointer}/npv", money),
                Cell(text=which or full_stop(capital(words)), note=True),
            ]
        )
    return sheet(["phase", "when", "#sites", "#to spend", "#return, P50", "#P10 to P90", "which"], rows)


def _when(year: float | None) -> str:
    if year is None:
        return ""
    return "now" if year == 0 else f"after {year:g} year{'' if year == 1 else 's'}"


def pilot_cost(reader: ResultReader) -> Figure | None:
    """What the first phase takes; None where everything is built in one."""
    phases = [pointer for pointer, row in reader.items("/money/rollout") if row.get("which")]
    return reader.median(f"{phases[0]}/capex", money) if len(phases) > 1 else None


def bill(reader: ResultReader) -> Sheet:
    """What is to be bought, with one total: the middle case of everything together, which medians of parts do not add up to.

    Parts whose price is within another's stand below that one.
    """
    within: dict[str, list[str]] = {}
    for _, row in reader.items("/bill_of_materials"):
        if row.get("within"):
            within.setdefault(f"{row.get('site')}/{row['within']}", []).append(str(row.get("what") or row.get("item") or "?"))
    rows: list[Sequence[Any] | Row] = []
    priced: list[Figure] = []
    whole = 0.0
    for pointer, row in reader.items("/bill_of_materials"):
        if row.get("within"):
            continue
        quantity, sites = reader.number(f"{pointer}/quantity"), reader.number(f"{pointer}/count")
        price = reader.middle(f"{pointer}/unit_usd")
        pieces = quantity * sites if quantity is not None and sites is not None else None
        source, kind = str(row.get("source") or "no source is given"), kind_named(row.get("kind"))
        quote = "; a quote is needed" if row.get("needs_quote") else ""
        parts = within.get(f"{row.get('site')}/{row.get('item')}", [])
        ends: tuple[Any, Any] = (Cell(text="not priced", note=True), Cell())
        if price is not None:
            ends = (Figure(text=money(price), kind=kind, source=source), Cell())
        if price is not None and pieces is not None:
            whole += price * pieces
            priced.append(Figure(text=money(price * pieces), kind=kind, source=source))
            ends = (ends[0], priced[-1])
        what = "cabinet and installation" if row.get("item") == "enclosure" else f"{row.get('what') or row.get('item') or '?'}"
        site = str(row.get("site", "?"))
        rows.append(
            [
                Cell(text=what, sub=f"{site}; with {'; '.join(_meters(parts))}" if parts else site),
                Cell(text=_amount(quantity)),
                Cell(text=_amount(pieces)),
                *ends,
                Cell(text=f"{source}{quote}", note=True),
            ]
        )
    return sheet(["what", "#each site", "#in all", "#one piece", "#together", "price from"], rows + _sum(reader, whole, priced))


def _meters(parts: Sequence[str]) -> list[str]:
    """Parts, with all energy meters in one."""
    begins = "energy meter at "
    at = [part.removeprefix(begins).split(",")[0] for part in parts if part.startswith(begins)]
    others = [part for part in parts if not part.startswith(begins)]
    return others + ([f"{len(at)} energy meters ({', '.join(at)}), class 1 or better"] if at else [])


def _sum(reader: ResultReader, whole: float, priced: Sequence[Figure]) -> list[Sequence[Any] | Row]:
    """The allowance that parts lack to the total, and the total."""
    known = reader.middle("/money/capex")
    if known is None or not priced:
        return [total(Cell(text="together", strong=True), "", "", "", joined(money(whole), priced), "")] if priced else []
    why = "prices can rise more than they can fall: the middle case of all together lies above the sum of the middle cases"
    more = joined(_signed(known - whole), priced)
    high = reader.between("/money/capex", money)
    span = Cell(text=f"8 of 10 cases: {high.text}; US dollars, without taxes", note=True) if not high.missing else Cell()
    return [
        [Cell(text="allowance for what is not known"), "", "", "", more, Cell(text=why, note=True)],
        total(Cell(text="the whole fleet", strong=True), "", "", "", reader.median("/money/capex", money), span),
    ]


def _amount(value: float | None) -> str:
    if value is None:
        return NO_VALUE
    return significant(value) if value % 1 else count(value)


def thresholds(reader: ResultReader) -> Mapping[str, str]:
    """What the plan asks for before anything is built for good; its author chose it."""
    pays, slo, pilots = (reader.number(f"/verdict/thresholds/{n}") for n in ("min_p_npv_positive", "min_p_slo", "pilots_min"))
    told = {"pays": pays, "slo": slo}
    shares = {name: f"{100 * value:g} %" if value is not None else "" for name, value in told.items()}
    return shares | {"pilots": count(pilots) if pilots is not None else ""}
