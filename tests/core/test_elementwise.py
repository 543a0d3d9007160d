"""One formula for floats and arrays: each function against numpy's own, and element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core import elementwise as ew

numbers = st.floats(-50, 50)
rows = st.lists(numbers, min_size=1, max_size=20)
XS, YS = (-10.0, 0.0, 5.0, 20.0), (1.0, 3.0, 2.0, 2.5)
ONE_ARGUMENT = {
    "exp": (ew.exp, np.exp, lambda x: x),
    "log": (ew.log, np.log, lambda x: abs(x) + 0.1),
    "sqrt": (ew.sqrt, np.sqrt, abs),
    "floor": (ew.floor, np.floor, lambda x: x),
    "interp": (lambda x: ew.interp(x, XS, YS), lambda x: np.interp(x, XS, YS), lambda x: x),
    "maximum": (lambda x: ew.maximum(x, 1.5), lambda x: np.maximum(x, 1.5), lambda x: x),
    "maximum, turned round": (lambda x: ew.maximum(1.5, x), lambda x: np.maximum(1.5, x), lambda x: x),
    "minimum": (lambda x: ew.minimum(x, 1.5), lambda x: np.minimum(x, 1.5), lambda x: x),
    "where": (lambda x: ew.where(x > 1, x, 0.0), lambda x: np.where(x > 1, x, 0.0), lambda x: x),
}


@pytest.mark.parametrize("name", ONE_ARGUMENT)
@given(row=rows)
def test_floats_and_arrays_agree_with_numpy(name: str, row: list[float]):
    ours, numpys, domain = ONE_ARGUMENT[name]
    array = np.array([domain(x) for x in row])
    expected = numpys(array)
    np.testing.assert_allclose(ours(array), expected, rtol=1e-12, atol=1e-12)
    for x, y in zip(array, expected, strict=True):
        one = ours(float(x))
        assert isinstance(one, float)
        assert one == pytest.approx(float(y), rel=1e-12, abs=1e-12)


def test_arrays_of_both_arguments_meet_element_by_element():
    a, b = np.array([1.0, 5.0]), np.array([3.0, 2.0])
    assert ew.maximum(a, b).tolist() == [3.0, 5.0]
    assert ew.minimum(a, b).tolist() == [1.0, 2.0]
    assert ew.where(a > b, a, b).tolist() == [3.0, 5.0]


def test_shapes_are_kept():
    grid = np.arange(6.0).reshape(2, 3)
    assert ew.interp(grid, XS, YS).shape == (2, 3)
    assert ew.maximum(grid, 2.0).shape == (2, 3)


def test_interpolation_is_flat_beyond_its_ends_and_exact_at_its_points():
    for x, y in zip(XS, YS, strict=True):
        assert ew.interp(x, XS, YS) == y
    assert ew.interp(-math.inf, XS, YS) == YS[0]
    assert ew.interp(1e9, XS, YS) == YS[-1]
    assert ew.interp(7.0, (1.0,), (4.0,)) == 4.0
    assert ew.interp(np.array([0.0, 7.0]), (1.0,), (4.0,)).tolist() == [4.0, 4.0]
