"""A site against the hub, year by year."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.money.cashflow import npv_usd
from nearhall.planner.money.cost import (
    HubCosts,
    SiteCosts,
    gain_flows,
    hub_flows,
    hub_usd_per_request,
    operations_usd_per_year,
    replacement_years,
    site_flows,
    usd_per_thousand_in_slo,
)


def a_site(**said: object) -> SiteCosts:
    costs: dict[str, object] = {
        "hardware_usd": 2000.0,
        "enclosure_usd": 1000.0,
        "energy_usd": 300.0,
        "demand_usd": 50.0,
        "uplink_usd": 600.0,
        "operations_usd": 400.0,
        "hardware_life_years": 5.0,
    }
    return SiteCosts(**(costs | said))  # type: ignore[arg-type]


A_HUB = HubCosts(requests_usd=900.0, uplink_usd=1200.0, egress_usd=100.0)


def test_operations_and_requests_by_hand():
    operations = operations_usd_per_year(
        visits_per_year=2.0, usd_per_visit=250.0, patching_h_per_year=4.0, usd_per_h=60.0, spares_share=0.05, hardware_usd=2000.0
    )
    assert operations == 2 * 250 + 4 * 60 + 100
    assert hub_usd_per_request(usd_per_server_hour=3.6, utilisation=0.5, requests_per_s=100.0) == pytest.approx(2e-5)


def test_a_sites_money_by_year():
    flows = site_flows(a_site(hardware_life_years=2.0), horizon_years=4)
    assert flows.tolist() == [[-3000.0, -1350.0, -3350.0, -1350.0, -1350.0]]
    assert gain_flows(a_site(), A_HUB, horizon_years=2).tolist() == [[-3000.0, 850.0, 850.0]]
    worth = gain_flows(
        a_site(value_usd=30.0), HubCosts(requests_usd=0.0, uplink_usd=0.0, egress_usd=0.0, value_usd=10.0), horizon_years=1
    )
    assert worth.tolist() == [[-3000.0, -1350.0 + 30.0 - 10.0]]


@pytest.mark.parametrize(
    ("life", "horizon", "years"), [(5, 5, ()), (5, 6, (5,)), (2, 5, (2, 4)), (1.5, 4, (2, 3)), (10, 5, ()), (2.5, 5, (3,))]
)
def test_hardware_is_bought_again_when_its_life_ends_before_the_plan_does(life: float, horizon: int, years: tuple[int, ...]):
    assert replacement_years(life, horizon) == years


def test_common_draws_cancel():
    shared = np.random.default_rng(1).normal(1000.0, 300.0, 5000)
    gain = gain_flows(
        a_site(uplink_usd=shared), HubCosts(requests_usd=900.0, uplink_usd=shared + 5.0, egress_usd=0.0), horizon_years=5
    )
    assert gain.shape == (5000, 6)
    assert gain[:, 1].std() < 1e-9
    assert hub_flows(A_HUB, horizon_years=2, samples=3).shape == (3, 3)


def test_a_thousand_answers_cost_their_years_share():
    flows = site_flows(a_site(), horizon_years=1)
    usd = usd_per_thousand_in_slo(flows, requests_per_year=1e6, p_slo=0.5, rate=0.1, convention="end")
    assert usd == pytest.approx([1000 * (3000 * 1.1 + 1350) / 5e5])
    mid = usd_per_thousand_in_slo(hub_flows(A_HUB, horizon_years=7), requests_per_year=1e6, p_slo=1.0, rate=0.1)
    assert mid == pytest.approx([2.2]), "what is paid evenly costs what a year costs, by either convention"
    assert usd_per_thousand_in_slo(flows, requests_per_year=1e6, p_slo=0.0, rate=0.1)[0] == np.inf


@given(requests=st.floats(0, 1e6), more=st.floats(0, 1e6), rate=st.floats(0, 0.3), years=st.integers(1, 15))
def test_a_dearer_hub_makes_a_site_worth_more(requests: float, more: float, rate: float, years: int):
    cheap, dear = (HubCosts(requests_usd=usd, uplink_usd=10.0, egress_usd=0.0) for usd in (requests, requests + more))
    gains = [npv_usd(gain_flows(a_site(), hub, horizon_years=years), rate=rate)[0] for hub in (cheap, dear)]
    assert gains[1] >= gains[0] - 1e-6


@given(order=st.permutations(range(4)))
def test_the_order_of_samples_changes_nothing(order: list[int]):
    usd = np.array([100.0, 200.0, 300.0, 400.0])
    gain = npv_usd(gain_flows(a_site(energy_usd=usd), A_HUB, horizon_years=5), rate=0.08)
    moved = npv_usd(gain_flows(a_site(energy_usd=usd[order]), A_HUB, horizon_years=5), rate=0.08)
    assert moved == pytest.approx(gain[order])


def test_hardware_without_a_life_is_refused():
    with pytest.raises(InputError, match="life"):
        a_site(hardware_life_years=0.0)
