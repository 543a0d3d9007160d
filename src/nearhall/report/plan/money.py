"""The money of a plan report in tables: kinds of sites, the fleet, one site's year, the steps, and what to buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.report.evidence_marks import Figure, joined, kind_named
from nearhall.report.formats import (
    NO_VALUE,
    adding_up,
    capital,
    chance_beside,
    count,
    full_stop,
    money,
    money_in,
    money_step,
    percent,
    plain,
    significant,
)
from nearhall.report.plan.steps import asked, phases, pilot_sites, signed, when, which
from nearhall.report.plan.steps import whole as all_phases
from nearhall.report.result_reader import ResultReader
from nearhall.report.sheet import Cell, Row, Sheet, sheet, total

ADVICE: dict[str, tuple[str, str]] = {
    "pilot": ("pilot, then build", "good"),
    "open": ("pilot decides", "warn"),
    "leave": ("leave out", "bad"),
    "unpriced": ("say its worth", "warn"),
}
ASK_FIRST: dict[str, tuple[str, str]] = {"pilot": ("ask, then pilot", "good"), "open": ("wait for answers", "warn")}
"""Where somebody who is asked settles more than a pilot."""
COST_WORDS: dict[str, str] = {
    "purchase": "buying it, spread over the years",
    "energy": "energy",
    "demand": "demand charge",
    "operations": "visits, spares, upkeep",
    "uplink": "the internet line",
    "requests": "the hub, by the request",
    "egress": "bytes leaving the cloud",
}


def advice(kind: Mapping[str, Any]) -> tuple[str, str]:
    """What to do with a kind of site, and its tone."""
    verdict = str(kind.get("verdict"))
    told = ASK_FIRST if kind.get("settled_by") == "desk" and verdict in ASK_FIRST else ADVICE
    return told.get(verdict, ("not said", "warn"))


def by_kind(reader: ResultReader) -> Sheet:
    """What to do with each kind of site, and why."""
    money_at = {str(row.get("site")): pointer for pointer, row in reader.items("/money/by_site")}
    asked = reader.number("/verdict/thresholds/min_p_npv_positive")
    rows: list[Sequence[Any]] = []
    for pointer, kind in reader.items("/verdict/by_kind"):
        name = str(kind.get("site", "?"))
        at = money_at.get(name, "/money/by_site/none")
        words, tone = advice(kind)
        sites = reader.number(f"{pointer}/count")
        rows.append(
            [
                Cell(text=name, strong=True, sub=f"{sites:,.0f} site{'' if sites == 1 else 's'}" if sites is not None else ""),
                Cell(badge=words, tone=tone),
                reader.figure(f"{pointer}/p_npv_positive", lambda p: chance_beside(p, asked)),
                reader.median(f"{at}/capex", money),
                Cell(figure=reader.median(f"{at}/npv", money), sub_figure=reader.between(f"{at}/npv", money)),
                Cell(
                    figure=reader.median(f"{pointer}/must_be_worth", lambda v: f"{_round(v)} a year" if v > 0 else "in any case"),
                    sub_figure=reader.median(f"{pointer}/worth", lambda v: f"the plan says {_round(v)}")
                    if reader.middle(f"{pointer}/worth")
                    else None,
                ),
                Cell(figure=reader.texts(f"{pointer}/words", full_stop(capital(str(kind.get("words") or "")))), note=True),
            ]
        )
    heads = ["kind of site", "advice", "#chance it pays", "#to buy one", "#return of one, middle case", "#pays if worth", "why"]
    return sheet(heads, rows)


def _round(value: float) -> str:
    """Dollars in three digits: what is compared is not known more finely."""
    return money(float(f"{value:.3g}"))


def fleet(reader: ResultReader) -> Sheet:
    """The whole fleet over the horizon, with and without its sites: averages in today's money, which add up."""
    return _compared(reader, "/money/fleet", "/money/npv/mean", ("over the plan's years", "with these sites", "without"))


def years(reader: ResultReader) -> list[dict[str, Any]]:
    """One site of each kind in an average year."""
    found: list[dict[str, Any]] = []
    for pointer, row in reader.items("/money/by_site"):
        made = _compared(reader, f"{pointer}/yearly", "", ("a year of one site", "with its own", "without"))
        if made.rows:
            found.append(
                {
                    "site": str(row.get("site", "?")),
                    "table": made,
                    "times": reader.number(f"{pointer}/years_factor"),
                    "mean": reader.figure(f"{pointer}/npv/mean", money),
                    "middle": reader.median(f"{pointer}/npv", money),
                }
            )
    return found


