"""plan-result.json out of a plan: every figure that a reader may act on, with where it comes from (`nearhall/plan-result/v1`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nearhall.core.evidence import Kind, weakest
from nearhall.planner.money.cashflow import payback_spread, payback_years
from nearhall.planner.money.rollout_phases import phases_of, value_rollout
from nearhall.planner.plan import Placed, Planned, SitePlan
from nearhall.planner.results.fleet import fleet_part
from nearhall.planner.results.sites import bill_of_materials, site_part
from nearhall.planner.results.workloads import memory_part, workload_part
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Entry
from nearhall.planner.sensitivity.measurements import Measurement, measurements
from nearhall.planner.sensitivity.tornado import Bar, tornado

SCHEMA = "nearhall/plan-result/v1"
REVIEW = "Everything electrical here is a first sizing, for review by a licensed engineer; nothing replaces the local code."
TORNADO_SHOWN = 12
BINS = 40

Json = dict[str, Any]


def result_document(planned: Planned, *, software: str) -> Json:
    """The whole document, plain values only."""
    entries = {entry.name: entry for entry in planned.ledger.entries()}
    inputs = planned.ledger.inputs()
    built = [site for site in planned.sites if site.built]
    bars = {bar.name: bar for bar in tornado(inputs, planned.npv_usd)} if built else {}
    following = measurements(planned.npv_usd, inputs, entries) if built else ()
    return {
        "schema": SCHEMA,
        "plan": _about(planned),
        "software": software,
        "stamp": "PLANNED",
        "evidence": _evidence(planned, entries),
        "counts": {kind.value: sum(e.quantity.evidence.kind is kind for e in entries.values()) for kind in Kind},
        "verdict": _verdict(planned, built),
        "workloads": [workload_part(planned, workload) for workload in planned.plan.workloads],
        "memory": memory_part(planned),
        "sites": [site_part(planned, site) for site in planned.sites],
        "fleet": fleet_part(planned),
        "money": _money(planned, bars, entries),
        "placement": _placement(planned),
        "ledger": _ledger(entries, bars),
        "next": [_following(m) for m in following[:10]],
        "bill_of_materials": bill_of_materials(planned),
        "review": REVIEW,
    }


def three(samples: Samples | Sequence[float], *, high: bool = False) -> Json | None:
    """P10, P50, P90 (with `high` P50, P90, P99); None where it is endless or unknown."""
    values = np.asarray(samples, dtype=np.float64)
    levels = (0.5, 0.9, 0.99) if high else (0.1, 0.5, 0.9)
    found = np.quantile(values, levels) if np.all(np.isfinite(values)) else None
    return None if found is None else {f"p{round(level * 100)}": float(v) for level, v in zip(levels, found, strict=True)}


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


def _evidence(planned: Planned, entries: Mapping[str, Entry]) -> Json:
    """A derived figure is as weak as its weakest input, and nearly every figure has a default among them."""
    kinds = Counter(entry.quantity.evidence.kind for entry in entries.values())
    told = ", ".join(f"{count} {kind.value}" for kind, count in kinds.most_common())
    worst = weakest(kinds)
    source = f"{planned.plan.samples:,} samples of this plan's model, seed {planned.plan.seed}, from {told} inputs"
    derived = {"kind": worst.value, "source": source}
    placed = {"kind": worst.value, "source": f"HiGHS on medians; {source}"}
    found: Json = {
        "": derived,
        "/placement": placed,
        "/counts": {"kind": "measured", "source": "counted in this plan's ledger"},
        "/plan": {"kind": "standard", "source": "as the plan was asked for"},
    }
    for index, entry in enumerate(entries.values()):
        evidence = entry.quantity.evidence
        found[f"/ledger/{index}"] = {
            "kind": evidence.kind.value,
            "source": evidence.source,
            **({"date": evidence.date} if evidence.date else {}),
        }
    return found


def _verdict(planned: Planned, built: Sequence[SitePlan]) -> Json:
    plan, npv = planned.plan, planned.npv_usd
    impossible = [p for p in planned.placed if p.at is None]
    only_site = {p.point.workload.id: _binding(p) for p in planned.placed if _only_here(p)}
    p_positive = float(np.mean(npv > 0.0)) if built else None
    if impossible:
        state = "infeasible"
        names = sorted({p.point.id for p in impossible})
        sentence = f"As written it cannot be: {', '.join(names)} can be answered nowhere."
    elif not built:
        state, sentence = "hub", "Leave it with the hub: no workload needs a site, and none is cheaper there."
    elif p_positive is not None and p_positive >= plan.decision.min_p_npv_positive:
        state = "pilot"
        sentence = (
            f"Build a pilot of {min(plan.rollout.pilot_sites, _count(planned))}: over {plan.horizon_years} years sites gain over "
            f"the hub in {p_positive:.0%} of the cases, and nothing is measured yet."
        )
    elif only_site:
        state = "pilot"
        sentence = (
            f"Only a site can answer {' and '.join(sorted(only_site))}; beside what a hub would cost, sites are dearer in "
            f"{1.0 - (p_positive or 0.0):.0%} of the cases: pilot them if that is worth it."
        )
    else:
        state = "hub"
        sentence = f"Leave it with the hub: a site would be cheaper in {p_positive or 0.0:.0%} of the cases only."
    return {
        "sentence": sentence,
        "state": state,
        "reasons": _reasons(planned, built, only_site),
        "p_npv_positive": p_positive,
        "npv": three(npv) if built else None,
        "warnings": _warnings(planned, built),
    }


def _count(planned: Planned) -> int:
    return sum(site.count for site in planned.plan.sites)


def _binding(placed: Placed) -> str:
    """What speaks against the hub that is nearest to being possible."""
    hubs = [option for option in placed.options if option.is_hub]
    best = max(hubs, key=lambda option: option.p_slo)
    return best.against[0] if best.against else "another place is better"


def _only_here(placed: Placed) -> bool:
    return placed.at == placed.point.site.id and not any(o.allowed for o in placed.options if o.is_hub)


def _reasons(planned: Planned, built: Sequence[SitePlan], only_site: Mapping[str, str]) -> list[str]:
    told = [f"{name}: no hub, since {why}." for name, why in sorted(only_site.items())]
    for site in built:
        p = float(np.mean(site.npv_usd > 0))
        told.append(
            f"{site.site.id} ({site.site.count}): {float(np.median(site.npv_usd)):,.0f} USD a site over "
            f"{planned.plan.horizon_years} years (median), gains in {p:.0%} of the cases."
        )
    away = sorted({p.point.workload.id for p in planned.placed if p.verdict == "hub"})
    if away:
        told.append(f"Better left with the hub: {', '.join(away)}.")
    return told


def _warnings(planned: Planned, built: Sequence[SitePlan]) -> list[str]:
    told: list[str] = []
    for site in built:
        told += [f"{site.site.id}: {check.words}" for check in site.checks if check.state == "fails"]
        needed = float(np.quantile(site.load.busiest_w, 0.99)) / 1e3
        if needed > site.site.it_budget_kw:
            told.append(f"{site.site.id}: IT {needed:.2f} kW (P99) > {site.site.it_budget_kw:g} kW of its budget")
    return told


def _money(planned: Planned, bars: Mapping[str, Bar], entries: Mapping[str, Entry]) -> Json:
    plan, npv = planned.plan, planned.npv_usd
    built = [site for site in planned.sites if site.built]
    if not built:
        return {"npv": None, "p_npv_positive": None, "by_site": [], "tornado": [], "rollout": []}
    low, high = np.quantile(npv, (0.005, 0.995))
    counts, edges = np.histogram(np.clip(npv, low, high), bins=BINS)
    cumulative = np.cumsum(planned.flows, axis=1)
    payback = payback_spread(payback_years(planned.flows, rate=plan.discount_rate))
    return {
        "npv": {**(three(npv) or {}), "mean": float(npv.mean())},
        "capex": three(-planned.flows[:, 0]),
        "p_npv_positive": float(np.mean(npv > 0)),
        "npv_histogram": {"edges": edges.tolist(), "share": (counts / len(npv)).tolist()},
        "by_site": [_site_money(site) for site in built],
        "cash_by_year": {f"p{q}": np.quantile(cumulative, q / 100, axis=0).tolist() for q in (10, 50, 90)},
        "payback_years": {
            name: value if np.isfinite(value) else None
            for name, value in (("p10", payback.p10), ("p50", payback.p50), ("p90", payback.p90))
        },
        "tornado": [
            {
                "name": bar.name,
                "words": entries[bar.name].words or bar.name,
                "low": bar.low,
                "high": bar.high,
                "share": bar.share,
            }
            for bar in list(bars.values())[:TORNADO_SHOWN]
            if not bar.is_noise
        ],
        "rollout": _rollout(planned, built),
    }


def _site_money(site: SitePlan) -> Json:
    costs, hub = site.accounts.site, site.accounts.hub

    def middle(value: Any) -> float:
        return float(np.median(value))

    return {
        "site": site.site.id,
        "count": site.site.count,
        "npv": three(site.npv_usd),
        "p_npv_positive": float(np.mean(site.npv_usd > 0)),
        "capex": three(np.asarray(costs.capex_usd)),
        "yearly": {
            "site": {
                "energy": middle(costs.energy_usd),
                "demand": middle(costs.demand_usd),
                "operations": middle(costs.operations_usd),
                "hardware": middle(costs.hardware_usd) / costs.hardware_life_years,
                "uplink": middle(costs.uplink_usd),
                "hub": middle(costs.hub_usd),
                "egress": middle(costs.egress_usd),
            },
            "hub": {
                "requests": middle(hub.requests_usd),
                "uplink": middle(hub.uplink_usd),
                "egress": middle(hub.egress_usd),
            },
        },
    }


def _rollout(planned: Planned, built: Sequence[SitePlan]) -> list[Json]:
    plan = planned.plan
    sites = sum(site.site.count for site in built)
    mean_flows = np.sum([s.accounts.flows * s.site.count for s in built], axis=0) / sites
    phases = phases_of(
        sites=sites, pilot_sites=plan.rollout.pilot_sites, pilot_years=plan.rollout.pilot_years, waves=plan.rollout.waves
    )
    noise = planned.ledger.draws.normal("rollout.noise")
    value = value_rollout(phases, mean_flows, rate=plan.discount_rate, noise=noise)
    told = [
        {
            "phase": v.phase.name,
            "sites": v.phase.sites,
            "year": v.phase.start_year,
            "npv": three(v.npv_usd),
            "words": v.words,
        }
        for v in value.phases
    ]
    if len(value.phases) > 1:
        words = f"stopped after the pilot in {value.p_stop:.0%} of the cases, which is worth {value.information_usd:,.0f} USD"
        told.append(
            {"phase": "with the right to stop", "sites": sites, "year": 0.0, "npv": three(value.with_option_usd), "words": words}
        )
    return told


def _placement(planned: Planned) -> Json:
    answer, plan = planned.answer, planned.plan
    open_ = {planned.problem.places[index] for index in answer.open}
    links: dict[tuple[str, str], list[str]] = {}
    for placed in planned.placed:
        if placed.at is not None and placed.at != placed.point.site.id:
            links.setdefault((placed.point.site.id, placed.at), []).append(placed.point.workload.id)
    return {
        "status": answer.status,
        "objective_usd_per_year": answer.objective_usd,
        "bound": answer.bound_usd,
        "gap": answer.gap,
        "words": f"{answer.status}; nothing cheaper by more than {answer.gap:.2%} is possible",
        "points": [
            *(
                {"id": s.id, "lat": s.lat, "lon": s.lon, "kind": "site", "count": s.count, "open": s.id in open_}
                for s in plan.sites
            ),
            *({"id": h.id, "lat": h.lat, "lon": h.lon, "kind": "hub", "count": 1, "open": h.id in open_} for h in plan.hubs),
        ],
        "links": [{"from": a, "to": b, "workloads": names} for (a, b), names in links.items()],
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
                "swing_usd": 0.0 if bar is None or bar.is_noise else bar.swing,
                "share": 0.0 if bar is None or bar.is_noise else bar.share,
            }
        )
    return told


def _following(m: Measurement) -> Json:
    why = (
        f"worth {m.usd:,.0f} USD before the decision, {m.usd_per_day:,.0f} USD a day"
        if m.usd > 0
        else f"turns no decision by itself; explains {m.share:.0%} of what is not known of the return"
    )
    return {"what": m.what, "words": m.words, "why": why, "days": m.days, "usd_per_day": m.usd_per_day, "share": m.share}
