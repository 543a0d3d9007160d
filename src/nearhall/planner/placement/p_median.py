"""The p-median problem: open p places so that weighted distances to the nearest are least, with a proven bound.

`interchange` finds good places, `median_bound` says what any p places cost at least, `median_tree` closes what is between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.median_tree import Found, Search
from nearhall.planner.placement.solver import Cancelled, Floats, Limits, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which places are open, and who goes where."""

    chosen: tuple[int, ...]
    """Indices of the open places, ascending."""
    assignment: NDArray[np.int64]
    """For each point the place that it goes to, or takes most from; shape (points,)."""
    shares: Floats | None
    """Where demand may be split: shape (points, places)."""
    objective: float
    bound: float
    gap: float
    status: str


def p_median(
    distance: Floats,
    weight: Floats,
    p: int,
    *,
    gap: float = 0.0,
    time_limit_s: float = 600.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Placement:
    """Opens `p` of the places. `distance` has shape (points, places), infinite where a place may not serve; `weight` (points,).

    Raises ValueError for another p, for weights below 0 and what is not a number, and where no p places can serve every point.
    The time is counted by the work that is done, so two runs agree; `cancelled` ends it at any time.
    """
    away, heavy = np.asarray(distance, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    places = away.shape[1]
    if not 1 <= p <= places:
        message = f"p is {p}; it is between 1 and the number of places, {places}"
        raise ValueError(message)
    if np.isnan(away).any() or not (np.isfinite(heavy) & (heavy >= 0)).all():
        raise ValueError("a distance is not a number, or a weight is below 0 or not finite")
    cost, forbidden = _finite(away, heavy)
    limits = Limits(gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled)
    found = Search(cost, p, limits).run() if p < places else _all(cost)
    if found.objective >= forbidden:
        raise ValueError("no p places were found that can serve every point")
    left = max(found.objective - found.bound, 0.0) / max(abs(found.objective), 1e-12)
    return Placement(
        chosen=tuple(int(j) for j in found.open_),
        assignment=found.open_[away[:, found.open_].argmin(axis=1)],
        shares=None,
        objective=found.objective,
        bound=found.bound,
        gap=left,
        status="optimal" if left <= 1e-9 else ("within gap" if left <= gap + 1e-12 else "stopped"),
    )


def _finite(away: Floats, heavy: Floats) -> tuple[Floats, float]:
    """(costs, what only costs with a forbidden pair reach): one such pair costs more than everybody's worst without."""
    allowed = np.isfinite(away)
    cost = np.where(allowed & (heavy > 0)[:, None], np.where(allowed, away, 0.0) * heavy[:, None], 0.0)
    if allowed.all():
        return cost, np.inf
    price = float(np.ceil(2.0 * np.abs(cost).max(axis=1).sum() + 1.0))
    return np.where(allowed | (heavy == 0)[:, None], cost, price), price / 2


def _all(cost: Floats) -> Found:
    objective = float(cost.min(axis=1).sum())
    return Found(open_=np.arange(cost.shape[1], dtype=np.int64), objective=objective, bound=objective)
