"""Servers of one kind at one place and the workloads they share: how long requests wait, and how many servers that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil, floor, log10

import numpy as np

from nearhall.documents.plan_work import Workload
from nearhall.physics import queues
from nearhall.planner.samples.draws import Samples
from nearhall.planner.serving.queue_sim import Stream, Tail, simulate_tail
from nearhall.planner.serving.server import Server
from nearhall.planner.serving.service import Service

SERVERS_MAX = 256
SLOTS_SIMULATED_MAX = 128
"""More slots wait less; beyond this the tail of so many is taken."""
Q = 0.99
"""The SLO's quantile: one request of a hundred may be late."""
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

    def p99_ms(self, wait_p99_ms: Samples | float = 0.0) -> Samples:
        """p99 from user to user: network, wait and service at their own p99, one after the other.

        The sum of the three p99 is at least the p99 of their sum unless they rise together, so it errs to the safe side.
        """
        return self.network_p99_ms + wait_p99_ms + service_p99_ms(self.service)

    def p_slo(self, wait_p99_ms: Samples | float = 0.0) -> float:
        """Probability that it keeps its SLO's quantile, over what is not known."""
        return float(np.mean(self.p99_ms(wait_p99_ms) <= self.workload.slo.limit_ms))

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

    @property
    def stream(self) -> Stream:
        """Its requests and slots."""
        return _stream_to(self.lanes, self.servers)

    def wait_p99_ms(self) -> Samples:
        """99 of 100 requests wait no longer."""
        return self.tail.wait_p99(self.load) * self.slot_s * 1e3

    def steady_wait_ms(self) -> Samples:
        """Mean wait if the same requests came without bursts, by Allen and Cunneen; endless (inf) where they are too many."""
        stream = self.stream
        waits_s = queues.mean_wait_s(
            servers=stream.servers,
            arrivals_per_s=self.load * stream.servers / self.slot_s,
            service_s=self.slot_s,
            arrival_cv=stream.arrival_cv,
            service_cv=stream.service_cv,
        )
        return np.asarray(waits_s) * 1e3

    def p99_ms(self, lane: Lane) -> Samples:
        """p99 of the lane's requests from user to user."""
        return lane.p99_ms(self.wait_p99_ms())

    def p_slo(self, lane: Lane) -> float:
        """Probability that the lane keeps its SLO's quantile, over what is not known."""
        return lane.p_slo(self.wait_p99_ms())


def service_p99_ms(service: Service) -> Samples:
    """p99 of the service alone: a gamma distribution by its mean and coefficient of variation (Wilson and Hilferty 1931)."""
    variance = service.cv**2
    factor = np.maximum(1.0 - variance / 9.0 + 2.3263478740408408 * service.cv / 3.0, 0.0) ** 3
    return service.first_s * factor * 1e3


def pool_of(lanes: Sequence[Lane], servers: int, *, seed: int) -> Pool:
    """The pool with so many servers."""
    one = _stream(lanes)
    return Pool(
        lanes=tuple(lanes),
        servers=servers,
        tail=_simulated(_stream_to(lanes, servers), seed),
        load=_busy(lanes) / servers,
        slot_s=_server_s(lanes) * one.servers,
    )


def servers_needed(lanes: Sequence[Lane], *, p_min: float, seed: int, at_most: int = SERVERS_MAX) -> Pool | None:
    """The smallest pool in which every lane keeps its SLO with probability `p_min`; None where `at_most` servers do not do.

    The simulation alone decides. The search begins where formulas put it, moves on by steps of 1, 2, 4 until one pool does and
    one does not, and halves what is between.
    """
    busy = float(np.quantile(_busy(lanes), p_min))
    if not np.isfinite(busy) or busy / BUSY_MAX > at_most:
        return None
    if any(lane.p_slo() < p_min for lane in lanes):
        return None  # too late even where nobody waits
    least = max(1, ceil(busy / BUSY_MAX))
    servers, step = min(max(_first_guess(lanes, busy, p_min), least), at_most), 1
    fails, keeps, found = least - 1, at_most + 1, None
    while keeps - fails > 1:
        pool = pool_of(lanes, servers, seed=seed)
        if all(pool.p_slo(lane) >= p_min for lane in lanes):
            keeps, found = servers, pool
        else:
            fails = servers
        if found is None:
            servers = min(servers + step, at_most)
        elif fails < least:
            servers = max(servers - step, least)
        else:
            servers = (fails + keeps) // 2
        step *= 2
    return found


