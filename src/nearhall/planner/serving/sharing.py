"""Which servers a site's workloads share: each kind that could carry several is tried, and what costs least in all is taken.

A workload alone would take the server that is cheapest for it; together they may fit on one that none would have taken alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nearhall.planner.serving.options import Option
from nearhall.planner.serving.pool import Lane, Pool, pool_of, servers_needed


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
    return {
        server: [_pool(options, group, p_min=p_min, seed=seed) for group in groups] for server, groups in _groups(options).items()
    }


def in_pools(options: Sequence[Option], *, p_min: float, seed: int) -> tuple[Option, ...]:
    """The same, each with the pool that it shares, and with its times beside the others there."""
    found = list(options)
    for groups in _groups(options).values():
        for group in groups:
            pool = _pool(options, group, p_min=p_min, seed=seed)
            for index, lane in zip(group, pool.lanes, strict=True):
                found[index] = replace(options[index], pool=pool, p99_ms=pool.p99_ms(lane), p_slo=pool.p_slo(lane))
    return tuple(found)


def _pool(options: Sequence[Option], group: Sequence[int], *, p_min: float, seed: int) -> Pool:
    """As few servers as keep every SLO; where none are enough, one for each workload."""
    lanes = [lane_of(options[index]) for index in group]
    return servers_needed(lanes, p_min=p_min, seed=seed) or pool_of(lanes, max(1, len(lanes)), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The servers that workloads share."""

    options: tuple[Option, ...]
    """As they were given, each with the kind of server that it was given."""
    usd_per_year: float
    """Without end where no number of servers keeps every SLO."""


def together(
    options: Sequence[Option],
    usd_of: Callable[[Sequence[Option], Mapping[str, Sequence[Pool]]], float],
    *,
    p_min: float,
    seed: int,
) -> Chosen:
    """The same workloads on the servers that cost least in all: each on its own choice, or all that can on one kind."""
    kinds = sorted({other.service.server for option in options for other in option.kinds if other.service is not None})
    tries = [tuple(options), *(tuple(_on(option, kind) for option in options) for kind in kinds)]
    seen: dict[tuple[str, ...], Chosen] = {}
    for tried in tries:
        key = tuple(option.service.server if option.service else "" for option in tried)
        if key not in seen:
            pools = {
                server: [servers_needed([lane_of(tried[index]) for index in group], p_min=p_min, seed=seed) for group in groups]
                for server, groups in _groups(tried).items()
            }
            whole = {server: [pool for pool in found if pool is not None] for server, found in pools.items()}
            enough = all(len(whole[server]) == len(found) for server, found in pools.items())
            seen[key] = Chosen(options=tried, usd_per_year=usd_of(tried, whole) if enough else float("inf"))
    return min(seen.values(), key=lambda chosen: chosen.usd_per_year)


def _on(option: Option, kind: str) -> Option:
    found = next((other for other in option.kinds if other.service is not None and other.service.server == kind), option)
    return replace(found, kinds=option.kinds)


def _groups(options: Sequence[Option]) -> dict[str, list[list[int]]]:
    """By kind of server: which options share."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, option in enumerate(options):
        if option.service is not None:
            own = option.point.id if option.service.until_first else ""
            groups.setdefault((option.service.server, own), []).append(index)
    found: dict[str, list[list[int]]] = {}
    for (server, _), group in sorted(groups.items()):
        found.setdefault(server, []).append(group)
    return found