def all_costs(reader: ResultReader, side: str) -> Figure | None:
    """Everything that is paid over the horizon, with the sites or (`hub`) without them; None where the document does not say."""
    base = f"/money/fleet/{side}"
    costs = [cost for name in COST_WORDS if (cost := reader.number(f"{base}/{name}")) is not None]
    return reader.texts(base, money(sum(costs))) if costs else None


def worth_lost(reader: ResultReader) -> Figure | None:
    """What the answers are worth that there are with these sites alone; None where nothing is said of it."""
    with_, without = (reader.number(f"/money/fleet/{side}/value") for side in ("site", "hub"))
    gained = (with_ or 0.0) - (without or 0.0)
    return reader.texts("/money/fleet/site", money(gained)) if gained > 0 else None


def worthless_without(reader: ResultReader) -> bool:
    """Whether answers have a worth with the sites and none without them."""
    return worth_lost(reader) is not None and not reader.number("/money/fleet/hub/value")


def costs(reader: ResultReader) -> list[tuple[str, Figure]]:
    """What is paid and earned over the horizon, all sites at once, each with the purchase."""
    found = (
        ("all costs with these sites, the purchase among them", all_costs(reader, "site")),
        ("all costs without them, for line and hub alone", all_costs(reader, "hub")),
        ("what the sites' answers are worth then, by the plan", worth_lost(reader)),
    )
    return [(words, figure) for words, figure in found if figure is not None]


def _compared(reader: ResultReader, base: str, mean: str, heads: tuple[str, str, str]) -> Sheet:
    """Value less costs, on both sides, and the difference; rounded so that rows and columns add up as they are printed."""
    names = [name for name in COST_WORDS if any(reader.number(f"{base}/{side}/{name}") for side in ("site", "hub"))]
    sides = {side: reader.mapping(f"{base}/{side}") for side in ("site", "hub")}
    if not names or not all(sides.values()):
        return sheet([], [])
    valued = any(reader.number(f"{base}/{side}/value") for side in sides)
    signs = {**({"value": 1.0} if valued else {}), **dict.fromkeys(names, -1.0)}
    amounts = {side: [sign * (reader.number(f"{base}/{side}/{name}") or 0.0) for name, sign in signs.items()] for side in sides}
    step, unit = money_step([amount for column in amounts.values() for amount in column])
    site, hub = (adding_up(amounts[side], step) for side in ("site", "hub"))

    def three(here: int, there: int) -> list[Figure]:
        told = [reader.texts(f"{base}/{side}", money_in(v, unit)) for side, v in (("site", here), ("hub", there))]
        return [*told, reader.texts(base, f"{'+' if here > there else ''}{money_in(here - there, unit)}")]

    words = {"value": "what its answers are worth"} | COST_WORDS
    rows: list[Sequence[Any] | Row] = [
        [words[name], *three(here, there)] for name, here, there in zip(signs, site, hub, strict=True) if here or there
    ]
    rows.append(total("left over" if not mean else "average return", *three(sum(site), sum(hub))))
    return sheet([heads[0], f"#{heads[1]}", f"#{heads[2]}", "#difference"], rows)


def rollout(reader: ResultReader) -> Sheet:
    """The phases: which sites, what they take, what they return; then all of them, in steps."""
    rows: list[Sequence[Any] | Row] = []
    for pointer, row in reader.items("/money/rollout"):
        if not row.get("which") and row.get("p_stop") is None:
            continue  # all, whatever the pilot says: nobody signs that
        words = which(reader, pointer) or full_stop(capital(str(row.get("words") or "")))
        cells: list[Any] = [
            Cell(text=str(row.get("phase", "?")), strong=True),
            Cell(text=when(reader, pointer)),
            Cell(text=f"{reader.number(f'{pointer}/sites') or 0:,.0f}"),
            reader.median(f"{pointer}/capex", money),
            reader.median(f"{pointer}/npv", money),
            reader.between(f"{pointer}/npv", money),
            Cell(text=words, note=True),
        ]
        rows.append(cells if row.get("which") else total(*cells))
    return sheet(["phase", "when", "#sites", "#to buy", "#return, middle case", "#8 of 10 cases", "which"], rows)


