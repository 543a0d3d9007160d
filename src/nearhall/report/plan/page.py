"""`plan-result.json` in, `report.html` out: the first screen for the person who signs the purchase, then pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from textwrap import shorten, wrap
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.report.evidence_marks import Figure
from nearhall.report.formats import (
    LINES_MAX,
    NO_VALUE,
    WIDTH,
    capital,
    chance_beside,
    full_stop,
    kilowatts,
    listed,
    money,
    percent,
)
from nearhall.report.pages import render
from nearhall.report.plan import cabinet, losses, open_checks, right_size, sheets, signing, steps, tables
from nearhall.report.plan import figures as draw
from nearhall.report.plan import money as money_tables
from nearhall.report.plan import money_figures as draw_money
from nearhall.report.plan import risks as plan_risks
from nearhall.report.plan.map import placement_map
from nearhall.report.result_reader import ResultReader

SITES_DRAWN_MAX = 12
"""Kinds of sites with pictures of their own; a browser takes about a second for this many, and no reader asks for more."""
CURVES_DRAWN_MAX = 12
SITES_SHOWN = 40
"""Kinds of sites with a sizing of their own on the page; plan-result.json has them all."""
ROWS_SHOWN = 24
"""Of workloads at sites, on the first screen; the rest is folded."""
ENGINEER = "for review by a licensed engineer"
REVIEW = f"{ENGINEER.capitalize()}: this sizes and compares; it does not replace the design of an installation."
NOT_MEASURED = "no site of yours was measured yet: it may guide what to pilot, not what to buy for a whole fleet"
STATES: dict[str, tuple[str, str]] = {
    "build": ("Build", "good"),
    "pilot": ("Pilot first", "warn"),
    "hub": ("Stay with the hub", "warn"),
    "none": ("Do not build", "bad"),
    "infeasible": ("Not as planned", "bad"),
}
ASK_FIRST = ("Ask first", "warn")
"""The state where nothing is ordered before somebody has answered."""
CONTENTS = (
    ("money", "Does it pay?"),
    ("steps", "Steps"),
    ("at-once", "All at once"),
    ("buy", "What to buy"),
    ("risks", "Risks"),
    ("to-check", "Checks"),
    ("times", "How soon"),
    ("memory", "Memory"),
    ("places", "Map"),
    ("cabinets", "Cabinets"),
    ("grid", "Grid"),
    ("ledger", "Assumed"),
)
"""Anchors of the page's parts, in their order, in words so short that a phone shows all of them above the verdict."""
MONEY_PARTS = ("steps", "at-once")
"""Those that are there only where something is built."""
BORDER = {"solid": "solid", "dashed": "dashed", "dotted": "dotted", "dotdash": "dashed", "dashdot": "dashed"}
"""How a line's dash is told in a key, whose borders know fewer."""
RESTART_FELT = 1.1
"""A fleet that draws less than so many times its normal peak after an outage is not felt by the grid."""
KINDS_SHOWN = 4
WHY_LINES = 2
FEW_PLACEMENTS = 6


def render_plan(result: Mapping[str, Any]) -> str:
    """The report as one HTML page that stands alone. Parts that the document does not hold are named as missing."""
    reader = ResultReader(result)
    placed = tables.placements(reader)
    pictures, curves, sites = _pictures(reader)
    return render(
        "plan.html.j2",
        pictures=pictures,
        contents=[part for part in CONTENTS if part[0] not in MONEY_PARTS or reader.items("/money/by_site")],
        placed_on_map=pictures["map"] is not None,
        placed=placed,
        in_time=tables.in_time(placed),
        curves=curves,
        sites=sites,
        rows_shown=ROWS_SHOWN,
        sites_shown=SITES_SHOWN,
        review=_review(reader),
        **_placed(reader, placed),
        **_first_screen(reader),
        **_money(reader),
        **_sheets(reader, placed),
        **_grid(reader),
    )


