"""Facility location where capacity binds nowhere: prices for the points, moves of places, and HiGHS for what is left in question.

A Lagrangian bound (each point is served once; Geoffrion 1974, Cornuejols et al. 1977), add, drop and swap moves, and an integer
program over the places and pairs that reduced costs do not settle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nearhall.planner.placement.effort import Effort
from nearhall.planner.placement.instance import Instance, Served, fits
from nearhall.planner.placement.interchange import Places
from nearhall.planner.placement.solver import Floats, Limits, Rows, solve

ROUNDS = 600
ROUND_CELLS, MOVES_CELLS = 4, 12
"""Work of a round of prices, and of looking at every move, for each cell of the matrix (measured: 2 to 4, 6 to 11)."""
PART = 0.5
"""Share of the time for it, as long as capacity may bind after all."""
TOLERANCE = 1e-6
"""Nothing that is better by less is looked for; costs come scaled (`instance.COSTS`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    open_: Places
    best: float
    bound: float
    price: Floats
    """Of each point being served once, at that bound; shape (points,)."""
    run_s: float = 0.0


def solve_uncapacitated(given: Instance, effort: Effort) -> Served | None:
    """The best as if there were room for everybody everywhere, and its bound; None where time ended before all had a place.

    Where what is best by moves does not fit the places, nothing is proven further: then it only shows that capacity binds.
    """
    fixed, allowed = given.fixed, np.isfinite(given.cost)
    worst = np.where(allowed, np.abs(given.cost), 0.0).max() * len(given.cost)
    cost = np.where(allowed, given.cost, 3.0 * (np.abs(fixed).sum() + worst + 1.0))  # no set of places costs as much without
    open_ = _improved(fixed, cost, np.array([int((fixed + cost.sum(axis=0)).argmin())]), effort)
    found = _relaxed(given, cost, open_, effort)
    served = _served(given, cost, found)
    if not _close(found.best, found.bound, effort) and not effort.over() and fits(given, served):
        roomy = bool(np.all(given.room >= given.need.sum()))
        # Where capacity may bind after all, HiGHS's solutions may be none of the whole, so they are not told.
        found = _settled(fixed, cost, found, effort.left() if roomy else replace(effort.left(PART), progress=None))
        effort.spend_s(found.run_s)
        served = _served(given, cost, found)
    return served if np.all(allowed | (served.shares == 0)) else None


def _served(given: Instance, cost: Floats, found: _Found) -> Served:
    opened, shares, places = np.zeros(len(given.fixed), bool), np.zeros(cost.shape), np.sort(found.open_)
    opened[places] = True
    shares[np.arange(len(cost)), places[cost[:, places].argmin(axis=1)]] = 1.0
    return Served(opened=opened, shares=shares, objective=found.best, bound=min(found.bound, found.best))


def _close(best: float, bound: float, effort: Effort) -> bool:
    return best - bound <= effort.limits.gap * abs(best) + TOLERANCE


def _total(fixed: Floats, cost: Floats, open_: Places) -> float:
    return float(fixed[open_].sum() + cost[:, open_].min(axis=1).sum())


def _improved(fixed: Floats, cost: Floats, open_: Places, effort: Effort) -> Places:
    """Adds, drops and swaps as long as that saves; each round looks at every such move."""
    open_ = np.asarray(open_, dtype=np.int64)
    now = _total(fixed, cost, open_)
    while not effort.spend(MOVES_CELLS * cost.size, PART):
        held = cost[:, open_]
        order = held.argsort(axis=1)[:, :2]
        rows = np.arange(len(cost))
        near = held[rows, order[:, 0]]
        second = held[rows, order[:, 1]] if len(open_) > 1 else np.full(len(cost), np.inf)
        closed = np.setdiff1d(np.arange(len(fixed)), open_)
        moves: list[tuple[float, Places]] = []
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
        new = _total(fixed, cost, after)
        if not (change < -1e-9 and new < now):  # only what is less in fact, or rounding could go round for ever
            break
        open_, now = after, new
    return open_


def _best_swap(
    fixed: Floats,
    cost: Floats,
    open_: Places,
    closed: Places,
    *,
    first: Places,
    near: Floats,
    second: Floats,
) -> tuple[float, Places]:
    others = cost[:, closed]
    gain = np.maximum(near[:, None] - others, 0.0).sum(axis=0)
    loss = np.zeros((len(open_), len(closed)))
    np.add.at(loss, first, np.minimum(second[:, None], np.maximum(others, near[:, None])) - near[:, None])
    change = loss - gain[None, :] + fixed[closed][None, :] - fixed[open_][:, None]
    r, j = np.unravel_index(int(change.argmin()), change.shape)
    after = open_.copy()
    after[r] = closed[j]
    return float(change[r, j]), after


def _relaxed(given: Instance, cost: Floats, open_: Places, effort: Effort) -> _Found:
    """Raises the points' prices, and improves by moves the places that pay at them."""
    fixed, best = given.fixed, _total(given.fixed, cost, open_)
    order = np.sort(given.cost + fixed[None, :] / len(cost), axis=1)
    second = order[:, min(1, cost.shape[1] - 1)]
    u: Floats = np.where(np.isfinite(second), second, order[:, 0])
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
                polished = _improved(fixed, cost, np.flatnonzero(taken), effort)
                if _total(fixed, cost, polished) < best - 1e-12:
                    open_, best = polished, _total(fixed, cost, polished)
        if _close(best, bound, effort) or scale < 1e-4 or effort.spend(ROUND_CELLS * cost.size, PART):
            break
        if since >= 15:
            scale, since, u = scale / 2.0, 0, kept.copy()
            continue
        slope = 1.0 - (negative[:, taken] < 0).sum(axis=1)
        norm = float(slope @ slope)
        if norm == 0:
            break
        u = u + scale * (best - total) / norm * slope
    return _Found(open_=open_, best=best, bound=bound, price=kept)


def _settled(fixed: Floats, cost: Floats, found: _Found, limits: Limits) -> _Found:
    """An integer program over what reduced costs leave in question."""
    u, best = found.price, found.best
    value = fixed + np.minimum(cost - u[:, None], 0.0).sum(axis=0)
    base = float(u.sum() + np.minimum(value, 0.0).sum())
    free = np.flatnonzero(base + np.maximum(value, 0.0) <= best + TOLERANCE)
    forced = base - np.minimum(value[free], 0.0) > best + TOLERANCE
    sure = free[forced]
    farthest = cost[:, sure].min(axis=1) if len(sure) else np.full(len(cost), np.inf)
    penalty = base + np.maximum(value[free], 0.0)[None, :] + np.maximum(cost[:, free] - u[:, None], 0.0)
    i, j = np.nonzero((penalty <= best + TOLERANCE) & (cost[:, free] <= farthest[:, None] + 1e-9))
    n, m = len(free), len(i)
    rows = Rows()
    cuts = n + np.searchsorted(i, np.arange(len(cost) + 1))
    for point in range(len(cost)):
        mine: Places = np.arange(cuts[point], cuts[point + 1], dtype=np.int64)
        rows.add(mine, np.ones(len(mine)), 1.0, 1.0)
    rows.add_many(np.column_stack([n + np.arange(m), j]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    solved = solve(
        cost=np.concatenate([fixed[free], cost[i, free[j]]]),
        lower=np.concatenate([forced.astype(np.float64), np.zeros(m)]),
        upper=np.ones(n + m),
        integer=np.concatenate([np.ones(n, bool), np.zeros(m, bool)]),
        rows=rows,
        gap=limits.gap,
        time_limit_s=limits.time_limit_s,
        progress=limits.progress,
        cancelled=limits.cancelled,
    )
    open_ = found.open_
    if solved.x is not None and solved.objective < best - 1e-9:
        open_ = free[np.flatnonzero(solved.x[:n] > 0.5)]
        best = _total(fixed, cost, open_)
    bound = min(max(found.bound, solved.bound), best)
    return _Found(open_=open_, best=best, bound=bound, price=u, run_s=solved.run_s)