def kinds_in_steps(reader: ResultReader) -> Sheet:
    """Each kind of site alone: how often its rest is built after the pilot, and what it returns so."""
    rows: list[Sequence[Any]] = []
    for kind in reader.mapping("/money/in_steps/by_kind"):
        at = f"/money/in_steps/by_kind/{kind}"
        rows.append(
            [
                Cell(text=kind, sub=f"{reader.number(f'{at}/sites') or 0:,.0f} in all", strong=True),
                reader.figure(f"{at}/p_scale", lambda p: f"{100 * p:.0f} of 100 cases"),
                reader.figure(f"{at}/p_npv_positive", percent),
                reader.median(f"{at}/capex", money),
                reader.median(f"{at}/npv", money),
                reader.between(f"{at}/npv", money),
            ]
        )
    heads = ["each kind alone", "#the rest is built in", "#returns more", "#to buy all", "#return, middle case", "#8 of 10 cases"]
    return sheet(heads, rows)


def only_one_kind(reader: ResultReader) -> Sheet:
    """What is spent and returned if one kind of site alone is built; nothing where there is only one."""
    asked = reader.number("/verdict/thresholds/min_p_npv_positive")
    rows: list[Sequence[Any]] = []
    for pointer, row in reader.items("/money/by_site"):
        sites = reader.number(f"{pointer}/count") or 0.0

        def all_of_them(value: float, sites: float = sites) -> str:
            return money(value * sites)

        rows.append(
            [
                Cell(text=f"only {row.get('site', '?')}", strong=True),
                Cell(text=count(sites)),
                reader.figure(f"{pointer}/p_npv_positive", lambda p: chance_beside(p, asked)),
                reader.median(f"{pointer}/capex", all_of_them),
                reader.median(f"{pointer}/npv", all_of_them),
                reader.between(f"{pointer}/npv", all_of_them),
            ]
        )
    heads = ["built", "#sites", "#chance it pays", "#to buy", "#return, middle case", "#8 of 10 cases"]
    return sheet(heads, rows if len(rows) > 1 else [])


def pilot_ends(reader: ResultReader) -> dict[str, Any]:
    """How long the pilot has before more is bought, which result ends it, and in how many cases the plan reckons with that."""
    months = next((year for phase in phases(reader) if (year := reader.number(f"{phase}/year"))), None)
    stop, slo = (reader.number(f"/verdict/thresholds/{name}") for name in ("stop_below", "min_p_slo"))
    staged = next((pointer for pointer, row in reader.items("/money/rollout") if row.get("p_stop") is not None), None)
    return {
        "months": f"{12 * months:,.0f} months" if months else "",
        "stop": f"{100 * stop:g} %" if stop is not None else "",
        "slo": f"{100 * slo:g} %" if slo is not None else "",
        "ends": reader.figure(f"{staged}/p_stop", lambda p: f"{100 * p:.0f} of 100 cases") if staged is not None else None,
    }


def bill(reader: ResultReader) -> Sheet:
    """What is to be bought, with one total: the middle case of everything together, which medians of parts do not add up to.

    Parts whose price is within another's stand below that one. Amounts are rounded so that they add up as they are printed.
    """
    within: dict[str, list[str]] = {}
    for _, row in reader.items("/bill_of_materials"):
        if row.get("within"):
            within.setdefault(f"{row.get('site')}/{row['within']}", []).append(str(row.get("what") or row.get("item") or "?"))
    found = [(pointer, row) for pointer, row in reader.items("/bill_of_materials") if not row.get("within")]
    amounts = [_together(reader, pointer) for pointer, _ in found]
    known = reader.middle(_bought(reader))
    priced = [amount for amount in amounts if amount is not None]
    allowance = [known - sum(priced)] if known is not None and priced else []
    step, unit = money_step([*priced, *allowance, known or 0.0])
    told = iter(adding_up([*priced, *allowance], step))
    rows: list[Sequence[Any] | Row] = []
    figures: list[Figure] = []
    steps = 0
    for (pointer, row), amount in zip(found, amounts, strict=True):
        source, kind = str(row.get("source") or "no source is given"), kind_named(row.get("kind"))
        ends: list[Any] = [Cell(text="not priced", note=True), Cell()]
        price = reader.middle(f"{pointer}/unit_usd")
        if price is not None:
            ends[0] = Figure(text=money(price), kind=kind, source=source)
        if amount is not None:
            rounded = next(told)
            steps += rounded
            ends[1] = Figure(text=money_in(rounded, unit), kind=kind, source=source)
            figures.append(ends[1])
        rows.append([*_item(reader, pointer, row, within), *ends, Cell(text=_price_from(row, source), note=True)])
    for rounded in told:
        why = "prices can rise more than they can fall: the middle case of all together lies above the sum of the middle cases"
        more = joined(f"{'+' if rounded > 0 else ''}{money_in(rounded, unit)}", figures)
        blank = [""] * (4 if pilot_sites(reader) else 3)
        rows.append([Cell(text="allowance for what is not known"), *blank, more, Cell(text=why, note=True)])
        steps += rounded
    pilot = ["#in the pilot"] if pilot_sites(reader) else []
    heads = ["what", "#each site", *pilot, "#in all", "#one piece", "#together", "price from"]
    return sheet(heads, rows + _sum(reader, steps, unit, figures))


