"""What is signed, and when: now or once it is answered, what waits, and what comes after the pilot; one amount for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nearhall.report.evidence_marks import Figure, joined
from nearhall.report.formats import capital, chance_beside, full_stop, listed, money
from nearhall.report.reader import elements, members
from nearhall.report.result_reader import ResultReader
from nearhall.report.sheet import Cell, Row, Sheet, sheet, total

NOTHING: dict[str, str] = {
    "hub": "every workload stays with the hub, so nothing is bought",
    "none": "no kind of site is likely to pay, so nothing is bought",
    "infeasible": "as it is written the plan cannot be built: mend it first",
}
"""Why there is nothing to sign."""


def phases(reader: ResultReader) -> list[str]:
    """Pointers of the phases that buy sites, in their order."""
    return [pointer for pointer, row in reader.items("/money/rollout") if row.get("which")]


def waits(reader: ResultReader, phase: str) -> bool:
    """Whether it is built only if what is asked before turns out well."""
    return reader.at(f"{phase}/waits") is True


def signed(reader: ResultReader) -> str | None:
    """The phase that is signed now; None where nothing is."""
    first = next(iter(phases(reader)), None)
    return None if first is None or waits(reader, first) or reader.text("/verdict/state") in NOTHING else first


def waits_first(reader: ResultReader) -> str:
    """The kinds whose pilot is built at once where the answers are good; empty where none waits, or nothing else is built."""
    found = waiting(reader)
    return listed(list(members(reader.at(f"{found}/by_kind")))) if found is not None and signed(reader) is not None else ""


def waiting(reader: ResultReader) -> str | None:
    """The pilot that is built only if the answers are good; None where no kind of site waits."""
    return next((phase for phase in phases(reader) if waits(reader, phase)), None)


def whole(reader: ResultReader) -> str | None:
    """Where the document tells of all phases together, what is left out not among them; None where all is one step."""
    return next((pointer for pointer, row in reader.items("/money/rollout") if row.get("p_stop") is not None), None)


def when(reader: ResultReader, phase: str) -> str:
    """The one word for when a phase is bought, wherever it stands: `then`, after questions; `sign now` where there are none."""
    start = reader.number(f"{phase}/year")
    if waits(reader, phase):
        return "not yet"
    if start is None:
        return ""
    if start == 0:
        return "then" if asked(reader) is not None else "sign now"
    months = f"{12 * start:,.0f}"
    return f"after\u00a0{months}\u00a0month{'' if months == '1' else 's'}"


def which(reader: ResultReader, phase: str) -> str:
    """How many of which kinds, with the sign of a multiplication."""
    return reader.text(f"{phase}/which").replace(" x ", " \u00d7 ")


def pilot_sites(reader: ResultReader) -> dict[str, float]:
    """By kind: how many sites are in the pilot that is signed now; nothing where all is built in one step."""
    phase = signed(reader)
    if phase is None or len(phases(reader)) < 2:
        return {}
    return {str(kind): float(n) for kind, n in members(reader.at(f"{phase}/by_kind")).items() if isinstance(n, int)}


def asked(reader: ResultReader) -> dict[str, Any] | None:
    """What is asked before anything is ordered: whom, and how many days it takes; None where a pilot comes first."""
    first = "/verdict/settles/0"
    names = [str(what) for what in elements(reader.at(f"{first}/what"))]
    if reader.text(f"{first}/by") != "desk" or not names:
        return None
    whom = [
        str(who)
        for pointer, step in reader.items("/next")
        if step.get("by") == "desk" and step.get("what") in names
        for who in elements(reader.at(f"{pointer}/ask"))
    ]
    return {
        "whom": "; ".join(dict.fromkeys(whom)) or listed([name.removeprefix("ask ") for name in names]),
        "days": reader.figure(f"{first}/days", lambda v: f"{v:,.3g} day{'' if v == 1 else 's'} at a desk"),
    }


def pilot_checks(reader: ResultReader) -> tuple[list[str], int]:
    """The kinds of sites of the pilot that comes first, and how many checks of theirs nobody has made yet."""
    phase = signed(reader)
    kinds = list(members(reader.at(f"{phase}/by_kind"))) if phase else []
    states = [
        str(check.get("state"))
        for pointer, site in reader.items("/sites")
        if str(site.get("id")) in kinds
        for _, check in reader.items(f"{pointer}/checks")
    ]
    return kinds, sum(state not in {"ok", "fails"} for state in states)


def _unquoted(reader: ResultReader) -> str:
    """Whether prices are quoted, in words; nothing where all are."""
    priced = [row for _, row in reader.items("/bill_of_materials") if row.get("unit_usd")]
    open_ = [row for row in priced if row.get("needs_quote")]
    return "" if not open_ else "No price is quoted yet" if len(open_) == len(priced) else "Not every price is quoted yet"


def to_sign(reader: ResultReader) -> dict[str, Any]:
    """The amount that is signed, for what, after what, and what becomes of it if it ends there."""
    phase, nothing = signed(reader), NOTHING.get(reader.text("/verdict/state"), "")
    ask = None if nothing else asked(reader)
    kinds, checks = pilot_checks(reader)
    return {
        "nothing": nothing,
        "now": reader.median(f"{phase}/capex", money) if phase else None,
        "most": reader.figure(f"{phase}/capex/p90", money) if phase else None,
        "which": which(reader, phase) if phase else "",
        "asks": ask is not None,
        "whom": ask["whom"] if ask else "",
        "kinds": listed(kinds),
        "one_kind": len(kinds) == 1,
        "checks": checks,
        "steps": step_sheet(reader),
        "unquoted": _unquoted(reader),
    }


def step_sheet(reader: ResultReader) -> Sheet:
    """First the questions, then what is signed, what waits, and the rest, with what each asks for."""
    if not phases(reader) or reader.text("/verdict/state") in NOTHING:
        return sheet([], [])
    phase, later, ask = signed(reader), waiting(reader), asked(reader)
    rows: list[Sequence[Any] | Row] = []
    if ask is not None:
        rows.append(["first", Cell(text="ask", strong=True, sub=ask["whom"]), "nothing", Cell(figure=ask["days"], note=True)])
    if phase is not None:
        words = "order it once the answers leave that at {asked} or more" if ask else ""
        rows.append([when(reader, phase), *_pilot(reader, phase, "", words)])
    if later is not None:
        rows.append(
            [
                when(reader, later),
                *_pilot(reader, later, "+" if phase else "", "it is signed only if the answers lift that to {asked}"),
            ]
        )
    return sheet(["when", "what", "#to buy", "on which condition"], [*rows, *_rest(reader)])


def _pilot(reader: ResultReader, phase: str, sign: str, words: str) -> list[Any]:
    """What stands there, what it costs, and on which condition beside the chance that it pays as known today."""
    kinds = list(members(reader.at(f"{phase}/by_kind")))
    verdicts = {str(row.get("site")): pointer for pointer, row in reader.items("/verdict/by_kind")}
    least = reader.number("/verdict/thresholds/min_p_npv_positive")
    chances = [
        reader.figure(f"{verdicts[kind]}/p_npv_positive", lambda p: chance_beside(p, least)) for kind in kinds if kind in verdicts
    ]
    known = [figure for figure in chances if not figure.missing]
    told = f"as known today a site pays in {listed([figure.text for figure in known])} of the cases" if known else ""
    terms = words.format(asked=f"{100 * least:g} %" if least is not None else "what is asked")
    condition = joined(full_stop(capital("; ".join(part for part in (told, terms) if part))), known)
    bought = reader.median(f"{phase}/capex", lambda v: f"{sign}{money(v)}")
    return [
        Cell(text=f"pilot: {which(reader, phase)}", strong=True, chosen=True),
        Cell(figure=bought, sub_figure=reader.between(f"{phase}/capex", money)),
        Cell(figure=condition, note=True) if told or terms else Cell(),
    ]


def _rest(reader: ResultReader) -> list[Sequence[Any] | Row]:
    """What comes after the pilot, and all together."""
    found = phases(reader)
    later = [phase for phase in found if reader.number(f"{phase}/year")]
    every = whole(reader)
    if not later or every is None:
        return []
    spent = reader.middle(f"{every}/capex") or 0.0
    before = sum(reader.middle(f"{phase}/capex") or 0.0 for phase in found if phase not in later)
    sites = sum(reader.number(f"{phase}/sites") or 0.0 for phase in later)
    months = 12 * (reader.number(f"{later[0]}/year") or 0.0)
    waves = f", in {len(later)} waves" if len(later) > 1 else ""
    rest = f"the other {sites:,.0f} sites{waves}" if sites != 1 else "the other site"
    terms = "Of each kind only where answers and pilot make it as sure as asked (SCALE: buy the rest); else nothing more."
    begins = f"from month {months:,.0f} on" if len(later) > 1 else when(reader, later[0])
    return [
        [
            Cell(text=begins, chosen=True),
            Cell(text=rest, strong=True, chosen=True),
            reader.texts(f"{every}/capex", f"+{money(spent - before)}"),
            Cell(text=terms, note=True),
        ],
        total(
            "",
            Cell(text=f"all {reader.number(f'{every}/sites') or 0:,.0f} sites", chosen=True),
            Cell(figure=reader.median(f"{every}/capex", money), sub_figure=reader.between(f"{every}/capex", money)),
            Cell(text="Below each amount stands from where to where 8 of 10 cases lie.", note=True),
        ),
    ]


def too_few(reader: ResultReader) -> list[Figure]:
    """Kinds whose pilot has fewer sites than SCALE asks for, in words."""
    needed = reader.number("/verdict/thresholds/pilots_min")
    each: dict[str, int] = {}
    for phase in phases(reader):
        for kind, n in members(reader.at(f"{phase}/by_kind")).items():
            if isinstance(n, int):
                each[str(kind)] = each.get(str(kind), 0) + (n if reader.number(f"{phase}/year") == 0 else 0)
    if needed is None or len(phases(reader)) < 2:
        return []
    return [
        reader.texts(
            "/verdict/thresholds",
            f"Of {kind} the pilot has {n or 'none'}: {needed - n:g} of its own, measured, before SCALE can be said of it.",
        )
        for kind, n in each.items()
        if n < needed
    ]
