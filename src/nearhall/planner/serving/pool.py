"""Servers of one kind at one place and the workloads they share: how long requests wait, and how many servers that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import floor, log10

import numpy as np

from nearhall.documents.plan_work import Workload
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.queue_sim import Stream, Tail, simulate_tail
from nearhall.planner.serving.server import Server
from nearhall.planner.serving.service import Service

SERVERS_MAX = 256
SLOTS_SIMULATED_MAX = 128
"""More slots wait less; beyond this the tail of so many is taken."""
BUSY_MAX = 0.95
"""No pool is planned fuller than this, whatever its SLO allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Middle:
    """Medians of a lane."""

    rate_per_s: float
    server_s: float
    work: float
    """Servers' worth: rate times `server_s`."""
    cv: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One workload in a pool."""

    workload: Workload
    service: Service
    rate_per_s: Samples
    """Mean of the busiest hour."""
    network_p99_ms: Samples
    """From the request's first byte at the user to the server and back, without waiting and service."""
    middle: Middle = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Medians are asked for many times."""
        work = self.rate_per_s * self.server_s
        rate, server_s, cv = (float(np.median(part)) for part in (self.rate_per_s, self.server_s, self.service.cv))
        object.__setattr__(self, "middle", Middle(rate_per_s=rate, server_s=server_s, work=float(np.median(work)), cv=cv))

    @property
    def server_s(self) -> Samples:
        """Seconds of a whole server that a request takes."""
        return self.service.slot_s / self.service.slots

    def busy_w(self, server: Server) -> float:
        """Watts above idle that it adds to such a server in the busiest hour; a median."""
        return self.middle.work * float(np.median(np.maximum(self.service.busy_w - server.idle_w, 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """So many servers, and the lanes on them."""

    lanes: tuple[Lane, ...]
    servers: int
    tail: Tail
    load: Samples
    """Busy share of the servers in the busiest hour."""
    slot_s: Samples
    """Mean time a request keeps its slot, over all lanes."""

    def wait_p99_ms(self) -> Samples:
        """99 of 100 requests wait no longer."""
        return self.tail.wait_p99(self.load) * self.slot_s * 1e3

    def p99_ms(self, lane: Lane) -> Samples:
        """p99 from user to user: network, wait and service at their own p99, one after the other.

        The sum of the three p99 is at least the p99 of their sum unless they rise together, so it errs to the safe side.
        """
        return lane.network_p99_ms + self.wait_p99_ms() + service_p99_ms(lane.service)

    def p_slo(self, lane: Lane) -> float:
        """Probability that the lane keeps its SLO's quantile, over what is not known."""
        return float(np.mean(self.p99_ms(lane) <= lane.workload.slo.limit_ms))


def service_p99_ms(service: Service) -> Samples:
    """p99 of the service alone: a gamma distribution by its mean and coefficient of variation (Wilson and Hilferty 1931)."""
    variance = service.cv**2
    factor = np.maximum(1.0 - variance / 9.0 + 2.3263478740408408 * service.cv / 3.0, 0.0) ** 3
    return service.first_s * factor * 1e3


def pool_of(lanes: Sequence[Lane], servers: int, *, seed: int) -> Pool:
    """The pool with so many servers."""
    weights = [lane.rate_per_s * lane.server_s for lane in lanes]
    busy = np.sum(weights, axis=0)
    rate = np.sum([lane.rate_per_s for lane in lanes], axis=0)
    middle = np.array([lane.middle.work for lane in lanes])
    shares = middle / middle.sum()
    slots = max(1, round(float(np.sum(shares * [lane.service.slots for lane in lanes]))))
    return Pool(
        lanes=tuple(lanes),
        servers=servers,
        tail=_tail(lanes, shares, slots * servers, float(np.median(busy / rate)) * slots, seed),
        load=busy / servers,
        slot_s=busy / rate * slots,
    )


def servers_needed(lanes: Sequence[Lane], *, p_min: float, seed: int, at_most: int = SERVERS_MAX) -> Pool | None:
    """The smallest pool in which every lane keeps its SLO with probability `p_min`; None where `at_most` servers do not do."""
    busy = float(np.quantile(np.sum([lane.rate_per_s * lane.server_s for lane in lanes], axis=0), p_min))
    if not np.isfinite(busy) or busy / BUSY_MAX > at_most:
        return None
    low = max(1, int(np.ceil(busy / BUSY_MAX)))
    if not _keeps(pool_of(lanes, at_most, seed=seed), p_min):
        return None
    high = low
    while high < at_most and not _keeps(pool_of(lanes, high, seed=seed), p_min):
        low, high = high + 1, min(high * 2, at_most)
    while low < high:
        middle = (low + high) // 2
        if _keeps(pool_of(lanes, middle, seed=seed), p_min):
            high = middle
        else:
            low = middle + 1
    return pool_of(lanes, high, seed=seed)


def _keeps(pool: Pool, p_min: float) -> bool:
    return all(pool.p_slo(lane) >= p_min for lane in pool.lanes)


def _tail(lanes: Sequence[Lane], shares: np.ndarray, slots: int, slot_s: float, seed: int) -> Tail:
    """The tail of the mixture; its requests' times differ within each lane and between lanes."""
    rates = np.array([lane.middle.rate_per_s for lane in lanes])
    parts = rates / rates.sum()
    means = np.array([lane.middle.server_s for lane in lanes])
    cvs = np.array([lane.middle.cv for lane in lanes])
    mean = float(np.sum(parts * means))
    second = float(np.sum(parts * means**2 * (1.0 + cvs**2)))
    cv = max(second / mean**2 - 1.0, 0.0) ** 0.5
    arrivals = [lane.workload.arrivals for lane in lanes]

    def weighed(values: list[float]) -> float:
        return float(np.sum(shares * values))

    stream = Stream(
        servers=min(slots, SLOTS_SIMULATED_MAX),
        service_cv=_rounded(cv),
        burst_factor=_rounded(weighed([a.burst.factor for a in arrivals])),
        burst_services=_rounded(weighed([a.burst.seconds for a in arrivals]) / max(slot_s, 1e-9)),
        burst_share=_rounded(weighed([a.burst.share for a in arrivals])),
        arrival_cv=_rounded(weighed([a.cv for a in arrivals])),
    )
    return _simulated(stream, seed)


@lru_cache(maxsize=512)
def _simulated(stream: Stream, seed: int) -> Tail:
    return simulate_tail(stream, seed=seed)


def _rounded(value: float, digits: int = 2) -> float:
    """To so many significant digits: streams that hardly differ are simulated once."""
    if value <= 0 or not np.isfinite(value):
        return 0.0
    return round(value, digits - 1 - floor(log10(value)))
