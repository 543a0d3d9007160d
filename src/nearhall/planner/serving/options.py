"""Where each workload of each site could be answered, and what speaks against it: residency, latency, memory, the uplink."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearhall.core.residency import Reach as Travel
from nearhall.core.residency import Residency
from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Hub, Site
from nearhall.documents.plan_work import Workload
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.equipment import Equipment
from nearhall.planner.serving.pool import Lane, Pool, pool_of, servers_needed, service_p99_ms
from nearhall.planner.serving.prices import Prices
from nearhall.planner.serving.reach import Reach, carried_ms, to_elsewhere, to_own_site
from nearhall.planner.serving.service import Service

NEIGHBOURS_KM_MAX = 500.0
"""Another site farther away than this is not asked: a hub is nearer the trunk lines."""


Services = Mapping[tuple[str, str], Sequence[Service]]
"""By (workload, hardware): its variants there, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One workload of one site: what has to be placed."""

    workload: Workload
    site: Site
    rate_per_s: Samples
    """Of one site, in its busiest hour."""

    @property
    def id(self) -> str:
        """Both names."""
        return f"{self.workload.id}@{self.site.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One place for one point."""

    point: Point
    at: str
    """Id of a site or hub."""
    is_hub: bool
    service: Service | None
    """None where nothing there can serve it."""
    alone: Pool | None
    """The servers it would take by itself; None at a hub, which has as many as it needs, and where none are enough."""
    p99_ms: Samples | None
    p_slo: float
    network_p99_ms: Samples
    reach: Reach
    against: tuple[str, ...]
    """Why not, in words; empty when it may be placed there."""
    kinds: tuple[Option, ...] = ()
    """The same place with each kind of server that would do, this one too; empty where none would."""
    pool: Pool | None = None
    """The servers that it shares there, once it is known with what; its times are those beside the others then."""
    kind_against: str = ""
    """residency, memory, latency, uplink or capacity: the first that binds."""

    @property
    def allowed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.against

    def servers_worth(self) -> float:
        """Servers' worth in a shared pool: its load (P95) over what its SLO lets a server be loaded."""
        if self.alone is None:
            return 0.0
        lane = self.alone.lanes[0]
        busy = float(np.quantile(lane.rate_per_s * lane.server_s, 0.95))
        room = (lane.workload.slo.limit_ms - float(np.median(lane.network_p99_ms))) / 1e3
        slot = float(np.median(self.alone.slot_s))
        waits = room - float(np.median(service_p99_ms(lane.service))) / 1e3
        full = self.alone.tail.load_waiting_within(max(waits, 0.0) / slot)
        return busy / min(max(full, 0.02), 0.9)


def points_of(plan: Plan, ledger: Ledger) -> tuple[Point, ...]:
    """Every workload of every site at which it arises; what is not known of its rate is the same everywhere."""
    return tuple(
        Point(
            workload=workload,
            site=site,
            rate_per_s=ledger.take(f"workloads.{workload.id}.arrivals.rate_per_s", workload.arrivals.rate_per_s),
        )
        for site in plan.sites
        for workload in plan.workloads
        if workload.sites is None or site.id in workload.sites
    )


def options_of(
    point: Point, plan: Plan, equipment: Equipment, ledger: Ledger, *, p_min: float, prices: Callable[[Site], Prices]
) -> tuple[Option, ...]:
    """Its own site first, then near sites, then hubs; `prices` says what servers cost at a site."""
    own = _at_site(point, point.site, plan, equipment, ledger, p_min=p_min, prices=prices)
    others = [
        _at_site(point, other, plan, equipment, ledger, p_min=p_min, prices=prices)
        for other in plan.sites
        if other.id != point.site.id and other.count == 1 and point.site.count == 1
        if to_elsewhere(point.site, other, ledger).kilometres <= NEIGHBOURS_KM_MAX
    ]
    return (own, *others, *(_at_hub(point, hub, plan, equipment.services, ledger, p_min=p_min) for hub in plan.hubs))


def _residency(point: Point, place: Site | Hub) -> str:
    rule = Residency.parse(point.workload.data.residency)
    if isinstance(place, Site) and place.id == point.site.id:
        return ""
    if rule.reach is Travel.SITE:
        return "residency: its data may not leave the site"
    if not rule.permits(place.jurisdiction):
        return f"residency {rule}: {place.id} is in {place.jurisdiction}"
    return ""


def _at_site(
    point: Point,
    place: Site,
    plan: Plan,
    equipment: Equipment,
    ledger: Ledger,
    *,
    p_min: float,
    prices: Callable[[Site], Prices],
) -> Option:
    """The hardware that costs least in a year, price and energy, of those that keep the SLO there."""
    own = place.id == point.site.id
    reach = to_own_site(ledger) if own else to_elsewhere(point.site, place, ledger)
    overhead = ledger.take("gateway.overhead_ms", None, "gateway.overhead_ms")
    network = reach.rtt_p99_ms + overhead + (0.0 if own else carried_ms(point.site, point.workload, ledger))
    forbidden = _residency(point, place)
    tried: list[Option] = []
    for service in (service for name in plan.hardware_at(place) for service in equipment.services[point.workload.id, name]):
        if any(option.allowed and option.service is not None and option.service.server == service.server for option in tried):
            continue  # a better variant does on this server
        option = _tried(point, place.id, service, network, reach, p_min=p_min, seed=plan.seed)
        if forbidden:
            option = _refused(option, forbidden, "residency")
        tried.append(option)
    fitting = tuple(option for option in tried if option.allowed)
    if fitting:
        cheapest = min(fitting, key=lambda option: _usd_per_year(option, equipment, prices(place)))
        return replace(cheapest, kinds=fitting)
    return max(tried, key=lambda option: option.p_slo)