def _first_screen(reader: ResultReader) -> dict[str, Any]:
    sign, following = steps.to_sign(reader), tables.next_steps(reader)
    return {
        "name": reader.text("/plan/name") or "a plan without a name",
        "software": reader.text("/software") or "nearhall",
        "seed": _seed(reader),
        "stamp": reader.text("/stamp") or "PLANNED",
        "stamp_words": "" if reader.text("/stamp") == "MEASURED" else NOT_MEASURED,
        **_headline(reader),
        "state": ASK_FIRST if sign["asks"] else STATES.get(reader.text("/verdict/state")),
        "reasons": reader.sentences("/verdict/reasons"),
        "warnings": reader.sentences("/verdict/warnings"),
        "horizon": reader.figure("/plan/horizon_years", lambda n: f"{n:g} years").text,
        "discount": reader.figure("/plan/discount_rate", lambda r: f"{100 * r:g} %").text,
        "samples": reader.figure("/plan/samples", lambda n: f"{n:,.0f}").text,
        "planned": reader.figure("/plan/sites_planned", lambda n: f"{n:,.0f} site{'' if n == 1 else 's'}").text,
        "thresholds": money_tables.thresholds(reader),
        "deciding": sheets.deciding_words(reader),
        "counts": tables.evidence_counts(reader),
        "checked": plan_risks.checked(reader),
        "open_checks": open_checks.by_whom(reader),
        "signing": sign,
        "losses": losses.losses(reader),
        "cash_table": losses.cash_table(reader),
        "later_end": losses.later_end(reader),
        "waits_first": steps.waits_first(reader),
        "kinds": money_tables.by_kind(reader),
        "steps": following,
        "explained": any(step["explains"] for step in following),
    }


def _headline(reader: ResultReader) -> dict[str, Figure | None]:
    """What to do as the headline, and why, which stands behind its colon, as the first paragraph."""
    whole = reader.sentence("/verdict/sentence")
    head, colon, why = whole.text.partition(": ")
    if whole.missing or not colon:
        return {"verdict": whole, "because": None}
    named = any(why.startswith(str(kind.get("site"))) for _, kind in reader.items("/verdict/by_kind"))
    return {"verdict": replace(whole, text=head), "because": replace(whole, text=why if named else capital(why))}


def _placed(reader: ResultReader, placed: list[tables.Placed]) -> dict[str, Any]:
    """Rows that say the same in one; what is answered at a site apart from what is not bought."""
    rows = signing.merged(placed)
    here = signing.at_sites(rows)
    return {
        "gets": signing.gets(rows),
        "stands": signing.stands(reader),
        "kind_names": listed(signing.names_of_kinds(reader)),
        "one_name": len(signing.names_of_kinds(reader)) == 1,
        "away": signing.away(reader, rows),
        "here": here,
        "there": [row for row in rows if row not in here],
        "words_here": signing.words_here(reader),
    }


def _money(reader: ResultReader) -> dict[str, Any]:
    return {
        "money": tables.money_first(reader),
        "all_at_once": tables.all_at_once(reader),
        "costs": money_tables.costs(reader),
        "without": reader.sentence("/money/without"),
        "worthless_without": money_tables.worthless_without(reader),
        "fleet_money": money_tables.fleet(reader),
        "years": money_tables.years(reader),
        "phases": money_tables.rollout(reader),
        "kinds_in_steps": money_tables.kinds_in_steps(reader),
        "bill": money_tables.bill(reader),
        "only_one_kind": money_tables.only_one_kind(reader),
        "too_few": steps.too_few(reader),
        "pilot_ends": money_tables.pilot_ends(reader),
        "oversized": right_size.oversized(reader),
        "cash_border": BORDER[draw_money.cash_dash(reader)],
        "risks": plan_risks.risks(reader),
        "not_in_it": plan_risks.missing(reader),
    }


def _sheets(reader: ResultReader, placed: list[tables.Placed]) -> dict[str, Any]:
    ledger = tables.ledger(reader)
    return {
        "times": sheets.latencies(reader, 4 * ROWS_SHOWN),
        "places": sheets.alternatives(reader, placed[:ROWS_SHOWN]),
        "thousand": sheets.per_thousand(reader),
        "memory_rows": sheets.memory(reader),
        "memory_parts": [(part, tone) for part, (tone, _) in draw.MEMORY_PARTS.items()],
        "placement": _placement(reader),
        "pue": sheets.months(reader, SITES_SHOWN),
        "ledger": sheets.ledger(ledger[: tables.LEDGER_SHOWN]),
        "ledger_rest": sheets.ledger(ledger[tables.LEDGER_SHOWN :]),
        "defaults": sum(entry["is_default"] for entry in ledger),
    }


def _grid(reader: ResultReader) -> dict[str, Any]:
    return {
        "common_parts": [(words, tone, BORDER[dash]) for words, tone, dash in draw.common_parts(reader)],
        "restart_words": reader.sentence("/fleet/restart/words"),
        "restart_little": _restart_is_little(reader),
        "restart_peak": reader.figure("/fleet/restart/normal_peak_kw", kilowatts),
        "feeders": _feeders(reader),
    }


