"""A plan as what pilots are judged by: what it holds of a new site of each class, and what such a site is then worth.

The money is the plan's own model; measured figures take the place of what it had assumed, sample by sample.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearhall.core.evidence import Evidence, Kind
from nearhall.planner.learning.accept import Measure
from nearhall.planner.learning.beliefs import Belief
from nearhall.planner.learning.decide import Case
from nearhall.planner.learning.gates import HardLimit, Rival, Thresholds
from nearhall.planner.learning.planned_site import planned_curve, planned_work
from nearhall.planner.learning.site_estimates import Season
from nearhall.planner.money.accounts import Served, scaled
from nearhall.planner.money.cashflow import npv_usd
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.power.cooling import year_c
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.day import day_of

SPREAD_LEAST = 1.02
"""A prior's P90 over its P50 is at least this: no plan knows a site to the percent."""
DAYS = {"it_power_w": 14.0, "pue": 60.0, "requests_per_s": 14.0, "sent_bytes_per_day": 7.0, "slo_share": 14.0, "joules": 14.0}
"""Of metering, by what is measured. Assumed."""
SECONDS_A_DAY = 86_400.0
BYTES_A_MONTH = 1e9 * 12.0 / 365.0
"""Gigabytes a month as bytes a day."""


def cases(planned: Planned) -> tuple[Case, ...]:
    """One for each class of sites of which the plan builds any; the most numerous kind stands for its class."""
    best: dict[str, SitePlan] = {}
    for site in planned.sites:
        known = best.get(site.site.site_class)
        if site.built and (known is None or site.site.count > known.site.count):
            best[site.site.site_class] = site
    return tuple(_case(planned, name, site) for name, site in sorted(best.items()))


def _case(planned: Planned, name: str, site: SitePlan) -> Case:
    decision = planned.plan.decision
    local = [served for served in site.served if not served.at_hub]

    def npv(given: Mapping[str, Samples]) -> Samples:
        return npv_usd(_flows(planned, site, given), rate=planned.plan.discount_rate)

    def usd(given: Mapping[str, Samples], workload: str) -> Samples:
        return _usd_per_request(site, given, workload)

    return Case(
        site_class=name,
        beliefs=_beliefs(site, local),
        npv=npv,
        usd_per_request=usd,
        rivals=[_rival(site, served) for served in local],
        limits=[
            HardLimit(
                belief="IT power",
                most=site.site.it_budget_kw * 1e3,
                words="the IT power it is built for",
            )
        ],
        thresholds=Thresholds(
            min_p_npv_positive=decision.min_p_npv_positive,
            min_p_slo=decision.min_p_slo,
            min_p_pue_below=decision.min_p_pue_below,
            pilots_min=decision.pilots_min,
        ),
        unpriced=site.unpriced,
        season=Season(
            year_c=year_c(site.site),
            it_budget_w=site.site.it_budget_kw * 1e3,
            year_load=float(np.median(site.load.mean_w)) / (site.site.it_budget_kw * 1e3),
            curve=planned_curve(site),
        ),
    )


def _beliefs(site: SitePlan, local: list[Served]) -> list[Belief]:
    found = [
        _belief(
            "IT power", "mean IT power", "W", measure=Measure(of="it_power_w"), samples=site.load.mean_w, days=DAYS["it_power_w"]
        ),
        _belief("PUE", "PUE over a year", "1", measure=Measure(of="pue"), samples=site.year.pue, days=DAYS["pue"], form="pue"),
    ]
    sent = _sent(site)
    if float(np.median(sent)) > 0:
        measure = Measure(of="sent_bytes_per_day")
        found.append(
            _belief("bytes sent", "bytes a day on the line", "B", measure=measure, samples=sent, days=DAYS["sent_bytes_per_day"])
        )
    for served in site.served:
        name = served.point.workload.id
        rate = Measure(of="requests_per_s", workload=name)
        days = DAYS["requests_per_s"]
        found.append(
            _belief(
                f"{name}: requests",
                f"requests a second of {name}, mean",
                "1/s",
                measure=rate,
                samples=_mean_rate(served),
                days=days,
            )
        )
    for served in local:
        name = served.point.workload.id
        limit_ms = served.point.workload.slo.p99_ms
        joules = Measure(of="joules_per_request_in_slo", workload=name, limit_ms=limit_ms, work=planned_work(site))
        words = f"energy of a request of {name} in time"
        found.append(_belief(f"{name}: joules", words, "J", measure=joules, samples=_joules(site, served), days=DAYS["joules"]))
        found.append(
            Belief(
                name=f"{name}: in time",
                words=f"share of blocks in which {name} keeps its SLO",
                unit="1",
                form="share",
                measure=Measure(of="slo_share", workload=name, limit_ms=limit_ms),
                p50=min(max(served.option.p_slo, 0.02), 0.98),
                evidence=_ASSUMED,
                days=DAYS["slo_share"],
            )
        )
    return found