def _first_guess(lanes: Sequence[Lane], busy: float, p_min: float) -> int:
    """What steady arrivals of `busy` servers' worth take, and what a burst takes, for the shortest wait that any lane allows."""
    one = _stream(lanes)
    slot_s = float(np.median(_server_s(lanes))) * one.servers
    wait_s = min(float(np.quantile(lane.workload.slo.limit_ms - lane.p99_ms(), 1.0 - p_min)) for lane in lanes) / 1e3
    steady = queues.servers_needed(
        arrivals_per_s=busy * one.servers / slot_s,
        service_s=slot_s,
        wait_s=wait_s,
        q=Q,
        arrival_cv=one.arrival_cv,
        service_cv=one.service_cv,
        servers_max=SERVERS_MAX * one.servers,
    )
    if steady is None:
        return SERVERS_MAX
    in_bursts = one.burst_factor * one.burst_share  # of all requests; fewer than may be late do not count
    at_peak = busy * one.burst_factor if in_bursts > 1.0 - Q else busy
    burst = queues.worth_in_burst(offered=at_peak, burst_s=one.burst_services * slot_s, wait_s=wait_s)
    return max(-(-steady // one.servers), ceil(burst))


def _busy(lanes: Sequence[Lane]) -> Samples:
    """Servers' worth of all lanes in the busiest hour."""
    return np.sum([lane.rate_per_s * lane.server_s for lane in lanes], axis=0)


def _server_s(lanes: Sequence[Lane]) -> Samples:
    """Seconds of a whole server that a request takes, in the mean over all lanes."""
    return _busy(lanes) / np.sum([lane.rate_per_s for lane in lanes], axis=0)


def _stream_to(lanes: Sequence[Lane], servers: int) -> Stream:
    """The mixture at so many servers."""
    one = _stream(lanes)
    return replace(one, servers=min(one.servers * servers, SLOTS_SIMULATED_MAX))


def _stream(lanes: Sequence[Lane]) -> Stream:
    """The mixture at one server, at the medians; its requests' times differ within each lane and between lanes."""
    work = np.array([lane.middle.work for lane in lanes])
    shares = work / work.sum()
    rates = np.array([lane.middle.rate_per_s for lane in lanes])
    parts = rates / rates.sum()
    means = np.array([lane.middle.server_s for lane in lanes])
    cvs = np.array([lane.middle.cv for lane in lanes])
    mean = float(np.sum(parts * means))
    second = float(np.sum(parts * means**2 * (1.0 + cvs**2)))
    arrivals = [lane.workload.arrivals for lane in lanes]

    def weighed(values: list[float]) -> float:
        return float(np.sum(shares * values))

    slots = max(1, floor(weighed([lane.service.slots for lane in lanes]) + 1e-9))  # part of a slot takes no request
    slot_s = float(np.median(_server_s(lanes))) * slots
    return Stream(
        servers=slots,
        service_cv=_rounded(max(second / mean**2 - 1.0, 0.0) ** 0.5),
        burst_factor=_rounded(weighed([a.burst.factor for a in arrivals])),
        burst_services=_rounded(weighed([a.burst.seconds for a in arrivals]) / max(slot_s, 1e-9)),
        burst_share=_rounded(weighed([a.burst.share for a in arrivals])),
        arrival_cv=_rounded(weighed([a.cv for a in arrivals])),
    )


@lru_cache(maxsize=512)
def _simulated(stream: Stream, seed: int) -> Tail:
    return simulate_tail(stream, seed=seed)


def _rounded(value: float, digits: int = 2) -> float:
    """To so many significant digits: streams that hardly differ are simulated once."""
    if value <= 0 or not np.isfinite(value):
        return 0.0
    return round(value, digits - 1 - floor(log10(value)))