def _pictures(reader: ResultReader) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """By the id of the element that holds it, None where there is nothing to draw; and what stands beside curves and sites."""
    curves = _curves(reader)
    sites = _sites(reader)
    pictures: dict[str, Any] = {
        "npv": draw_money.npv_histogram(reader),
        "tornado": draw_money.tornado(reader),
        "cash": draw_money.cash_by_year(reader),
        "memory_bars": draw.memory_bars(reader),
        "map": placement_map(reader),
        "coincidence": draw.coincidence(reader),
        "restart": draw.restart(reader),
    }
    pictures |= {curve["picture"]: curve.pop("drawn") for curve in curves}
    pictures |= {site["picture"]: site.pop("drawn") for site in sites if site["picture"]}
    for index, (pointer, _) in enumerate(reader.items("/fleet/feeders")[:SITES_DRAWN_MAX]):
        pictures[f"feeder_{index}"] = None if draw.is_little(reader, pointer) else draw.feeder_day(reader, pointer)
    return pictures, curves, sites


def _curves(reader: ResultReader) -> list[dict[str, Any]]:
    """One for each workload and site whose times are told, as many as are drawn."""
    found: list[dict[str, Any]] = []
    for place, workload in reader.items("/workloads"):
        by_site: dict[str, list[str]] = {}
        for pointer, entry in reader.items(f"{place}/latency"):
            by_site.setdefault(str(entry.get("site", "?")), []).append(pointer)
        for site, entries in by_site.items():
            said = reader.number(f"{entries[0]}/limit_ms")
            limit = said if said is not None else reader.number(f"{place}/slo/limit_ms")
            drawn = draw.latency_curves(reader, entries, limit_ms=limit) if len(found) < CURVES_DRAWN_MAX else None
            if drawn is not None:
                found.append(
                    {
                        "picture": f"curve_{len(found)}",
                        "drawn": drawn,
                        "workload": str(workload.get("id", "?")),
                        "site": site,
                        "letter": draw.letter(reader, entries[0]),
                        "limit": reader.figure(f"{entries[0]}/limit_ms", lambda v: f"{v:g} ms"),
                        "first_word": reader.text(f"{place}/slo/of") == "ttft",
                        "here": any(
                            reader.text(f"{placed}/site") == site and reader.text(f"{placed}/at") == site
                            for placed, _ in reader.items(f"{place}/placed")
                        ),
                        "at": [(reader.text(f"{p}/at") or "?", reader.at(f"{p}/is_hub") is True) for p in entries],
                    }
                )
    return found


def _sites(reader: ResultReader) -> list[dict[str, Any]]:
    sites: list[dict[str, Any]] = []
    for index, (pointer, site) in enumerate(reader.items("/sites")):
        drawn = draw.power_steps(reader, pointer) if index < SITES_DRAWN_MAX else None
        hardware = [
            f"{item.get('count', '?')} × {item.get('name') or item.get('id') or '?'}"  # noqa: RUF001  a multiplication
            for _, item in reader.items(f"{pointer}/hardware")
        ]
        sites.append(
            {
                "id": str(site.get("id", "?")),
                "count": reader.figure(f"{pointer}/count", lambda n: f"{n:,.0f} site{'' if n == 1 else 's like it'}"),
                "class": str(site.get("class") or "class not said"),
                "jurisdiction": str(site.get("jurisdiction") or ""),
                "hardware": hardware,
                "workloads": [str(workload) for workload in tables.elements(site.get("workloads"))],
                "picture": f"power_{index}" if drawn is not None else None,
                "drawn": drawn,
                "sizing": cabinet.sizing(reader, pointer),
                "inrush": reader.sentence(f"{pointer}/inrush/words"),
                "checks": cabinet.checks(reader, pointer),
                "failing": sum(check.get("state") == "fails" for _, check in reader.items(f"{pointer}/checks")),
            }
        )
    return sites


