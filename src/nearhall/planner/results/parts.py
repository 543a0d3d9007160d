"""The parts list of plan-result.json: what to order for one site of each kind, how many there are, and at what price."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.power.lines import all_supplies
from nearhall.planner.results.evidence import as_said
from nearhall.planner.samples.ledger import Entry

METERED = ("feed", "ups_in", "it", "cooling")
"""Where meters have to be for a pilot's energy to be believed: the balance closes over these."""
WITHIN = "enclosure"
"""The row whose price holds what is not priced by itself."""

Json = dict[str, Any]


def bill_of_materials(planned: Planned, entries: Mapping[str, Entry], *, left: Collection[str] = ()) -> list[Json]:
    """One row for each part; prices are the inputs' own quantiles, with the evidence of each. Kinds `left` out have none."""
    return [row for site in planned.sites if site.built and site.site.id not in left for row in _of_site(site, entries)]


def _of_site(site: SitePlan, entries: Mapping[str, Entry]) -> list[Json]:
    rows: list[Json] = []
    for rack in site.load.racks:
        name = rack.server.id
        price = _priced(entries, f"hardware.{name}.cost_usd")
        rows.append(_row(site, item=name, what=rack.server.system.name, quantity=rack.servers, price=price))
    per_kw = site.site.it_budget_kw if site.site.enclosure_usd is None else 1.0
    price = _priced(entries, f"sites.{site.site.id}.enclosure_usd", times=per_kw)
    rows.append(_row(site, item=WITHIN, what="cabinet, installation, and the rows of this site below", price=price))
    needed = site.site.supply.breaker_a or site.feed.needed_a
    if needed is not None:
        poles = 3 if site.site.supply.phases == 3 else 1
        what = f"breaker {needed:g} A, curve {site.site.supply.curve}, {poles} pole{'s' if poles > 1 else ''}"
    else:
        what = f"none of the standard ratings carries {site.feed.design_a:.0f} A: split the feed"
    rows.append(_row(site, item="breaker", what=what, source=f"{site.site.supply.code}; for review by a licensed engineer"))
    rows += _against_inrush(site)
    if site.site.ups is not None and site.hold is not None:
        ups = site.site.ups
        what = f"UPS {ups.kva:g} kVA / {ups.kw:g} kW, {ups.hold_min:g} min, {ups.chem}"
        rows.append(_row(site, item="ups", what=what, source=ups.source or "the plan"))
    cooling = site.site.cooling
    what = f"cooling {cooling.kind}, {cooling.capacity_kw.p50:g} kW, {site.air.flow_m3_h:.0f} m3/h of air"
    rows.append(_row(site, item="cooling", what=what, source="the plan"))
    why, what = "to measure what the plan assumes", "energy meter at {}, class 1 or better"
    positions = [at for at in METERED if at != "ups_in" or site.site.ups is not None]
    return rows + [_row(site, item=f"meter-{at}", what=what.format(at), source=why) for at in positions]


def _against_inrush(site: SitePlan) -> list[Json]:
    """What the plan says is there so that the breaker holds when power returns; its check says in which steps."""
    supply, found = site.site.supply, next(check for check in site.feed.checks if check.name == "inrush")
    rows: list[Json] = []
    if supply.limiter_a is not None:
        what = f"inrush limiter before all outlets, {supply.limiter_a:g} A crest on each line"
        rows.append(_row(site, item="inrush-limiter", what=what, source="the plan"))
    if supply.switched_outlets:
        what = f"outlets switched one after another: {all_supplies(site.load)} supplies; {found.words}"
        rows.append(_row(site, item="switched-outlets", what=what, source="the plan"))
    return rows


def _priced(entries: Mapping[str, Entry], path: str, *, times: float = 1.0) -> Json:
    """The price that the plan took at a path, with where it comes from."""
    entry = next(entry for entry in entries.values() if path in entry.used_by)
    quantity = entry.quantity
    price = {"p10": quantity.p10 * times, "p50": quantity.p50 * times, "p90": quantity.p90 * times}
    said = as_said(entry)
    if entry.is_default:
        said["source"] = f"{entry.name}: {entry.words}; {said['source']}"
    return {"usd": price, "evidence": said}


def _row(site: SitePlan, *, item: str, what: str, source: str = "", quantity: int = 1, price: Json | None = None) -> Json:
    evidence = {"kind": "assumed", "source": source} if price is None else price["evidence"]
    return {
        "site": site.site.id,
        "count": site.site.count,
        "item": item,
        "what": what,
        "quantity": quantity,
        "unit_usd": None if price is None else price["usd"],
        "within": WITHIN if price is None else None,
        "needs_quote": price is None or evidence["kind"] == "assumed",
        **evidence,
    }
