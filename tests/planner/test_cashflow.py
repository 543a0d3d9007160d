"""Present values by hand, and what must hold of any flows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import InputError
from nearhall.planner.money.cashflow import (
    annuity,
    cash_by_year,
    discount_factors,
    npv_usd,
    p_positive,
    payback_spread,
    payback_years,
    present_worth,
    spread_of,
)

FLOWS = np.array([[-100.0, 60.0, 60.0], [-100.0, 10.0, 10.0]])


def test_a_present_value_by_hand():
    end = npv_usd(FLOWS, rate=0.1, convention="end")
    assert end == pytest.approx([-100 + 60 / 1.1 + 60 / 1.21, -100 + 10 / 1.1 + 10 / 1.21])
    mid = npv_usd(FLOWS, rate=0.1)
    assert mid == pytest.approx([-100 + 60 / 1.1**0.5 + 60 / 1.1**1.5, -100 + 10 / 1.1**0.5 + 10 / 1.1**1.5])
    assert p_positive(mid) == 0.5
    assert discount_factors(2, rate=0.0).tolist() == [1.0, 1.0, 1.0]


def test_payback_is_where_the_discounted_sum_turns():
    assert payback_years(FLOWS, rate=0.0).tolist() == pytest.approx([100 / 60, np.inf])
    late = payback_years(FLOWS, rate=0.1, convention="end")[0]
    assert late == pytest.approx(1 + (100 - 60 / 1.1) / (60 / 1.21))
    assert payback_years(np.array([[0.0, 5.0]]), rate=0.1).tolist() == [0.0]


def test_a_replacement_that_is_not_yet_earned_counts_against_the_payback():
    flows = np.array([[-100.0, 120.0, -100.0, 120.0]])
    assert payback_years(flows, rate=0.0).tolist() == pytest.approx([2 + 80 / 120])


def test_a_payback_that_may_never_come_has_quantiles():
    spread = payback_spread(np.array([1.0, 2.0, 3.0, np.inf, np.inf]))
    assert (spread.p10, spread.p50, spread.p90) == (2.0, 3.0, np.inf)


def test_years_have_quantiles_of_their_own():
    flows = np.repeat(np.array([[-10.0, 4.0, 4.0]]), 5, axis=0) * np.arange(1, 6)[:, None]
    assert cash_by_year(flows).p50 == (-30.0, -18.0, -6.0)
    assert cash_by_year(flows, cumulative=False).p50 == (-30.0, 12.0, 12.0)
    assert spread_of(np.arange(11.0)).p90 == 9.0


def test_an_annuity_and_its_present_worth_undo_each_other():
    assert present_worth(10, rate=0.08) == pytest.approx(sum(1.08**-year for year in range(1, 11)))
    assert present_worth(10, rate=0.08, escalation=0.02) == pytest.approx(sum((1.02 / 1.08) ** year for year in range(1, 11)))
    assert present_worth(10, rate=0.0) == 10.0
    assert annuity(10, rate=0.08) * present_worth(10, rate=0.08) == pytest.approx(1.0)


@given(
    flows=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12),
    more=st.floats(0, 1e6),
    year=st.integers(0, 11),
    rate=st.floats(0, 0.5),
)
def test_more_money_is_never_worth_less_and_never_pays_back_later(flows: list[float], more: float, year: int, rate: float):
    some = np.array([flows])
    richer = some.copy()
    richer[0, min(year, len(flows) - 1)] += more
    assert npv_usd(richer, rate=rate)[0] >= npv_usd(some, rate=rate)[0] - 1e-6
    assert payback_years(richer, rate=rate)[0] <= payback_years(some, rate=rate)[0] + 1e-6


def test_a_rate_that_turns_money_inside_out_is_refused():
    with pytest.raises(InputError, match="discount rate"):
        npv_usd(FLOWS, rate=-1.0)
    assert npv_usd(FLOWS, rate=-0.5)[0] > 0
