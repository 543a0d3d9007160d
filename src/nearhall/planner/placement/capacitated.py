"""Facility location where capacity binds and the pairs are many: a Lagrangian bound settles most places before HiGHS is asked.

Relaxing "each point is served once" leaves one continuous knapsack for each place (Cornuejols, Sridharan, Thizy 1991). A place
whose reduced cost exceeds what the best known solution leaves is closed or open for good. What remains is an integer program
over the pairs that can pay; all other pairs of a point stand in it as one column at the price of the cheapest of them, as if
that place were open and had room. Where the optimum takes no such column it is the optimum of the whole; else pairs are added,
at the last all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearhall.core.errors import PermanentError
from nearhall.planner.placement.effort import Effort
from nearhall.planner.placement.instance import Instance, Served, fits
from nearhall.planner.placement.interchange import Places
from nearhall.planner.placement.solver import Floats, Limits, Progress, Rows, relative_gap, solve, towards

ROUNDS = 400
ROUND_CELLS = 4
"""Work of a round, for each cell of the matrix (measured: 3)."""
STALE_ROUNDS = 15
"""Rounds without a better bound after which the step shrinks."""
SCALE_MIN = 2e-3
DEFLECTION = 0.6
"""Of the last direction, kept in the next (Camerini, Fratta and Maffioli 1975)."""
TARGET = 1.02
"""Polyak's step aims at so much above the best bound, the optimum being unknown."""
PASSES = 4
"""Programs that are solved at most; the bound holds after each, and the last has all pairs that may pay."""
MORE = 1.5
"""Pairs up to so many times the cheapest that was left out are added at once."""
PART = 0.5
"""Share of the time that is left, for each program but the last."""
WHOLE_MAX = 20_000
"""Up to so many pairs HiGHS takes them all."""
TIME_FIRST = 0.3
"""Share of the time for the first, small program."""
FIRST_GAP = 3e-3
"""It ends there: its solution only has to be good."""
FIRST_PAIRS = 8
"""It gives each point so many of those places, by reduced cost."""
FIRST_PLACES = 1.5
"""The first, small program chooses among so many times the places that the relaxation opens."""
TOLERANCE = 1e-6
"""Nothing that is better by less is looked for; costs come scaled (`instance.COSTS`)."""
ROOM, NEEDS = 2.0**8, 2.0**12
"""HiGHS is shown every capacity, and all demand, as about so much, so that its absolute tolerances are small ones."""
SLACK = 1e-5
"""What a solution may exceed a capacity by, of it: HiGHS's tolerances, and some room."""


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
class Pairs:
    """Who may be served where; shapes (pairs,)."""

    point: Places
    place: Places


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the search knows so far."""

    found: Served | None
    bound: float

    def worth(self, gap: float) -> float:
        """What costs as much is not looked for."""
        return np.inf if self.found is None else self.found.objective - gap * abs(self.found.objective)

    def within(self, gap: float) -> bool:
        """The gap is reached."""
        return self.found is not None and self.bound >= self.worth(gap) - TOLERANCE

    def with_bound(self, bound: float) -> _Known:
        """With a bound that holds too."""
        return replace(self, bound=max(self.bound, bound))

    def with_found(self, found: Served | None) -> _Known:
        """With a solution, if it is better."""
        better = found is not None and (self.found is None or found.objective < self.found.objective)
        return replace(self, found=found) if better else self

    def telling(self, progress: Progress | None, *, whole: bool) -> Progress | None:
        """Tells what is known of the whole while HiGHS solves a part, whose own solutions may be none of the whole."""
        if progress is None:
            return None

        def tell(objective: float, floor: float, gap: float) -> None:
            del gap
            best = np.inf if self.found is None else self.found.objective
            best = min(best, objective) if whole else best
            if best < np.inf:
                bound = min(max(self.bound, floor), best)
                progress(best, bound, relative_gap(best, bound))

        return tell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is in question, and which pairs to begin with."""

    may: NDArray[np.bool_]
    """Shape (points, places): pairs that a better solution may have."""
    pairs: NDArray[np.bool_]
    places: Places
    """Indices of those that it may have."""
    forced: NDArray[np.bool_]
    """Shape (places,): those that it must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the integer program chooses among."""

    pairs: NDArray[np.bool_]
    places: Places
    forced: NDArray[np.bool_]
    elsewhere: Floats
    """The price of a point anywhere but at its pairs; infinite where there is no such place."""


def relax(given: Instance, effort: Effort) -> Relaxed:
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
            if scale < SCALE_MIN:
                break
            continue
        mine = taken[place]
        slope = 1.0 - np.bincount(point[mine], weights=share[mine], minlength=len(u))
        direction = slope + DEFLECTION * direction
        norm = float(direction @ direction)
        if norm == 0 or effort.spend(ROUND_CELLS * cost.size, TIME_FIRST):
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


