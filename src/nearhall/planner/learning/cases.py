"""A plan as what pilots are judged by: what it holds of a new site of each kind, and what such a site is then worth.

The money is the plan's own model; measured figures take the place of what it had assumed, sample by sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearhall.core.evidence import Evidence, Kind
from nearhall.planner.learning.accept import Measure
from nearhall.planner.learning.beliefs import Belief
from nearhall.planner.learning.decide import Case, Scaling
from nearhall.planner.learning.gates import HardLimit, Rival, Thresholds
from nearhall.planner.learning.join import PlannedKind
from nearhall.planner.learning.planned_site import planned_curve, planned_work
from nearhall.planner.learning.site_estimates import Season
from nearhall.planner.money.accounts import Accounts, Otherwise, Served, fleet_egress, scaled
from nearhall.planner.money.cashflow import npv_usd
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.power.cooling import year_c
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.day import day_of

SPREAD_LEAST = 1.02
"""A prior's P90 over its P50 is at least this: no plan knows a site to the percent."""
BYTES_A_MONTH = 1e9 * 12.0 / 365.0
"""Gigabytes a month as bytes a day."""
J_PER_KWH = 3.6e6
POWER, PEAK, PUE, SENT = "IT power", "IT peak", "PUE", "bytes sent"
"""Names of beliefs about the site itself; those about a workload are `<workload>: requests`, `joules` and `in time`."""

Given = Mapping[str, Samples]
"""Samples of a new site by belief's name."""


def cases(planned: Planned) -> tuple[Case, ...]:
    """One for each kind of site that the plan builds, by its id: each has its own load, prices and line."""
    return tuple(_case(planned, site) for site in sorted(planned.sites, key=lambda one: one.site.id) if site.built)


def kinds(planned: Planned) -> tuple[PlannedKind, ...]:
    """Every kind of site of the plan, built or not."""
    return tuple(PlannedKind(id=one.site.id, site_class=one.site.site_class, built=one.built) for one in planned.sites)


def _case(planned: Planned, site: SitePlan) -> Case:
    decision = planned.plan.decision
    local = [served for served in _in_order(site) if not served.at_hub]
    money = _Money(planned, site)
    return Case(
        kind=site.site.id,
        site_class=site.site.site_class,
        beliefs=_beliefs(site, local, _Assumed(planned.ledger)),
        npv=lambda given: npv_usd(money.of(given).flows, rate=planned.plan.discount_rate),
        usd_per_request=lambda given, workload: _usd_per_request(site, money.of(given), given, workload),
        rivals=[_rival(site, served, money, planned.ledger) for served in local],
        limits=_limits(site),
        thresholds=Thresholds(
            min_p_npv_positive=decision.min_p_npv_positive,
            min_p_slo=decision.min_p_slo,
            min_p_pue_below=decision.min_p_pue_below,
            pilots_min=decision.pilots_min,
            min_p_per_request=decision.min_p_per_request,
        ),
        unpriced=site.unpriced,
        season=Season(
            year_c=year_c(site.site),
            it_budget_w=site.site.it_budget_kw * 1e3,
            year_load=float(np.median(site.load.mean_w)) / (site.site.it_budget_kw * 1e3),
            curve=planned_curve(site),
        ),
        scaling=Scaling(sites=site.site.count, capex_usd=np.asarray(site.accounts.site.capex_usd) + 0.0 * site.load.mean_w),
    )


def _in_order(site: SitePlan) -> list[Served]:
    """By name, so that the order in the plan changes nothing."""
    return sorted(site.served, key=lambda served: served.point.workload.id)


class _Assumed:
    """What learning itself takes for granted, by the defaults' names."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getitem__(self, name: str) -> float:
        return self._ledger.fixed(f"decide.{name}", f"decide.{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is believed, and how it is measured."""

    name: str
    words: str
    unit: str
    measure: Measure
    days: str
    """The default that tells how long metering it takes."""


def _beliefs(site: SitePlan, local: list[Served], assumed: _Assumed) -> list[Belief]:
    power = _Told(name=POWER, words="mean IT power", unit="W", measure=Measure(of="it_power_w"), days="days_power")
    peak = _Told(
        name=PEAK,
        words="IT power that 99 % of quarters of an hour stay below",
        unit="W",
        measure=Measure(of="it_peak_w"),
        days="days_power",
    )
    pue = _Told(name=PUE, words="PUE over a year", unit="1", measure=Measure(of="pue"), days="days_pue")
    found = [
        _belief(power, site.load.mean_w, assumed),
        _belief(peak, site.load.busiest_w, assumed),
        _belief(pue, site.year.pue, assumed, form="pue"),
    ]
    sent = _sent(site)
    if float(np.median(sent)) > 0:
        measure = Measure(of="sent_bytes_per_day")
        told = _Told(name=SENT, words="bytes a day on the line", unit="B", measure=measure, days="days_bytes")
        found.append(_belief(told, sent, assumed))
    for served in _in_order(site):
        name = served.point.workload.id
        rate = Measure(of="requests_per_s", workload=name)
        words = f"requests a second of {name}, mean"
        told = _Told(name=f"{name}: requests", words=words, unit="1/s", measure=rate, days="days_requests")
        found.append(_belief(told, _mean_rate(served), assumed))
    return [*found, *(belief for served in local for belief in _in_time(site, served, assumed))]


