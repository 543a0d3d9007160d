"""The verdict's part of plan-result.json: what to do with the fleet and each kind of site, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nearhall.planner.plan import Placed, Planned, SitePlan
from nearhall.planner.results.money import must_be_worth, without_sites
from nearhall.planner.results.spread import listed, share, three, usd

Json = dict[str, Any]


def verdict_part(planned: Planned) -> Json:
    """What to do; a plan alone never says to build a fleet, since nothing of it is measured."""
    built = [site for site in planned.sites if site.built]
    kinds = [_kind(planned, site) for site in built]
    state, sentence = _sentence(planned, kinds)
    return {
        "sentence": sentence,
        "state": state,
        "reasons": _reasons(planned, built),
        "by_kind": kinds,
        "p_npv_positive": float(np.mean(planned.npv_usd > 0.0)) if built else None,
        "npv": three(planned.npv_usd) if built else None,
        "warnings": _warnings(built),
        "thresholds": {
            "min_p_npv_positive": planned.plan.decision.min_p_npv_positive,
            "min_p_slo": planned.plan.decision.min_p_slo,
            "pilots_min": planned.plan.decision.pilots_min,
        },
    }


def _sentence(planned: Planned, kinds: Sequence[Json]) -> tuple[str, str]:
    impossible = sorted({p.point.id for p in planned.placed if p.at is None})
    if impossible:
        return "infeasible", f"As written it cannot be: {', '.join(impossible)} can be answered nowhere."
    if not kinds:
        return "hub", "Leave it with the hub: no workload needs a site, and none is cheaper there."
    going = [kind for kind in kinds if kind["verdict"] in {"pilot", "open", "unpriced"}]
    if not going:
        return "none", f"Do not build: {_clauses(kinds)}."
    pilot = min(planned.plan.rollout.pilot_sites, sum(kind["count"] for kind in going))
    sites = f"{pilot} site{'' if pilot == 1 else 's'}"
    unpriced = [kind for kind in kinds if kind["verdict"] == "unpriced"]
    if len(unpriced) == len(kinds):
        return "pilot", f"Say first what it is worth to you: {_clauses(kinds)}."
    return "pilot", f"Pilot {sites} before buying more: {_clauses(kinds)}."


def _clauses(kinds: Sequence[Json]) -> str:
    """One for each kind, as many as can be read in a sentence."""
    told = [kind["short"] for kind in kinds[:4]]
    return "; ".join(told) + (f"; and {len(kinds) - 4} more kinds" if len(kinds) > 4 else "")


def _kind(planned: Planned, site: SitePlan) -> Json:
    """pilot: likely to pay; open: may or may not; leave: likely to lose; unpriced: nobody said what its answers are worth."""
    name, least = site.site.id, planned.plan.decision.min_p_npv_positive
    p = float(np.mean(site.npv_usd > 0.0))
    silent = site.unpriced
    year = must_be_worth(planned, site)
    middle, high = (float(np.quantile(year, level)) for level in (0.5, 0.9))
    if silent and p < least:
        verdict, short = (
            "unpriced",
            f"a {name} pays if {listed(silent)} {'is' if len(silent) == 1 else 'are'} worth {usd(middle)} a year to it",
        )
        words = (
            f"only this site can answer {listed(silent)}, and the plan does not say what that is worth: "
            f"for the site to pay it has to be {usd(middle)} a year in the middle case, {usd(high)} in one case of ten"
        )
    elif p >= least:
        verdict, short = "pilot", f"{name} pays in {share(p)} of the cases"
        words = f"pays in {share(p)} of the cases, {share(least)} are asked for: pilot it, then decide by what was measured"
    elif p <= 1.0 - least:
        verdict, short = "leave", f"{name} loses in {share(1 - p)} of the cases"
        words = f"loses in {share(1 - p)} of the cases: leave it out, unless its answers are worth more than the plan says"
    else:
        verdict, short = "open", f"{name} pays in {share(p)} of the cases only"
        words = f"pays in {share(p)} of the cases, {share(least)} are asked for: open until a pilot has measured it"
    return {
        "site": name,
        "count": site.site.count,
        "verdict": verdict,
        "short": short,
        "words": words,
        "p_npv_positive": p,
        "must_be_worth": three(year),
    }


def _binding(placed: Placed) -> str:
    """What speaks against the hub that is nearest to being possible."""
    hubs = [option for option in placed.options if option.is_hub]
    best = max(hubs, key=lambda option: option.p_slo)
    return best.against[0].removeprefix("residency: ") if best.against else "another place is better"


def _only_here(placed: Placed) -> bool:
    return placed.at == placed.point.site.id and not any(o.allowed for o in placed.options if o.is_hub)


def _reasons(planned: Planned, built: Sequence[SitePlan]) -> list[str]:
    only_site = {p.point.workload.id: _binding(p) for p in planned.placed if _only_here(p)}
    told = [f"Only a site can answer {name}: {why}." for name, why in sorted(only_site.items())]
    told += [without_sites(planned)] if built else []
    away = sorted({p.point.workload.id for p in planned.placed if p.verdict == "hub"})
    return told + ([f"Better left with the hub: {', '.join(away)}."] if away else [])


def _warnings(built: Sequence[SitePlan]) -> list[str]:
    told: list[str] = []
    for site in built:
        told += [f"{site.site.id}: {check.words}" for check in site.checks if check.state == "fails"]
        needed = float(np.quantile(site.load.busiest_w, 0.99)) / 1e3
        if needed > site.site.it_budget_kw:
            told.append(f"{site.site.id}: IT {needed:.2f} kW (P99) > {site.site.it_budget_kw:g} kW of its budget")
    return told
