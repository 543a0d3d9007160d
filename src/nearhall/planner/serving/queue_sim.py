"""Waiting in bursts, by simulation: what formulas for steady arrivals say nothing of.

Requests of the busiest hour come in bursts and lulls to servers that take them in order. The tail is simulated once for a grid
of loads, in units of the mean service time; any sample of rate and service time then reads its own tail off that grid.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.physics.queues import wait_quantile_s
from nearhall.planner.samples.draws import Samples

REQUESTS = 12_000
"""A p99 of so many rests on 120 of them."""
LOADS = (0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.88, 0.94, 0.98)
"""Busy share of all servers at the hour's mean rate; beyond the last the queue grows without end over the hour."""
HEAVY = 0.9
"""Beyond this load so many requests, begun with nobody waiting, show a fifth (0.94) to half (0.98) less than the whole wait."""
HOPELESS = 1e6
"""In mean service times: what a queue that only grows is given for its tail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Requests to one pool of servers."""

    servers: int
    """Servers, or slots of them where one holds several conversations."""
    service_cv: float
    burst_factor: float = 1.0
    burst_services: float = 100.0
    """How long a burst lasts, in mean service times."""
    burst_share: float = 0.05
    arrival_cv: float = 1.0


@dataclass(frozen=True, slots=True)
class Tail:
    """The 99th percentiles of the wait by load, in mean service times."""

    loads: tuple[float, ...]
    wait: tuple[float, ...]

    def wait_p99(self, load: Samples) -> Samples:
        """p99 of the wait, shape of `load`, in mean service times."""
        return np.where(load >= 1.0, HOPELESS, np.interp(load, self.loads, _rising(self.wait)))

    def load_waiting_within(self, limit: float) -> float:
        """The highest load at which the wait keeps `limit` (mean service times); 0 when none does."""
        if self.wait[0] > limit:
            return 0.0
        return float(np.interp(limit, _rising(self.wait), self.loads))


def simulate_tail(stream: Stream, *, seed: int, requests: int = REQUESTS) -> Tail:
    """The tail of a stream by load; the same random numbers at every load, so that it rises with it.

    A burst of thousands of service times is played shorter: while the servers keep up with it, its queue is soon as long as it
    gets; where they do not, the queue grows in proportion to the burst (the fluid limit; Newell 1982), and so is scaled.
    Near full load the wait is at least what the formula gives for steady arrivals, exact in that limit (Kingman 1962).
    """
    random = np.random.default_rng(seed)
    gaps = _gaps(random, stream.arrival_cv, requests)
    services = _positive(random, stream.service_cv, requests)
    found = [float(np.quantile(_waits(stream, load, gaps, services), 0.99)) for load in LOADS]
    return Tail(LOADS, tuple(max(wait, _steady(stream, load)) for wait, load in zip(found, LOADS, strict=True)))


def sample_waits(stream: Stream, load: float, *, seed: int, requests: int = REQUESTS) -> NDArray[np.float64]:
    """Waits in mean service times, shape (requests,), for a picture of the distribution."""
    random = np.random.default_rng(seed)
    gaps = _gaps(random, stream.arrival_cv, requests)
    return _waits(stream, load, gaps, _positive(random, stream.service_cv, requests))


def fifo_waits(arrivals: NDArray[np.float64], services: NDArray[np.float64], servers: int) -> NDArray[np.float64]:
    """Waits of requests, shape (n,), that `servers` take in the order of their arrival (ascending)."""
    free, swap = [0.0] * servers, heapq.heapreplace
    begins: list[float] = []
    for at, takes in zip(arrivals.tolist(), services.tolist(), strict=True):
        begin = free[0]
        if begin < at:  # noqa: PLR1730 (max takes longer than all the rest)
            begin = at
        swap(free, begin + takes)
        begins.append(begin)
    return np.array(begins) - arrivals


def _steady(stream: Stream, load: float) -> float:
    """p99 of the wait near full load, without bursts, in mean service times; 0 where the simulation shows all of it."""
    if load < HEAVY:
        return 0.0
    cvs = {"arrival_cv": stream.arrival_cv, "service_cv": stream.service_cv}
    return wait_quantile_s(servers=stream.servers, arrivals_per_s=load * stream.servers, service_s=1.0, q=0.99, **cvs)


def _waits(stream: Stream, load: float, gaps: NDArray[np.float64], services: NDArray[np.float64]) -> NDArray[np.float64]:
    played = min(stream.burst_services, max(20.0, len(gaps) * stream.burst_share / (2.0 * stream.servers)))
    arrivals = _bursty(np.cumsum(gaps) / (load * stream.servers), stream, played)
    waits = fifo_waits(arrivals, services, stream.servers)
    if stream.burst_factor * load > 1.0:
        waits = waits * (stream.burst_services / played)
    return waits


def _bursty(steady: NDArray[np.float64], stream: Stream, length: float) -> NDArray[np.float64]:
    """Moves arrivals of a steady stream so that they come in bursts: operational time (Cinlar 1975), mean rate kept."""
    factor, share = stream.burst_factor, stream.burst_share
    if factor <= 1.0:
        return steady
    lull = max(1.0 - share * factor, 1e-9) / (1.0 - share)
    period = length / share
    # Within a period the first `length` holds factor x length of the arrivals' own time, the rest the remainder.
    turn = factor * length
    cycle, within = np.divmod(steady, period)
    moved = np.where(within < turn, within / factor, length + (within - turn) / lull)
    return cycle * period + np.minimum(moved, period)


def _gaps(random: np.random.Generator, cv: float, n: int) -> NDArray[np.float64]:
    """Times between arrivals with mean 1."""
    return _positive(random, cv, n)


def _positive(random: np.random.Generator, cv: float, n: int) -> NDArray[np.float64]:
    """Gamma values with mean 1 and this coefficient of variation; all 1 at 0."""
    if cv <= 1e-6:
        return np.ones(n)
    shape = 1.0 / cv**2
    return random.gamma(shape, 1.0 / shape, n)


def _rising(values: tuple[float, ...]) -> NDArray[np.float64]:
    return np.maximum.accumulate(np.asarray(values))
