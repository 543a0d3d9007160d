"""What one site of a kind costs and spares against the hub, from the same draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Hub, Site, Uplink
from nearhall.planner.money.cost import HubCosts, SiteCosts, gain_flows, hub_usd_per_request, operations_usd_per_year
from nearhall.planner.money.egress import mean_usd_per_gb, tiers_named
from nearhall.planner.money.tariff import Ratchet, electricity
from nearhall.planner.money.uplink import (
    Contract,
    FlatStep,
    Percentile,
    PerGb,
    Quota,
    Traffic,
    add,
    contract_usd_per_month,
    traffic_of_day,
)
from nearhall.planner.power.cooling import Year
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.day import day_of
from nearhall.planner.serving.equipment import Equipment
from nearhall.planner.serving.load import SiteLoad
from nearhall.planner.serving.options import Option, Point

SECONDS_A_YEAR_HOUR = 365.0 * 3600.0
MONTHS = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One workload of a site, and what answering it takes at the hub; each of shape (samples,) unless said."""

    option: Option
    """Where the plan answers it."""
    hub: Option
    """The hub that would."""
    requests_per_year: Samples
    hub_usd_per_request: Samples
    hub_j_per_request: Samples
    traffic: Traffic
    """What it puts on the line when the hub answers."""
    answers_gb_per_month: Samples
    in_time: Samples | None = None
    """Share of the time in which its answers come in time where it is answered; None: as likely as the plan has it."""

    @property
    def point(self) -> Point:
        """Which."""
        return self.option.point

    @property
    def kept(self) -> float | Samples:
        """How much of what its answers are worth is earned where the plan answers it."""
        return self.option.p_slo if self.in_time is None else self.in_time

    @property
    def at_hub(self) -> bool:
        """Whether the plan sends it away, to a hub or to a neighbour."""
        return self.option.at != self.point.site.id

    @property
    def by_hub(self) -> bool:
        """Whether a hub answers it; a neighbour's servers are the neighbour's costs."""
        return self.option.is_hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """US dollars a gigabyte by provider, each of shape (samples,)."""

    planned: Mapping[str, Samples]
    """For what the plan leaves with the hubs."""
    hub_alone: Mapping[str, Samples]
    """Were all left with them that may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """One site's money."""

    site: SiteCosts
    hub: HubCosts
    flows: np.ndarray
    """Gain over the hub, shape (samples, years + 1)."""
    operations_usd: Samples
    energy_usd: Samples
    demand_usd: Samples


def served_by_hub(option: Option, hub: Option, place: Hub, equipment: Equipment, ledger: Ledger) -> Served:
    """What a request of the point takes at a hub."""
    point, at = option.point, f"hubs.{place.id}"
    workload = point.workload
    service = hub.service
    assert service is not None  # noqa: S101 (a hub's option names what would answer, whether it can or not)
    server = equipment.servers[service.server]
    share = ledger.take(f"{at}.utilisation", place.utilisation, "hub.utilisation")
    if place.usd_per_server_hour is not None:
        hourly = ledger.take(f"{at}.usd_per_server_hour", place.usd_per_server_hour)
    else:
        hourly = ledger.take(f"{at}.usd_per_server_hour", None, "hub.usd_per_server_hour") * server.cost_usd / 1e3
    pue = ledger.take(f"{at}.pue", place.pue, "hub.pue")
    per_s = np.where(np.isfinite(service.per_s) & (service.per_s > 0), service.per_s, 1e-9)
    drawn = server.idle_w + (np.maximum(service.busy_w, server.idle_w) - server.idle_w) * share
    day = day_of(workload.arrivals)
    data = f"workloads.{workload.id}.data"
    in_kb, out_kb = ledger.take(f"{data}.in_kb", workload.data.in_kb), ledger.take(f"{data}.out_kb", workload.data.out_kb)
    spread = float(np.median(ledger.take("uplink.busiest_minutes", None, "uplink.busiest_minutes")))
    yearly = point.rate_per_s * float(day.sum()) * SECONDS_A_YEAR_HOUR
    return Served(
        option=option,
        hub=hub,
        requests_per_year=yearly,
        hub_usd_per_request=np.asarray(hub_usd_per_request(usd_per_server_hour=hourly, utilisation=share, requests_per_s=per_s)),
        hub_j_per_request=drawn * pue / (per_s * share),
        traffic=traffic_of_day(bytes_per_s=point.rate_per_s * in_kb * 1e3, day=day, spread=spread),
        answers_gb_per_month=yearly * out_kb / 1e6 / MONTHS,
    )


