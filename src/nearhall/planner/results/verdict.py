"""The verdict's part of plan-result.json: what to do with the fleet and each kind of site, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nearhall.core.residency import Residency
from nearhall.planner.learning.gates import NPV_STOP
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.results.advice import Advice, verdict_of
from nearhall.planner.results.money import must_be_worth, said_worth
from nearhall.planner.results.settles import Settled, asks_first, order_words
from nearhall.planner.results.spread import cases_asked, listed, share, three, usd
from nearhall.planner.results.without import without_sites

NOWHERE_TOLD = 2
"""So many are told with why; the report tells all."""

Json = dict[str, Any]


def verdict_part(planned: Planned, order: Sequence[Settled], advice: Advice, rollout: Sequence[Json]) -> Json:
    """What to do; a plan alone never says to build a fleet, since nothing of it is measured.

    `order`: who settles what is not known; `rollout`: the phases, whose first ones are the pilots.
    """
    built = [site for site in planned.sites if site.built]
    kinds = [_kind(planned, site, order) for site in built]
    state, sentence = _sentence(planned, kinds, advice, order, rollout)
    return {
        "sentence": sentence,
        "state": state,
        "reasons": _reasons(planned, built, kinds, order),
        "settles": [one.document for one in order],
        "by_kind": kinds,
        "p_npv_positive": float(np.mean(planned.npv_usd > 0.0)) if built else None,
        "npv": three(planned.npv_usd) if built else None,
        "warnings": [*_abroad(planned), *_warnings(built)],
        "thresholds": {
            "min_p_npv_positive": planned.plan.decision.min_p_npv_positive,
            "min_p_slo": planned.plan.decision.min_p_slo,
            "pilots_min": planned.plan.decision.pilots_min,
            "stop_below": NPV_STOP,
        },
    }


def _sentence(
    planned: Planned, kinds: Sequence[Json], advice: Advice, order: Sequence[Settled], rollout: Sequence[Json]
) -> tuple[str, str]:
    impossible = {p.point.id: p.why for p in sorted(planned.placed, key=lambda p: p.point.id) if p.at is None}
    if impossible:
        told = [f"{name} can be answered nowhere ({why})" for name, why in list(impossible.items())[:NOWHERE_TOLD]]
        more = f"; nor can {len(impossible) - NOWHERE_TOLD} more" if len(impossible) > NOWHERE_TOLD else ""
        return "infeasible", f"As written it cannot be: {'; '.join(told)}{more}."
    if not kinds:
        return "hub", "Leave it with the hub: no workload needs a site, and none is cheaper there."
    clauses = _clauses(kinds, advice)
    if not advice.now and not advice.waiting:
        return "none", f"Do not build: {clauses}."
    if all(kind["verdict"] == "unpriced" for kind in kinds):
        return "pilot", f"Say first what it is worth to you: {clauses}."
    if not advice.now:
        return "pilot", f"Ask first, and sign nothing yet: {clauses}."
    whole, pilot = sum(kind["count"] for kind in kinds), rollout[0]
    sites = f"{pilot['sites']} of {whole} sites" if pilot["sites"] < whole else f"{whole} site{'' if whole == 1 else 's'}"
    which = " ({})".format(pilot["which"].replace(" x ", " \u00d7 ")) if len(kinds) > 1 else ""
    if asks_first(order):
        return "pilot", f"Ask first, then pilot {sites}{which}: {clauses}."
    more = " before buying more" if pilot["sites"] < whole else ""
    return "pilot", f"Pilot {sites}{which}{more}: {clauses}."


def _clauses(kinds: Sequence[Json], advice: Advice) -> str:
    """One for each kind, what is piloted first, as many as can be read in a sentence."""
    places = (*advice.now, *advice.waiting, *advice.left)
    told = [
        f"{kind['short']}, so it waits for the answers"
        if kind["verdict"] == "open" and kind["site"] in advice.waiting
        else kind["short"]
        for kind in sorted(kinds, key=lambda kind: places.index(kind["site"]))
    ]
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more kinds" if len(told) > 4 else "")


def _kind(planned: Planned, site: SitePlan, order: Sequence[Settled]) -> Json:
    """The verdict on one kind of site, in a clause and in a sentence."""
    name, least = site.site.id, planned.plan.decision.min_p_npv_positive
    p, verdict = float(np.mean(site.npv_usd > 0.0)), verdict_of(planned, site)
    year = must_be_worth(planned, site)
    middle, high = (float(np.quantile(year, level)) for level in (0.5, 0.9))
    if verdict == "unpriced":
        silent = site.unpriced
        short = f"a {name} pays if {listed(silent)} {'is' if len(silent) == 1 else 'are'} worth {usd(middle)} a year to it"
        words = (
            f"only this site can answer {listed(silent)}, and the plan does not say what that is worth: "
            f"for the site to pay it has to be {usd(middle)} a year in the middle case, {usd(high)} in one case of ten"
        )
    elif verdict == "leave":
        short = f"{name} loses in {share(1 - p)} of the cases"
        words = f"loses in {share(1 - p)} of the cases: leave it out, unless its answers are worth more than the plan says"
    else:
        short = f"{name} pays in {cases_asked(p, least)}"
        words = f"pays in {cases_asked(p, least)}: {_then(verdict, order)}"
    return {
        "site": name,
        "count": site.site.count,
        "verdict": verdict,
        "settled_by": order[0].by if order else None,
        "short": short,
        "words": words,
        "p_npv_positive": p,
        "must_be_worth": three(year),
        "worth": three(np.broadcast_to(said_worth(site), year.shape)),
    }


def _then(verdict: str, order: Sequence[Settled]) -> str:
    """What to do with a kind that may pay: ask before a pilot where that settles more."""
    if verdict == "open":
        waits = "open; ask first, and pilot it only if it then reaches that: it is no part of the pilot that comes first"
        return waits if asks_first(order) else "open until a pilot tells"
    return f"{'ask first, then ' if asks_first(order) else ''}pilot it, and decide by what was measured"


def _reasons(planned: Planned, built: Sequence[SitePlan], kinds: Sequence[Json], order: Sequence[Settled]) -> list[str]:
    away = sorted({p.point.workload.id for p in planned.placed if p.verdict == "hub"})
    left = [f"Better left with the hub: {', '.join(away)}."] if away else []
    told = [" ".join([*([without_sites(planned)] if built else []), *left])] if built or left else []
    going = any(kind["verdict"] in {"pilot", "open"} for kind in kinds)
    return told + [words for words in [order_words(order)] if going and words]


def _warnings(built: Sequence[SitePlan]) -> list[str]:
    told: list[str] = []
    for site in built:
        told += [f"{site.site.id}: {check.words}" for check in site.checks if check.state == "fails"]
        needed = float(np.quantile(site.load.busiest_w, 0.99)) / 1e3
        if needed > site.site.it_budget_kw:
            told.append(f"{site.site.id}: IT {needed:.2f} kW (P99) > {site.site.it_budget_kw:g} kW of its budget")
    return told


def _abroad(planned: Planned) -> list[str]:
    """Data that its own rule keeps in a jurisdiction in which it does not arise."""
    told: list[str] = []
    for point in (placed.point for placed in planned.placed):
        rule, site = Residency.parse(point.workload.data.residency), point.site
        if rule.jurisdiction is not None and not rule.permits(site.jurisdiction):
            told.append(
                f"{point.workload.id} arises at {site.id} in {site.jurisdiction}, outside of what its residency allows ({rule}): "
                "name its `sites`, or another rule"
            )
    return told
