"""Servers that workloads share: the fewest that do, found with few simulations, and the wait without bursts beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nearhall.core.evidence import Kind
from nearhall.documents.plan_work import Workload
from nearhall.physics.queues import mean_wait_s
from nearhall.planner.serving import pool as pools
from nearhall.planner.serving.pool import BUSY_MAX, SERVERS_MAX, Lane, Pool, pool_of, servers_needed
from nearhall.planner.serving.service import Service

SAMPLES, P_MIN, SEED = 40, 0.9, 3


def lane(
    *,
    offered: float = 0.5,
    slot_s: float = 0.02,
    slots: int = 1,
    cv: float = 0.3,
    limit: float = 5.0,
    burst: tuple[float, float, float] = (1.0, 30.0, 0.05),
    arrival_cv: float = 1.0,
    sigma: float = 0.1,
) -> Lane:
    """One that keeps `offered` servers busy in the middle case; its limit is so many service times."""
    factor, seconds, share = burst
    workload = Workload.model_validate(
        {
            "id": "w",
            "model": {"kind": "vision", "ref": "resnet50"},
            "arrivals": {"rate_per_s": 1.0, "cv": arrival_cv, "burst": {"factor": factor, "seconds": seconds, "share": share}},
            "slo": {"p99_ms": limit * slot_s * 1e3},
            "data": {"in_kb": 1, "out_kb": 1},
        }
    )
    spread = np.exp(sigma * np.linspace(-1.7, 1.7, SAMPLES))
    service = Service(
        workload="w",
        server="box",
        slots=slots,
        slot_s=slot_s * spread,
        first_s=slot_s * spread,
        until_first=False,
        cv=np.full(SAMPLES, cv),
        busy_w=np.ones(SAMPLES),
        fit=None,
        how="",
        kind=Kind.ASSUMED,
    )
    rate = offered * slots / slot_s * np.flip(spread) ** 2
    return Lane(workload=workload, service=service, rate_per_s=rate, network_p99_ms=np.full(SAMPLES, 0.1 * slot_s * 1e3))


def does(pool: Pool) -> bool:
    return all(pool.p_slo(one) >= P_MIN for one in pool.lanes)


def least(lanes: Sequence[Lane]) -> int:
    return max(1, ceil(float(np.quantile(np.sum([one.rate_per_s * one.server_s for one in lanes], axis=0), P_MIN)) / BUSY_MAX))


def halved(lanes: Sequence[Lane]) -> Pool | None:
    """The plain search, without a guess: the most first, then twice as many until they do, then halves."""
    if not does(pool_of(lanes, SERVERS_MAX, seed=SEED)):
        return None
    low = high = least(lanes)
    while not does(pool_of(lanes, high, seed=SEED)):
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if does(pool_of(lanes, middle, seed=SEED)) else (middle + 1, high)
    return pool_of(lanes, high, seed=SEED)


def searched(lanes: Sequence[Lane]) -> Pool | None:
    return servers_needed(lanes, p_min=P_MIN, seed=SEED)


@given(
    lanes=st.lists(
        st.builds(
            lane,
            offered=st.floats(0.02, 2.0),
            slot_s=st.sampled_from([0.003, 0.02, 0.3]),
            slots=st.sampled_from([1, 1, 2, 8]),
            cv=st.floats(0.0, 1.5),
            limit=st.floats(1.0, 30.0),
            burst=st.tuples(st.floats(1.0, 6.0), st.floats(0.05, 60.0), st.floats(0.005, 0.15)),
            arrival_cv=st.sampled_from([0.0, 1.0]),
            sigma=st.sampled_from([0.0, 0.2]),
        ),
        min_size=1,
        max_size=2,
    ),
    most=st.integers(1, 4),
)
@settings(max_examples=24)
def test_the_fewest_servers_are_those_that_counting_up_one_by_one_finds(lanes: list[Lane], most: int):
    counted = [does(pool_of(lanes, servers, seed=SEED)) for servers in range(1, most + 1)]
    assume(counted == sorted(counted))  # noise of the simulation alone lets one more do worse
    expected = next((n for n, enough in enumerate(counted, 1) if enough and n >= least(lanes)), None)
    found = servers_needed(lanes, p_min=P_MIN, seed=SEED, at_most=most)
    assert (found.servers if found else None) == expected
    if found is not None:
        assert found.tail == pool_of(lanes, found.servers, seed=SEED).tail


@pytest.mark.parametrize(
    ("lanes", "servers", "simulations"),
    [
        ([lane(offered=0.2)], 1, 1),
        ([lane(offered=0.8, limit=3.0)], 3, 2),
        ([lane(offered=0.9, burst=(3.0, 10.0, 0.1))], 5, 2),
        ([lane(offered=20.0, burst=(2.0, 10.0, 0.1))], 46, 2),
        ([lane(limit=1.2)], None, 0),
        ([lane(offered=0.3), lane(offered=0.4, slot_s=0.05)], 2, 2),
    ],
    ids=["one", "two", "bursts", "many", "too late without a wait", "two workloads"],
)
def test_the_guess_saves_simulations(lanes: list[Lane], servers: int | None, simulations: int):
    def counted(search: Callable[[Sequence[Lane]], Pool | None]) -> tuple[int | None, int]:
        pools._simulated.cache_clear()
        found = search(lanes)
        return found.servers if found else None, pools._simulated.cache_info().misses

    plain, guessed = counted(halved), counted(searched)
    assert guessed == (servers, simulations)
    assert plain[0] == servers
    assert plain[1] > simulations


def test_no_pool_has_more_servers_than_are_allowed():
    assert servers_needed([lane(offered=3.0)], p_min=P_MIN, seed=SEED, at_most=3) is None
    bursts = [lane(offered=0.5, burst=(4.0, 60.0, 0.1))]
    assert servers_needed(bursts, p_min=P_MIN, seed=SEED, at_most=2) is None
    assert servers_needed(bursts, p_min=P_MIN, seed=SEED, at_most=9) is not None


def test_the_wait_without_bursts_is_the_formulas_and_less_than_the_wait_in_bursts():
    bursty = pool_of([lane(offered=0.6, cv=0.5, burst=(2.0, 10.0, 0.1), sigma=0.0)], 1, seed=SEED)
    expected_s = mean_wait_s(servers=1, arrivals_per_s=30.0, service_s=0.02, service_cv=0.5)
    np.testing.assert_allclose(bursty.steady_wait_ms(), expected_s * 1e3)
    assert np.all(bursty.wait_p99_ms() > 10 * bursty.steady_wait_ms())
    one, two = (pool_of([lane(offered=0.6, slots=4)], servers, seed=SEED).steady_wait_ms() for servers in (1, 2))
    assert np.all(two < one)


def test_a_pool_that_cannot_keep_up_waits_without_end():
    waits = pool_of([lane(offered=1.0, sigma=0.2)], 1, seed=SEED).steady_wait_ms()
    assert not np.any(np.isnan(waits))
    assert 0.0 < np.mean(np.isinf(waits)) < 1.0
