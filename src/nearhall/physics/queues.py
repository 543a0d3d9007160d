"""Waiting in steady state: Erlang's formulas, and their correction for arrivals and service of another spread.

Erlang 1917; Allen-Cunneen approximation (Allen, "Probability, Statistics and Queueing Theory", 2nd ed., 1990). What bursts do
to the tail is beyond them: `planner.serving.queue_sim`.
"""

from __future__ import annotations

from nearhall.core.elementwise import Value, log, maximum, where


def erlang_b(*, servers: int, offered: Value) -> Value:
    """Share of arrivals that find all servers busy and leave; `offered` is arrival rate x mean service time."""
    blocked = offered * 0.0 + 1.0
    for k in range(1, servers + 1):
        blocked = _one_more(blocked, k, offered)
    return blocked


def erlang_c(*, servers: int, offered: Value) -> Value:
    """Share of arrivals that have to wait; 1 where the servers cannot keep up."""
    return _waiting(erlang_b(servers=servers, offered=offered), offered / servers)


def mean_wait_s(
    *, servers: int, arrivals_per_s: Value, service_s: Value, arrival_cv: Value = 1.0, service_cv: Value = 1.0
) -> Value:
    """Mean wait: Erlang's for random arrivals and service, times half the sum of the squared coefficients of variation.

    Endless (inf) where the servers cannot keep up.
    """
    offered = arrivals_per_s * service_s
    spare = servers - offered
    waits = erlang_c(servers=servers, offered=offered) * service_s / where(spare > 0.0, spare, 1.0)
    return where(spare > 0.0, waits * _spread(arrival_cv, service_cv), float("inf"))


def wait_quantile_s(
    *, servers: int, arrivals_per_s: Value, service_s: Value, q: float, arrival_cv: Value = 1.0, service_cv: Value = 1.0
) -> Value:
    """Quantile of the wait: exponential among those who wait at all (exact for M/M/c), scaled like the mean."""
    offered = arrivals_per_s * service_s
    waiting = erlang_c(servers=servers, offered=offered)
    spare = servers - offered
    each = service_s / where(spare > 0.0, spare, 1.0) * _spread(arrival_cv, service_cv)
    return _quantile(waiting, where(spare > 0.0, each, float("inf")), q)


def servers_needed(
    *,
    arrivals_per_s: float,
    service_s: float,
    wait_s: float,
    q: float,
    arrival_cv: float = 1.0,
    service_cv: float = 1.0,
    servers_max: int = 10_000,
) -> int | None:
    """The fewest servers with which the quantile `q` of the wait keeps `wait_s`; None where not even the most do."""
    offered = arrivals_per_s * service_s
    blocked = 1.0
    for servers in range(1, servers_max + 1):
        blocked = _one_more(blocked, servers, offered)
        if servers > offered:
            each_s = service_s / (servers - offered) * _spread(arrival_cv, service_cv)
            if _quantile(_waiting(blocked, offered / servers), each_s, q) <= wait_s:
                return servers
    return None


def worth_in_burst(*, offered: Value, burst_s: Value, wait_s: Value) -> Value:
    """Servers' worth with which nobody waits longer than `wait_s` at the end of a burst that offers `offered` for `burst_s`.

    As if requests were a fluid (Newell, "Applications of Queueing Theory", 2nd ed., 1982): (offered - c) x burst_s of work is
    left then, and takes that over c.
    """
    return offered * burst_s / (burst_s + wait_s)


def _one_more(blocked: Value, servers: int, offered: Value) -> Value:
    """Erlang's recursion: the share blocked at so many servers, from that at one fewer."""
    return offered * blocked / (servers + offered * blocked)


def _waiting(blocked: Value, load: Value) -> Value:
    held = where(load < 1.0, load, 0.0)
    return where(load < 1.0, blocked / (1.0 - held * (1.0 - blocked)), 1.0)


def _spread(arrival_cv: Value, service_cv: Value) -> Value:
    return (arrival_cv * arrival_cv + service_cv * service_cv) / 2.0


def _quantile(waiting: Value, each_s: Value, q: float) -> Value:
    """Of the wait, where a share `waiting` waits at all and these for `each_s` in the mean."""
    some = where(waiting > 0.0, waiting, 1.0)
    return where(waiting > 1.0 - q, maximum(each_s * log(some / (1.0 - q)), 0.0), 0.0)
