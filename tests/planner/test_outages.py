"""Outages, against REopt's own tests (NREL/REopt.jl test/test_with_xpress.jl, read 2026)."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.core.errors import InputError
from nearhall.planner.power.outages import expected_outage_usd, unserved_kwh


def test_case_24_twelve_outages_of_an_hour_too_long():
    assert unserved_kwh(outage_h=np.full(12, 169.0), load_kw=1.0, survivable_h=168.0).sum() == 12.0
    assert unserved_kwh(outage_h=167.0, load_kw=1.0, survivable_h=168.0) == 0.0


def test_case_24_expected_cost_of_outages():
    usd = expected_outage_usd(outage_h=[1, 2, 3, 4, 5], load_kw=10.0, usd_per_kwh=1.0, present_worth=16.18109)
    assert usd == pytest.approx(485.4327, abs=1e-4)


def test_a_likely_outage_weighs_more():
    even = expected_outage_usd(outage_h=[1.0, 3.0], load_kw=1.0, usd_per_kwh=1.0, probability=[0.5, 0.5])
    assert even == 2.0
    assert expected_outage_usd(outage_h=[1.0, 3.0], load_kw=1.0, usd_per_kwh=1.0, probability=[0.1, 0.9]) == pytest.approx(2.8)
    assert expected_outage_usd(outage_h=[1.0, 3.0], load_kw=1.0, usd_per_kwh=1.0, survivable_h=1.0) == 1.0


@pytest.mark.parametrize("probability", [[0.5, 0.4], [1.5, -0.5], [1.0]], ids=str)
def test_probabilities_that_do_not_fit_are_refused(probability: list[float]):
    with pytest.raises(InputError, match="probabilities"):
        expected_outage_usd(outage_h=[1.0, 3.0], load_kw=1.0, usd_per_kwh=1.0, probability=probability)
