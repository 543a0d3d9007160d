"""The p-median proven: branch and bound over places, with the priced bound at every node, and HiGHS for what is left small.

A node has places that are open for good and places that are still free. Its bound is raised from its parent's prices; what
would cost more than the best known solution is settled at once. Where few pairs of a point and a place are left, HiGHS takes
them all, which also ends the ties on which prices converge slowly; else the node is split at a place, open here, closed there.
The node with the least bound is next, so that the least of all nodes is a bound for the whole at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from nearhall.planner.placement.effort import Effort
from nearhall.planner.placement.interchange import Places, good, swapped, total
from nearhall.planner.placement.median_bound import Pace, Priced, Question, Watch, raised
from nearhall.planner.placement.solver import Floats, Limits, Rows, Solved, relative_gap, solve, towards

AT_ROOT = Pace(rounds=1500, scale=1.5, stale=15, scale_min=1e-4)
AT_NODE = Pace(rounds=80, scale=0.7, stale=8, scale_min=0.02)
PAIRS_AT_ROOT = 1500
PAIRS_AT_NODE = 600
"""Up to so many, HiGHS takes a node as it is."""
MANY = 20
PAIRS_OF_MANY = 10
"""From so many places on, linear programs are nearly whole and prices converge slowly: at the root, so many for each point."""
NEAR = 1.02
"""The relaxation's own p places are improved by swaps if they cost at most so many times the best known."""
TOLERANCE = 5e-10
"""Of the objective: nothing that is better by less is looked for."""
WHOLE = 1e-6
"""Where every solution costs a whole number, what is better is better by one, less this."""
MAGNITUDE = 2.0**17
"""HiGHS is shown objectives of this size, so that its absolute tolerances are small ones."""
ROUND_CELLS = 30_000
"""A round of prices takes the cells of its matrix and so many more."""
START = 0.3
"""Share of the time for the first solution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best places, what they cost, and what any p places cost at least."""

    open_: Places
    objective: float
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """`opened` are open for good, `free` are undecided, all others are closed; `price` is where to raise it from."""

    bound: float
    opened: Places
    free: Places
    price: Floats


