"""Facility location: which places to open so that opening and serving together cost least, with or without capacities.

`uncapacitated` looks for what is best with room for everybody everywhere; where that does not fit, `capacitated` goes on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nearhall.planner.placement.capacitated import solve_capacitated
from nearhall.planner.placement.effort import Effort
from nearhall.planner.placement.instance import fits, instance, limits
from nearhall.planner.placement.p_median import Placement
from nearhall.planner.placement.solver import EXACT, Cancelled, Progress, relative_gap, said_of
from nearhall.planner.placement.uncapacitated import solve_uncapacitated


def facility_location(
    fixed_cost: ArrayLike,
    assign_cost: ArrayLike,
    demand: ArrayLike,
    capacity: ArrayLike,
    *,
    split: bool = True,
    gap: float = 0.0,
    time_limit_s: float = 600.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Placement:
    """Opens places and serves every point.

    Shapes: `fixed_cost` and `capacity` (places,), `demand` (points,), `assign_cost` (points, places) for the whole of a point's
    demand; infinite where a place may not serve a point. An infinite capacity is no limit. With `split` a point may be served
    from several places, and `shares` tells how much of it from each; without, `shares` is None. Capacities are kept to 1e-5.

    Raises ValueError for arrays that do not fit together, for what is not a number or out of range, and where no set of places
    can serve everybody; TimeoutError where time or `cancelled` ended the search before it had found any solution.
    """
    given, scale = instance(fixed_cost, assign_cost, demand, capacity, split=split)
    effort = Effort(limits(gap, time_limit_s, _unscaled(progress, scale), cancelled))
    served = solve_uncapacitated(given, effort)
    if served is None or not fits(given, served) or relative_gap(served.objective, served.bound) > max(gap, EXACT):
        served = solve_capacitated(given, served, effort)
    left = relative_gap(served.objective, served.bound)
    return Placement(
        chosen=tuple(int(k) for k in np.flatnonzero(served.opened)),
        assignment=served.shares.argmax(axis=1),
        shares=served.shares if split else None,
        objective=served.objective / scale,
        bound=served.bound / scale,
        gap=left,
        status=said_of(left, gap),
    )


def _unscaled(progress: Progress | None, scale: float) -> Progress | None:
    return None if progress is None else lambda objective, bound, gap: progress(objective / scale, bound / scale, gap)
