"""The p-median problem: open p places so that weighted distances to the nearest are least.

A Lagrangian bound (relaxing "each point once"; Cornuejols, Fisher, Nemhauser 1977) and interchange (Teitz, Bart 1968) leave
little between them; what reduced costs do not settle goes to HiGHS as a small integer program. The bound is always proven.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.solver import Cancelled, Floats, Progress, Rows, solve

ROUNDS = 1200
"""Of the subgradient; each takes a pass over the matrix."""
SMALL = 1e-6
"""What is left out costs at least so much more than what is worth looking for."""


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
    """Opens `p` of the places. `distance` has shape (points, places), `weight` (points,). Raises ValueError for another p."""
    cost = np.asarray(distance, dtype=np.float64) * np.asarray(weight, dtype=np.float64)[:, None]
    places = cost.shape[1]
    if not 1 <= p <= places:
        message = f"p is {p}; it is between 1 and the number of places, {places}"
        raise ValueError(message)
    open_ = _interchange(cost, _greedy(cost, p))
    best = float(cost[:, open_].min(axis=1).sum())
    bound, multipliers, saved, open_, best = _relaxed(cost, p, open_, best, gap)
    whole = bool(np.all(cost == np.round(cost)))
    if whole:
        bound = np.ceil(bound - 1e-6)
    if best - bound > gap * abs(best) + 1e-9:
        # Only what is better by more than the gap, or by a whole one, is looked for.
        worth = min(best - 1.0 if whole else best, best * (1.0 - gap))
        open_, best, bound = _settled(
            cost,
            p,
            open_=open_,
            best=best,
            bound=bound,
            worth=worth,
            multipliers=multipliers,
            rho=saved,
            gap=gap,
            time_limit_s=time_limit_s,
            progress=progress,
            cancelled=cancelled,
        )
        bound = float(np.ceil(bound - SMALL / 2)) if whole else bound
    left = max(best - bound, 0.0) / max(abs(best), 1e-12)
    return Placement(
        chosen=tuple(sorted(int(j) for j in open_)),
        assignment=np.sort(open_)[cost[:, np.sort(open_)].argmin(axis=1)],
        shares=None,
        objective=best,
        bound=min(bound, best),
        gap=left,
        status="optimal" if left <= 1e-9 else ("within gap" if left <= gap + 1e-12 else "stopped"),
    )


def _greedy(cost: Floats, p: int) -> NDArray[np.int64]:
    """One place after the other, each the one that helps most."""
    nearest = np.full(cost.shape[0], np.inf)
    chosen: list[int] = []
    for _ in range(p):
        totals = np.minimum(cost, nearest[:, None]).sum(axis=0)
        totals[chosen] = np.inf
        chosen.append(int(totals.argmin()))
        nearest = np.minimum(nearest, cost[:, chosen[-1]])
    return np.array(chosen)


def _interchange(cost: Floats, open_: NDArray[np.int64]) -> NDArray[np.int64]:
    """Swaps one open place for one closed as long as that helps; each round looks at all swaps (Whitaker's bookkeeping)."""
    open_ = open_.copy()
    while True:
        held = cost[:, open_]
        order = held.argsort(axis=1)
        rows = np.arange(len(cost))
        first, second = order[:, 0], order[:, 1] if len(open_) > 1 else order[:, 0]
        near = held[rows, first]
        next_near = held[rows, second] if len(open_) > 1 else np.full(len(cost), np.inf)
        # Adding j gains where it is nearer; dropping r then loses, for its own points, up to the second or to j.
        gain = np.maximum(near[:, None] - cost, 0.0)
        totals = gain.sum(axis=0)
        loss = np.minimum(next_near[:, None], np.maximum(cost, near[:, None])) - near[:, None]
        by_place = np.zeros((len(open_), cost.shape[1]))
        np.add.at(by_place, first, loss)
        change = by_place - totals[None, :]
        change[:, open_] = np.inf
        r, j = np.unravel_index(int(change.argmin()), change.shape)
        if change[r, j] >= -1e-9:
            return open_
        open_[r] = j


def _relaxed(
    cost: Floats, p: int, open_: NDArray[np.int64], best: float, gap: float
) -> tuple[float, Floats, Floats, NDArray[np.int64], float]:
    """(bound, its multipliers, its reduced costs by place, best places, best objective)."""
    u = np.sort(cost, axis=1)[:, min(1, cost.shape[1] - 1)].copy()
    bound, kept, saved = -np.inf, u.copy(), np.zeros(cost.shape[1])
    scale, since = 1.5, 0
    for _ in range(ROUNDS):
        negative = np.minimum(cost - u[:, None], 0.0)
        rho = negative.sum(axis=0)
        cheapest = np.argpartition(rho, p - 1)[:p]
        value = float(u.sum() + rho[cheapest].sum())
        since += 1
        if value > bound + 1e-9:
            bound, kept, saved, since = value, u.copy(), rho, 0
            found = float(cost[:, cheapest].min(axis=1).sum())
            if found < best * 1.02:
                polished = _interchange(cost, cheapest.astype(np.int64))
                total = float(cost[:, polished].min(axis=1).sum())
                if total < best:
                    open_, best = polished, total
        if best - bound <= gap * abs(best) + 1e-9 or scale < 1e-4:
            break
        if since >= 20:
            scale, since = scale / 2.0, 0
            u = kept.copy()
            continue
        slope = 1.0 - (negative[:, cheapest] < 0).sum(axis=1)
        norm = float(slope @ slope)
        if norm == 0:
            break
        u = u + scale * (best - value) / norm * slope
    return bound, kept, saved, open_, best


def _settled(
    cost: Floats,
    p: int,
    *,
    open_: NDArray[np.int64],
    best: float,
    bound: float,
    worth: float,
    multipliers: Floats,
    rho: Floats,
    gap: float,
    time_limit_s: float,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> tuple[NDArray[np.int64], float, float]:
    """An integer program over the places and pairs that reduced costs leave in question."""
    ordered = np.sort(rho)
    last, following = ordered[p - 1], ordered[p] if p < len(rho) else np.inf
    base = float(multipliers.sum() + ordered[:p].sum())
    free = np.flatnonzero(base + np.maximum(rho - last, 0.0) <= worth + SMALL)
    forced = base + np.maximum(following - rho, 0.0) > worth + SMALL
    reduced = np.maximum(cost[:, free] - multipliers[:, None], 0.0)
    penalty = base + np.maximum(rho[free] - last, 0.0)[None, :] + reduced
    sure = np.flatnonzero(forced[free])
    farthest = cost[:, free[sure]].min(axis=1) if len(sure) else np.full(len(cost), np.inf)
    pairs = (penalty <= worth + SMALL) & (cost[:, free] <= farthest[:, None] + 1e-9)
    i, j = np.nonzero(pairs)
    n, m = len(free), len(i)
    rows = Rows()
    rows.add(np.arange(n), np.ones(n), p, p)
    for point in range(len(cost)):
        mine = n + np.flatnonzero(i == point)
        rows.add(mine, np.ones(len(mine)), 1.0, 1.0)
    rows.add_many(np.column_stack([n + np.arange(m), j]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    solved = solve(
        cost=np.concatenate([np.zeros(n), cost[i, free[j]]]),
        lower=np.concatenate([forced[free].astype(np.float64), np.zeros(m)]),
        upper=np.ones(n + m),
        integer=np.concatenate([np.ones(n, bool), np.zeros(m, bool)]),
        rows=rows,
        gap=gap,
        time_limit_s=time_limit_s,
        progress=progress,
        cancelled=cancelled,
    )
    if solved.status == "infeasible":  # nothing is worth looking for
        return open_, best, max(bound, worth + SMALL)
    if solved.x is not None and solved.objective < best - 1e-9:
        open_ = free[np.flatnonzero(solved.x[:n] > 0.5)]
        best = float(cost[:, open_].min(axis=1).sum())
    return open_, best, max(bound, min(solved.bound, worth + SMALL))