def _placement(reader: ResultReader) -> dict[str, Any]:
    compared = "/placement/objective_usd_per_year"
    return {
        "words": reader.sentence("/placement/words"),
        "rows": [
            *(
                []
                if reader.text("/placement/words").startswith("proven: ")
                else [
                    ("what was compared, a year, without lines' standing charges", reader.figure(compared, money)),
                    ("no placement costs less than", reader.figure("/placement/bound", money)),
                    ("so at most dearer than the cheapest by", reader.figure("/placement/gap", percent)),
                ]
            ),
        ],
        "links": [
            {
                "from": str(link.get("from", "?")),
                "to": str(link.get("to", "?")),
                "workloads": ", ".join(map(str, tables.elements(link.get("workloads")))),
            }
            for _, link in reader.items("/placement/links")
        ],
        "points": [
            {
                "id": str(point.get("id", "?")),
                "kind": str(point.get("kind") or "?"),
                "count": reader.figure(f"{pointer}/count", lambda n: f"{n:,.0f}"),
                "open": point.get("open") is not False,
            }
            for pointer, point in reader.items("/placement/points")
        ],
    }


def _feeders(reader: ResultReader) -> list[dict[str, Any]]:
    return [
        {
            "id": str(feeder.get("id", "?")),
            "picture": f"feeder_{index}" if index < SITES_DRAWN_MAX else "",
            "each": reader.figure(f"{pointer}/sites_each", lambda n: f"{n:,.0f} site{'' if n == 1 else 's'}").text
            if reader.number(f"{pointer}/sites_each") is not None
            else "",
            "little": draw.is_little(reader, pointer),
            "headroom": reader.figure(f"{pointer}/headroom_kva", lambda v: f"{v:,.0f} kVA"),
            "over": reader.figure(f"{pointer}/over_hours", lambda v: f"{v:,.0f} h"),
            "words": full_stop(reader.text(f"{pointer}/words")),
            "shaved": bool(reader.series(f"{pointer}/shaved_kva")),
        }
        for index, (pointer, feeder) in enumerate(reader.items("/fleet/feeders"))
    ]


def _restart_is_little(reader: ResultReader) -> bool:
    """Whether the fleet draws hardly more after an outage than on any day."""
    normal = reader.number("/fleet/restart/normal_peak_kw")
    most = max([0.0, *(kw for kw in reader.series("/fleet/restart/kw") if isfinite(kw))])
    return normal is not None and 0.0 < most < RESTART_FELT * normal


def _review(reader: ResultReader) -> str:
    """What stands over everything electrical, whatever the document says."""
    said = full_stop(reader.text("/review"))
    return said if ENGINEER in said.casefold() else f"{REVIEW} {said}".rstrip()


def _seed(reader: ResultReader) -> str:
    seed = reader.number("/plan/seed")
    return f"{seed:g}" if seed is not None else NO_VALUE


def plan_words(result: Mapping[str, Any]) -> str:
    """The plan for a terminal: plain text, at most 40 lines; a figure without a letter is assumed, others carry theirs."""
    reader = ResultReader(result)
    first, placed = tables.money_first(reader), tables.placements(reader)
    sentence = _told(reader.sentence("/verdict/sentence"))
    lines = _wrapped(f"{reader.text('/stamp') or 'PLANNED'}  {sentence}")
    lines += [line for reason in reader.sentences("/verdict/reasons") for line in _wrapped(_told(reason))]
    lines += [line for warning in reader.sentences("/verdict/warnings") for line in _wrapped(f"! {_told(warning)}", 2)]
    lines += ["", *_gets_lines(reader, placed), *_money_lines(reader, first), *_kind_lines(reader)]
    following = tables.next_steps(reader)[:3]
    lines += ["", "Worth finding out next:"]
    lines += [line for n, step in enumerate(following, 1) for line in _wrapped(f" {n}. {_step(step)}", 4)]
    lines += [*([] if following else [" nothing is ranked"]), ""]
    told = [f"{row['n']} {row['kind'].value}" for row in tables.evidence_counts(reader)]
    closing = [
        *_wrapped(f"Rests on: {', '.join(told) if told else 'numbers that nobody has counted'}", 10),
        *_wrapped(_review(reader)),
        "Without a letter: assumed.  M measured  S simulated  V vendor  N norm",
    ]
    lines += _where(signing.merged(placed), LINES_MAX - len(closing) - len(lines))
    return "\n".join([*lines[: LINES_MAX - len(closing)], *closing])


def _told(figure: Figure) -> str:
    """A figure and its letter, but for the kind that nearly all of a plan's figures have."""
    return figure.text if figure.kind is Kind.ASSUMED else figure.marked