def _in_time(site: SitePlan, served: Served, assumed: _Assumed) -> list[Belief]:
    """Energy of a request in time, and how often it is; for a language model up to its first token."""
    name, slo = served.point.workload.id, served.point.workload.slo
    first_token = slo.ttft_p99_ms is not None
    joules = Measure(
        of="joules_per_request_in_slo",
        workload=name,
        limit_ms=slo.limit_ms,
        first_token=first_token,
        work=planned_work(site),
    )
    kept = Measure(of="slo_share", workload=name, limit_ms=slo.limit_ms, first_token=first_token)
    words = f"energy of a request of {name} in time"
    told = _Told(name=f"{name}: joules", words=words, unit="J", measure=joules, days="days_joules")
    return [
        _belief(told, _joules(site, served), assumed),
        Belief(
            name=f"{name}: in time",
            words=f"how often {name} keeps its SLO (share of quarters of an hour)",
            unit="1",
            form="share",
            measure=kept,
            p50=min(max(served.option.p_slo, 0.02), 0.98),
            evidence=_PLAN,
            prior_sites=assumed["prior_sites"],
            days=assumed["days_in_time"],
        ),
    ]


_PLAN = Evidence(kind=Kind.ASSUMED, source="the plan's own model, of which no part was measured yet")


def _belief(told: _Told, samples: Samples, assumed: _Assumed, *, form: str = "log") -> Belief:
    low = 1.0 if form == "pue" else 0.0
    p50 = float(np.median(samples))
    p90 = max(float(np.quantile(samples, 0.9)), low + (p50 - low) * SPREAD_LEAST)
    return Belief(
        name=told.name,
        words=told.words,
        unit=told.unit,
        form="pue" if form == "pue" else "log",
        measure=told.measure,
        p50=max(p50, low + 1e-6),
        p90=max(p90, low + 2e-6),
        evidence=_PLAN,
        days=assumed[told.days],
    )


def _limits(site: SitePlan) -> list[HardLimit]:
    """IT power, cooling and breaker at the peak; what the plan reckons at its peak grows with what is metered there."""
    found = [HardLimit(belief=PEAK, most=site.site.it_budget_kw * 1e3, words="the IT power it is built for")]
    moved = next((check.limit for check in site.checks if check.name == "cooling"), None)
    if moved is not None:
        found.append(
            HardLimit(
                name="cooling",
                belief=PEAK,
                most=moved * 1e3,
                unit="W of heat",
                words="what its cooling moves on the hottest day",
                of=lambda given: site.heat_w * given[PEAK] / site.load.busiest_w,
            )
        )
    breaker_a = site.site.supply.breaker_a or site.feed.needed_a
    if breaker_a is not None:
        found.append(
            HardLimit(
                name="breaker",
                belief=PEAK,
                more=(PUE,),
                most=breaker_a / site.feed.factor,
                unit="A",
                words=f"what its breaker of {breaker_a:g} A carries for hours",
                of=lambda given: site.feed.worst_a * given[PEAK] * given[PUE] / (site.load.busiest_w * site.year.pue),
            )
        )
    return found


def _mean_rate(served: Served) -> Samples:
    return served.point.rate_per_s * float(day_of(served.point.workload.arrivals).mean())


def _sent(site: SitePlan) -> Samples:
    """Bytes a day that the plan leaves on the line, both ways."""
    away = [served.traffic.gb_per_month + served.answers_gb_per_month for served in site.served if served.at_hub]
    return np.sum(away, axis=0) * BYTES_A_MONTH if away else np.zeros_like(site.load.mean_w)


def _joules(site: SitePlan, served: Served) -> Samples:
    """Its part of the whole site's energy, over its requests in time."""
    share = site.load.work_share(served.point.workload.id)
    kept = max(served.option.p_slo, 1e-3)
    return share * site.year.facility_kwh * J_PER_KWH / (served.requests_per_year * kept)


