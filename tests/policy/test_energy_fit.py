"""Watts fitted to use: exact where the world is a line, wide where it is not, and nothing where nothing can be told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.energy_fit import MODELS_MAX, WINDOWS_LEAST, Window, fitted


def line(idle_w: float, watts: dict[str, float], *, windows: int = 60, noise_w: float = 0.0, seed: int = 1) -> list[Window]:
    """Windows of a machine that draws what it should, plus or minus the noise."""
    draw = Random(seed)
    found = []
    for _ in range(windows):
        use = {model: draw.random() for model in watts}
        drawn = idle_w + sum(watts[model] * use[model] for model in watts)
        found.append(Window(watts=drawn + draw.gauss(0.0, noise_w), use=use))
    return found


@given(
    idle_w=st.floats(min_value=1.0, max_value=500.0),
    watts=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(min_value=0.1, max_value=300.0), min_size=1, max_size=3),
    seed=st.integers(min_value=0, max_value=10**6),
)
def test_a_line_is_found_as_it_is(idle_w: float, watts: dict[str, float], seed: int):
    fit = fitted(line(idle_w, watts, seed=seed))
    assert fit is not None
    assert fit.idle_w.value == pytest.approx(idle_w, rel=1e-6, abs=1e-4)
    assert {model: found.value for model, found in fit.by_model.items()} == pytest.approx(watts, rel=1e-5, abs=1e-4)
    assert all(found.low <= found.value <= found.high for found in fit.by_model.values())


def test_models_whose_seconds_cost_differently_are_told_apart():
    fit = fitted(line(100.0, {"vectors": 40.0, "parser": 10.0}, noise_w=2.0))
    assert fit is not None
    assert fit.by_model["parser"].high < fit.by_model["vectors"].low
    assert fit.windows == 60


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(200):
        fit = fitted(line(100.0, {"a": 40.0, "b": 10.0}, noise_w=3.0, seed=seed))
        assert fit is not None
        held += fit.by_model["a"].low <= 40.0 <= fit.by_model["a"].high
    assert 180 <= held <= 198


def test_more_noise_is_a_wider_interval():
    widths = []
    for noise_w in (1.0, 10.0):
        fit = fitted(line(100.0, {"a": 40.0}, noise_w=noise_w))
        assert fit is not None
        widths.append(fit.by_model["a"].high - fit.by_model["a"].low)
    assert widths[1] > 5 * widths[0]


@pytest.mark.parametrize(
    "windows",
    [
        [],
        line(100.0, {"a": 40.0}, windows=WINDOWS_LEAST - 1),
        line(100.0, dict.fromkeys("abcd", 1.0), windows=39),
        line(100.0, {f"m{n}": 1.0 for n in range(MODELS_MAX + 1)}, windows=500),
        [Window(watts=100.0, use={"a": 0.5})] * 60,
        [Window(watts=100.0 + n, use={"a": 0.01 * n, "b": 0.02 * n}) for n in range(60)],
        [Window(watts=100.0, use={"a": 0.0})] * 60,
    ],
    ids=["none", "too few", "too few for four models", "too many models", "steady use", "use that goes together", "no use"],
)
def test_what_cannot_be_told_apart_is_not_told(windows: list[Window]):
    assert fitted(windows) is None
