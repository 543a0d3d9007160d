"""Facility location where capacity binds and the pairs are many: a Lagrangian bound settles most places before HiGHS is asked.

Relaxing "each point is served once" leaves one continuous knapsack for each place (Cornuejols, Sridharan, Thizy 1991). A place
whose reduced cost exceeds what the best known solution leaves is closed or open for good. What remains is an integer program
over the pairs that can pay; all other pairs of a point stand in it as one column at the price of the cheapest of them, as if
that place were open and had room. Where the optimum takes no such column it is the optimum of the whole; else pairs are added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.solver import Cancelled, Floats, Limits, Rows, solve

Places = NDArray[np.int64]
ROUNDS = 400
STALE_ROUNDS = 15
"""Rounds without a better bound after which the step shrinks."""
SCALE_MIN = 2e-3
DEFLECTION = 0.6
"""Of the last direction, kept in the next (Camerini, Fratta and Maffioli 1975)."""
TARGET = 1.02
"""Polyak's step aims at so much above the best bound, the optimum being unknown."""
PASSES = 4
"""Times that pairs are added; the bound holds after each."""
MORE = 1.2
"""Pairs up to so many times the price that was taken are added at once."""
TIME_FIRST = 0.3
"""Share of the time for the first, small program."""
FIRST_GAP = 3e-3
"""It ends there: its solution only has to be good."""
FIRST_PAIRS = 8
"""It gives each point so many of those places, by reduced cost."""
FIRST_PLACES = 1.5
"""The first, small program chooses among so many times the places that the relaxation opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """The best multipliers of the relaxation, and what they say."""

    bound: float
    multiplier: Floats
    """Of each point being served once; shape (points,)."""
    place_cost: Floats
    """Of opening each place, less what its best knapsack gains; shape (places,)."""
    pair_cost: Floats
    """Reduced cost of each pair at the knapsack's critical ratio; shape (points, places); never above the true one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Shapes: fixed and room (places,), cost (points, places) with infinity where forbidden, need (points,)."""

    fixed: Floats
    cost: Floats
    need: Floats
    room: Floats
    split: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Who may be served where; shapes (pairs,)."""

    point: Places
    place: Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A solution of the whole."""

    opened: NDArray[np.bool_]
    shares: Floats
    """Shape (points, places)."""
    objective: float
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the integer program chooses among."""

    pairs: NDArray[np.bool_]
    places: Places
    forced: NDArray[np.bool_]
    elsewhere: Floats
    """The price of a point anywhere but at its pairs; infinite where there is no such place."""


def relax(given: Instance, *, cancelled: Cancelled | None = None) -> Relaxed:
    """Subgradient ascent on the multipliers, with a deflected direction and a step that shrinks."""
    cost = np.ascontiguousarray(given.cost.T)
    by_need = np.where(given.room > 0, given.fixed / np.maximum(given.room, 1e-300), 0.0)[:, None] * given.need[None, :]
    worth = cost + by_need
    second: Floats = np.partition(worth, min(1, len(worth) - 1), axis=0)[min(1, len(worth) - 1)]
    u: Floats = np.where(np.isfinite(second), second, worth.min(axis=0))
    bound, kept, scale, since = -np.inf, u.copy(), 1.0, 0
    direction: Floats = np.zeros_like(u)
    for _ in range(ROUNDS):
        place, point, share, value = _knapsacks(given, cost, u)
        taken = value < 0
        total = float(u.sum() + value[taken].sum())
        since += 1
        if total > bound + 1e-6 * abs(total):
            bound, kept, since = total, u, 0
        if since >= STALE_ROUNDS:
            scale, since, u, direction = scale * 0.6, 0, kept, np.zeros_like(u)
            if scale < SCALE_MIN or (cancelled is not None and cancelled()):
                break
            continue
        mine = taken[place]
        slope = 1.0 - np.bincount(point[mine], weights=share[mine], minlength=len(u))
        direction = slope + DEFLECTION * direction
        norm = float(direction @ direction)
        if norm == 0:
            break
        u = u + scale * (max(bound * TARGET, bound + 1e-9) - total) / norm * direction
    return _reduced(given, cost, kept)


def _knapsacks(given: Instance, cost: Floats, u: Floats) -> tuple[Places, Places, Floats, Floats]:
    """Of each pair that gains: (place, point, share taken); and each place's value. `cost` has shape (places, points)."""
    gains = u[None, :] - cost
    place, point = np.nonzero(gains > 0)
    gain, need = gains[place, point], given.need[point]
    order = np.argsort(-gain / np.maximum(need, 1e-300))
    order = order[np.argsort(place[order].astype(np.int16 if len(cost) < 2**15 else np.int64), kind="stable")]
    place, point, gain, need = place[order], point[order], gain[order], need[order]
    count = np.bincount(place, minlength=len(cost))
    before = np.cumsum(need) - need
    first = np.cumsum(count) - count
    base = np.append(before, 0.0)[np.minimum(first, len(before))]
    left = given.room[place] - (before - base[place])
    share = np.clip(left / np.maximum(need, 1e-300), 0.0, 1.0)
    return place, point, share, given.fixed - np.bincount(place, weights=gain * share, minlength=len(cost))


