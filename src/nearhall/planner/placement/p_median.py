"""The p-median problem: open p places so that weighted distances to the nearest are least, with a proven bound.

`interchange` finds good places, `median_bound` says what any p places cost at least, `median_tree` closes what is between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearhall.planner.placement.instance import LARGEST, limits, numbers
from nearhall.planner.placement.median_tree import Found, Search
from nearhall.planner.placement.solver import Cancelled, Floats, Progress, relative_gap, said_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which places are open, and who goes where."""

    chosen: tuple[int, ...]
    """Indices of the open places, ascending."""
    assignment: NDArray[np.int64]
    """For each point the place that it goes to, or takes most from; shape (points,)."""
    shares: Floats | None
    """Of each point at each place where demand may be split, shape (points, places); else None."""
    objective: float
    bound: float
    gap: float
    status: str


def p_median(
    distance: ArrayLike,
    weight: ArrayLike,
    p: int,
    *,
    gap: float = 0.0,
    time_limit_s: float = 600.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Placement:
    """Opens `p` of the places. `distance` has shape (points, places), infinite where a place may not serve; `weight` (points,).

    Raises ValueError for another p, for arrays that do not fit together, for what is not a number or out of range, and where no p
    places can serve every point; TimeoutError where time or `cancelled` ended the search before it knew whether any can.
    Time is counted by the work that is done, so two runs agree; `cancelled` ends it at any time.
    """
    away = numbers("distance", distance, (None, None), least=-LARGEST, most=np.inf)
    points, places = away.shape
    heavy, count = numbers("weight", weight, (points,), least=0.0), _count(p, places)
    cost, forbidden = _finite(away, heavy)
    within = limits(gap, time_limit_s, progress, cancelled)
    found = Search(cost, count, within, forbidden=forbidden).run() if count < places else _all(cost)
    if found.objective >= forbidden:
        if found.bound < forbidden:
            raise TimeoutError("the search ended before it had found p places that can serve every point; allow more time")
        raise ValueError("no p places can serve every point")
    left = relative_gap(found.objective, found.bound)
    return Placement(
        chosen=tuple(int(j) for j in found.open_),
        assignment=found.open_[away[:, found.open_].argmin(axis=1)],
        shares=None,
        objective=found.objective,
        bound=found.bound,
        gap=left,
        status=said_of(left, gap),
    )


def _count(p: object, places: int) -> int:
    whole = float(cast("float", p)) if isinstance(p, (int, float, np.number)) and not isinstance(p, bool) else 0.0
    if 1 <= whole <= places and whole.is_integer():
        return int(whole)
    message = f"p is {p!r}; it is between 1 and the number of places, {places}, and whole"
    raise ValueError(message)


def _finite(away: Floats, heavy: Floats) -> tuple[Floats, float]:
    """(costs, what only costs with a forbidden pair reach): one such pair costs more than everybody's worst without."""
    allowed = np.isfinite(away)
    cost = np.where(allowed & (heavy > 0)[:, None], np.where(allowed, away, 0.0) * heavy[:, None], 0.0)
    if allowed.all():
        return cost, np.inf
    price = 4.0 * float(np.abs(cost).max(axis=1).sum()) or 1.0
    return np.where(allowed | (heavy == 0)[:, None], cost, price), price / 2


def _all(cost: Floats) -> Found:
    objective = float(cost.min(axis=1).sum())
    return Found(open_=np.arange(cost.shape[1], dtype=np.int64), objective=objective, bound=objective)
