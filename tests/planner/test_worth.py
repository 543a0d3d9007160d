"""What a measurement is worth: nothing where it cannot turn the decision, more where it is likelier to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.planner.sensitivity.worth import Worth, conditional_mean, evppi_usd, explained_share, ranked

RANDOM = np.random.default_rng(2)
X, Y = RANDOM.normal(size=(2, 20_000))


def test_perfect_information_about_a_coin_toss():
    """Returns N(0, 1) known in advance: E[max(x, 0)] = 1 / sqrt(2 pi)."""
    assert evppi_usd(X, X) == pytest.approx(0.3989, abs=0.01)
    assert evppi_usd(X, Y) == pytest.approx(0.0, abs=0.02)


def test_what_cannot_turn_the_decision_is_worth_nothing():
    assert evppi_usd(X + 100.0, X) == 0.0
    assert evppi_usd(X - 100.0, X) == 0.0
    assert evppi_usd(X, np.ones_like(X)) == 0.0
    assert evppi_usd(X, X) > 0.3


@given(shift=st.floats(-3, 3), scale=st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_it_is_never_worth_less_than_nothing(shift: float, scale: float):
    returns = shift + X[:500] + scale * Y[:500]
    assert evppi_usd(returns, Y[:500]) >= -1e-12
    assert conditional_mean(returns, Y[:500]).mean() == pytest.approx(returns.mean())


def test_shares_of_what_is_not_known():
    returns = 3.0 * X + 1.0 * Y
    assert explained_share(returns, X) == pytest.approx(0.9, abs=0.02)
    assert explained_share(returns, Y) == pytest.approx(0.1, abs=0.02)
    assert explained_share(np.ones(100), X[:100]) == 0.0


def test_measurements_are_ranked_by_what_a_day_of_metering_is_worth():
    found = ranked(X + 0.5 * Y, {"slow": X, "quick": Y, "not metered": X}, {"slow": 100.0, "quick": 1.0, "unknown": 1.0})
    assert [worth.name for worth in found] == ["quick", "slow"]
    assert found[0].usd < found[1].usd
    assert found[0].usd_per_day > found[1].usd_per_day
    assert Worth(name="a", usd=10.0, days=4.0).usd_per_day == 2.5
