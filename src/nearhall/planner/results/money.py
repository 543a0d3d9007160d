"""The money's part of plan-result.json: the return, what it is made of, by kind of site and by year, and the rollout.

Averages over the draws stand where figures have to add up; medians do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nearhall.planner.money.cashflow import Flows, discount_factors, paid_back, payback_spread
from nearhall.planner.money.cost import Amount, replacement_years
from nearhall.planner.money.rollout_phases import PARTS_A_YEAR, Phase, RolloutValue, cash_in_steps, phases_of, value_rollout
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.results.advice import Advice
from nearhall.planner.results.spread import share, three, usd
from nearhall.planner.results.without import without_sites
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Entry
from nearhall.planner.sensitivity.tornado import Bar

TORNADO_SHOWN = 12
BINS = 40

Json = dict[str, Any]


def money_part(
    planned: Planned, bars: Mapping[str, Bar], entries: Mapping[str, Entry], rollout: list[Json], steps: Json | None
) -> Json:
    """All of it; empty where no site is built. What stands outside of `in_steps` and `rollout` is of all sites, built at once."""
    plan, npv = planned.plan, planned.npv_usd
    built = [site for site in planned.sites if site.built]
    if not built:
        return {"npv": None, "p_npv_positive": None, "by_site": [], "tornado": [], "rollout": []}
    discounted = np.cumsum(planned.flows * discount_factors(plan.horizon_years, rate=plan.discount_rate), axis=1)
    by_site = [_site_money(planned, site) for site in built]
    return _outcome(npv, discounted, paid_back(discounted)) | {
        "capex": three(-planned.flows[:, 0]),
        "without": without_sites(planned),
        "by_site": by_site,
        "fleet": _fleet_money(by_site),
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
        "rollout": rollout,
        "in_steps": steps,
    }


def _site_money(planned: Planned, site: SitePlan) -> Json:
    plan = planned.plan
    costs, hub = site.accounts.site, site.accounts.hub
    factors = discount_factors(plan.horizon_years, rate=plan.discount_rate)
    years = float(factors[1:].sum())
    again = sum(float(factors[year]) for year in replacement_years(costs.hardware_life_years, plan.horizon_years))
    bought = _mean(costs.capex_usd) + again * _mean(costs.hardware_usd)
    return {
        "site": site.site.id,
        "count": site.site.count,
        "npv": {**(three(site.npv_usd) or {}), "mean": float(site.npv_usd.mean())},
        "p_npv_positive": float(np.mean(site.npv_usd > 0)),
        "capex": three(np.asarray(costs.capex_usd)),
        "must_be_worth": three(must_be_worth(planned, site)),
        "years_factor": years,
        "yearly": {
            "site": {
                "value": _mean(costs.value_usd) + _mean(costs.standing_value_usd),
                "purchase": bought / years,
                "energy": _mean(costs.energy_usd),
                "demand": _mean(costs.demand_usd),
                "operations": _mean(costs.operations_usd),
                "uplink": _mean(costs.uplink_usd),
                "requests": _mean(costs.hub_usd),
                "egress": _mean(costs.egress_usd),
            },
            "hub": {
                "value": _mean(hub.value_usd) + _mean(hub.standing_value_usd),
                "purchase": 0.0,
                "energy": 0.0,
                "demand": 0.0,
                "operations": 0.0,
                "uplink": _mean(hub.uplink_usd),
                "requests": _mean(hub.requests_usd),
                "egress": _mean(hub.egress_usd),
            },
        },
    }


def must_be_worth(planned: Planned, site: SitePlan) -> np.ndarray:
    """What a year of the answers that only this site can give has to be worth for it to pay, USD, shape (samples,).

    As the plan's `value_usd_per_year` counts it: those within the SLO earn it, so that late ones raise what it has to be.
    """
    plan = planned.plan
    years = float(discount_factors(plan.horizon_years, rate=plan.discount_rate)[1:].sum())
    return said_worth(site) - site.npv_usd / years / _kept(site)


def said_worth(site: SitePlan) -> np.ndarray:
    """What the plan says that a year of these answers is worth, USD, shape (samples,) or that of one number."""
    here, there = site.accounts.site, site.accounts.hub
    known = here.value_usd + here.standing_value_usd - there.value_usd - there.standing_value_usd
    return np.asarray(known, dtype=np.float64) / _kept(site)


def _kept(site: SitePlan) -> float:
    """In what share of the cases what only this site can answer keeps its SLO, a mean; never quite 0."""
    kept = [s.option.p_slo for s in site.served if not s.at_hub and not s.hub.allowed]
    return max(float(np.mean(kept)) if kept else 1.0, 1e-3)


def _mean(value: Amount) -> float:
    return float(np.mean(value))


def _fleet_money(by_site: Sequence[Json]) -> Json:
    """Today's money over the horizon, all sites: averages, so that rows and columns add up."""
    return {
        side: {
            name: sum(row["count"] * row["years_factor"] * row["yearly"][side][name] for row in by_site)
            for name in by_site[0]["yearly"][side]
        }
        for side in ("site", "hub")
    }


