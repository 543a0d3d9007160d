"""Nominal 80 % intervals for a site that nobody has measured hold it in 75 to 85 % of 400 runs (`bench/calibration.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nearhall.planner.learning.accept import Measure

RUNS = 400
BENCH = Path(__file__).parents[2] / "bench" / "calibration.py"


def load() -> ModuleType:
    """The bench, which is no package."""
    found = importlib.util.spec_from_file_location("calibration_bench", BENCH)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


bench = load()


@pytest.mark.parametrize("figure", list(bench.FIGURES))
def test_intervals_hold_as_often_as_they_claim(figure: str):
    outcome = bench.calibrate(figure, runs=RUNS, seed=1)
    assert outcome.holds, f"{figure}: {outcome.inside:.1%} inside, {outcome.below:.1%} below, {outcome.above:.1%} above"


def test_a_method_that_takes_sites_for_alike_is_found_out():
    def fall(number: int) -> float:
        random = np.random.default_rng([1, number])
        return bench.positive(random, Measure(of="it_power_w"), prior_sd=0.25, between_sd=0.3, believed=0.01)

    falls = np.array([fall(number) for number in range(100)])
    assert float(np.mean((falls > 0.1) & (falls < 0.9))) < bench.LIMITS[0]


def test_a_method_that_knows_no_compressor_is_found_out():
    falls = np.array([bench.compressor_pue(np.random.default_rng([1, number]), by_curve=False) for number in range(200)])
    assert float(np.mean((falls > 0.1) & (falls < 0.9))) < bench.LIMITS[0]
