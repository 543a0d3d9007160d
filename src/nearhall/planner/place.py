"""Which workload is answered where: the cheapest placement that residency, latency, capacity and feeders allow, and why.

Pairs that latency or jurisdiction forbid are left out; nothing is left out for being far. What cannot be served anywhere stays
unserved at a price that nobody would pay, so that a plan that cannot be is explained instead of refused.

What is bought whole for several points together has no price for each of them: the program learns it set by set (`cuts`), until
it proposes a placement whose price it knows. Then no other is cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nearhall.planner.placement.cuts import Bought, Cuts
from nearhall.planner.placement.facility import facility_location
from nearhall.planner.placement.p_median import Placement, p_median
from nearhall.planner.placement.solver import Cancelled, Floats, Progress, Rows, solve

__all__ = [
    "Answer",
    "Bought",
    "Feeder",
    "Placement",
    "Problem",
    "Why",
    "facility_location",
    "feeder_kva",
    "p_median",
    "place",
    "usd_of",
    "why_not",
]

UNSERVED = -1
SETS_ROUNDS, STALE_ROUNDS, STALE = 200, 3, 1e-4
"""Placements that are proposed until the price of what one buys is known: at most so many, and no more once so many have bettered
neither the best nor the bound by this share. The gap tells what is left then."""
STALE_PAIRS = 3000
"""Where there are fewer pairs of points and places, more rounds are taken in proportion: they cost less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """A line that several places share."""

    name: str
    headroom_kva: float
    places: tuple[int, ...]
    sites: tuple[float, ...] = ()
    """How many sites of each of the places hang on it; one each where nothing is said."""

    def sites_of(self, place: int) -> float:
        """How many of that place; 0 for one that is on another line."""
        if place not in self.places:
            return 0.0
        return self.sites[self.places.index(place)] if self.sites else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Points to be served, places to serve them; costs in US dollars a year."""

    points: tuple[str, ...]
    places: tuple[str, ...]
    allowed: NDArray[np.bool_]
    """Shape (points, places): residency, latency, memory and uplink speak not against it."""
    usd: Floats
    """Shape (points, places): of serving the point there, beside what is `bought`."""
    open_usd: Floats
    """Shape (places,): of the place itself."""
    resources: tuple[str, ...]
    """Names with their unit: `IT kW`."""
    use: Floats
    """Shape (points, places, resources)."""
    room: Floats
    """Shape (places, resources); infinite where it is no limit."""
    kva: Floats
    """Shape (points, places): what serving takes of the place's feeder, at one site."""
    open_kva: Floats
    """Shape (places,)."""
    feeders: tuple[Feeder, ...] = ()
    built: tuple[int, ...] = ()
    """Places that exist already."""
    sites: Floats | None = None
    """Shape (points,): for how many sites alike each point stands; costs are those of all, words tell those of one."""
    bought: Bought | None = None
    """None where nothing is bought for several points together."""
    own_use: Floats | None = None
    """Shape (places, resources): what a place takes of its own room; nothing where it is not said."""
    words: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """By place and resource: why the room is exceeded, as sizing the whole place has found."""

    @property
    def own(self) -> Floats:
        """`own_use`, or zeros."""
        return self.own_use if self.own_use is not None else np.zeros_like(self.room)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Who goes where."""

    at: NDArray[np.int64]
    """Shape (points,): index of the place, `UNSERVED` where nothing was possible."""
    open: tuple[int, ...]
    objective_usd: float
    """A year; without the price of what is unserved."""
    bound_usd: float
    gap: float
    status: str
    limits_usd: float | None = 0.0
    """What room and feeders add to it; None where without them more would be served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a point is not served at a place."""

    kind: str
    """forbidden, capacity, feeder, cost."""
    text: str
    value: float | None = None
    limit: float | None = None


def place(
    problem: Problem,
    *,
    gap: float = 1e-3,
    time_limit_s: float = 120.0,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Answer:
    """Solves it; always answers, with the best found when it is stopped. Of placements that cost the same, names decide."""
    rows, columns = _by_name(problem.points), _by_name(problem.places)
    found = _within_limits(
        _in_order(problem, rows, columns), gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled
    )
    at = np.full(len(problem.points), UNSERVED)
    at[rows] = np.where(found.at == UNSERVED, UNSERVED, np.append(columns, UNSERVED)[found.at])
    return replace(found, at=at, open=tuple(sorted(columns[where] for where in found.open)))


def _by_name(names: Sequence[str]) -> list[int]:
    return sorted(range(len(names)), key=lambda index: names[index])


def _in_order(problem: Problem, rows: list[int], columns: list[int]) -> Problem:
    """The same problem with its points and places in this order."""
    stands = {was: now for now, was in enumerate(columns)}
    both = np.ix_(rows, columns)
    return Problem(
        points=tuple(problem.points[row] for row in rows),
        places=tuple(problem.places[column] for column in columns),
        allowed=problem.allowed[both],
        usd=problem.usd[both],
        open_usd=problem.open_usd[columns],
        resources=problem.resources,
        use=problem.use[both],
        room=problem.room[columns],
        kva=problem.kva[both],
        open_kva=problem.open_kva[columns],
        feeders=tuple(
            Feeder(
                name=feeder.name,
                headroom_kva=feeder.headroom_kva,
                places=tuple(sorted(stands[place] for place in feeder.places)),
                sites=tuple(feeder.sites_of(place) for place in columns if place in feeder.places),
            )
            for feeder in sorted(problem.feeders, key=lambda feeder: feeder.name)
        ),
        built=tuple(sorted(stands[place] for place in problem.built)),
        sites=None if problem.sites is None else problem.sites[rows],
        bought=None if problem.bought is None else _Renumbered(bought=problem.bought, rows=rows, columns=columns),
        own_use=None if problem.own_use is None else problem.own_use[columns],
        words=problem.words,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renumbered:
    """What is bought, by the numbers that points and places have now."""

    bought: Bought
    rows: list[int]
    columns: list[int]

    def usd(self, place: int, points: frozenset[int]) -> float:
        return self.bought.usd(self.columns[place], frozenset(self.rows[point] for point in points))

    def least_usd(self) -> Floats:
        return self.bought.least_usd()[np.ix_(self.rows, self.columns)]

    def likely_usd(self) -> Floats:
        return self.bought.likely_usd()[np.ix_(self.rows, self.columns)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposed:
    """A placement as the program sees it."""

    at: NDArray[np.int64]
    bought_usd: Floats
    """Shape (places,): what it believes that each buys."""
    bound: float
    """No placement costs less, the price of what is unserved included."""
    status: str
    run_s: float


def _within_limits(
    problem: Problem, *, gap: float, time_limit_s: float, progress: Progress | None, cancelled: Cancelled | None
) -> Answer:
    """First as if nothing had a limit: what keeps within all of them by itself needs no more."""
    free = replace(problem, room=np.full_like(problem.room, np.inf), feeders=())
    freely = _place(free, gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled)
    if _keeps(problem, freely):
        return freely
    found = _place(problem, gap=gap, time_limit_s=time_limit_s, progress=progress, cancelled=cancelled)
    more = np.count_nonzero(found.at == UNSERVED) > np.count_nonzero(freely.at == UNSERVED)
    return replace(found, limits_usd=None if more else max(0.0, found.objective_usd - freely.objective_usd))


def _keeps(problem: Problem, answer: Answer) -> bool:
    """Whether everything keeps within the room of its place, and within feeders."""
    for place_ in answer.open:
        taken = problem.own[place_] + problem.use[answer.at == place_, place_].sum(axis=0)
        if np.any(taken > problem.room[place_]):
            return False
    return all(feeder_kva(problem, answer, feeder) <= feeder.headroom_kva for feeder in problem.feeders)


def _place(
    problem: Problem, *, gap: float, time_limit_s: float, progress: Progress | None, cancelled: Cancelled | None
) -> Answer:
    cuts = None if problem.bought is None else Cuts(problem.allowed, problem.bought)
    price, left_s = _price_of_unserved(problem, cuts), time_limit_s

    def ask(problem: Problem, cuts: Cuts | None) -> _Proposed:
        nonlocal left_s
        found = _proposed(problem, cuts, price, gap=gap, time_limit_s=left_s, progress=progress, cancelled=cancelled)
        left_s -= found.run_s
        return found

    if problem.bought is None or cuts is None:
        only = ask(problem, None)
        return _answered(problem, only, only.bound, price)
    best, bound, stale = ask(replace(problem, usd=problem.usd + problem.bought.likely_usd()), None), -np.inf, 0
    cuts.learn(best.at, np.zeros(len(problem.places)))
    proposed = best
    for _ in range(SETS_ROUNDS):
        proposed = ask(problem, cuts)
        known = (_total(problem, best.at, price), bound)
        bound = max(bound, proposed.bound)
        best = min(best, proposed, key=lambda one: _total(problem, one.at, price))
        if not cuts.learn(proposed.at, proposed.bought_usd) or proposed.status == "stopped" or left_s <= 0:
            break
        gained = max(known[0] - _total(problem, best.at, price), bound - known[1])
        stale = 0 if gained > STALE * abs(known[0]) else stale + 1
        if stale >= max(STALE_ROUNDS, STALE_PAIRS // max(1, np.count_nonzero(problem.allowed))):
            break
    return _answered(problem, replace(best, status=proposed.status), bound, price)


def _total(problem: Problem, at: NDArray[np.int64], price: float) -> float:
    return _usd(problem, at) + price * float(np.count_nonzero(at == UNSERVED))


def _answered(problem: Problem, found: _Proposed, bound: float, price: float) -> Answer:
    objective = _usd(problem, found.at)
    bound = min(bound - price * float(np.count_nonzero(found.at == UNSERVED)), objective) if np.isfinite(bound) else 0.0
    left = max(objective - bound, 0.0) / max(abs(objective), 1e-9)
    status = "within gap" if found.status == "optimal" and left > 1e-6 else found.status
    return Answer(at=found.at, open=_used(problem, found.at), objective_usd=objective, bound_usd=bound, gap=left, status=status)


def _used(problem: Problem, at: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(sorted({int(k) for k in at if k != UNSERVED} | set(problem.built)))


def _usd(problem: Problem, at: NDArray[np.int64]) -> float:
    """What a placement costs, without the price of what is unserved."""
    served, used = np.flatnonzero(at != UNSERVED), list(_used(problem, at))
    bought = 0.0 if problem.bought is None else sum(problem.bought.usd(k, _points_at(at, k)) for k in used)
    return float(problem.open_usd[used].sum() + problem.usd[served, at[served]].sum()) + bought


def _points_at(at: NDArray[np.int64], place: int) -> frozenset[int]:
    return frozenset(int(point) for point in np.flatnonzero(at == place))


def _proposed(
    problem: Problem,
    cuts: Cuts | None,
    price: float,
    *,
    gap: float,
    time_limit_s: float,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> _Proposed:
    """Columns: places, pairs, points that nobody serves, and what each place buys."""
    i, j = np.nonzero(problem.allowed)
    points, places, pairs = len(problem.points), len(problem.places), len(i)
    bought = 0 if cuts is None else places
    whole = places + pairs + points
    rows = _rows(problem, i, j)
    if cuts is not None:
        cuts.add_to(rows, i, j, pairs_at=places, bought_at=whole)
    lower, upper = np.zeros(whole + bought), np.append(np.ones(whole), np.full(bought, np.inf))
    lower[list(problem.built)] = 1.0
    nobody = np.append(_nobody(problem, pairs), np.zeros(bought))
    solved = solve(
        cost=np.concatenate([problem.open_usd, problem.usd[i, j], np.full(points, price), np.ones(bought)]),
        lower=lower,
        upper=upper,
        integer=np.append(np.ones(whole, bool), np.zeros(bought, bool)),
        rows=rows,
        gap=gap,
        time_limit_s=time_limit_s,
        start=nobody,
        progress=progress,
        cancelled=cancelled,
    )
    x = solved.x if solved.x is not None else nobody
    at = np.full(points, UNSERVED)
    taken = np.flatnonzero(x[places : places + pairs] > 0.5)
    at[i[taken]] = j[taken]
    return _Proposed(at=at, bought_usd=x[whole:], bound=solved.bound, status=solved.status, run_s=solved.run_s)


def why_not(problem: Problem, answer: Answer, point: int, where: int, *, forbidden: Sequence[str] = ()) -> Why:
    """What speaks against serving the point at that place; `forbidden` are the words for what is not allowed."""
    if not problem.allowed[point, where]:
        return Why(kind="forbidden", text=forbidden[0] if forbidden else "not allowed")
    others = np.flatnonzero(answer.at == where)
    for r, name in enumerate(problem.resources):
        needed = float(problem.use[others, where, r].sum() + problem.use[point, where, r] + problem.own[where, r])
        limit = float(problem.room[where, r])
        if needed > limit * (1 + 1e-9):
            what, _, unit = name.rpartition(" ")
            text = problem.words.get((problem.places[where], name), f"{what}: {needed:.3g} {unit} > {limit:.3g} {unit}")
            return Why(kind="capacity", text=text, value=needed, limit=limit)
    for feeder in problem.feeders:
        if where in feeder.places:
            opening = 0.0 if where in answer.open else float(problem.open_kva[where])
            more = (float(problem.kva[point, where]) + opening) * feeder.sites_of(where)
            loaded = feeder_kva(problem, answer, feeder) + more
            if loaded > feeder.headroom_kva * (1 + 1e-9):
                text = f"feeder {feeder.name}: {loaded:.1f} kVA > {feeder.headroom_kva:.1f} kVA"
                return Why(kind="feeder", text=text, value=float(loaded), limit=feeder.headroom_kva)
    opening = float(problem.open_usd[where]) if where not in answer.open else 0.0
    here = int(answer.at[point])
    paid = usd_of(problem, answer, point, here) if here != UNSERVED else 0.0
    alike = 1.0 if problem.sites is None else float(problem.sites[point])
    more = (usd_of(problem, answer, point, where) + opening - paid) / alike
    if not np.isfinite(more):
        return Why(kind="capacity", text="no number of servers does beside what is answered there")
    if more >= 0:
        shown = f"${more:,.0f}" if more >= 1 else "less than $1"
        each = "" if problem.sites is None else " for each site"
        opened = ", the place itself included" if opening else ""
        return Why(kind="cost", text=f"{shown} a year dearer{each}{opened}", value=more, limit=0.0)
    return Why(kind="cost", text="no dearer by itself; the whole is cheaper so", value=more, limit=0.0)


def usd_of(problem: Problem, answer: Answer, point: int, where: int) -> float:
    """What serving the point there adds in a year to what the others cost: its own, and what is bought for it."""
    others = _points_at(answer.at, where) - {point}
    own = float(problem.usd[point, where])
    return (
        own if problem.bought is None else own + problem.bought.usd(where, others | {point}) - problem.bought.usd(where, others)
    )


def _price_of_unserved(problem: Problem, cuts: Cuts | None) -> float:
    known = np.where(problem.allowed, np.abs(problem.usd), 0.0)
    bought = cuts.dearest_usd if cuts is not None else 0.0
    return 10.0 * float(known.max(initial=0.0) + np.abs(problem.open_usd).sum() + bought + 1.0)


def _rows(problem: Problem, i: NDArray[np.int64], j: NDArray[np.int64]) -> Rows:
    points, places, pairs = len(problem.points), len(problem.places), len(i)
    rows = Rows()
    for point in range(points):
        mine = places + np.flatnonzero(i == point)
        rows.add(np.append(mine, places + pairs + point), np.ones(len(mine) + 1), 1.0, 1.0)
    if pairs:
        rows.add_many(np.column_stack([places + np.arange(pairs), j]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    for where in range(places):
        mine = np.flatnonzero(j == where)
        for r in range(len(problem.resources)):
            limit = float(problem.room[where, r])
            if len(mine) and np.isfinite(limit):
                left = limit - float(problem.own[where, r])
                rows.add(np.append(places + mine, where), np.append(problem.use[i[mine], where, r], -left), -np.inf, 0.0)
    for feeder in problem.feeders:
        mine = np.flatnonzero(np.isin(j, feeder.places))
        at = np.asarray(feeder.places, dtype=np.int64)
        many = np.array([feeder.sites_of(where) for where in range(len(problem.places))])
        values = np.append(many[j[mine]] * problem.kva[i[mine], j[mine]], many[at] * problem.open_kva[at])
        rows.add(np.append(places + mine, at), values, -np.inf, feeder.headroom_kva)
    return rows


def _nobody(problem: Problem, pairs: int) -> Floats:
    """The plan that serves nobody, which is always possible."""
    x = np.zeros(len(problem.places) + pairs + len(problem.points))
    x[list(problem.built)] = 1.0
    x[len(problem.places) + pairs :] = 1.0
    return x


def feeder_kva(problem: Problem, answer: Answer, feeder: Feeder) -> float:
    """What all its sites take of a feeder."""
    total = 0.0
    for where in feeder.places:
        if where in answer.open:
            served = float(problem.kva[np.flatnonzero(answer.at == where), where].sum())
            total += feeder.sites_of(where) * (float(problem.open_kva[where]) + served)
    return total