def _bought(reader: ResultReader) -> str:
    """Where the document says what all that is not left out costs to buy."""
    every = all_phases(reader)
    return "/money/capex" if every is None else f"{every}/capex"


def _together(reader: ResultReader, pointer: str) -> float | None:
    """What all pieces of one row cost; None where a price or a number is missing."""
    quantity, sites = reader.number(f"{pointer}/quantity"), reader.number(f"{pointer}/count")
    price = reader.middle(f"{pointer}/unit_usd")
    return price * quantity * sites if price is not None and quantity is not None and sites is not None else None


def _item(reader: ResultReader, pointer: str, row: Mapping[str, Any], within: Mapping[str, Sequence[str]]) -> list[Cell]:
    """What is bought, with what is in its price, and how many."""
    quantity, sites = reader.number(f"{pointer}/quantity"), reader.number(f"{pointer}/count")
    parts = within.get(f"{row.get('site')}/{row.get('item')}", [])
    what = "cabinet and installation" if row.get("item") == "enclosure" else f"{row.get('what') or row.get('item') or '?'}"
    site = str(row.get("site", "?"))
    pilot = pilot_sites(reader)
    return [
        Cell(text=what, sub=f"{site}; with {'; '.join(_meters(parts))}" if parts else site),
        Cell(text=_amount(quantity)),
        *([Cell(text=_amount(quantity * pilot.get(site, 0) if quantity is not None else None))] if pilot else []),
        Cell(text=_amount(quantity * sites if quantity is not None and sites is not None else None)),
    ]


def _price_from(row: Mapping[str, Any], source: str) -> str:
    """Who said the price, and that a quote is needed, once."""
    if source.startswith("default:"):
        source = f"this tool's default: {source.partition(': ')[2]}"
    return f"{source}; a quote is needed" if row.get("needs_quote") and "quote" not in source else source


def _meters(parts: Sequence[str]) -> list[str]:
    """Parts, with all energy meters in one."""
    begins = "energy meter at "
    at = [part.removeprefix(begins).split(",")[0] for part in parts if part.startswith(begins)]
    others = [part for part in parts if not part.startswith(begins)]
    return others + ([f"{len(at)} energy meters ({', '.join(map(plain, at))}), class 1 or better"] if at else [])


def _sum(reader: ResultReader, steps: int, unit: str, priced: Sequence[Figure]) -> list[Sequence[Any] | Row]:
    """The total: of what is priced, where the document says none."""
    if not priced:
        return []
    bought = _bought(reader)
    whole, high = reader.middle(bought), reader.between(bought, money)
    together = reader.texts(bought, money_in(steps, unit)) if whole is not None else joined(money_in(steps, unit), priced)
    cell = Cell(figure=together, sub_figure=None if high.missing else high)
    words = "the whole fleet" if whole is not None else "together"
    spread = "" if high.missing else "; below the middle case from where to where 8 of 10 cases lie"
    phase = signed(reader) if pilot_sites(reader) else None
    blank = ["", "", "", *([""] if phase else [])]
    rows: list[Sequence[Any] | Row] = [
        total(Cell(text=words, strong=True), *blank, cell, Cell(text=f"US dollars, without taxes{spread}", note=True))
    ]
    if phase is not None:
        now = Cell(figure=reader.median(f"{phase}/capex", money), sub_figure=reader.between(f"{phase}/capex", money))
        words = "of it the pilot" if asked(reader) is not None else "of it the pilot, to sign now"
        rows.append(total(words, *blank, now, Cell(text=which(reader, phase), note=True)))
    return rows


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