def _reduced(given: Instance, cost: Floats, u: Floats) -> Relaxed:
    place, point, share, value = _knapsacks(given, cost, u)
    ratio = (u[point] - cost[place, point]) / np.maximum(given.need[point], 1e-300)
    critical = np.zeros(len(cost))
    cut = share < 1.0
    np.maximum.at(critical, place[cut], ratio[cut])
    reduced = given.cost + critical[None, :] * given.need[:, None] - u[:, None]
    bound = float(u.sum() + np.minimum(value, 0.0).sum())
    return Relaxed(bound=bound, multiplier=u, place_cost=value, pair_cost=reduced)


def solve_capacitated(given: Instance, limits: Limits) -> Served | None:
    """The best found with a bound for the whole, or None where nothing was found."""
    relaxed = relax(given, cancelled=limits.cancelled)
    found = _first(given, relaxed, limits)
    worth = np.inf if found is None else found.objective * (1 - limits.gap)
    free = relaxed.bound + np.maximum(relaxed.place_cost, 0.0) < worth
    forced = free & (relaxed.bound - np.minimum(relaxed.place_cost, 0.0) >= worth)
    may = free[None, :] & np.isfinite(given.cost)
    if not given.split:  # a pair is all or nothing, so its reduced cost settles it too
        may &= relaxed.bound + np.maximum(relaxed.place_cost, 0.0)[None, :] + np.maximum(relaxed.pair_cost, 0.0) < worth
    pairs = may & (given.cost <= relaxed.multiplier[:, None])
    if found is not None:
        pairs |= may & (found.shares > 0)
    bound, share = relaxed.bound, TIME_FIRST
    for _ in range(PASSES):
        if found is not None and found.objective - bound <= limits.gap * abs(found.objective) + 1e-9:
            break
        share = (1 - share) / 2 if share == TIME_FIRST else share / 2
        asked = _Asked(
            pairs=pairs,
            places=np.flatnonzero(free),
            forced=forced,
            elsewhere=np.where(may & ~pairs, given.cost, np.inf).min(axis=1),
        )
        now, beyond, status, floor = _solved(given, asked, limits.part(share))
        bound = max(bound, min(floor, worth))
        if status == "infeasible":  # nothing is better than what is known by more than the gap
            bound = max(bound, worth) if found is not None else bound
        if now is not None and (found is None or now.objective < found.objective):
            found = now
        if status != "more":
            break
        pairs = pairs | (may & (given.cost <= (MORE * asked.elsewhere)[:, None]) & (beyond > 0)[:, None])
    return None if found is None else replace(found, bound=min(bound, found.objective))