def solve_capacitated(given: Instance, loose: Served | None, effort: Effort, *, whole_max: int = WHOLE_MAX) -> Served:
    """The best found, with a bound for the whole. `loose` is what is best with room for everybody everywhere, if that is known.

    Up to `whole_max` pairs are asked at once. ValueError where no places can serve everybody, TimeoutError where the search ended
    before it knew either.
    """
    known = _Known(
        found=loose if loose is not None and fits(given, loose) else None, bound=-np.inf if loose is None else loose.bound
    )
    finite = np.isfinite(given.cost)
    every = _Question(may=finite, pairs=finite, places=np.arange(len(given.fixed)), forced=np.zeros(len(given.fixed), bool))
    if int(finite.sum()) > whole_max:
        relaxed = relax(given, effort)
        known = known.with_bound(relaxed.bound)
        known = known.with_found(None if known.found is not None or effort.over() else _first(given, relaxed, effort))
        every = _in_question(given, relaxed, known.worth(effort.limits.gap))
    known = _closed(given, every, known, effort)
    if known.found is None:
        raise TimeoutError("the search ended before it had found any solution; allow more time")
    return replace(known.found, bound=min(known.bound, known.found.objective))


def _in_question(given: Instance, relaxed: Relaxed, worth: float) -> _Question:
    """What a solution that costs less than `worth` may consist of."""
    opening = relaxed.bound + np.maximum(relaxed.place_cost, 0.0)
    free = opening < worth
    forced = free & (relaxed.bound - np.minimum(relaxed.place_cost, 0.0) >= worth)
    may = free[None, :] & np.isfinite(given.cost)
    if not given.split:  # a pair is all or nothing, so its reduced cost settles it too
        may &= opening[None, :] + np.maximum(relaxed.pair_cost, 0.0) < worth
    pairs = may & (given.cost <= relaxed.multiplier[:, None])
    return _Question(may=may, pairs=pairs, places=np.flatnonzero(free), forced=forced)


def _closed(given: Instance, asked: _Question, known: _Known, effort: Effort) -> _Known:
    """Adds pairs until the optimum needs no others, at the last all of them, or time ends."""
    worth, pairs = known.worth(effort.limits.gap), asked.pairs
    for turn in range(PASSES):
        if known.within(effort.limits.gap) or effort.over():
            break
        pairs = pairs if turn < PASSES - 1 else asked.may
        elsewhere = np.where(asked.may & ~pairs, given.cost, np.inf).min(axis=1)
        last = not np.isfinite(elsewhere).any()
        limits = effort.left(1.0 if last else PART)
        program = _Asked(pairs=pairs, places=asked.places, forced=asked.forced, elsewhere=elsewhere)
        now, status, floor, run_s = _solved(given, program, replace(limits, progress=known.telling(limits.progress, whole=last)))
        effort.spend_s(run_s)
        if status == "infeasible":
            if known.found is None:
                raise ValueError("no set of places can serve every point within their capacities")
            floor = worth  # nothing is better than what is known by more than the gap
        known = known.with_bound(min(floor, worth)).with_found(now)
        if last or status not in {"more", "stopped"}:
            break
        pairs = asked.may & (given.cost <= (elsewhere + (MORE - 1.0) * np.abs(elsewhere))[:, None]) | pairs
    return known


def _first(given: Instance, relaxed: Relaxed, effort: Effort) -> Served | None:
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
    limits = effort.left(TIME_FIRST)
    found, _, _, run_s = _solved(given, asked, replace(limits, gap=max(limits.gap, FIRST_GAP), progress=None))
    effort.spend_s(run_s)
    return found


def _solved(given: Instance, asked: _Asked, limits: Limits) -> tuple[Served | None, str, float, float]:
    """(solution, status or `more` where a point takes something elsewhere, bound, seconds that it took)."""
    i, j = np.nonzero(asked.pairs)
    places, open_end = asked.places, np.flatnonzero(np.isfinite(asked.elsewhere))
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
    if solved.x is None:
        return None, solved.status, solved.bound, solved.run_s
    if solved.x[n + m :].max(initial=0.0) > 1e-7:
        return None, "more", solved.bound, solved.run_s
    opened, shares = np.zeros(len(given.fixed), bool), np.zeros(given.cost.shape)
    opened[places] = solved.x[:n] > 0.5
    shares[i, j] = solved.x[n : n + m]
    return _cleaned(given, opened, shares), solved.status, solved.bound, solved.run_s


def _cleaned(given: Instance, opened: NDArray[np.bool_], shares: Floats) -> Served:
    """The solver's solution without what its tolerances leave behind, at the cost that it has then.

    PermanentError where it does not keep the capacities after all.
    """
    held = np.clip(np.where(opened[None, :], shares, 0.0), 0.0, 1.0)
    held = held if given.split else held.round()
    once = held.sum(axis=1)
    held /= np.maximum(once, SLACK)[:, None]
    if np.any(np.abs(once - 1.0) > SLACK) or np.any(held.T @ given.need > given.room * (1 + SLACK)):
        raise PermanentError("HiGHS's solution serves not everybody within the capacities: they or the demands are too far apart")
    served = np.where(np.isfinite(given.cost), given.cost, 0.0) * held
    return Served(opened=opened, shares=held, objective=float(given.fixed[opened].sum() + served.sum()), bound=-np.inf)


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
        scale = towards(ROOM, float(room[place]))
        rows.add(np.append(n + mine, place), scale * np.append(need[pairs.point[mine]], -room[place]), -np.inf, 0.0)
    # Open places must hold everybody: redundant, and it lets HiGHS see which sets of places are too small.
    scale = towards(NEEDS, float(need.sum()))
    rows.add(np.arange(n), scale * room, scale * float(need.sum()), np.inf)
    if m:
        rows.add_many(np.column_stack([column, pairs.place]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    return rows
