"""Waiting in steady state: Erlang's formulas, and their correction for arrivals and service of another spread.

Erlang 1917; Allen-Cunneen approximation (Allen, "Probability, Statistics and Queueing Theory", 2nd ed., 1990). Bursts are beyond
them: `planner.queue_sim`.
"""

from __future__ import annotations

from nearhall.core.elementwise import Value, log, maximum, where


def erlang_b(*, servers: int, offered: Value) -> Value:
    """Share of arrivals that find all servers busy and leave; `offered` is arrival rate x mean service time."""
    blocked = offered * 0.0 + 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked


def erlang_c(*, servers: int, offered: Value) -> Value:
    """Share of arrivals that have to wait; 1 where the servers cannot keep up."""
    blocked = erlang_b(servers=servers, offered=offered)
    load = offered / servers
    held = where(load < 1.0, load, 0.0)
    return where(load < 1.0, blocked / (1.0 - held * (1.0 - blocked)), 1.0)


def mean_wait_s(
    *, servers: int, arrivals_per_s: Value, service_s: Value, arrival_cv: Value = 1.0, service_cv: Value = 1.0
) -> Value:
    """Mean wait: Erlang's for random arrivals and service, times half the sum of the squared coefficients of variation.

    Endless (inf) where the servers cannot keep up.
    """
    offered = arrivals_per_s * service_s
    spare = servers - offered
    waits = erlang_c(servers=servers, offered=offered) * service_s / where(spare > 0.0, spare, 1.0)
    spread = (arrival_cv * arrival_cv + service_cv * service_cv) / 2.0
    return where(spare > 0.0, waits * spread, float("inf"))


def wait_quantile_s(
    *, servers: int, arrivals_per_s: Value, service_s: Value, q: float, arrival_cv: Value = 1.0, service_cv: Value = 1.0
) -> Value:
    """Quantile of the wait: exponential among those who wait at all (exact for M/M/c), scaled like the mean."""
    offered = arrivals_per_s * service_s
    waiting = erlang_c(servers=servers, offered=offered)
    mean = mean_wait_s(
        servers=servers, arrivals_per_s=arrivals_per_s, service_s=service_s, arrival_cv=arrival_cv, service_cv=service_cv
    )
    some = where(waiting > 0.0, waiting, 1.0)
    return where(waiting > 1.0 - q, maximum(mean / some * log(some / (1.0 - q)), 0.0), 0.0)


def servers_needed(*, arrivals_per_s: float, service_s: float, wait_s: float, q: float, servers_max: int = 10_000) -> int | None:
    """The fewest servers with which the quantile `q` of the wait keeps `wait_s` (M/M/c); None where not even the most do."""
    for servers in range(max(1, int(arrivals_per_s * service_s)), servers_max + 1):
        if wait_quantile_s(servers=servers, arrivals_per_s=arrivals_per_s, service_s=service_s, q=q) <= wait_s:
            return servers
    return None