def accounts_of(
    plan: Plan,
    site: Site,
    served: Sequence[Served],
    *,
    load: SiteLoad | None,
    year: Year | None,
    hubs: Mapping[str, Hub],
    egress: Egress,
    ledger: Ledger,
) -> Accounts:
    """The site as planned against the hub alone; without `load` nothing is built and everything stays with the hub.

    What no hub may answer, or can within its limit, is left unanswered without the site: it costs nothing then, and is
    worth nothing.
    """
    nothing = np.zeros(ledger.draws.samples)
    operations, energy, demand, hardware, enclosure = nothing, nothing, nothing, nothing, nothing
    if load is not None and year is not None and load.racks:
        hardware = np.asarray(sum(rack.server.cost_usd * rack.servers for rack in load.racks))
        enclosure = _enclosure(site, ledger)
        bill = electricity(
            kwh_per_year=year.facility_kwh,
            peak_kw=year.peak_kw,
            usd_per_kwh=ledger.take(f"sites.{site.id}.tariff.energy", site.tariff.energy_usd_per_kwh),
            usd_per_kw_month=_demand_price(site, ledger),
            ratchet=Ratchet(share=site.tariff.ratchet),
        )
        energy, demand = bill.energy_usd, bill.demand_usd
        operations = _operations(site, hardware, ledger)
    own = SiteCosts(
        hardware_usd=hardware,
        enclosure_usd=enclosure,
        energy_usd=energy,
        demand_usd=demand,
        uplink_usd=nothing,
        operations_usd=operations,
        hardware_life_years=ledger.fixed("hardware.life_years", "hardware.life_years"),
    )
    return _against_hub(own, plan, site, served, hubs=hubs, egress=egress, ledger=ledger)


