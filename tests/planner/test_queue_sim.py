"""Queues by simulation, against what is known exactly, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.physics.queues import mean_wait_s, wait_quantile_s
from nearhall.planner.serving.queue_sim import HEAVY, HOPELESS, LOADS, Stream, fifo_waits, sample_waits, simulate_tail


@pytest.mark.parametrize(
    ("servers", "arrivals_per_s", "service_per_s", "mean_wait_s"),
    [(2, 10.0, 8.0, 0.080128), (10, 8.0, 1.0, 0.204590)],
    ids=["two servers: 4.81 min at 10 and 8 an hour", "Erlang with 10 servers at 8 erlang"],
)
def test_waits_of_random_arrivals_are_erlangs(servers: int, arrivals_per_s: float, service_per_s: float, mean_wait_s: float):
    random = np.random.default_rng(5)
    n = 300_000
    arrivals = np.cumsum(random.exponential(1 / arrivals_per_s, n))
    waits = fifo_waits(arrivals, random.exponential(1 / service_per_s, n), servers)
    assert waits.mean() == pytest.approx(mean_wait_s, rel=0.1)


@pytest.mark.parametrize(
    ("servers", "load", "cv", "rel"),
    [
        (1, 0.7, 0.0, 0.03),
        (1, 0.6, 1.5, 0.03),
        (2, 0.7, 1.0, 0.03),
        (16, 0.85, 1.0, 0.05),
        (4, 0.6, 0.5, 0.12),
        (2, 0.7, 1.5, 0.05),
    ],
)
def test_without_bursts_the_simulation_waits_as_allen_and_cunneen_say(servers: int, load: float, cv: float, rel: float):
    """Exact for one server (Pollaczek and Khinchine) and for random service (Erlang); a tenth short for several even ones."""
    waits = sample_waits(Stream(servers=servers, service_cv=cv), load, seed=2, requests=200_000).mean()
    formula = mean_wait_s(servers=servers, arrivals_per_s=load * servers, service_s=1.0, service_cv=cv)
    assert waits == pytest.approx(formula, rel=rel)


@pytest.mark.parametrize("servers", [1, 4])
def test_the_tail_without_bursts_is_erlangs_and_no_less_near_full_load(servers: int):
    """12,000 requests from an empty start alone show 0.78 of it at a load of 0.94 and 0.47 at 0.98, in the mean over seeds."""
    tails = [simulate_tail(Stream(servers=servers, service_cv=1.0), seed=seed) for seed in range(10)]
    for load, waits in zip(LOADS, np.transpose([tail.wait for tail in tails]), strict=True):
        formula = wait_quantile_s(servers=servers, arrivals_per_s=load * servers, service_s=1.0, q=0.99)
        if load <= 0.8:
            assert waits.mean() == pytest.approx(formula, rel=0.1, abs=0.02), load
        elif load > HEAVY:
            assert waits.min() >= formula * (1.0 - 1e-9), load
            assert waits.mean() <= formula * 1.3, load


def test_nobody_waits_where_arrivals_are_a_clock_and_service_is_even():
    tail = simulate_tail(Stream(servers=1, service_cv=0.0, arrival_cv=0.0), seed=1)
    assert max(tail.wait) == pytest.approx(0.0, abs=1e-9)
    assert tail.load_waiting_within(0.5) == LOADS[-1]
    assert tail.load_waiting_within(-0.5) == 0.0


@given(
    servers=st.sampled_from([1, 2, 8]),
    cv=st.floats(0, 1.5),
    factor=st.floats(1, 6),
    long=st.floats(10, 5000),
    share=st.floats(0.01, 0.15),
)
@settings(max_examples=15, deadline=None)
def test_the_tail_rises_with_the_load(servers: int, cv: float, factor: float, long: float, share: float):
    stream = Stream(servers=servers, service_cv=cv, burst_factor=factor, burst_services=long, burst_share=share)
    tail = simulate_tail(stream, seed=3, requests=3000)
    grid = np.linspace(0.05, 0.98, 40)
    waits = tail.wait_p99(grid)
    assert np.all(np.diff(waits) >= -1e-9)
    assert tail.wait_p99(np.array([1.0]))[0] == HOPELESS
    limit = float(np.median(waits))
    assert tail.wait_p99(np.array([tail.load_waiting_within(limit)]))[0] <= limit + 1e-6


def test_bursts_wait_longer_than_the_same_requests_spread_out_and_keep_their_mean_rate():
    even = simulate_tail(Stream(servers=2, service_cv=0.2), seed=1)
    bursty = simulate_tail(Stream(servers=2, service_cv=0.2, burst_factor=2.0, burst_services=200.0), seed=1)
    assert bursty.wait[LOADS.index(0.6)] > 2 * even.wait[LOADS.index(0.6)]
    waits = sample_waits(Stream(servers=1, service_cv=0.0, burst_factor=3.0), 0.05, seed=1)
    assert np.median(waits) == pytest.approx(0.0)


def test_a_longer_burst_that_the_servers_cannot_take_waits_in_proportion():
    short = simulate_tail(Stream(servers=1, service_cv=0.1, burst_factor=4.0, burst_services=500.0), seed=1)
    long = simulate_tail(Stream(servers=1, service_cv=0.1, burst_factor=4.0, burst_services=5000.0), seed=1)
    at = LOADS.index(0.6)
    assert long.wait[at] == pytest.approx(10 * short.wait[at], rel=0.3)