def _gets_lines(reader: ResultReader, placed: list[tables.Placed]) -> list[str]:
    gets = signing.gets(signing.merged(placed))
    told = [f"{row['name']} {row['words']}" for row in gets if row["words"]][:KINDS_SHOWN]
    return _wrapped(f"Sites do: {'; '.join(told)}", 10) if told else []


def _money_lines(reader: ResultReader, first: Mapping[str, Any]) -> list[str]:
    if not first["known"]:
        return ["Pays:     no site is built, so there is no return to tell"]
    (_, low), (_, middle), (_, high), *back = first["spread"]
    asked = f", {first['side']} what is asked" if first["side"] else ""
    built = " if built in steps" if first["staged"] else ""
    told = "; ".join(f"{words.removesuffix(', middle case')} {_told(figure)}" for words, figure in back)
    pays = f"in {_told(first['chance'])} of cases{built}{asked}; P10 {_told(low)}, P50 {_told(middle)}, P90 {_told(high)}; {told}"
    return [*_wrapped(f"Pays:     {pays}", 10), *_wrapped(f"To sign:  {_to_sign(reader)}", 10)]


def _to_sign(reader: ResultReader) -> str:
    """The amount to sign now, what more waits for an answer, and what all sites take."""
    found, later = steps.to_sign(reader), steps.waiting(reader)
    if found["nothing"]:
        return f"nothing: {found['nothing']}"
    told = ["nothing yet"]
    if found["now"] is not None and found["asks"]:
        told = [
            f"nothing today; up to {_told(found['most'])} ({_told(found['now'])} in the middle) for {found['which']} once asked"
        ]
    elif found["now"] is not None:
        told = [f"{_told(found['now'])} now, for {found['which']}"]
    if later is not None:
        more = " more" if found["now"] is not None else ""
        told.append(
            f"{_told(reader.median(f'{later}/capex', money))}{more} for {steps.which(reader, later)} if the answers are good"
        )
    every = steps.whole(reader)
    if every is not None:
        told.append(f"all {reader.number(f'{every}/sites') or 0:,.0f} sites take {_told(reader.median(f'{every}/capex', money))}")
    return "; ".join(told)


def _kind_lines(reader: ResultReader) -> list[str]:
    """The advice for each kind of site."""
    lines: list[str] = []
    asked = reader.number("/verdict/thresholds/min_p_npv_positive")
    for pointer, kind in reader.items("/verdict/by_kind")[:KINDS_SHOWN]:
        chance_ = _told(reader.figure(f"{pointer}/p_npv_positive", lambda p: chance_beside(p, asked)))
        advice, _ = money_tables.advice(kind)
        sites = reader.number(f"{pointer}/count") or 0
        lines += _wrapped(f"{kind.get('site', '?')}, {sites:,.0f}: {advice}; pays in {chance_} of cases", 10)
    return lines


def _step(step: Mapping[str, Any]) -> str:
    worth = f", worth up to {_told(step['usd'])}" if step["usd"] is not None else ""
    whom = f" ({step['ask']})" if step["ask"] and step["ask"] not in step["what"] else ""
    return f"{step['what']}{whom}: {_told(step['days'])}{' ' + step['by'] if step['by'] else ''}{worth}"


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _where(placed: list[signing.Placement], room: int) -> list[str]:
    """In at most `room` lines."""
    if not placed:
        return ["No workload is placed."]
    lines_each = WHY_LINES if len(placed) <= FEW_PLACEMENTS and WHY_LINES * len(placed) < room else 1
    shown = placed if lines_each * len(placed) < room else placed[: max(0, room - 2)]
    names = [shorten(f"{row.first.workload} {row.sites}", 26, placeholder="…") for row in placed]
    width = max(map(len, names))
    lines = [f"{'workload, site':<{width}}  {'goes to':<14} {'kept':>8}  because"]
    for name, row in zip(names, shown, strict=False):
        goes = "the site" if row.first.at == row.first.site else row.first.at or row.first.badge
        before = f"{name:<{width}}  {shorten(goes, 14, placeholder='…'):<14} {_told(row.first.sure):>8}  "
        why = wrap("" if row.why.missing else row.why.text, WIDTH - len(before), max_lines=lines_each, placeholder="…")
        lines += [f"{before if n == 0 else ' ' * len(before)}{line}".rstrip() for n, line in enumerate(why or [""])]
    if len(placed) > len(shown):
        lines.append(f"and {len(placed) - len(shown)} more in the report")
    return lines
