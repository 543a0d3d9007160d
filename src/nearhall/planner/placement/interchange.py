"""Good p-medians fast: one place after the other (greedy), then swaps of an open for a closed place (Teitz and Bart 1968).

Each round looks at every swap at once: what a place gains, less what dropping another loses, each summed over the points that
the other serves (after Whitaker 1983). Nothing is proven here; `median_tree` does that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.solver import Floats

Places = NDArray[np.int64]
STARTS = 2
"""Random ones, beside the greedy one; drawn from a seed, so that two runs agree."""
LEAST = 1e-12
"""A swap that saves less, relative to the objective, is rounding."""


def total(cost: Floats, open_: Places) -> float:
    """What it costs with these places open; `cost` has shape (points, places)."""
    return float(cost[:, open_].min(axis=1).sum())


def good(cost: Floats, p: int) -> Places:
    """The best of a few starts, each swapped until no swap helps."""
    random = np.random.default_rng(0)
    starts = [greedy(cost, p), *(random.choice(cost.shape[1], p, replace=False) for _ in range(STARTS))]
    return min((swapped(cost, start) for start in starts), key=lambda open_: total(cost, open_))


def greedy(cost: Floats, p: int) -> Places:
    """One place after the other, each the one that helps most."""
    nearest = np.full(cost.shape[0], np.inf)
    chosen: list[int] = []
    for _ in range(p):
        totals = np.minimum(cost, nearest[:, None]).sum(axis=0)
        totals[chosen] = np.inf
        chosen.append(int(totals.argmin()))
        nearest = np.minimum(nearest, cost[:, chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def swapped(cost: Floats, open_: Places) -> Places:
    """Swaps one open place for one closed as long as that helps, the best of all swaps each time."""
    open_ = np.array(open_, dtype=np.int64)
    while len(open_) < cost.shape[1]:
        change, r, j = _best_swap(cost, open_)
        if change >= -LEAST * (1.0 + abs(total(cost, open_))):
            break
        open_[r] = j
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
