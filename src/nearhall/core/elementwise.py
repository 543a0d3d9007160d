"""maximum, minimum, where, exp, log, sqrt, floor, interp for floats and arrays alike.

One formula serves floats in the agent and arrays in the planner: an array brings its own namespace
(`__array_namespace__`, Python array API standard), a float uses the standard library. No numpy is imported here.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

Value = Any
"""A float, or an array that follows the array API standard."""


def _namespace(*values: Value) -> Any:
    for value in values:
        if hasattr(value, "__array_namespace__"):
            return value.__array_namespace__()
    return None


def maximum(a: Value, b: Value) -> Value:
    """The larger of two values, element by element."""
    space = _namespace(a, b)
    return max(a, b) if space is None else space.maximum(space.asarray(a), space.asarray(b))


def minimum(a: Value, b: Value) -> Value:
    """The smaller of two values, element by element."""
    space = _namespace(a, b)
    return min(a, b) if space is None else space.minimum(space.asarray(a), space.asarray(b))


def where(condition: Value, yes: Value, no: Value) -> Value:
    """`yes` where the condition holds, else `no`."""
    space = _namespace(condition, yes, no)
    return (yes if condition else no) if space is None else space.where(condition, yes, no)


def exp(x: Value) -> Value:
    """The exponential function."""
    space = _namespace(x)
    return math.exp(x) if space is None else space.exp(x)


def log(x: Value) -> Value:
    """Natural logarithm."""
    space = _namespace(x)
    return math.log(x) if space is None else space.log(x)


def sqrt(x: Value) -> Value:
    """Square root."""
    space = _namespace(x)
    return math.sqrt(x) if space is None else space.sqrt(x)


def floor(x: Value) -> Value:
    """The greatest whole number that is not above x, as a float."""
    space = _namespace(x)
    if space is None:
        whole: int = math.floor(x)
        return float(whole)
    return space.floor(x)


def interp(x: Value, xs: Sequence[float], ys: Sequence[float]) -> Value:
    """Linear interpolation through the points (xs, ys), flat beyond both ends; `xs` ascends."""
    space = _namespace(x)
    if space is not None:
        y = space.asarray(x) * 0 + ys[0]
        for x0, x1, y0, y1 in zip(xs, xs[1:], ys, ys[1:], strict=False):
            y = space.where(x >= x0, y0 + (y1 - y0) * (space.minimum(x, space.asarray(x1)) - x0) / (x1 - x0), y)
        return y
    if x <= xs[0]:
        return ys[0]
    if x >= xs[-1]:
        return ys[-1]
    i = bisect_right(xs, x)
    return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1])
