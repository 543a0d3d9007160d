"""How sure a share of joules is: the watts of a site fitted to what each model used, window by window.

Sharing by CPU time takes for granted that every model's second of CPU costs alike. A fit does not: power = idle + the sum of
watts(model) x use(model), by ordinary least squares over windows. It needs windows in which the models' use varies apart from
each other's, and says by its interval how far they did. It is shown beside the share, not in its place, since fitted parts do not
add up to the meter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

WINDOWS_LEAST = 30
WINDOWS_FOR_EACH = 10
"""At least so many in all, and so many for each model: with fewer a straight line finds what it likes."""
MODELS_MAX = 16
"""A larger system says nothing that anybody could check."""
NORMAL_95 = 1.96
SINGULAR = 1e-10
"""A pivot smaller than this part of its column: use that did not vary, or only together with another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One stretch of time."""

    watts: float
    use: Mapping[str, float]
    """Processors that each model kept busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watts:
    """What one more busy processor of a model draws, with its 95 % interval (normal, for windows that are independent)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The line through all windows."""

    idle_w: Watts
    by_model: Mapping[str, Watts]
    windows: int


def fitted(windows: Sequence[Window]) -> Fit | None:
    """The fit; None where there are too few windows, too many models, or use that cannot be told apart."""
    models = sorted({model for window in windows for model, use in window.use.items() if use > 0})
    wanted = max(WINDOWS_LEAST, WINDOWS_FOR_EACH * len(models))
    if not models or len(models) > MODELS_MAX or len(windows) < wanted:
        return None
    rows = [[1.0, *(window.use.get(model, 0.0) for model in models)] for window in windows]
    size = len(models) + 1
    normal = [[fsum(row[i] * row[j] for row in rows) for j in range(size)] for i in range(size)]
    inverse = _inverse(normal)
    if inverse is None:
        return None
    right = [fsum(row[i] * window.watts for row, window in zip(rows, windows, strict=True)) for i in range(size)]
    found = [fsum(inverse[i][j] * right[j] for j in range(size)) for i in range(size)]
    left = [
        window.watts - fsum(x * w for x, w in zip(row, found, strict=True)) for row, window in zip(rows, windows, strict=True)
    ]
    scatter = fsum(each * each for each in left) / (len(windows) - size)
    errors = [NORMAL_95 * sqrt(max(0.0, scatter * inverse[i][i])) for i in range(size)]
    watts = [Watts(value=w, low=w - e, high=w + e) for w, e in zip(found, errors, strict=True)]
    return Fit(idle_w=watts[0], by_model=dict(zip(models, watts[1:], strict=True)), windows=len(windows))


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]] | None:
    """By Gauss and Jordan with the largest pivot of each column; None where one is next to nothing."""
    size = len(matrix)
    rows = [[*row, *(1.0 if i == j else 0.0 for j in range(size))] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(rows[i][column]))
        if abs(rows[pivot][column]) <= SINGULAR * max(abs(row[column]) for row in matrix):
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        head = rows[column][column]
        rows[column] = [value / head for value in rows[column]]
        for i in range(size):
            if i != column and (factor := rows[i][column]):
                rows[i] = [value - factor * own for value, own in zip(rows[i], rows[column], strict=True)]
    return [row[size:] for row in rows]