_ASSUMED = Evidence(kind=Kind.ASSUMED, source="the plan's own model, of which no part was measured yet")


def _belief(name: str, words: str, unit: str, *, measure: Measure, samples: Samples, days: float, form: str = "log") -> Belief:
    low = 1.0 if form == "pue" else 0.0
    p50 = float(np.median(samples))
    p90 = max(float(np.quantile(samples, 0.9)), low + (p50 - low) * SPREAD_LEAST)
    return Belief(
        name=name,
        words=words,
        unit=unit,
        form="pue" if form == "pue" else "log",
        measure=measure,
        p50=max(p50, low + 1e-6),
        p90=max(p90, low + 2e-6),
        evidence=_ASSUMED,
        days=days,
    )


def _mean_rate(served: Served) -> Samples:
    return served.point.rate_per_s * float(day_of(served.point.workload.arrivals).mean())


def _sent(site: SitePlan) -> Samples:
    """Bytes a day that the plan leaves on the line."""
    away = [served.traffic.gb_per_month for served in site.served if served.at_hub]
    return np.sum(away, axis=0) * BYTES_A_MONTH if away else np.zeros_like(site.load.mean_w)


def _joules(site: SitePlan, served: Served) -> Samples:
    """Its part of the whole site's energy, over its requests in time."""
    share = site.load.work_share(served.point.workload.id)
    kept = max(served.option.p_slo, 1e-3)
    return share * site.year.facility_kwh * 3.6e6 / (served.requests_per_year * kept)


def _flows(planned: Planned, site: SitePlan, given: Mapping[str, Samples]) -> np.ndarray:
    """The site's gain with what is given in place of what was planned."""
    facility = given["IT power"] * given["PUE"]
    line = given["bytes sent"] / np.maximum(_sent(site), 1e-9) if "bytes sent" in given else np.ones_like(facility)
    asked = _asked(planned, site, given)
    return scaled(
        site.accounts,
        planned.plan,
        power=facility / (site.load.mean_w * site.year.pue),
        line=np.clip(line, 0.0, 100.0) if _by_bytes(site) else np.ones_like(facility),
        requests=asked,
    )


def _by_bytes(site: SitePlan) -> bool:
    """Whether the line's bill follows its bytes; a flat line's does not."""
    return site.site.uplink.kind != "flat_step"


def _asked(planned: Planned, site: SitePlan, given: Mapping[str, Samples]) -> Samples:
    """Requests over those planned, weighted by the money that goes with them."""
    weights = [float(np.median(_usd_by_requests(planned, s))) for s in site.served]
    ratios = [given[f"{s.point.workload.id}: requests"] / _mean_rate(s) for s in site.served]
    return np.average(ratios, axis=0, weights=weights) if sum(weights) > 0 else np.ones_like(ratios[0])


def _usd_by_requests(planned: Planned, served: Served) -> Samples:
    """A year's: what a hub would bill for them, where one may answer, and what they are worth by their number."""
    said = served.point.workload.value_usd_per_1000
    worth = 0.0 if said is None else planned.ledger.take(f"workloads.{served.point.workload.id}.value", said) / 1e3
    return served.requests_per_year * ((served.hub_usd_per_request if served.hub.allowed else 0.0) + worth)


def _usd_per_request(site: SitePlan, given: Mapping[str, Samples], workload: str) -> Samples:
    """What a request in time costs at a new site: its part of energy, upkeep and hardware."""
    served = next(s for s in site.served if s.point.workload.id == workload)
    costs, share = site.accounts.site, site.load.work_share(workload)
    power = given["IT power"] * given["PUE"] / (site.load.mean_w * site.year.pue)
    yearly = (costs.energy_usd + costs.demand_usd) * power + costs.operations_usd + costs.capex_usd / costs.hardware_life_years
    asked = served.requests_per_year * given[f"{workload}: requests"] / _mean_rate(served)
    return share * yearly / (asked * np.maximum(given[f"{workload}: in time"], 1e-3))


def _rival(site: SitePlan, served: Served) -> Rival:
    """Hub and network; endless where the hub may not, or keeps the SLO nowhere."""
    workload, hub = served.point.workload.id, served.hub
    if not hub.allowed:
        never = np.full_like(served.hub_usd_per_request, np.inf)
        may = "may not" if hub.kind_against == "residency" else "cannot"
        none = f"the hub {may} answer it ({hub.against[0]})"
        return Rival(workload=workload, joules_per_request_in_slo=never, usd_per_request_in_slo=never, none=none)
    kept = max(hub.p_slo, 1e-3)
    total = np.sum([s.traffic.gb_per_month for s in site.served if s.hub.allowed], axis=0)
    part = np.asarray(site.accounts.hub.uplink_usd) * served.traffic.gb_per_month / np.maximum(total, 1e-12)
    line = part / served.requests_per_year
    return Rival(
        workload=workload,
        joules_per_request_in_slo=served.hub_j_per_request / kept,
        usd_per_request_in_slo=(served.hub_usd_per_request + line) / kept,
    )
