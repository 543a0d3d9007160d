"""Bills with ratchets, against REopt's own tests (NREL/REopt.jl test/runtests.jl, read 2026), and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.money.tariff import Ratchet, billed_demand_kw, demand_charge_usd, electricity

JANUARY, APRIL, DECEMBER = 0, 3, 11
PEAKS = st.lists(st.floats(0, 1000), min_size=12, max_size=12)


def test_case_22_a_ratchet_on_chosen_months():
    peaks = np.full(12, 100.0)
    peaks[[0, 3, 5, 11]] = 200, 400, 500, 300
    ratchet = Ratchet(share=0.75, months=(JANUARY, APRIL, DECEMBER))
    rates = [10, 10, 20, 50, 20, 10, 20, 20, 20, 20, 20, 5]
    assert billed_demand_kw(peaks, ratchet).tolist() == [300, 300, 300, 400, 300, 500, *[300] * 6]
    assert demand_charge_usd(peaks, rates, ratchet) == 74_500.0


def test_case_23_one_hour_in_january_is_paid_all_year():
    peaks = np.zeros(12)
    peaks[JANUARY] = 100.0
    cold = np.isin(np.arange(12), (0, 1, 2, 9, 10, 11))
    assert demand_charge_usd(peaks, np.where(cold, 10.5, 11.5), Ratchet(share=0.35)) == pytest.approx(5302.5, abs=1e-9)
    assert demand_charge_usd(peaks, np.where(cold, 10.5, 11.5)) == pytest.approx(1050.0)


def test_a_trailing_ratchet_forgets():
    peaks = np.full(12, 10.0)
    peaks[1] = 100.0
    billed = billed_demand_kw(peaks, Ratchet(share=0.5, trailing=3))
    assert billed.tolist() == [10, 100, 50, 50, 50, *[10] * 7]
    peaks[10] = 80.0
    assert billed_demand_kw(peaks, Ratchet(share=0.5, trailing=3))[0] == 40.0, "January looks back at last year's November"


def test_samples_have_bills_of_their_own():
    peaks = np.array([[10.0] * 12, [20.0] * 12])
    bill = electricity(
        kwh_per_year=np.array([1000.0, 2000.0]),
        peak_kw=peaks,
        usd_per_kwh=np.array([0.2, 0.3]),
        usd_per_kw_month=np.array([1.0, 2.0]),
    )
    assert bill.energy_usd.tolist() == [200.0, 600.0]
    assert bill.demand_usd.tolist() == [120.0, 480.0]
    assert bill.total_usd.tolist() == [320.0, 1080.0]
    flat = electricity(kwh_per_year=np.array([1000.0, 2000.0]), peak_kw=peaks, usd_per_kwh=0.1)
    assert flat.total_usd.tolist() == [100.0, 200.0]


@given(peaks=PEAKS, low=st.floats(0, 1), high=st.floats(0, 1), trailing=st.one_of(st.none(), st.integers(1, 12)))
def test_a_higher_ratchet_is_never_cheaper(peaks: list[float], low: float, high: float, trailing: int | None):
    less, more = sorted((low, high))
    cheap = demand_charge_usd(peaks, 3.0, Ratchet(share=less, trailing=trailing))
    assert demand_charge_usd(peaks, 3.0, Ratchet(share=more, trailing=trailing)) >= cheap - 1e-9


@given(peaks=PEAKS, month=st.integers(0, 11), more=st.floats(0, 500), share=st.floats(0, 1))
def test_a_higher_peak_is_never_cheaper(peaks: list[float], month: int, more: float, share: float):
    higher = [peak + more * (index == month) for index, peak in enumerate(peaks)]
    ratchet = Ratchet(share=share)
    assert demand_charge_usd(higher, 1.0, ratchet) >= demand_charge_usd(peaks, 1.0, ratchet) - 1e-9


@pytest.mark.parametrize(
    "said", [{"share": 1.2}, {"share": -0.1}, {"share": 0.5, "months": (12,)}, {"share": 0.5, "trailing": 0}], ids=str
)
def test_a_ratchet_that_no_contract_has_is_refused(said: dict[str, object]):
    assert Ratchet(share=1.0, months=(0, 11), trailing=12).share == 1.0
    with pytest.raises(InputError, match="ratchet"):
        Ratchet(**said)  # type: ignore[arg-type]


def test_a_year_of_eleven_months_is_refused():
    with pytest.raises(InputError, match="twelve months"):
        billed_demand_kw(np.ones(11))