class _Money:
    """The site's accounts with what is given in place of what was planned. The last ones are kept: all gates ask for the same."""

    def __init__(self, planned: Planned, site: SitePlan) -> None:
        self._planned, self._site = planned, site
        self._hubs = {hub.id: hub for hub in planned.plan.hubs}
        self._egress = fleet_egress([served for one in planned.sites for served in one.served], self._hubs)
        self._last: tuple[Given, Accounts] | None = None

    def of(self, given: Given) -> Accounts:
        """The accounts of a site like this."""
        if self._last is None or not _alike(self._last[0], given):
            site, planned = self._site, self._planned
            how = otherwise(site, given)
            found = scaled(
                site.accounts,
                planned.plan,
                site.site,
                site.served,
                how,
                hubs=self._hubs,
                egress=self._egress,
                ledger=planned.ledger,
            )
            self._last = (dict(given), found)
        return self._last[1]


def _alike(one: Given, other: Given) -> bool:
    """Whether both hold the very same arrays."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def otherwise(site: SitePlan, given: Given) -> Otherwise:
    """What is given of a site over what was planned of it."""
    served = {s.point.workload.id: s for s in site.served}
    overhead = given[PUE] / site.year.pue
    return Otherwise(
        power=given[POWER] / site.load.mean_w * overhead,
        peaks=given[PEAK] / site.load.busiest_w * overhead,
        left_bytes=given[SENT] / np.maximum(_sent(site), 1e-9) if SENT in given else np.ones_like(overhead),
        requests={name: given[f"{name}: requests"] / _mean_rate(s) for name, s in served.items()},
        in_time={name: given[f"{name}: in time"] for name, s in served.items() if not s.at_hub},
    )


def _usd_per_request(site: SitePlan, accounts: Accounts, given: Given, workload: str) -> Samples:
    """What a request in time costs at a new site: its part of energy, upkeep and hardware."""
    served = next(s for s in site.served if s.point.workload.id == workload)
    costs, share = accounts.site, site.load.work_share(workload)
    yearly = costs.energy_usd + costs.demand_usd + costs.operations_usd + costs.capex_usd / costs.hardware_life_years
    asked = served.requests_per_year * given[f"{workload}: requests"] / _mean_rate(served)
    return share * yearly / (asked * np.maximum(given[f"{workload}: in time"], 1e-3))


def _rival(site: SitePlan, served: Served, money: _Money, ledger: Ledger) -> Rival:
    """Hub and network; endless where the hub may not, or keeps the SLO nowhere."""
    workload, hub = served.point.workload.id, served.hub
    if not hub.allowed:
        never = np.full_like(served.hub_usd_per_request, np.inf)
        may = "may not" if hub.kind_against == "residency" else "cannot"
        none = f"the hub {may} answer it ({hub.against[0]})"
        return Rival(workload=workload, joules_per_request_in_slo=never, usd_per_request_in_slo=lambda _: never, none=none)
    kept = max(hub.p_slo, 1e-3)
    network = _network_j(site, served, ledger)
    return Rival(
        workload=workload,
        joules_per_request_in_slo=(served.hub_j_per_request + network) / kept,
        usd_per_request_in_slo=lambda given: _hub_usd(site, served, money.of(given), given) / kept,
        network_joules_in_slo=network / kept,
    )


def _network_j(site: SitePlan, served: Served, ledger: Ledger) -> Samples:
    """What the network between site and hub takes for a request and its answer: averages, as they are quoted by the gigabyte."""
    access = site.site.access
    kwh_per_gb = ledger.take(f"sites.{site.site.id}.network_kwh_per_gb", None, f"network.{access}_kwh_per_gb")
    gb_per_year = (served.traffic.gb_per_month + served.answers_gb_per_month) * 12.0
    return kwh_per_gb * J_PER_KWH * gb_per_year / served.requests_per_year


def _hub_usd(site: SitePlan, served: Served, accounts: Accounts, given: Given) -> Samples:
    """What a request costs by hub and network: the server, and what the bill would grow by if all local ones went there.

    A line, a fee or a step that stays whether they go or not is in neither side; egress and line are shared by bytes.
    """
    moved = [s for s in site.served if not s.at_hub and s.hub.allowed]
    asked = {s.point.workload.id: given[f"{s.point.workload.id}: requests"] / _mean_rate(s) for s in moved}
    mine = asked[served.point.workload.id]

    def part(of_one: Samples, of_all: list[Samples]) -> Samples:
        return mine * of_one / np.maximum(np.sum(of_all, axis=0), 1e-12)

    line = np.asarray(accounts.hub.uplink_usd - accounts.site.uplink_usd)
    line = line * part(served.traffic.gb_per_month, [asked[s.point.workload.id] * s.traffic.gb_per_month for s in moved])
    egress = np.asarray(accounts.hub.egress_usd - accounts.site.egress_usd)
    answers = [asked[s.point.workload.id] * s.answers_gb_per_month for s in moved]
    egress = egress * part(served.answers_gb_per_month, answers)
    return served.hub_usd_per_request + (line + egress) / (served.requests_per_year * mine)
