"""Draws: the same name gives the same samples, another name others, and each has the quantiles that were said."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.core.evidence import Evidence, Kind
from nearhall.core.quantity import Exact, LogNormal, Normal, Quantity, Spread, Triangular, Uniform
from nearhall.documents.defaults import all_defaults
from nearhall.planner.samples.draws import Draws
from nearhall.planner.samples.ledger import Ledger

SAID = Evidence(kind=Kind.ASSUMED, source="a test")


@pytest.mark.parametrize(
    "spread",
    [Exact(), LogNormal(0.3), Normal(10.0, 80.0, 115.0), Uniform(50.0, 150.0), Triangular(50, 90, 180), Triangular(7, 7, 7)],
    ids=str,
)
def test_samples_have_the_quantiles_of_the_quantity(spread: Spread):
    quantity = Quantity(p50=100.0, unit="W", evidence=SAID, spread=spread)
    samples = Draws(seed=1, samples=4000).of("a", quantity)
    assert samples.shape == (4000,)
    assert np.quantile(samples, 0.1) == pytest.approx(quantity.p10, rel=2e-3)
    assert np.quantile(samples, 0.9) == pytest.approx(quantity.p90, rel=2e-3)


def test_a_stream_hangs_on_seed_and_name_alone():
    quantity = Quantity(p50=100.0, unit="W", evidence=SAID, spread=LogNormal(0.3))
    one, other = Draws(seed=1, samples=500), Draws(seed=1, samples=500)
    other.of("z", quantity)
    assert np.array_equal(one.of("a", quantity), other.of("a", quantity))
    assert not np.array_equal(one.of("a", quantity), one.of("b", quantity))
    assert not np.array_equal(one.of("a", quantity), Draws(seed=2, samples=500).of("a", quantity))
    assert abs(np.corrcoef(one.of("a", quantity), one.of("b", quantity))[0, 1]) < 0.15


def test_the_ledger_knows_what_was_said_and_what_was_taken_for_granted():
    ledger = Ledger(Draws(seed=1, samples=200), all_defaults())
    own = Quantity(p50=1.2, unit="1", evidence=SAID)
    assert ledger.take("hubs.a.pue", own, "hub.pue").tolist() == [1.2] * 200
    shared = ledger.take("hubs.b.pue", None, "hub.pue")
    assert np.array_equal(shared, ledger.take("hubs.c.pue", None, "hub.pue"))
    said, default = ledger.entries()
    assert (said.name, said.is_default) == ("hubs.a.pue", False)
    assert (default.name, default.is_default, default.used_by) == ("default:hub.pue", True, ("hubs.b.pue", "hubs.c.pue"))
