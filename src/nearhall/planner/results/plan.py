"""plan-result.json out of a plan: every figure that a reader may act on, with where it comes from (`nearhall/plan-result/v1`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearhall.core.evidence import Kind
from nearhall.planner.plan import Planned
from nearhall.planner.results.advice import advice_of
from nearhall.planner.results.evidence import evidence_part
from nearhall.planner.results.fleet import fleet_part
from nearhall.planner.results.money import in_steps, money_part, rollout_of, rollout_part
from nearhall.planner.results.parts import bill_of_materials
from nearhall.planner.results.placement import placement_part
from nearhall.planner.results.settles import settled
from nearhall.planner.results.sites import site_part
from nearhall.planner.results.spread import share
from nearhall.planner.results.verdict import verdict_part
from nearhall.planner.results.whom import all_who_know, who_knows
from nearhall.planner.results.workloads import memory_part, workload_part
from nearhall.planner.samples.ledger import Entry
from nearhall.planner.sensitivity.measurements import Measurement, measurements
from nearhall.planner.sensitivity.tornado import Bar, tornado

SCHEMA = "nearhall/plan-result/v1"
REVIEW = "Everything electrical here is a first sizing, for review by a licensed engineer; nothing replaces the local code."

Json = dict[str, Any]


def result_document(planned: Planned, *, software: str) -> Json:
    """The whole document, plain values only."""
    fleet = fleet_part(planned)  # it notes what it rests on in the ledger, as the rollout does, so they come first
    bars, following = _found_out(planned)
    order = settled(following)
    advice = advice_of(planned, order)
    value = rollout_of(planned, advice)
    rollout, steps = rollout_part(planned, value), in_steps(planned, value)
    entries = {entry.name: entry for entry in planned.ledger.entries()}
    return {
        "schema": SCHEMA,
        "plan": _about(planned),
        "software": software,
        "stamp": "PLANNED",
        "evidence": evidence_part(planned, entries),
        "counts": {kind.value: sum(e.quantity.evidence.kind is kind for e in entries.values()) for kind in Kind},
        "verdict": verdict_part(planned, order, advice, rollout),
        "workloads": [workload_part(planned, workload) for workload in planned.plan.workloads],
        "memory": memory_part(planned),
        "sites": [site_part(planned, site) for site in planned.sites],
        "fleet": fleet,
        "money": money_part(planned, bars, entries, rollout, steps),
        "placement": placement_part(planned),
        "ledger": _ledger(entries, bars),
        "next": [_following(m) for m in following[:10]],
        "bill_of_materials": bill_of_materials(planned, entries, left=advice.left),
        "review": REVIEW,
    }


def _found_out(planned: Planned) -> tuple[Mapping[str, Bar], Sequence[Measurement]]:
    """What moves the return of all sites, and what could be measured next; nothing where none is built."""
    built = [site for site in planned.sites if site.built]
    if not built:
        return {}, ()
    inputs = planned.ledger.inputs()
    entries = {entry.name: entry for entry in planned.ledger.entries()}
    bars = {bar.name: bar for bar in tornado(inputs, planned.npv_usd)}
    return bars, measurements([site.site.count * site.npv_usd for site in built], inputs, entries, bars)


def _about(planned: Planned) -> Json:
    plan = planned.plan
    return {
        "name": plan.name or "a plan",
        "seed": plan.seed,
        "samples": plan.samples,
        "horizon_years": plan.horizon_years,
        "discount_rate": plan.discount_rate,
        "currency": plan.currency,
        "sites_planned": sum(site.count for site in plan.sites),
    }


def _ledger(entries: Mapping[str, Entry], bars: Mapping[str, Bar]) -> list[Json]:
    told: list[Json] = []
    for name, entry in entries.items():
        quantity, bar = entry.quantity, bars.get(name)
        told.append(
            {
                "name": name,
                "words": entry.words or name,
                "p10": quantity.p10,
                "p50": quantity.p50,
                "p90": quantity.p90,
                "unit": quantity.unit,
                "kind": quantity.evidence.kind.value,
                "source": quantity.evidence.source,
                "date": quantity.evidence.date,
                "is_default": entry.is_default,
                "used_by": list(entry.used_by),
                "ask": who_knows(name),
                "swing_usd": 0.0 if bar is None or bar.is_noise else bar.swing,
                "p_swing": 0.0 if bar is None or bar.is_noise else bar.p_swing,
                "share": 0.0 if bar is None or bar.is_noise else bar.share,
            }
        )
    return told


def _following(m: Measurement) -> Json:
    why = (
        f"known before the decision it makes that better by up to {m.usd:,.0f} USD on average"
        if m.usd > 0
        else f"turns no decision by itself; explains {share(m.share)} of what is not known of the return"
    )
    return {
        "what": m.what,
        "words": m.words,
        "by": "desk" if m.at_a_desk else "pilot",
        "ask": all_who_know(m.inputs) if m.at_a_desk else [],
        "why": why,
        "days": m.days,
        "usd": m.usd,
        "usd_per_day": m.usd_per_day,
        "share": m.share,
    }
