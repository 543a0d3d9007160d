"""Bars from samples, against what is known of a linear and of Ishigami's function."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from nearhall.core.errors import InputError
from nearhall.core.quantity import Z90
from nearhall.planner.samples.draws import Draws
from nearhall.planner.sensitivity.tornado import one_at_a_time, tornado

DRAWS = Draws(seed=11, samples=10_000)


def test_a_linear_outcome_gives_back_its_slopes():
    inputs = {name: DRAWS.normal(name) for name in "abcd"}
    outcome = 100.0 + 3.0 * inputs["a"] - 4.0 * inputs["b"] + 0.5 * inputs["c"]
    bars = tornado(inputs, outcome)
    assert [bar.name for bar in bars] == ["b", "a", "c", "d"]
    by_name = {bar.name: bar for bar in bars}
    for name, slope in (("a", 3.0), ("b", -4.0)):
        assert by_name[name].high - by_name[name].low == pytest.approx(2 * Z90 * slope, rel=0.05)
    variance = 9 + 16 + 0.25  # groups of 5 % lose a fiftieth of a share to what varies within them
    assert [by_name[name].share for name in "abcd"] == pytest.approx(
        [9 / variance, 16 / variance, 0.25 / variance, 0.0], abs=0.02
    )
    assert [by_name[name].is_noise for name in "abcd"] == [False, False, False, True]


def test_first_order_shares_of_ishigamis_function():
    """0.314, 0.442 and 0.000, known in closed form (Saltelli et al. 2008, 4.6)."""
    angles = {name: -np.pi + 2 * np.pi * DRAWS.uniform(name) for name in ("x1", "x2", "x3")}
    x1, x2, x3 = angles.values()
    outcome = np.sin(x1) + 7 * np.sin(x2) ** 2 + 0.1 * x3**4 * np.sin(x1)
    shares = {bar.name: bar.share for bar in tornado(angles, outcome)}
    assert [shares[name] for name in ("x1", "x2", "x3")] == pytest.approx([0.314, 0.442, 0.0], abs=0.02)


def test_what_never_changes_moves_nothing():
    (bar,) = tornado({"fixed": np.full(1000, 3.0)}, np.arange(1000.0))
    assert (bar.low, bar.high, bar.share, bar.is_noise) == (499.5, 499.5, 0.0, True)
    (still,) = tornado({"a": np.arange(1000.0)}, np.ones(1000))
    assert (still.swing, still.share) == (0.0, 0.0)


@given(order=st.permutations(["a", "b", "c"]))
@settings(max_examples=6)
def test_the_order_of_inputs_changes_nothing(order: list[str]):
    inputs = {name: DRAWS.normal(name) for name in "abc"}
    outcome = inputs["a"] + inputs["b"] * 0.9 + inputs["c"] ** 2
    assert tornado({name: inputs[name] for name in order}, outcome) == tornado(inputs, outcome)


def test_one_at_a_time_turns_each_input_alone():
    bars = one_at_a_time(
        lambda at: at["price"] * at["hours"] - at["fee"],
        {"price": (1.0, 2.0, 4.0), "hours": (9.0, 10.0, 11.0), "fee": (5.0, 5.0, 5.0)},
    )
    assert [(bar.name, bar.low, bar.high) for bar in bars] == [("price", 5.0, 35.0), ("hours", 13.0, 17.0), ("fee", 15.0, 15.0)]
    assert sum(bar.share for bar in bars) == pytest.approx(1.0)
    assert one_at_a_time(lambda _: 1.0, {"a": (0.0, 1.0, 2.0)})[0].share == 0.0


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="samples"):
        tornado({"a": np.arange(39.0)}, np.arange(39.0))
    assert tornado({"a": np.arange(40.0)}, np.arange(40.0))[0].share > 0.9


def test_effects_beneath_the_noise_of_the_others_are_told_and_what_moves_nothing_is_not():
    """Ninety inputs, ten of which move the outcome; the least by a two-hundredth of its spread."""
    inputs = {f"x{k:02}": DRAWS.normal(f"x{k:02}") for k in range(90)}
    slopes = {f"x{k:02}": 100.0 * 0.55**k for k in range(10)}
    outcome = 30.0 + sum(slope * inputs[name] for name, slope in slopes.items())
    outcome = outcome + 20.0 * inputs["x00"] * inputs["x01"] + 10.0 * np.exp(0.5 * inputs["x02"])
    bars = {bar.name: bar for bar in tornado(inputs, outcome)}
    for name, slope in slopes.items():
        if name != "x02":
            assert bars[name].swing == pytest.approx(2 * Z90 * slope, rel=0.08), name
            assert not bars[name].is_noise
    assert {name for name, bar in bars.items() if not bar.is_noise} == set(slopes)
    crude = np.std(outcome) * (2 / 1000) ** 0.5
    assert max(bars[name].swing for name in inputs if name not in slopes) < 0.2 * crude


def test_a_curved_effect_keeps_its_share_beside_others():
    inputs = {name: DRAWS.normal(name) for name in "abcd"}
    outcome = 3.0 * (inputs["a"] ** 2 - 1.0) / 2**0.5 + 2.0 * inputs["b"] + 5.0 * inputs["c"]
    bars = {bar.name: bar for bar in tornado(inputs, outcome)}
    assert [bars[name].share for name in "abcd"] == pytest.approx(
        [9 / 38, 4 / 38, 25 / 38, 0.0], abs=0.05
    )  # the outer groups are wide
    assert [bars[name].is_noise for name in "abcd"] == [False, False, False, True]


def test_the_swing_of_the_probability_is_that_of_the_normal_distribution():
    a, b = DRAWS.normal("a"), DRAWS.normal("b")
    bars = {bar.name: bar for bar in tornado({"a": a, "b": b}, 3.0 * a + 4.0 * b)}
    for name, own, others in (("a", 3.0, 4.0), ("b", 4.0, 3.0)):
        expected = 2 * float(ndtr(Z90 * own / others)) - 1
        # the other part alone decides, with this one held at its end
        assert bars[name].p_swing == pytest.approx(expected, abs=0.02)


def test_few_samples_of_many_inputs_are_not_fitted_but_grouped():
    inputs = {f"x{k}": DRAWS.normal(f"x{k}")[:60] for k in range(30)}
    bars = tornado(inputs, inputs["x3"] * 1.0)
    assert bars[0].name == "x3"
    assert not bars[0].is_noise
