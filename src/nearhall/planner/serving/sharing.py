"""Which servers a site's workloads share: each kind that could carry several is tried, and what costs least in all is taken.

A workload alone would take the server that is cheapest for it; together they may fit on one that none would have taken alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nearhall.planner.serving.options import Option
from nearhall.planner.serving.pool import Lane, Pool, pool_of, servers_needed
from nearhall.planner.serving.prices import Prices
from nearhall.planner.serving.server import Server


def lane_of(option: Option) -> Lane:
    """The option as a lane of a pool."""
    assert option.service is not None  # noqa: S101 (only what may be placed there shares servers)
    return Lane(
        workload=option.point.workload,
        service=option.service,
        rate_per_s=option.point.rate_per_s,
        network_p99_ms=option.network_p99_ms,
    )


def pools_of(options: Sequence[Option], *, p_min: float, seed: int) -> dict[str, list[Pool]]:
    """By kind of server: as few as keep every SLO together. Language models have servers of their own."""
    groups: dict[tuple[str, str], list[Lane]] = {}
    for option in options:
        if option.service is not None:
            own = option.point.id if option.service.until_first else ""
            groups.setdefault((option.service.server, own), []).append(lane_of(option))
    pools: dict[str, list[Pool]] = {}
    for (server, _), lanes in sorted(groups.items()):
        found = servers_needed(lanes, p_min=p_min, seed=seed)
        pools.setdefault(server, []).append(found if found is not None else pool_of(lanes, max(1, len(lanes)), seed=seed))
    return pools


def together(
    options: Sequence[Option], servers: Mapping[str, Server], prices: Prices, *, p_min: float, seed: int
) -> tuple[Option, ...]:
    """The same workloads on the servers that cost least in all: each on its own choice, or all that can on one kind."""
    kinds = sorted({other.service.server for option in options for other in option.kinds if other.service is not None})
    tries = [tuple(options), *(tuple(_on(option, kind) for option in options) for kind in kinds)]
    seen: dict[tuple[str, ...], tuple[Option, ...]] = {}
    for tried in tries:
        seen.setdefault(tuple(option.service.server if option.service else "" for option in tried), tried)
    if len(seen) == 1:
        return tries[0]
    return min(seen.values(), key=lambda tried: _usd_per_year(tried, servers, prices, p_min=p_min, seed=seed))


def _on(option: Option, kind: str) -> Option:
    found = next((other for other in option.kinds if other.service is not None and other.service.server == kind), option)
    return replace(found, kinds=option.kinds)


def _usd_per_year(options: Sequence[Option], servers: Mapping[str, Server], prices: Prices, *, p_min: float, seed: int) -> float:
    total = 0.0
    for name, pools in pools_of(options, p_min=p_min, seed=seed).items():
        for pool in pools:
            total += prices.of(servers[name], pool.servers, sum(lane.busy_w(servers[name]) for lane in pool.lanes))
    return total
