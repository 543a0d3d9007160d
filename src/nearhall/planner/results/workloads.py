"""The workloads' part of plan-result.json: where each goes and why, latency here and at the hub, memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearhall.documents.plan_work import Workload
from nearhall.planner.plan import Placed, Planned
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.options import Option
from nearhall.planner.serving.pool import Lane, Pool, pool_of, service_p99_ms
from nearhall.planner.serving.queue_sim import sample_waits
from nearhall.planner.serving.service import Service

POINTS = 60
"""Of a latency distribution."""

Json = dict[str, Any]


def workload_part(planned: Planned, workload: Workload) -> Json:
    """One workload at all its sites."""
    mine = [placed for placed in planned.placed if placed.point.workload.id == workload.id]
    return {
        "id": workload.id,
        "words": workload.words,
        "kind": workload.wish.kind,
        "model": planned.equipment.models[workload.id].name,
        "slo": {"of": "ttft" if workload.slo.ttft_p99_ms is not None else "latency", "limit_ms": workload.slo.limit_ms},
        "residency": workload.data.residency,
        "rate_per_s": {"p50": workload.arrivals.rate_per_s.p50, "p90": workload.arrivals.rate_per_s.p90},
        "placed": [_placed(planned, placed) for placed in mine],
        "latency": [part for placed in mine for part in _latencies(planned, placed)],
        "per_thousand": _per_thousand(planned, workload.id),
    }


def memory_part(planned: Planned) -> list[Json]:
    """Each model on each hardware that a site or hub of the plan may use."""
    told: list[Json] = []
    for (workload, hardware), services in planned.equipment.services.items():
        fit = services[0].fit
        if fit is None:
            continue
        told.append(
            {
                "workload": workload,
                "hardware": hardware,
                "bits": fit.bits,
                "quality": fit.quality,
                "parts_gib": fit.parts_gib,
                "p95_gib": fit.p95_gib,
                "usable_gib": fit.usable_gib,
                "fits": fit.fits,
                "words": fit.words,
                "smaller": [
                    {"bits": o.bits, "p95_gib": o.p95_gib, "fits": o.fits, "quality": o.quality, "words": o.words}
                    for o in fit.others
                ],
            }
        )
    return told


def _placed(planned: Planned, placed: Placed) -> Json:
    option = placed.option
    return {
        "site": placed.point.site.id,
        "count": placed.point.site.count,
        "at": placed.at,
        "verdict": placed.verdict,
        "why": placed.why,
        "p_slo": option.p_slo if option is not None else None,
        "hardware": option.service.server if option is not None and option.service is not None else None,
        "alternatives": [
            {
                "at": o.at,
                "is_hub": o.is_hub,
                "allowed": o.allowed,
                "p_slo": o.p_slo,
                "p99_ms": _p99(planned, o.p99_ms),
                "against": list(o.against) or ([placed.against[o.at]] if o.at in placed.against else []),
                "usd_per_year": {"p50": placed.usd_per_year[o.at]} if o.at in placed.usd_per_year else None,
            }
            for o in placed.options
        ],
    }


def _p99(planned: Planned, samples: Samples | None) -> Json | None:
    """Its middle case, its P90, and the case that decides: the one that the plan asks to be within the limit."""
    if samples is None or not np.all(np.isfinite(samples)):
        return None
    middle, high, deciding = np.quantile(samples, (0.5, 0.9, planned.plan.decision.min_p_slo))
    return {"p50": float(middle), "p90": float(high), "deciding": float(deciding)}


def _latencies(planned: Planned, placed: Placed) -> list[Json]:
    """Its own site, and the best hub."""
    own = next(o for o in placed.options if o.at == placed.point.site.id)
    hubs = [o for o in placed.options if o.is_hub and o.p99_ms is not None]
    best = min(hubs, key=lambda o: float(np.median(o.p99_ms)) if o.p99_ms is not None else np.inf, default=None)
    return [
        _latency(planned, placed, o) for o in (own, best) if o is not None and o.service is not None and not o.service.missing
    ]


def _latency(planned: Planned, placed: Placed, option: Option) -> Json:
    service = option.service
    assert service is not None  # noqa: S101 (asked for before)
    first_ms = float(np.median(service.first_s)) * 1e3
    network_ms = float(np.median(option.network_p99_ms))
    lane = Lane(
        workload=placed.point.workload,
        service=service,
        rate_per_s=placed.point.rate_per_s,
        network_p99_ms=option.network_p99_ms,
    )
    pool = option.pool or option.alone or pool_of([lane], _roomy(lane), seed=planned.plan.seed)
    waits = (np.zeros(1), np.zeros(1)) if option.is_hub else (pool.wait_p99_ms(), pool.steady_wait_ms())
    queue_ms, steady_ms = (float(np.median(wait)) for wait in waits)
    return {
        "site": placed.point.site.id,
        "at": option.at,
        "is_hub": option.is_hub,
        "network_ms": network_ms,
        "queue_ms": queue_ms,
        "steady_wait_ms": round(steady_ms, 6) if np.isfinite(steady_ms) else None,
        "service_ms": float(np.median(service_p99_ms(service))),
        "service_p50_ms": first_ms,
        "how": service.how,
        "p99_ms": _p99(planned, option.p99_ms),
        "limit_ms": placed.point.workload.slo.limit_ms,
        "cdf": _cdf(planned, service, option, pool),
    }


def _roomy(lane: Lane) -> int:
    return max(1, int(np.ceil(float(np.median(lane.rate_per_s * lane.server_s)) * 4.0)))


def _cdf(planned: Planned, service: Service, option: Option, pool: Pool) -> Json:
    """Of requests, everything that is not known at its median; the network's part spread as its p99 says. A hub has no queue."""
    seed, requests = planned.plan.seed, 6000
    random = np.random.default_rng(seed)
    middle, high = float(np.median(option.reach.rtt_ms)), float(np.median(option.reach.rtt_p99_ms))
    fixed = float(np.median(option.network_p99_ms - option.reach.rtt_p99_ms))
    sigma = np.log(max(high / max(middle, 1e-9), 1.0 + 1e-9)) / 2.326
    whole = middle * np.exp(sigma * random.standard_normal(requests)) + fixed
    if not option.is_hub:
        load = min(max(float(np.median(pool.load)), 0.01), 0.98)
        whole = whole + sample_waits(pool.stream, load, seed=seed, requests=requests) * float(np.median(pool.slot_s)) * 1e3
    whole = whole + float(np.median(service.first_s)) * 1e3 * _gamma(random, float(np.median(service.cv)), requests)
    shares = np.concatenate([np.linspace(0.0, 0.9, POINTS // 2), np.linspace(0.91, 0.995, POINTS // 2), [0.999]])
    return {"ms": np.quantile(whole, shares).tolist(), "share": shares.tolist()}


def _gamma(random: np.random.Generator, cv: float, n: int) -> np.ndarray:
    if cv < 1e-6:
        return np.ones(n)
    return random.gamma(1.0 / cv**2, cv**2, n)


def _per_thousand(planned: Planned, workload: str) -> Json:
    """Energy and cost of a thousand requests, over all sites that have it; local ones where any is answered on site."""
    hub_kwh: list[Any] = []
    hub_usd: list[Any] = []
    local_kwh: list[Any] = []
    local_usd: list[Any] = []
    for site in planned.sites:
        for served in site.served:
            if served.point.workload.id != workload:
                continue
            hub_kwh.append(served.hub_j_per_request / 3600.0)
            line = np.asarray(site.accounts.hub.uplink_usd) / max(len(site.served), 1)
            hub_usd.append(1e3 * (served.hub_usd_per_request + line / served.requests_per_year))
            if not served.at_hub and site.built:
                share = site.load.work_share(workload)
                local_kwh.append(1e3 * share * site.year.facility_kwh / served.requests_per_year)
                costs = site.accounts.site
                yearly = costs.energy_usd + costs.demand_usd + costs.operations_usd + costs.capex_usd / costs.hardware_life_years
                local_usd.append(1e3 * share * yearly / served.requests_per_year)
    return {
        "local": {"energy_kwh": _spread(local_kwh), "usd": _spread(local_usd)} if local_kwh else None,
        "hub": {"energy_kwh": _spread(hub_kwh), "usd": _spread(hub_usd)} if hub_kwh else None,
    }


def _spread(parts: list[Any]) -> Json | None:
    if not parts:
        return None
    values = np.mean([np.asarray(p, dtype=np.float64) for p in parts], axis=0)
    if not np.all(np.isfinite(values)):
        return None
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    return {"p10": float(low), "p50": float(middle), "p90": float(high)}