def _usd_per_year(option: Option, equipment: Equipment, prices: Prices) -> float:
    """Of whole servers that stand there for this workload alone."""
    assert option.service is not None  # noqa: S101 (an allowed option has a service and servers)
    assert option.alone is not None  # noqa: S101
    server, (lane,) = equipment.servers[option.service.server], option.alone.lanes
    return prices.of(server, option.alone.servers, lane.busy_w(server))


def _tried(point: Point, at: str, service: Service, network: Samples, reach: Reach, *, p_min: float, seed: int) -> Option:
    lane = Lane(workload=point.workload, service=service, rate_per_s=point.rate_per_s, network_p99_ms=network)
    pool = None if service.missing else servers_needed([lane], p_min=p_min, seed=seed)
    against: tuple[str, ...] = ()
    kind, p99 = "", None
    if service.missing:
        against, kind = (service.missing,), "memory" if service.missing.startswith("memory") else "unknown"
    elif pool is None:
        best = pool_of([lane], max(1, int(np.ceil(np.median(point.rate_per_s * lane.server_s) * 4))), seed=seed)
        p99 = best.p99_ms(lane)
        against = (_late(point, p99, p_min, ""),)
        kind = "latency"
    else:
        p99 = pool.p99_ms(lane)
    return Option(
        point=point,
        at=at,
        is_hub=False,
        service=service,
        alone=pool,
        p99_ms=p99,
        p_slo=float(np.mean(p99 <= point.workload.slo.limit_ms)) if p99 is not None else 0.0,
        network_p99_ms=network,
        reach=reach,
        against=against,
        kind_against=kind,
    )


def _at_hub(point: Point, hub: Hub, plan: Plan, services: Services, ledger: Ledger, *, p_min: float) -> Option:
    """A hub runs as many servers as it takes, at a load at which nobody waits; what counts is the way, and the service."""
    reach = to_elsewhere(point.site, hub, ledger)
    overhead = ledger.take("gateway.overhead_ms", None, "gateway.overhead_ms")
    network = reach.rtt_p99_ms + 2.0 * overhead + carried_ms(point.site, point.workload, ledger)
    service = min(
        (services[point.workload.id, name][0] for name in plan.hardware_at(hub)),
        key=lambda s: (_hub_p_slo(point, s, network) < p_min, _joules(s)),
    )
    p99 = None if service.missing else network + service_p99_ms(service)
    found: list[tuple[str, str]] = []
    forbidden = _residency(point, hub)
    if forbidden:
        found.append((forbidden, "residency"))
    if service.missing:
        found.append((service.missing, "memory" if service.missing.startswith("memory") else "unknown"))
    p_slo = _hub_p_slo(point, service, network)
    if p99 is not None and p_slo < p_min:
        found.append((_late(point, p99, p_min, f"; {float(np.median(reach.rtt_ms)):.1f} ms of it is the round trip"), "latency"))
    needed = needed_mbps(point, ledger)
    fastest = point.site.uplink.steps_mbps[-1] if point.site.uplink.steps_mbps else point.site.uplink.mbps
    if needed > fastest:
        found.append((f"uplink: {needed:.0f} Mbit/s in the busiest hour (P95) > {fastest:.0f} Mbit/s", "uplink"))
    return Option(
        point=point,
        at=hub.id,
        is_hub=True,
        service=service,
        alone=None,
        p99_ms=p99,
        p_slo=p_slo,
        network_p99_ms=network,
        reach=reach,
        against=tuple(text for text, _ in found),
        kind_against=found[0][1] if found else "",
    )


def _hub_p_slo(point: Point, service: Service, network: Samples) -> float:
    """How likely a hub keeps the SLO with it; 0 where it does not run there."""
    return 0.0 if service.missing else float(np.mean(network + service_p99_ms(service) <= point.workload.slo.limit_ms))


def _joules(service: Service) -> float:
    """Energy of a request at full load; without end where it does not run there."""
    rate = float(np.median(service.per_s))
    return float(np.median(service.busy_w)) / rate if not service.missing and np.isfinite(rate) and rate > 0 else float("inf")


def needed_mbps(point: Point, ledger: Ledger) -> float:
    """What its requests take of the line upwards in bursts of the busiest hour, P95."""
    at = f"workloads.{point.workload.id}.data.in_kb"
    kb_per_s = point.rate_per_s * ledger.take(at, point.workload.data.in_kb) * point.workload.arrivals.burst.factor
    return float(np.quantile(kb_per_s, 0.95)) * 8.0 / 1e3


def _refused(option: Option, why: str, kind: str) -> Option:
    return replace(option, against=(why, *option.against), kind_against=kind)


def _late(point: Point, p99_ms: Samples, p_min: float, of_it: str) -> str:
    """By when answers would come: the P99 in the case that the plan asks to be in time."""
    at = float(np.quantile(p99_ms, p_min))
    what = "the first word of an answer" if point.workload.slo.ttft_p99_ms is not None else "an answer"
    shown = f"after up to {_time(at)}" if np.isfinite(at) else "ever later"
    allowed = f"{_time(point.workload.slo.limit_ms)} are allowed"
    return f"{what} would come {shown} (99 of 100, in {100 * p_min:g} % of the cases); {allowed}{of_it}"


def _time(ms: float) -> str:
    """Milliseconds as people say them."""
    return f"{ms / 1e3:.1f} s" if ms >= 1e3 else f"{ms:.3g} ms"


def of_point(options: Sequence[Option], at: str) -> Option:
    """The option at a place."""
    return next(option for option in options if option.at == at)