def _first(given: Instance, relaxed: Relaxed, limits: Limits) -> Served | None:
    """A good solution, from the places and pairs that the relaxation holds for best."""
    count = min(len(given.fixed), int(np.ceil(FIRST_PLACES * np.sum(relaxed.place_cost < 0))) + 2)
    places = np.sort(np.argsort(relaxed.place_cost, kind="stable")[:count])
    reduced = np.where(np.isfinite(given.cost[:, places]), relaxed.pair_cost[:, places], np.inf)
    kept = min(FIRST_PAIRS, count)
    limit = np.partition(reduced, kept - 1, axis=1)[:, kept - 1]
    pairs = np.zeros(given.cost.shape, bool)
    pairs[:, places] = np.isfinite(reduced) & (reduced <= limit[:, None])
    nowhere = np.full(len(given.need), np.inf)
    asked = _Asked(pairs=pairs, places=places, forced=np.zeros(len(given.fixed), bool), elsewhere=nowhere)
    alone = replace(limits.part(TIME_FIRST), gap=max(limits.gap, FIRST_GAP), progress=None)
    return _solved(given, asked, alone)[0]


def _solved(given: Instance, asked: _Asked, limits: Limits) -> tuple[Served | None, Floats, str, float]:
    """(solution, what each point takes elsewhere, status or `more` where that is not nothing, bound)."""
    i, j = np.nonzero(asked.pairs)
    places, open_end, points = asked.places, np.flatnonzero(np.isfinite(asked.elsewhere)), len(given.need)
    n, m = len(places), len(i)
    at = np.searchsorted(places, j)
    lower = np.concatenate([asked.forced[places].astype(np.float64), np.zeros(m + len(open_end))])
    solved = solve(
        cost=np.concatenate([given.fixed[places], given.cost[i, j], asked.elsewhere[open_end]]),
        lower=lower,
        upper=np.ones(len(lower)),
        integer=np.concatenate([np.ones(n, bool), np.full(m, not given.split), np.zeros(len(open_end), bool)]),
        rows=placement_rows(given.need, given.room[places], Pairs(point=i, place=at), ends=open_end),
        gap=limits.gap,
        time_limit_s=limits.time_limit_s,
        progress=limits.progress,
        cancelled=limits.cancelled,
    )
    beyond = np.zeros(points)
    if solved.x is None:
        return None, beyond, solved.status, solved.bound
    beyond[open_end] = solved.x[n + m :]
    if beyond.max(initial=0.0) > 1e-7:
        return None, beyond, "more", solved.bound
    opened, shares = np.zeros(len(given.fixed), bool), np.zeros(given.cost.shape)
    opened[places] = solved.x[:n] > 0.5
    shares[i, j] = solved.x[n : n + m]
    served = Served(opened=opened, shares=shares, objective=solved.objective, bound=-np.inf)
    return served, beyond, solved.status, solved.bound


def placement_rows(need: Floats, room: Floats, pairs: Pairs, *, ends: Places) -> Rows:
    """The strong formulation. Columns are the places, then the pairs, sorted by point, then one more for each point of `ends`."""
    n, m = len(room), len(pairs.point)
    rows, column = Rows(), n + np.arange(m)
    end_of = np.full(len(need), -1)
    end_of[ends] = n + m + np.arange(len(ends))
    cuts = np.searchsorted(pairs.point, np.arange(len(need) + 1))
    for point in range(len(need)):
        mine = column[cuts[point] : cuts[point + 1]]
        mine = np.append(mine, end_of[point]) if end_of[point] >= 0 else mine
        rows.add(mine, np.ones(len(mine)), 1.0, 1.0)
    by_place = np.argsort(pairs.place, kind="stable")
    cuts = np.searchsorted(pairs.place[by_place], np.arange(n + 1))
    for place in range(n):
        mine = by_place[cuts[place] : cuts[place + 1]]
        rows.add(np.append(n + mine, place), np.append(need[pairs.point[mine]], -room[place]), -np.inf, 0.0)
    # Open places must hold everybody: redundant, and it lets HiGHS see which sets of places are too small.
    rows.add(np.arange(n), room, float(need.sum()), np.inf)
    if m:
        rows.add_many(np.column_stack([column, pairs.place]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    return rows