def _against_hub(
    own: SiteCosts,
    plan: Plan,
    site: Site,
    served: Sequence[Served],
    *,
    hubs: Mapping[str, Hub],
    egress: Egress,
    ledger: Ledger,
) -> Accounts:
    """What stands at the site costs `own`; to that come line, hub, egress and worth as its requests have them."""
    away, possible = [s for s in served if s.at_hub], [s for s in served if s.hub.allowed]
    contract = contract_of(site.uplink, site.id, ledger)
    costs = replace(
        own,
        uplink_usd=_line_usd(contract, away, ledger),
        hub_usd=_sum([s.requests_per_year * s.hub_usd_per_request for s in away if s.by_hub], ledger),
        egress_usd=_egress([(hubs[s.option.at].egress, s) for s in away if s.by_hub], egress.planned, ledger),
        value_usd=_value(served, ledger, hub=False),
        standing_value_usd=_standing_value(served, ledger, hub=False),
    )
    everything = HubCosts(
        requests_usd=_sum([s.requests_per_year * s.hub_usd_per_request for s in possible], ledger),
        uplink_usd=_line_usd(contract, possible, ledger),
        egress_usd=_egress([(hubs[s.hub.at].egress, s) for s in possible], egress.hub_alone, ledger),
        value_usd=_value(possible, ledger, hub=True),
        standing_value_usd=_standing_value(possible, ledger, hub=True),
    )
    return Accounts(
        site=costs,
        hub=everything,
        flows=gain_flows(costs, everything, horizon_years=plan.horizon_years),
        operations_usd=np.asarray(costs.operations_usd),
        energy_usd=np.asarray(costs.energy_usd),
        demand_usd=np.asarray(costs.demand_usd),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """How a site turns out against its plan; each of shape (samples,)."""

    power: Samples
    """Facility energy over that planned."""
    peaks: Samples
    """The same of its peaks."""
    left_bytes: Samples
    """Bytes on the line over those that the plan leaves there."""
    requests: Mapping[str, Samples]
    """By workload: over those planned."""
    in_time: Mapping[str, Samples]
    """By workload that the site answers: the share of the time in which its answers come in time."""


def scaled(
    accounts: Accounts,
    plan: Plan,
    site: Site,
    served: Sequence[Served],
    how: Otherwise,
    *,
    hubs: Mapping[str, Hub],
    egress: Egress,
    ledger: Ledger,
) -> Accounts:
    """The same money where a site turns out otherwise: line and egress billed anew for the traffic that there is then.

    A gigabyte of egress costs what it does at the planned fleet's volume.
    """
    own = replace(accounts.site, energy_usd=accounts.site.energy_usd * how.power, demand_usd=accounts.site.demand_usd * how.peaks)
    return _against_hub(own, plan, site, [_otherwise(s, how) for s in served], hubs=hubs, egress=egress, ledger=ledger)


def _otherwise(served: Served, how: Otherwise) -> Served:
    """What goes over the line was metered there where the hub answers; else it is as many times more as there are requests."""
    name = served.point.workload.id
    requests = how.requests[name]
    bytes_ = how.left_bytes if served.at_hub else requests
    return replace(
        served,
        requests_per_year=served.requests_per_year * requests,
        traffic=Traffic(
            gb_per_month=served.traffic.gb_per_month * bytes_,
            p95_mbps=served.traffic.p95_mbps * bytes_,
            peak_mbps=served.traffic.peak_mbps * bytes_,
        ),
        answers_gb_per_month=served.answers_gb_per_month * bytes_,
        in_time=None if served.at_hub else how.in_time.get(name),
    )


def contract_of(uplink: Uplink, site: str, ledger: Ledger) -> Contract:
    """The line's contract with its samples."""
    at = f"sites.{site}.uplink"
    if uplink.kind == "flat_step":
        fill = ledger.fixed(f"{at}.step_fill", "uplink.step_fill")
        return FlatStep(steps_mbps=tuple(uplink.steps_mbps), usd_per_month=tuple(uplink.usd_per_month), fill=fill)
    if uplink.kind == "p95_mbps":
        return Percentile(usd_per_mbps_month=ledger.take(f"{at}.usd_per_mbps_month", uplink.usd_per_mbps_month))
    per_gb = ledger.take(f"{at}.usd_per_gb", uplink.usd_per_gb)
    if uplink.kind == "per_gb":
        return PerGb(usd_per_gb=per_gb)
    return Quota(usd_per_month=uplink.usd_per_month[0], quota_gb=uplink.quota_gb or 0.0, usd_per_gb=per_gb)


def _line_usd(contract: Contract, served: Sequence[Served], ledger: Ledger) -> Samples:
    nothing = np.zeros(ledger.draws.samples)
    none = Traffic(gb_per_month=nothing, p95_mbps=nothing, peak_mbps=nothing)
    traffic = add(*(s.traffic for s in served)) if served else none
    return contract_usd_per_month(contract, traffic) * MONTHS + nothing


def fleet_egress(served: Sequence[Served], hubs: Mapping[str, Hub]) -> Egress:
    """What a gigabyte that leaves each provider's cloud costs, by the whole fleet's bytes; `served` of every kind of site."""
    by_hub, possible = [s for s in served if s.by_hub], [s for s in served if s.hub.allowed]
    return Egress(
        planned=_usd_per_gb([(hubs[s.option.at].egress, s) for s in by_hub]),
        hub_alone=_usd_per_gb([(hubs[s.hub.at].egress, s) for s in possible]),
    )


def _usd_per_gb(served: Sequence[tuple[str, Served]]) -> dict[str, Samples]:
    volumes: dict[str, Samples] = {}
    for provider, s in served:
        volumes[provider] = volumes.get(provider, 0.0) + s.answers_gb_per_month * s.point.site.count
    return {provider: mean_usd_per_gb(volume, tiers_named(provider)) for provider, volume in volumes.items()}


def _egress(served: Sequence[tuple[str, Served]], usd_per_gb: Mapping[str, Samples], ledger: Ledger) -> Samples:
    """A year's: of each provider's one bill the part of these bytes; `served` with the provider of each."""
    return _sum([s.answers_gb_per_month * MONTHS * usd_per_gb[provider] for provider, s in served], ledger)


def _value(served: Sequence[Served], ledger: Ledger, *, hub: bool) -> Samples:
    parts: list[Samples] = []
    for s in served:
        said = s.point.workload.value_usd_per_1000
        if said is None:
            continue
        worth = ledger.take(f"workloads.{s.point.workload.id}.value", said) / 1e3
        parts.append(worth * s.requests_per_year * (s.hub.p_slo if hub else s.kept))
    return _sum(parts, ledger)


def _standing_value(served: Sequence[Served], ledger: Ledger, *, hub: bool) -> Samples:
    """A year's, however many requests there are; of a workload whose SLO is kept in so many cases, that share."""
    parts = [
        ledger.take(f"workloads.{s.point.workload.id}.value", said) * (s.hub.p_slo if hub else s.kept)
        for s in served
        if (said := s.point.workload.value_usd_per_year) is not None
    ]
    return _sum([*parts, *([] if hub else _sooner(served, ledger))], ledger)


def _sooner(served: Sequence[Served], ledger: Ledger) -> list[Samples]:
    """What answers that come sooner than the hub's are worth in a year; nothing where the hub has none to compare with."""
    return [
        waiting_usd_per_year(s.hub, ledger) - waiting_usd_per_year(s.option, ledger)
        for s in served
        if not s.by_hub and s.hub.allowed and s.point.workload.value_per_ms_usd_year is not None
    ]


def waiting_usd_per_year(option: Option, ledger: Ledger) -> Samples:
    """What waiting for answers from a place costs one site in a year: its p99 at the price of a millisecond; 0 without one."""
    workload = option.point.workload
    if workload.value_per_ms_usd_year is None or option.p99_ms is None:
        return np.zeros(ledger.draws.samples)
    return ledger.take(f"workloads.{workload.id}.value_per_ms", workload.value_per_ms_usd_year) * option.p99_ms


def _operations(site: Site, hardware_usd: Samples, ledger: Ledger) -> Samples:
    said, at = site.operations, f"sites.{site.id}.operations"
    return np.asarray(
        operations_usd_per_year(
            visits_per_year=ledger.take(f"{at}.visits_per_year", said.visits_per_year, "operations.visits_per_year"),
            usd_per_visit=ledger.take(f"{at}.usd_per_visit", said.usd_per_visit, "operations.usd_per_visit"),
            patching_h_per_year=ledger.take(
                f"{at}.patching_h_per_year", said.patching_h_per_year, "operations.patching_h_per_year"
            ),
            usd_per_h=ledger.take(f"{at}.usd_per_h", said.usd_per_h, "operations.usd_per_h"),
            spares_share=ledger.take(f"{at}.spares_share", said.spares_share, "operations.spares_share"),
            hardware_usd=hardware_usd,
        )
    )


def _enclosure(site: Site, ledger: Ledger) -> Samples:
    at = f"sites.{site.id}.enclosure_usd"
    if site.enclosure_usd is not None:
        return ledger.take(at, site.enclosure_usd)
    return ledger.take(at, None, "enclosure.usd_per_kw") * site.it_budget_kw


def _demand_price(site: Site, ledger: Ledger) -> float | Samples:
    said = site.tariff.demand_usd_per_kw_month
    return 0.0 if said is None else ledger.take(f"sites.{site.id}.tariff.demand", said)


def _sum(parts: Sequence[Samples], ledger: Ledger) -> Samples:
    return np.sum(parts, axis=0) if parts else np.zeros(ledger.draws.samples)