def rollout_of(planned: Planned, advice: Advice) -> RolloutValue | None:
    """The phases of every kind that is not left out, and what they are worth; None where there is none."""
    plan = planned.plan
    going = [site for site in planned.sites if site.built and site.site.id not in advice.left]
    if not going:
        return None
    phases = phases_of(
        sites={site.site.id: site.site.count for site in going},
        pilot_sites=plan.rollout.pilot_sites,
        pilot_years=plan.rollout.pilot_years,
        waves=plan.rollout.waves,
        waiting=advice.waiting,
    )
    return value_rollout(
        phases,
        _gains(planned),
        rate=plan.discount_rate,
        noise={site.site.id: planned.ledger.draws.normal(f"rollout.noise.{site.site.id}") for site in going},
        sure=plan.decision.min_p_npv_positive,
        told=planned.ledger.fixed("rollout", "rollout.pilot_tells"),
    )


def rollout_part(planned: Planned, value: RolloutValue | None) -> list[Json]:
    """The phases, and the whole with and without the right to stop after the pilot; nothing where no site is to be built."""
    if value is None:
        return []
    told = [_phase(planned, [v.phase], v.npv_usd) | {"words": v.words, "waits": v.phase.waits} for v in value.phases]
    if len(value.phases) > 1:
        whole = [v.phase for v in value.phases]
        stopping = _stopping(value, planned.plan.decision.min_p_npv_positive)
        both = ((STAGED, value.with_option_usd, stopping), ("all, whatever the pilot says", value.all_usd, LATER))
        told += [
            _phase(planned, whole, npv) | {"phase": name, "which": "", "year": None, "words": words} for name, npv, words in both
        ]
        told[-2]["p_stop"] = value.p_stop
    return told


def in_steps(planned: Planned, value: RolloutValue | None) -> Json | None:
    """The return, cash and payback if the rest is built only after a good pilot; None where all is built in one step."""
    if value is None or len(value.phases) < 2:
        return None
    cash = cash_in_steps(value, _gains(planned), rate=planned.plan.discount_rate)
    last = cash.shape[1] - 1
    quarters = [*range(0, last, PARTS_A_YEAR), last]
    return _outcome(value.with_option_usd, cash[:, quarters], paid_back(cash) / PARTS_A_YEAR) | {
        "years": [quarter / PARTS_A_YEAR for quarter in quarters],
        "p_stop": value.p_stop,
        "by_kind": {kind: _kind_in_steps(planned, value, kind) for kind in value.goes_on},
    }


def _kind_in_steps(planned: Planned, value: RolloutValue, kind: str) -> Json:
    """One kind alone: its pilot, and the rest of it where that has made it sure enough."""
    npv, sites = value.by_kind_usd[kind], sum(v.phase.sites[kind] for v in value.phases)
    return {
        "sites": sites,
        "capex": three(-sites * _gains(planned)[kind][:, 0]),
        "npv": three(npv),
        "p_npv_positive": float(np.mean(npv > 0)),
        "p_scale": float(np.mean(value.goes_on[kind])),
    }


def _outcome(npv: Samples, cash: Flows, back: Samples) -> Json:
    """How the return comes out, the cash up to each year as of today, and when the money is back."""
    low, high = np.quantile(npv, (0.005, 0.995))
    counts, edges = np.histogram(np.clip(npv, low, high), bins=BINS)
    payback = payback_spread(back)
    return {
        "npv": {**(three(npv) or {}), "mean": float(npv.mean())},
        "p_npv_positive": float(np.mean(npv > 0)),
        "npv_histogram": {"edges": edges.tolist(), "share": (counts / len(npv)).tolist()},
        "cash_by_year": {f"p{q}": np.quantile(cash, q / 100, axis=0).tolist() for q in (10, 50, 90)},
        "payback_years": {
            name: value if np.isfinite(value) else None
            for name, value in (("p10", payback.p10), ("p50", payback.p50), ("p90", payback.p90))
        }
        | {"never": float(np.mean(~np.isfinite(back)))},
    }


def _gains(planned: Planned) -> dict[str, Flows]:
    """By kind: a site's gain over doing without."""
    return {site.site.id: site.accounts.flows for site in planned.sites if site.built}


STAGED = "pilot, then the rest if it is good"
LATER = "later sites count less as of today, so this is less than all built at once"


def _stopping(value: RolloutValue, sure: float) -> str:
    """How often which kind goes on, and what that is worth against building all."""
    kinds = ", ".join(f"{kind} in {share(float(np.mean(goes_on)))} of the cases" for kind, goes_on in value.goes_on.items())
    more = value.over_all_usd
    worth = (
        f"on average that is worth {usd(more)} more than building all whatever the pilot says"
        if more >= 0
        else f"on average that is worth {usd(-more)} less than building all whatever the pilot says: what being sure costs"
    )
    return (
        f"the rest of a kind is built only where desk and pilot have made it at least {share(sure)} sure that it pays: {kinds}; "
        f"nothing more is built in {share(value.p_stop)} of the cases; {worth}"
    )


def _phase(planned: Planned, phases: Sequence[Phase], npv: Samples) -> Json:
    """One phase, or several together."""
    gains = _gains(planned)
    each = {kind: sum(phase.sites[kind] for phase in phases) for kind in phases[0].sites}
    return {
        "phase": phases[0].name,
        "sites": sum(each.values()),
        "which": ", ".join(f"{n} x {kind}" for kind, n in each.items() if n),
        "by_kind": {kind: n for kind, n in each.items() if n},
        "year": phases[0].start_year,
        "capex": three(-np.sum([n * gains[kind][:, 0] for kind, n in each.items()], axis=0)),
        "npv": three(npv),
        "p_npv_positive": float(np.mean(npv > 0)),
    }
