"""Facility location: which places to open so that opening and serving together cost least, with or without capacities.

Where capacity binds nowhere: a Lagrangian bound (each point is served once; Geoffrion 1974, Cornuejols et al. 1977) and drop, add
and swap moves, and HiGHS for what reduced costs leave in question. Where it binds: HiGHS on the strong formulation, with a row
"no share of a place that is closed" for every pair; where the pairs are many, `capacitated` leaves out first what cannot pay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.capacitated import Instance, Pairs, Served, placement_rows, solve_capacitated
from nearhall.planner.placement.p_median import Placement
from nearhall.planner.placement.solver import Cancelled, Floats, Limits, Progress, Rows, Solved, solve

ROUNDS = 600
WHOLE_MAX = 20_000
"""Up to so many pairs HiGHS takes them all."""


def facility_location(
    fixed_cost: Floats,
    assign_cost: Floats,
    demand: Floats,
    capacity: Floats,
    *,
    split: bool = True,
    gap: float = 0.0,
    time_limit_s: float = 600.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Placement:
    """Opens places and serves every point.

    Shapes: `fixed_cost` and `capacity` (places,), `demand` (points,), `assign_cost` (points, places) for the whole of a point's
    demand; infinite where a place may not serve a point. With `split` a point may be served from several places. Raises
    ValueError where no set of places can serve everybody.
    """
    fixed, cost = np.asarray(fixed_cost, dtype=np.float64), np.asarray(assign_cost, dtype=np.float64)
    need, room = np.asarray(demand, dtype=np.float64), np.asarray(capacity, dtype=np.float64)
    if not np.isfinite(cost).any(axis=1).all() or need.sum() > room.sum() * (1 + 1e-12):
        raise ValueError("no set of places can serve every point: a point has no place, or all places together are too small")
    loose = _uncapacitated(fixed, cost, gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled)
    used = np.bincount(loose.assignment, weights=need, minlength=len(fixed))
    if np.all(used <= room * (1 + 1e-12)):
        return loose
    return _capacitated(
        fixed, cost, need, room, split=split, gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled
    )


def _uncapacitated(
    fixed: Floats,
    cost: Floats,
    *,
    gap: float,
    time_limit_s: float,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Placement:
    finite = np.where(np.isfinite(cost), cost, 1e3 * (fixed.sum() + cost[np.isfinite(cost)].max() * len(cost) + 1.0))
    open_ = _improved(fixed, finite, np.array([int((fixed + finite.sum(axis=0)).argmin())]))
    best = _total(fixed, finite, open_)
    bound, u, open_, best = _relaxed(fixed, finite, open_, best, gap)
    if best - bound > gap * abs(best) + 1e-9:
        open_, best, bound = _settled(
            fixed,
            finite,
            u,
            open_=open_,
            best=best,
            bound=bound,
            gap=gap,
            time_limit_s=time_limit_s,
            progress=progress,
            cancelled=cancelled,
        )
    left = max(best - bound, 0.0) / max(abs(best), 1e-12)
    open_ = np.sort(open_)
    return Placement(
        chosen=tuple(int(j) for j in open_),
        assignment=open_[finite[:, open_].argmin(axis=1)],
        shares=None,
        objective=best,
        bound=min(bound, best),
        gap=left,
        status="optimal" if left <= 1e-9 else ("within gap" if left <= gap + 1e-12 else "stopped"),
    )


def _total(fixed: Floats, cost: Floats, open_: NDArray[np.int64]) -> float:
    return float(fixed[open_].sum() + cost[:, open_].min(axis=1).sum())


def _improved(fixed: Floats, cost: Floats, open_: NDArray[np.int64]) -> NDArray[np.int64]:
    """Adds, drops and swaps as long as that saves; each round looks at every such move."""
    open_ = np.asarray(open_, dtype=np.int64)
    while True:
        held = cost[:, open_]
        order = held.argsort(axis=1)[:, :2]
        rows = np.arange(len(cost))
        near = held[rows, order[:, 0]]
        second = held[rows, order[:, 1]] if len(open_) > 1 else np.full(len(cost), np.inf)
        closed = np.setdiff1d(np.arange(len(fixed)), open_)
        moves: list[tuple[float, NDArray[np.int64]]] = []
        if len(closed):
            adding = fixed[closed] - np.maximum(near[:, None] - cost[:, closed], 0.0).sum(axis=0)
            j = int(adding.argmin())
            moves.append((float(adding[j]), np.append(open_, closed[j])))
        if len(open_) > 1:
            dropping = np.bincount(order[:, 0], weights=second - near, minlength=len(open_)) - fixed[open_]
            r = int(dropping.argmin())
            moves.append((float(dropping[r]), np.delete(open_, r)))
            if len(closed):
                moves.append(_best_swap(fixed, cost, open_, closed, first=order[:, 0], near=near, second=second))
        change, after = min(moves, key=lambda move: move[0], default=(0.0, open_))
        if change >= -1e-9:
            return open_
        open_ = after


def _best_swap(
    fixed: Floats,
    cost: Floats,
    open_: NDArray[np.int64],
    closed: NDArray[np.int64],
    *,
    first: NDArray[np.int64],
    near: Floats,
    second: Floats,
) -> tuple[float, NDArray[np.int64]]:
    others = cost[:, closed]
    gain = np.maximum(near[:, None] - others, 0.0).sum(axis=0)
    loss = np.zeros((len(open_), len(closed)))
    np.add.at(loss, first, np.minimum(second[:, None], np.maximum(others, near[:, None])) - near[:, None])
    change = loss - gain[None, :] + fixed[closed][None, :] - fixed[open_][:, None]
    r, j = np.unravel_index(int(change.argmin()), change.shape)
    after = open_.copy()
    after[r] = closed[j]
    return float(change[r, j]), after


def _relaxed(
    fixed: Floats, cost: Floats, open_: NDArray[np.int64], best: float, gap: float
) -> tuple[float, Floats, NDArray[np.int64], float]:
    """(bound, its multipliers, best places, best objective)."""
    u = np.sort(cost + fixed[None, :] / len(cost), axis=1)[:, min(1, cost.shape[1] - 1)].copy()
    bound, kept, scale, since = -np.inf, u.copy(), 1.5, 0
    for _ in range(ROUNDS):
        negative = np.minimum(cost - u[:, None], 0.0)
        value = fixed + negative.sum(axis=0)
        taken = value < 0
        total = float(u.sum() + value[taken].sum())
        since += 1
        if total > bound + 1e-9 * max(abs(bound), 1.0) if np.isfinite(bound) else True:
            bound, kept, since = total, u.copy(), 0
            if taken.any() and _total(fixed, cost, np.flatnonzero(taken)) < best * 1.05:
                polished = _improved(fixed, cost, np.flatnonzero(taken))
                if _total(fixed, cost, polished) < best - 1e-12:
                    open_, best = polished, _total(fixed, cost, polished)
        if best - bound <= gap * abs(best) + 1e-9 or scale < 1e-4:
            break
        if since >= 15:
            scale, since, u = scale / 2.0, 0, kept.copy()
            continue
        slope = 1.0 - (negative[:, taken] < 0).sum(axis=1)
        norm = float(slope @ slope)
        if norm == 0:
            break
        u = u + scale * (best - total) / norm * slope
    return bound, kept, open_, best


def _settled(
    fixed: Floats,
    cost: Floats,
    u: Floats,
    *,
    open_: NDArray[np.int64],
    best: float,
    bound: float,
    gap: float,
    time_limit_s: float,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> tuple[NDArray[np.int64], float, float]:
    """An integer program over what reduced costs leave in question."""
    value = fixed + np.minimum(cost - u[:, None], 0.0).sum(axis=0)
    base = float(u.sum() + np.minimum(value, 0.0).sum())
    free = np.flatnonzero(base + np.maximum(value, 0.0) <= best + 1e-6)
    forced = base - np.minimum(value[free], 0.0) > best + 1e-6
    sure = free[forced]
    farthest = cost[:, sure].min(axis=1) if len(sure) else np.full(len(cost), np.inf)
    penalty = base + np.maximum(value[free], 0.0)[None, :] + np.maximum(cost[:, free] - u[:, None], 0.0)
    i, j = np.nonzero((penalty <= best + 1e-6) & (cost[:, free] <= farthest[:, None] + 1e-9))
    n, m = len(free), len(i)
    rows = Rows()
    for point in range(len(cost)):
        mine = n + np.flatnonzero(i == point)
        rows.add(mine, np.ones(len(mine)), 1.0, 1.0)
    rows.add_many(np.column_stack([n + np.arange(m), j]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    solved = solve(
        cost=np.concatenate([fixed[free], cost[i, free[j]]]),
        lower=np.concatenate([forced.astype(np.float64), np.zeros(m)]),
        upper=np.ones(n + m),
        integer=np.concatenate([np.ones(n, bool), np.zeros(m, bool)]),
        rows=rows,
        gap=gap,
        time_limit_s=time_limit_s,
        progress=progress,
        cancelled=cancelled,
    )
    if solved.x is not None and solved.objective < best - 1e-9:
        open_ = free[np.flatnonzero(solved.x[:n] > 0.5)]
        best = _total(fixed, cost, open_)
    return open_, best, min(max(bound, solved.bound), best)


def _capacitated(
    fixed: Floats,
    cost: Floats,
    need: Floats,
    room: Floats,
    *,
    split: bool,
    gap: float,
    time_limit_s: float,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Placement:
    if int(np.isfinite(cost).sum()) > WHOLE_MAX:
        given = Instance(fixed=fixed, cost=cost, need=need, room=room, split=split)
        limits = Limits(gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled)
        served = solve_capacitated(given, limits)
        if served is not None:
            return _of_served(served, gap, split=split)
    solved = _whole(
        fixed, cost, need, room, split=split, gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled
    )
    return _placement(fixed, cost, solved, split=split)


def _of_served(served: Served, gap: float, *, split: bool) -> Placement:
    left = max(served.objective - served.bound, 0.0) / max(abs(served.objective), 1e-12)
    return Placement(
        chosen=tuple(int(k) for k in np.flatnonzero(served.opened)),
        assignment=served.shares.argmax(axis=1),
        shares=served.shares if split else None,
        objective=served.objective,
        bound=served.bound,
        gap=left,
        status="optimal" if left <= 1e-9 else ("within gap" if left <= gap + 1e-9 else "stopped"),
    )


def _whole(
    fixed: Floats,
    cost: Floats,
    need: Floats,
    room: Floats,
    *,
    split: bool,
    gap: float,
    time_limit_s: float,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> Solved:
    """The strong formulation, all of it."""
    i, j = np.nonzero(np.isfinite(cost))
    n, m = len(fixed), len(i)
    rows = placement_rows(need, room, Pairs(point=i, place=j), ends=np.zeros(0, np.int64))
    return solve(
        cost=np.concatenate([fixed, cost[i, j]]),
        lower=np.zeros(n + m),
        upper=np.ones(n + m),
        integer=np.concatenate([np.ones(n, bool), np.full(m, not split)]),
        rows=rows,
        gap=gap,
        time_limit_s=time_limit_s,
        progress=progress,
        cancelled=cancelled,
    )


def _placement(fixed: Floats, cost: Floats, solved: Solved, *, split: bool) -> Placement:
    if solved.x is None:
        raise ValueError(
            "no set of places can serve every point within their capacities"
            if solved.status == "infeasible"
            else "the search was stopped before it had found any solution; allow more time"
        )
    n = len(fixed)
    i, j = np.nonzero(np.isfinite(cost))
    shares = np.zeros_like(cost)
    shares[i, j] = solved.x[n:]
    return Placement(
        chosen=tuple(int(k) for k in np.flatnonzero(solved.x[:n] > 0.5)),
        assignment=shares.argmax(axis=1),
        shares=shares if split else None,
        objective=solved.objective,
        bound=solved.bound,
        gap=solved.gap,
        status=solved.status,
    )
