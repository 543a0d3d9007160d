"""What a line bills, and that a flat one saves nothing until a step is avoided."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.money.uplink import (
    STEP_FILL,
    Contract,
    FlatStep,
    Percentile,
    PerGb,
    Quota,
    Traffic,
    add,
    beyond_quota_gb,
    bytes_per_s_of,
    contract_usd_per_month,
    mbps_of,
    percentile_mbps,
    traffic_of_day,
    with_and_without,
)

STEPS = FlatStep(steps_mbps=(100.0, 500.0, 1000.0), usd_per_month=(80.0, 150.0, 260.0))
CONTRACTS: dict[str, Contract] = {
    "per_gb": PerGb(usd_per_gb=0.1),
    "p95": Percentile(usd_per_mbps_month=2.0, committed_mbps=10.0),
    "flat": STEPS,
    "a cheaper faster step": FlatStep(steps_mbps=(10.0, 100.0), usd_per_month=(90.0, 50.0)),
    "quota": Quota(usd_per_month=30.0, quota_gb=50.0, usd_per_gb=2.0),
    "throttled": Quota(usd_per_month=30.0, quota_gb=50.0, usd_per_gb=None),
}


def steady(mbps: float) -> Traffic:
    return traffic_of_day(bytes_per_s=np.array([bytes_per_s_of(np.array(mbps))]).astype(float), day=np.ones(24))


def test_the_percentile_drops_the_top_five_in_a_hundred():
    averages = np.arange(1.0, 101.0)
    assert percentile_mbps(averages) == 95.0
    month = np.ones(8640)
    month[:432] = 1000.0  # 36 hours of five-minute averages
    assert percentile_mbps(month) == 1.0
    month[:433] = 1000.0
    assert percentile_mbps(month) == 1000.0, "one average more is billed"


def test_an_hour_a_day_is_free_by_the_percentile_and_two_are_not():
    one, two = np.full(24, 0.1), np.full(24, 0.1)
    one[12], two[12:14] = 1.0, 1.0
    rate = np.array([1.25e6])
    assert traffic_of_day(bytes_per_s=rate, day=one).p95_mbps[0] == pytest.approx(1.0)
    assert traffic_of_day(bytes_per_s=rate, day=two).p95_mbps[0] == pytest.approx(10.0)


def test_a_flat_line_saves_nothing_until_a_step_is_avoided():
    saves_bytes = with_and_without(STEPS, served_at_hub=steady(70.0), served_at_site=steady(5.0))
    assert saves_bytes.saved_usd_per_month[0] == 0.0
    assert saves_bytes.p_saves == 0.0
    avoids = with_and_without(STEPS, served_at_hub=steady(300.0), served_at_site=steady(5.0))
    assert avoids.saved_usd_per_month[0] == 70.0
    assert avoids.p_saves == 1.0


@pytest.mark.parametrize(
    ("mbps", "usd"), [(1.0, 80.0), (100.0 * STEP_FILL, 80.0), (100.0, 150.0), (700.0, 260.0), (1000.0, 520.0), (2000.0, 780.0)]
)
def test_a_flat_line_takes_the_step_that_carries_the_busiest_minutes(mbps: float, usd: float):
    assert contract_usd_per_month(STEPS, steady(mbps))[0] == usd


def test_other_contracts_bill_what_they_say():
    traffic = Traffic(gb_per_month=np.array([80.0]), p95_mbps=np.array([12.0]), peak_mbps=np.array([40.0]))
    bills = {name: float(contract_usd_per_month(contract, traffic)[0]) for name, contract in CONTRACTS.items()}
    expected = {"per_gb": 8.0, "p95": 24.0, "flat": 80.0, "a cheaper faster step": 50.0, "quota": 90.0, "throttled": 30.0}
    assert bills == pytest.approx(expected)
    assert beyond_quota_gb(Quota(usd_per_month=30.0, quota_gb=50.0, usd_per_gb=None), traffic)[0] == 30.0


def test_a_day_of_traffic_keeps_its_bytes():
    day = np.linspace(0.1, 1.0, 24)
    even, bursty = (traffic_of_day(bytes_per_s=np.array([1e6]), day=day, spread=spread) for spread in (1.0, 1.6))
    assert even.gb_per_month[0] == pytest.approx(1e6 * day.sum() * 3600 * 365 / 12 / 1e9)
    assert bursty.gb_per_month[0] == even.gb_per_month[0]
    assert bursty.peak_mbps[0] == pytest.approx(1.6 * even.peak_mbps[0])
    both = add(even, bursty)
    assert both.peak_mbps[0] == pytest.approx(2.6 * even.peak_mbps[0])
    assert both.p95_mbps[0] == pytest.approx(even.p95_mbps[0] + bursty.p95_mbps[0])


@given(gb=st.floats(0, 1e5), p95=st.floats(0, 5e3), peak=st.floats(0, 5e3), times=st.floats(1, 50))
def test_more_bytes_are_never_cheaper(gb: float, p95: float, peak: float, times: float):
    less = Traffic(gb_per_month=np.array([gb]), p95_mbps=np.array([p95]), peak_mbps=np.array([peak]))
    more = Traffic(gb_per_month=times * less.gb_per_month, p95_mbps=times * less.p95_mbps, peak_mbps=times * less.peak_mbps)
    for contract in CONTRACTS.values():
        assert contract_usd_per_month(contract, more)[0] >= contract_usd_per_month(contract, less)[0] - 1e-9


@given(st.floats(0, 1e12))
def test_units_go_there_and_back(bytes_per_s: float):
    assert bytes_per_s_of(mbps_of(np.array([bytes_per_s])))[0] == pytest.approx(bytes_per_s, rel=1e-12)


@pytest.mark.parametrize("steps", [((100.0,), (80.0, 90.0)), ((), ()), ((100.0, 50.0), (80.0, 90.0))])
def test_steps_without_prices_are_refused(steps: tuple[tuple[float, ...], tuple[float, ...]]):
    with pytest.raises(InputError, match="steps"):
        FlatStep(steps_mbps=steps[0], usd_per_month=steps[1])
