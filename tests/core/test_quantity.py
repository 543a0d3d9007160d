"""Quantities: what their spread says at P10, P50 and P90."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.evidence import Evidence, Kind
from nearhall.core.quantity import Exact, LogNormal, Normal, Quantity, Spread, Triangular, Uniform, log_sigma

SAID = Evidence(kind=Kind.ASSUMED, source="a test")


def quantity(p50: float, spread: Spread) -> Quantity:
    return Quantity(p50=p50, unit="W", evidence=SAID, spread=spread)


@pytest.mark.parametrize(
    ("spread", "p10", "p90"),
    [
        (Exact(), 100.0, 100.0),
        (LogNormal(log_sigma(p50=100.0, p90=150.0)), 100.0 / 1.5, 150.0),
        (Normal(10.0, 0.0, 1000.0), 100.0 - 12.8155, 100.0 + 12.8155),
        (Normal(10.0, 95.0, 105.0), 95.0, 105.0),
        (Uniform(50.0, 150.0), 60.0, 140.0),
        (Triangular(50.0, 100.0, 150.0), 50 + 500**0.5, 150 - 500**0.5),
        (Triangular(100.0, 100.0, 100.0), 100.0, 100.0),
    ],
    ids=lambda value: str(value) if not isinstance(value, float) else "",
)
def test_the_range_of_each_spread(spread: Spread, p10: float, p90: float):
    made = quantity(100.0, spread)
    assert made.p10 == pytest.approx(p10, rel=1e-5)
    assert made.p90 == pytest.approx(p90, rel=1e-5)
    assert made.is_exact == isinstance(spread, Exact)


def test_a_log_normal_needs_quantiles_above_nought():
    assert log_sigma(p50=2.0, p90=2.0) == 0.0
    with pytest.raises(ValueError, match="above 0"):
        log_sigma(p50=0.0, p90=1.0)


@given(low=st.floats(-100, 100), rise=st.floats(0, 50), fall=st.floats(0, 50), u=st.floats(0.001, 0.999))
def test_a_triangular_quantile_stays_between_its_ends_and_rises(low: float, rise: float, fall: float, u: float):
    made = quantity(0.0, Triangular(low, low + rise, low + rise + fall))
    at, later = made.quantile(u, 0.0), made.quantile(min(u + 0.0005, 0.9995), 0.0)
    assert low - 1e-9 <= at <= later + 1e-9 <= low + rise + fall + 2e-9