class Search:
    """One instance; `cost` has shape (points, places) and is finite, `p` is less than the number of places.

    What costs `forbidden` or more is no solution, and ends no search for being within the gap.
    """

    def __init__(self, cost: Floats, p: int, limits: Limits, *, forbidden: float = np.inf) -> None:
        self._cost, self._p, self._limits, self._forbidden = cost, p, limits, forbidden
        self._effort = Effort(limits)
        self._by_place = np.ascontiguousarray(cost.T)
        self._whole = bool(np.all(cost == np.round(cost))) and float(np.abs(cost).sum()) < 2.0**52
        self._open = good(cost, p, lambda cells: self._effort.spend(cells, START))
        self._best = total(cost, self._open)
        self._settled = np.inf
        """The least bound of all nodes that are done with."""
        self._seen: set[bytes] = set()
        self._nodes: list[tuple[float, int, _Node]] = []
        self._made = 0

    def run(self) -> Found:
        """Looks until nothing better can be, or the limits say so."""
        at_least = float(self._cost.min(axis=1).sum())
        price: Floats = np.partition(self._cost, 1, axis=1)[:, 1]
        none = np.zeros(0, np.int64)
        self._add(_Node(bound=at_least, opened=none, free=np.arange(self._cost.shape[1], dtype=np.int64), price=price))
        pace, pairs_max = AT_ROOT, max(PAIRS_AT_ROOT, PAIRS_OF_MANY * len(self._cost) if self._p >= MANY else 0)
        while self._nodes and not self._effort.over():
            node = heappop(self._nodes)[2]
            if node.bound >= self._worth():
                self._settled = min(self._settled, node.bound)
                continue
            self._look(node, pace, pairs_max)
            pace, pairs_max = AT_NODE, PAIRS_AT_NODE
            if self._limits.progress is not None:
                bound = self._bound()
                self._limits.progress(self._best, bound, relative_gap(self._best, bound))
        return Found(open_=np.sort(self._open), objective=self._best, bound=self._bound())

    def _worth(self) -> float:
        """What costs as much is not looked for."""
        gap = self._limits.gap if self._best < self._forbidden else 0.0
        wanted = self._best - max(gap, TOLERANCE) * abs(self._best)
        return min(wanted, self._best - 1.0 + WHOLE) if self._whole else wanted

    def _bound(self) -> float:
        least = min(self._settled, self._nodes[0][0] if self._nodes else np.inf)
        least = float(np.ceil(least - WHOLE / 2)) if self._whole and np.isfinite(least) else least
        return min(least, self._best)

    def _add(self, node: _Node) -> None:
        self._made += 1
        heappush(self._nodes, (node.bound, -self._made, node))  # of the same bound, the latest: deep first

    def _offer(self, open_: Places, near: float = NEAR) -> None:
        """Improves it and keeps the best."""
        key = np.sort(open_).tobytes()
        if key in self._seen or total(self._cost, open_) > self._best * near:
            return
        self._seen.add(key)
        better = swapped(self._cost, open_, self._effort.spend)
        cost = total(self._cost, better)
        if cost < self._best:
            self._open, self._best = better, cost

    def _look(self, node: _Node, pace: Pace, pairs_max: int) -> None:
        """Settles the node, or adds its two children."""
        left = self._p - len(node.opened)
        if left in (0, len(node.free)):
            open_ = np.concatenate([node.opened, node.free]) if left else node.opened
            cost = total(self._cost, open_)
            self._settled = min(self._settled, cost)
            if cost < self._best:
                self._open, self._best = open_, cost
            return
        cap = self._cap(node.opened)
        asked = Question(cost=self._by_place[node.free], cap=cap, p=left)
        watch = Watch(
            aims=lambda: (self._best, self._worth()),
            seen=lambda among: self._offer(np.concatenate([node.opened, node.free[among]])),
            stop=lambda: self._effort.spend(asked.cost.size + ROUND_CELLS),
        )
        found = raised(asked, node.price, pace, watch=watch)
        bound = max(node.bound, found.bound)
        lately = node.free[np.argsort(-found.often, kind="stable")[:left]]
        self._offer(np.concatenate([node.opened, lately]), near=NEAR if len(node.opened) else np.inf)
        if bound >= self._worth():
            self._settled = min(self._settled, bound)
            return
        sure = found.bound + found.dearer() >= self._worth()
        opened = np.concatenate([node.opened, node.free[sure & found.among]])
        rest = _Node(bound=bound, opened=opened, free=node.free[~sure], price=found.price)
        if len(rest.opened) == self._p or len(rest.free) == self._p - len(rest.opened):
            self._add(rest)
        elif not self._by_highs(rest, found, ~sure, pairs_max):
            self._split(rest, found, ~sure)

    def _cap(self, opened: Places) -> Floats:
        if not len(opened):
            return np.full(len(self._cost), np.inf)
        return self._by_place[opened].min(axis=0)

    def _split(self, node: _Node, found: Priced, still: np.ndarray) -> None:
        """At the place that gains most of those that the bound would open."""
        value = np.where(found.among, found.value, np.inf)[still]
        k = int(value.argmin())
        closed_at_least = found.bound + float(found.dearer()[still][k])
        place, free = node.free[k : k + 1], np.delete(node.free, k)
        self._add(_Node(bound=node.bound, opened=np.append(node.opened, place), free=free, price=node.price))
        self._add(_Node(bound=max(node.bound, closed_at_least), opened=node.opened, free=free, price=node.price))

    def _by_highs(self, node: _Node, found: Priced, still: np.ndarray, pairs_max: int) -> bool:
        """False where too many pairs are left."""
        cost, cap = self._by_place[node.free], self._cap(node.opened)
        over = np.where(found.among, 0.0, found.dearer())[still]
        least = found.bound + over[:, None] + np.maximum(cost - node.price, 0.0)
        place, point = np.nonzero((least < self._worth()) & (cost < cap))
        if len(point) > pairs_max:
            return False
        held = np.flatnonzero(np.isfinite(cap))
        solved = self._solved(node, cost, (place, point), held, cap)
        self._effort.spend_s(solved.run_s)
        if solved.x is not None:
            open_ = np.concatenate([node.opened, node.free[solved.x[: len(node.free)] > 0.5]])
            now = total(self._cost, open_)
            if now < self._best:
                self._open, self._best = open_, now
        # What was left out costs as much as is not looked for.
        bound = self._worth() if solved.status == "infeasible" else min(solved.bound, self._worth())
        self._settled = min(self._settled, max(bound, node.bound))
        return True

    def _solved(self, node: _Node, cost: Floats, pairs: tuple[Places, Places], held: Places, cap: Floats) -> Solved:
        """Columns: the free places, the pairs, and each point of `held` at its cap."""
        place, point = pairs
        n, m = len(node.free), len(point)
        rows = Rows()
        rows.add(np.arange(n), np.ones(n), self._p - len(node.opened), self._p - len(node.opened))
        order = point.argsort(kind="stable")
        cuts = np.searchsorted(point[order], np.arange(len(self._cost) + 1))
        at_cap = np.full(len(self._cost), -1)
        at_cap[held] = n + m + np.arange(len(held))
        for i in range(len(self._cost)):
            mine = n + order[cuts[i] : cuts[i + 1]]
            mine = np.append(mine, at_cap[i]) if at_cap[i] >= 0 else mine
            rows.add(mine, np.ones(len(mine)), 1.0, 1.0)
        if m:
            rows.add_many(np.column_stack([n + np.arange(m), place]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
        scale = towards(MAGNITUDE, self._best)
        solved = solve(
            cost=np.concatenate([np.zeros(n), cost[place, point], cap[held]]) * scale,
            lower=np.zeros(n + m + len(held)),
            upper=np.ones(n + m + len(held)),
            integer=np.concatenate([np.ones(n, bool), np.zeros(m + len(held), bool)]),
            rows=rows,
            gap=self._limits.gap,
            time_limit_s=max(self._effort.left().time_limit_s, 0.1),
            cancelled=self._limits.cancelled,
        )
        return replace(solved, objective=solved.objective / scale, bound=solved.bound / scale)
