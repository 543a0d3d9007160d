"""Good p-medians fast: one place after the other (greedy), then swaps of an open for a closed place (Teitz and Bart 1968).

Each round looks at every swap at once: what a place gains, less what dropping another loses, each summed over the points that
the other serves (after Whitaker 1983). Nothing is proven here; `median_tree` does that.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.effort import Spend, unlimited
from nearhall.planner.placement.solver import Floats

Places = NDArray[np.int64]
STARTS = 2
"""Random ones, beside the greedy one; drawn from a seed, so that two runs agree."""
LEAST = 1e-12
"""A swap that saves less, relative to the objective, is rounding."""
SWAP_CELLS = 8
"""Work of looking at every swap, for each cell of the matrix (measured: 4 to 10)."""


def total(cost: Floats, open_: Places) -> float:
    """What it costs with these places open; `cost` has shape (points, places)."""
    return float(cost[:, open_].min(axis=1).sum())


def good(cost: Floats, p: int, spend: Spend = unlimited) -> Places:
    """The best of a few starts, each swapped until no swap helps; what there is by then where `spend` says it is time."""
    random = np.random.default_rng(0)
    best = swapped(cost, greedy(cost, p, spend), spend)
    for _ in range(STARTS):
        if spend(0.0):
            break
        other = swapped(cost, random.choice(cost.shape[1], p, replace=False), spend)
        best = min(best, other, key=lambda open_: total(cost, open_))
    return best


def greedy(cost: Floats, p: int, spend: Spend = unlimited) -> Places:
    """One place after the other, each the one that helps most.

    What a place helps only shrinks while others open, so a place whose help was less before is not looked at (Minoux 1978).
    """
    chosen = [int(cost.sum(axis=0).argmin())]
    nearest, by_place = cost[:, chosen[0]].copy(), np.ascontiguousarray(cost.T)
    gains = np.maximum(nearest - by_place, 0.0).sum(axis=1)
    waiting = [(-float(gain), j) for j, gain in enumerate(gains) if j != chosen[0]]
    heapify(waiting)
    while len(chosen) < p and not spend(len(cost)):
        j = heappop(waiting)[1]
        again = (-float(np.maximum(nearest - by_place[j], 0.0).sum()), j)
        if waiting and again > waiting[0]:
            heappush(waiting, again)
            continue
        chosen.append(j)
        nearest = np.minimum(nearest, by_place[j])
    rest = [j for _, j in sorted(waiting)[: p - len(chosen)]]
    return np.array(chosen + rest, dtype=np.int64)


def swapped(cost: Floats, open_: Places, spend: Spend = unlimited) -> Places:
    """Swaps one open place for one closed as long as that helps, the best of all swaps each time."""
    open_ = np.array(open_, dtype=np.int64)
    now = total(cost, open_)
    while len(open_) < cost.shape[1] and not spend(SWAP_CELLS * cost.size):
        change, r, j = _best_swap(cost, open_)
        before, open_[r] = open_[r], j
        after = total(cost, open_)
        if not (change < -LEAST * abs(now) and after < now):  # only what is less in fact, or rounding could go round for ever
            open_[r] = before
            break
        now = after
    return open_


def _best_swap(cost: Floats, open_: Places) -> tuple[float, int, int]:
    """(what it changes, which of the open ones goes, the place that comes)."""
    held = cost[:, open_]
    rows = np.arange(len(cost))
    first = held.argmin(axis=1)
    near = held[rows, first]
    held[rows, first] = np.inf
    second = held.min(axis=1)
    # Adding j gains where it is nearer; dropping r then loses, for its own points, up to the second or to j.
    loss = np.maximum(np.minimum(cost, second[:, None]) - near[:, None], 0.0)
    gains = np.maximum(near[:, None] - cost, 0.0).sum(axis=0)
    order = first.argsort(kind="stable")
    served, begins = np.unique(first[order], return_index=True)
    change = np.zeros((len(open_), cost.shape[1]))
    change[served] = np.add.reduceat(loss[order], begins, axis=0)
    change -= gains
    change[:, open_] = np.inf
    r, j = np.unravel_index(int(change.argmin()), change.shape)
    return float(change[r, j]), int(r), int(j)
