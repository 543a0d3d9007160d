"""Placement on plain arrays: known optima, independent solvers, and what must hold of any instance; and the plan's own model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from nearhall.core.errors import PermanentError
from nearhall.planner.place import UNSERVED, Answer, Feeder, Problem, facility_location, p_median, place, usd_of, why_not
from nearhall.planner.placement.capacitated import _cleaned, solve_capacitated
from nearhall.planner.placement.effort import Effort
from nearhall.planner.placement.instance import Instance
from nearhall.planner.placement.instance import instance as asked
from nearhall.planner.placement.solver import Limits, Rows, solve

BESIDE = Path(__file__).parents[3] / "shared" / "data"
absent = "the OR-Library's files are not beside the project"


def distances(path: Path) -> tuple[np.ndarray, int]:
    """Shortest ways of an OR-Library p-median instance; an edge given again replaces the earlier."""
    numbers = np.array(path.read_text().split(), dtype=float)
    n, p = int(numbers[0]), int(numbers[2])
    away = np.full((n, n), np.inf)
    np.fill_diagonal(away, 0.0)
    for a, b, length in numbers[3:].reshape(-1, 3):
        away[int(a) - 1, int(b) - 1] = away[int(b) - 1, int(a) - 1] = length
    for k in range(n):
        away = np.minimum(away, away[:, k : k + 1] + away[k : k + 1, :])
    return away, p


@pytest.mark.skipif(not (BESIDE / "orlib_pmed1.txt").exists(), reason=absent)
def test_pmed1_of_the_or_library_is_5819():
    away, p = distances(BESIDE / "orlib_pmed1.txt")
    found = p_median(away, np.ones(len(away)), p)
    assert (found.objective, found.bound, found.status) == (5819.0, 5819.0, "optimal")
    assert len(found.chosen) == p
    assert set(found.assignment) <= set(found.chosen)


def cap71() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(opening costs, costs of assigning, demand, capacity) of the OR-Library's cap71."""
    numbers = (BESIDE / "orlib_cap71.txt").read_text().split()
    places, points = int(numbers[0]), int(numbers[1])
    values = np.array(numbers[2:], dtype=float)
    capacity, fixed = values[0 : 2 * places : 2], values[1 : 2 * places : 2]
    rest = values[2 * places :].reshape(points, places + 1)
    return fixed, rest[:, 1:], rest[:, 0], capacity


@pytest.mark.skipif(not (BESIDE / "orlib_cap71.txt").exists(), reason=absent)
def test_cap71_of_the_or_library_is_932615_75():
    found = facility_location(*cap71())
    assert found.objective == pytest.approx(932_615.750, abs=5e-4)
    assert found.gap <= 1e-9
    assert len(found.chosen) == 11


@pytest.mark.parametrize(
    ("name", "capacity", "opening", "best"),
    [
        ("cap41", 5_000, 7_500, 1_040_444.375),
        ("cap42", 5_000, 12_500, 1_098_000.450),
        ("cap43", 5_000, 17_500, 1_153_000.450),
        ("cap44", 5_000, 25_000, 1_235_500.450),
        ("cap51", 10_000, 17_500, 1_025_208.225),
        ("cap61", 15_000, 7_500, 932_615.750),
        ("cap62", 15_000, 12_500, 977_799.400),
        ("cap63", 15_000, 17_500, 1_014_062.050),
        ("cap64", 15_000, 25_000, 1_045_650.250),
        ("cap72", 58_268, 12_500, 977_799.400),
        ("cap73", 58_268, 17_500, 1_010_641.450),
        ("cap74", 58_268, 25_000, 1_034_976.975),
    ],
)
@pytest.mark.skipif(not (BESIDE / "orlib_cap71.txt").exists(), reason=absent)
def test_the_or_librarys_instances_on_the_map_of_cap71(name: str, capacity: float, opening: float, best: float):
    """Beasley's cap41 to cap74 share demand and costs of assigning; capacities and opening costs (0 at one place) differ."""
    fixed, assign, demand, _ = cap71()
    found = facility_location(np.where(fixed > 0, opening, 0.0), assign, demand, np.full(len(fixed), float(capacity)))
    assert found.objective == pytest.approx(best, abs=5e-4), name
    assert found.gap <= 1e-9


def instance(seed: int, points: int, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weighted distances, opening costs, demand) between random places in a square."""
    random = np.random.default_rng(seed)
    here, there = random.uniform(0, 100, (points, 2)), random.uniform(0, 100, (places, 2))
    demand = random.uniform(1, 10, points)
    away = np.linalg.norm(here[:, None] - there[None], axis=2)
    return away * demand[:, None], random.uniform(200, 900, places), demand


@pytest.mark.parametrize("seed", range(6))
def test_small_instances_have_the_optimum_of_trying_everything(seed: int):
    cost, fixed, demand = instance(seed, 12, 7)
    best = min(
        fixed[list(chosen)].sum() + cost[:, list(chosen)].min(axis=1).sum()
        for size in range(1, 8)
        for chosen in combinations(range(7), size)
    )
    found = facility_location(fixed, cost, demand, np.full(7, 1e9))
    assert found.objective == pytest.approx(best)
    three = min(cost[:, list(chosen)].min(axis=1).sum() for chosen in combinations(range(7), 3))
    assert p_median(cost, np.ones(12), 3).objective == pytest.approx(three)


@pytest.mark.parametrize(("seed", "tight"), [(1, 1.4), (2, 2.0), (3, 30.0)])
def test_middling_instances_have_the_optimum_of_another_model(seed: int, tight: float):
    cost, fixed, demand = instance(seed, 24, 10)
    capacity = np.full(10, demand.sum() / 10 * tight)
    found = facility_location(fixed, cost, demand, capacity)
    assert found.objective == pytest.approx(plain_model(fixed, cost, demand, capacity), rel=1e-6)
    whole = facility_location(fixed, cost, demand, capacity, split=False)
    assert whole.objective >= found.objective - 1e-6
    used = np.bincount(whole.assignment, weights=demand, minlength=10)
    assert np.all(used <= capacity * (1 + 1e-9))


def plain_model(fixed: np.ndarray, cost: np.ndarray, demand: np.ndarray, capacity: np.ndarray) -> float:
    """The textbook's model, by scipy."""
    points, places = cost.shape
    columns = places + points * places
    once, room = lil_array((points, columns)), lil_array((places, columns))
    for i in range(points):
        once[i, places + i * places : places + (i + 1) * places] = 1.0
    for j in range(places):
        room[j, j] = -capacity[j]
        for i in range(points):
            room[j, places + i * places + j] = demand[i]
    found = milp(
        np.concatenate([fixed, cost.ravel()]),
        constraints=[LinearConstraint(once.tocsr(), 1, 1), LinearConstraint(room.tocsr(), -np.inf, 0)],
        integrality=np.concatenate([np.ones(places), np.zeros(points * places)]),
        bounds=Bounds(0, 1),
    )
    return float(found.fun)


def test_a_larger_p_median_is_proven_optimal():
    cost, _, _ = instance(4, 150, 150)
    for p in (3, 20, 60):
        found = p_median(cost, np.ones(150), p)
        assert found.gap <= 1e-9
        assert len(found.chosen) == p


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_permuting_places_and_points_changes_nothing(seed: int):
    cost, fixed, demand = instance(seed, 20, 8)
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(20), random.permutation(8)
    capacity = np.full(8, demand.sum() / 3)
    one = facility_location(fixed, cost, demand, capacity)
    other = facility_location(fixed[columns], cost[np.ix_(rows, columns)], demand[rows], capacity)
    assert other.objective == pytest.approx(one.objective, rel=1e-9)
    wider = facility_location(np.append(fixed, 1e6), np.column_stack([cost, cost.max(axis=1)]), demand, np.append(capacity, 1e9))
    assert wider.objective <= one.objective + 1e-6, "one more place never makes it dearer"


@pytest.mark.parametrize(("split", "best"), [(True, 18_116.106382709673), (False, 18_134.396274834304)])
def test_where_many_pairs_are_left_out_at_first_all_are_asked_in_the_end(split: bool, best: float):
    """25,000 pairs; the plain model, given whole to HiGHS, proves the same."""
    cost, fixed, demand = instance(5, 250, 100)
    found = facility_location(fixed, cost, demand, np.full(100, demand.sum() / 15), split=split)
    assert found.status == "optimal"
    assert found.objective == pytest.approx(best, rel=1e-9)
    assert found.bound == pytest.approx(best, rel=1e-9)


def test_what_was_found_first_is_the_answer_where_time_ends():
    cost, fixed, demand = instance(3, 160, 150)
    found = facility_location(fixed, cost, demand, np.full(150, demand.sum() / 25), time_limit_s=8.0)
    assert found.shares is not None
    assert np.all(found.shares.T @ demand <= demand.sum() / 25 * (1 + 1e-6))
    assert np.allclose(found.shares.sum(axis=1), 1.0)
    assert found.bound <= 14_656.0938187 * (1 + 1e-9) <= found.objective * (1 + 2e-9), "the optimum lies between"


@pytest.mark.parametrize("split", [True, False])
def test_an_infinite_capacity_is_no_limit(split: bool):
    cost, fixed, demand = instance(7, 30, 8)
    room = np.full(8, demand.sum() / 5)
    room[2] = demand.sum()
    enough = facility_location(fixed, cost, demand, room, split=split)
    for large in (1e9, 1e30, np.inf):
        room[2] = large
        assert facility_location(fixed, cost, demand, room, split=split).objective == pytest.approx(enough.objective, rel=1e-9)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("tight", [4.0, 1e6])
@pytest.mark.parametrize(("money", "load"), [(1e-9, 1.0), (1e9, 1.0), (1e-30, 1.0), (1.0, 1e-8), (1.0, 1e12), (1e-12, 1e-12)])
def test_units_change_nothing(money: float, load: float, tight: float, split: bool):
    cost, fixed, demand = instance(8, 20, 8)
    room = np.full(8, demand.sum() / 8 * tight)
    one = facility_location(fixed, cost, demand, room, split=split)
    other = facility_location(fixed * money, cost * money, demand * load, room * load, split=split)
    assert (other.chosen, other.status, one.status) == (one.chosen, "optimal", "optimal")
    assert other.objective == pytest.approx(one.objective * money, rel=1e-9)


@given(seed=st.integers(0, 10_000), tight=st.floats(1.2, 20.0), split=st.booleans(), exponent=st.integers(-12, 12))
@settings(max_examples=25, deadline=None)
def test_what_is_told_is_what_was_asked(seed: int, tight: float, split: bool, exponent: int):
    cost, fixed, demand = instance(seed, 12, 6)
    random = np.random.default_rng(seed)
    cost = np.where(random.random(cost.shape) < 0.2, np.inf, cost) * 10.0**exponent
    room = np.append(random.uniform(0.5, 1.5, 5) * demand.sum() / 6 * tight, np.inf)
    cost[:, 5] = 500.0 * 10.0**exponent
    found = facility_location(fixed * 10.0**exponent, cost, demand, room, split=split)
    shares = found.shares if found.shares is not None else np.eye(6)[found.assignment]
    assert (found.shares is not None) == split
    assert np.all(shares.T @ demand <= room * (1 + 1e-6))
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert set(np.flatnonzero(shares.sum(axis=0) > 0)) <= set(found.chosen)
    paid = fixed[list(found.chosen)].sum() * 10.0**exponent + (np.where(shares > 0, cost, 0.0) * shares).sum()
    assert found.objective == pytest.approx(paid, rel=1e-9)


@given(
    seed=st.integers(0, 10_000),
    tight=st.floats(1.2, 6.0),
    split=st.booleans(),
    less=st.sampled_from([0.0, 50.0]),
    gap=st.sampled_from([0.0, 0.01]),
)
@settings(max_examples=40, deadline=None)
def test_pairs_left_out_at_first_make_no_difference(seed: int, tight: float, split: bool, less: float, gap: float):
    """Forbidden pairs, no demand at some points, costs below 0, an infinite capacity: either's bound holds for both."""
    random = np.random.default_rng(seed)
    points, places = int(random.integers(5, 30)), int(random.integers(3, 12))
    cost, fixed = random.uniform(0, 100, (points, places)) - less, random.uniform(0, 200, places) - less
    cost[random.random(cost.shape) < 0.3] = np.inf
    demand = random.uniform(0, 8, points) * (random.random(points) < 0.9)
    room = random.uniform(0.3, 2.0, places) * demand.sum() / places * tight
    room[0], cost[:, 0] = np.inf, 100.0
    given_, _ = asked(fixed, cost, demand, room, split=split)
    effort = Effort(Limits(gap=gap, time_limit_s=20.0))
    whole, parts = (solve_capacitated(given_, None, effort, whole_max=pairs) for pairs in (points * places, 0))
    rounding = 1e-8 * abs(whole.objective)
    for found, other in ((whole, parts), (parts, whole)):
        assert found.bound <= other.objective + rounding
        assert found.objective - found.bound <= gap * abs(found.objective) + rounding


FINE = {"fixed_cost": np.ones(3), "assign_cost": np.ones((4, 3)), "demand": np.ones(4), "capacity": np.full(3, 2.0)}


def changed(name: str, at: object, value: float) -> dict[str, np.ndarray]:
    array = FINE[name].copy()
    array[at] = value
    return {**FINE, name: array}


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        (changed("fixed_cost", 1, np.nan), r"fixed_cost\[1\] is nan"),
        (changed("fixed_cost", 1, np.inf), r"fixed_cost\[1\] is inf"),
        (changed("assign_cost", (2, 1), np.nan), r"assign_cost\[2, 1\] is nan"),
        (changed("assign_cost", (2, 1), -np.inf), r"assign_cost\[2, 1\] is -inf"),
        (changed("assign_cost", (2, 1), 1e200), r"assign_cost\[2, 1\] is 1e\+200; .* at most 1e\+100, or infinite"),
        (changed("demand", 0, -1.0), r"demand\[0\] is -1; it must be a number of at least 0"),
        (changed("demand", 0, np.inf), r"demand\[0\] is inf"),
        (changed("capacity", 2, np.nan), r"capacity\[2\] is nan"),
        (changed("capacity", 2, -1.0), r"capacity\[2\] is -1"),
        ({**FINE, "fixed_cost": np.ones(1)}, r"fixed_cost has the shape \(1,\); it must have \(3,\)"),
        ({**FINE, "capacity": 9.0}, r"capacity has the shape \(\)"),
        ({**FINE, "demand": np.ones((4, 1))}, r"demand has the shape \(4, 1\); it must have \(4,\)"),
        ({**FINE, "assign_cost": np.ones(4)}, r"assign_cost has the shape \(4,\); it must have \(any, any\)"),
        ({**FINE, "assign_cost": np.ones((0, 3)), "demand": []}, r"assign_cost has the shape \(0, 3\)"),
        ({**FINE, "demand": ["1", "2", "3", "4"]}, "demand is no array of numbers"),
        ({**FINE, "demand": [1, [2, 3]]}, "demand is no array of numbers"),
        ({**FINE, "gap": np.nan}, "gap is nan"),
        ({**FINE, "time_limit_s": -1.0}, "time_limit_s is -1"),
    ],
)
def test_what_cannot_be_computed_with_is_said_in_one_line(given_: dict[str, np.ndarray], told: str):
    with pytest.raises(ValueError, match=told) as raised:
        facility_location(**given_)
    assert "\n" not in str(raised.value)
    assert facility_location(**FINE).objective == 2 + 4, "a positive control: what they were changed from"


def test_a_search_that_ends_early_is_told_from_one_that_cannot_be():
    cost, fixed, demand = instance(5, 30, 15)
    room = np.full(15, demand.sum() / 6)
    for limit in ({"cancelled": lambda: True}, {"time_limit_s": 0.0}):
        with pytest.raises(TimeoutError, match="before it had found any solution"):
            facility_location(fixed, cost, demand, room, **limit)
    loose = facility_location(fixed, cost, demand, np.full(15, np.inf), cancelled=lambda: True)
    assert loose.bound <= loose.objective
    lonely = np.full_like(cost, np.inf)
    lonely[:, 0], lonely[0] = cost[:, 0], cost[0]
    with pytest.raises(ValueError, match="no set of places can serve every point within their capacities"):
        facility_location(fixed, lonely, demand, room)


def test_what_highs_refuses_is_no_answer():
    one, rows = np.ones(1), Rows()
    rows.add([0], [1e16], 0.0, 1.0)
    with pytest.raises(PermanentError, match="numbers too far apart"):
        solve(cost=one, lower=np.zeros(1), upper=one, integer=np.ones(1, bool), rows=rows)
    crumbs = facility_location([1.0, 1.0, 1.0], [[1.0, 5.0, 5.0]] * 2, [1.0, 1.0], [1e-15, 1.0, 1.0])
    assert crumbs.objective == 12.0, "a place with room for a trace is none"


def test_what_cannot_be_is_said():
    cost, fixed, demand = instance(1, 5, 3)
    with pytest.raises(ValueError, match="all places together are too small"):
        facility_location(fixed, cost, demand, np.full(3, 0.1))
    blocked = cost.copy()
    blocked[2] = np.inf
    with pytest.raises(ValueError, match="a point has no place"):
        facility_location(fixed, blocked, demand, np.full(3, 1e9))
    with pytest.raises(ValueError, match="p is 4"):
        p_median(cost, np.ones(5), 4)
    lone = cost.copy()
    lone[0, 1:] = np.inf
    assert facility_location(fixed, lone, demand, np.full(3, 1e9)).assignment[0] == 0
    heavy = np.array([1.0, 1.0, 1.0, 1.0, 5.0])
    with pytest.raises(ValueError, match="within their capacities"):
        facility_location(fixed, cost, heavy, np.full(3, 4.0), split=False)


def problem(**changed: object) -> Problem:
    """Two shops with cameras and a kiosk each, their own sites, and a hub."""
    parts: dict[str, object] = {
        "points": ("cams@a", "kiosk@a", "cams@b", "kiosk@b"),
        "places": ("a", "b", "hub"),
        "allowed": np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1]], bool),
        "usd": np.array([[100, 0, 900], [200, 0, 500], [0, 100, 900], [0, 200, 500]], float),
        "open_usd": np.array([50.0, 50.0, 0.0]),
        "resources": ("IT kW",),
        "use": np.full((4, 3, 1), 0.5),
        "room": np.array([[1.2], [0.8], [np.inf]]),
        "kva": np.full((4, 3), 0.6),
        "open_kva": np.array([0.1, 0.1, 0.0]),
    }
    return Problem(**{**parts, **changed})  # type: ignore[arg-type]


def at(answer: Answer) -> list[int]:
    return answer.at.tolist()


def test_the_cheapest_that_is_allowed_and_fits():
    answer = place(problem())
    assert at(answer) == [0, 0, 1, 2]
    assert answer.objective_usd == pytest.approx(50 + 50 + 100 + 200 + 100 + 500)
    assert answer.gap <= 1e-3
    assert answer.status in {"optimal", "within gap"}


@dataclass
class Bought:
    """A table of what sets cost; what is not in it costs what its dearest part does."""

    table: dict[tuple[int, frozenset[int]], float]
    shape: tuple[int, int]
    asked: set[tuple[int, frozenset[int]]] = field(default_factory=set)

    def usd(self, place: int, points: frozenset[int]) -> float:
        self.asked.add((place, points))
        return max((usd for (at_, of), usd in self.table.items() if at_ == place and of <= points), default=0.0)

    def least_usd(self) -> np.ndarray:
        return np.zeros(self.shape)

    def likely_usd(self) -> np.ndarray:
        return self.least_usd()


def servers(*each: tuple[int, str, float]) -> Bought:
    """By place and points in digits."""
    return Bought({(place, frozenset(map(int, points))): usd for place, points, usd in each}, (4, 3))


def test_servers_are_bought_whole_and_shared():
    """At a one server does for both; at b the kiosk would take a second one, and goes to the hub."""
    asked = problem(
        bought=servers((0, "0", 1000), (0, "1", 1000), (1, "2", 1000), (1, "3", 1000), (1, "23", 2000)),
        room=np.full((3, 1), np.inf),
    )
    answer = place(asked)
    assert at(answer) == [0, 0, 1, 2]
    assert answer.objective_usd == pytest.approx(50 + 50 + 100 + 200 + 100 + 500 + 2 * 1000)
    assert answer.status == "optimal"
    assert answer.bound_usd == pytest.approx(answer.objective_usd)
    assert usd_of(asked, answer, 1, 0) == 200.0, "a server that is there anyhow"
    assert usd_of(asked, answer, 3, 1) == 1200.0
    assert why_not(asked, answer, 3, 1).text == "$700 a year dearer"
    apart = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 0], [0, 1, 1]], bool)
    alone = place(problem(bought=asked.bought, room=np.full((3, 1), np.inf), allowed=apart))
    assert at(alone)[:2] == [2, 2], "nobody buys one for the kiosk alone"


def test_what_no_number_of_servers_does_is_not_placed_together():
    asked = problem(bought=servers((0, "0", 10), (0, "1", 10), (0, "01", np.inf)), room=np.full((3, 1), np.inf))
    answer = place(asked)
    assert at(answer) == [0, 2, 1, 1]
    assert np.isfinite(answer.objective_usd)
    assert why_not(asked, answer, 1, 0).text == "no number of servers does beside what is answered there"
    forced = problem(bought=asked.bought, room=np.full((3, 1), np.inf), allowed=np.array([[1, 0, 0]] * 4, bool))
    assert sorted(at(place(forced)))[:1] == [UNSERVED], "two that cannot be together, and no other place"


@st.composite
def dear_sets(draw: st.DrawFn) -> tuple[Problem, Bought]:
    """Any costs of sets that rise with them."""
    points, places = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    sets = [frozenset(one) for n in range(1, points + 1) for one in combinations(range(points), n)]
    own = random.uniform(0, 30, (points, places)) * draw(st.sampled_from([0.0, 1.0]))
    table: dict[tuple[int, frozenset[int]], float] = {}
    for where in range(places):
        for one in sets:  # the smaller ones come first
            parts = [table[where, part] for part in sets if part < one]
            dear = float(random.uniform(0, 200)) if random.uniform() < 0.97 else np.inf
            table[where, one] = max([*parts, dear, float(own[list(one), where].sum())])
    bought = Bought(table, (points, places))
    bought.least_usd = lambda: own  # type: ignore[method-assign]
    asked = Problem(
        points=tuple("dbac"[:points]),
        places=tuple("zxy"[:places]),
        allowed=random.uniform(size=(points, places)) < 0.8,
        usd=random.uniform(0, 100, (points, places)),
        open_usd=random.uniform(0, 100, places),
        resources=(),
        use=np.zeros((points, places, 0)),
        room=np.zeros((places, 0)),
        kva=np.zeros((points, places)),
        open_kva=np.zeros(places),
        bought=bought,
    )
    return asked, bought


@given(dear_sets())
@settings(max_examples=150, deadline=None)
def test_whole_servers_against_every_placement(given_: tuple[Problem, Bought]):
    asked, bought = given_
    points, places = asked.usd.shape

    def usd(tried: tuple[int, ...]) -> tuple[int, float]:
        at_ = np.array(tried)
        mine = np.flatnonzero(at_ != UNSERVED)
        if not all(asked.allowed[mine, at_[mine]]):
            return points + 1, np.inf
        cost = asked.open_usd[sorted(set(at_[mine].tolist()))].sum() + asked.usd[mine, at_[mine]].sum()
        cost += sum(bought.usd(k, frozenset(np.flatnonzero(at_ == k).tolist())) for k in range(places))
        return (points - len(mine), float(cost)) if np.isfinite(cost) else (points + 1, np.inf)

    lost, least = min(usd(tried) for tried in product([UNSERVED, *range(places)], repeat=points))
    found = place(asked, gap=0.0)
    assert at(found).count(UNSERVED) == lost
    assert found.objective_usd == pytest.approx(least, rel=1e-6, abs=0.02)
    assert found.bound_usd <= least + 0.02
    assert found.gap <= 1e-6 * max(1.0, 0.02 / max(least, 1e-9) * 1e6)


def test_only_sets_that_come_in_question_are_priced():
    points = 12
    bought = Bought({(0, frozenset([k])): 100.0 for k in range(points)}, (points, 2))
    asked = problem(
        points=tuple(f"p{k:02}" for k in range(points)),
        places=("a", "hub"),
        allowed=np.ones((points, 2), bool),
        usd=np.column_stack([np.full(points, 10.0), np.linspace(5.0, 60.0, points)]),
        open_usd=np.array([20.0, 0.0]),
        use=np.zeros((points, 2, 1)),
        room=np.full((2, 1), np.inf),
        kva=np.zeros((points, 2)),
        open_kva=np.zeros(2),
        bought=bought,
    )
    answer = place(asked)
    assert answer.status == "optimal"
    assert 0 in at(answer)
    sets = {of for at_, of in bought.asked if at_ == 0 and len(of) > 1}
    assert 1 <= len(sets) <= 3, "of 4,083"


def test_each_alternative_says_what_speaks_against_it():
    asked = problem()
    answer = place(asked)
    assert why_not(asked, answer, 0, 2, forbidden=["residency: its data may not leave the site"]).text.startswith("residency")
    assert why_not(asked, answer, 1, 2).text == "$300 a year dearer"
    full = why_not(asked, answer, 3, 1)
    assert (full.kind, full.text) == ("capacity", "IT: 1 kW > 0.8 kW")
    tight = problem(feeders=(Feeder(name="F1", headroom_kva=1.0, places=(0, 1)),), room=np.full((3, 1), np.inf))
    served = place(tight)
    assert at(served).count(UNSERVED) == 1, "1.4 kVA do not fit into 1.0"
    lost = at(served).index(UNSERVED)
    assert why_not(tight, served, lost, lost // 2).kind == "feeder"
    roomy = problem(feeders=(Feeder(name="F1", headroom_kva=9.0, places=(0, 1)),), room=np.full((3, 1), np.inf))
    assert UNSERVED not in at(place(roomy))


def test_what_exists_is_paid_for_anyway_and_a_plan_without_any_option_is_answered():
    hub_only = problem(allowed=np.array([[0, 0, 1]] * 4, bool), built=(0,))
    answer = place(hub_only)
    assert at(answer) == [2, 2, 2, 2]
    assert answer.open == (0, 2)
    assert why_not(problem(usd=np.full((4, 3), 1.0), built=(1,)), answer, 0, 0).kind in {"cost", "forbidden"}
    nothing = place(problem(allowed=np.zeros((4, 3), bool)))
    assert at(nothing) == [UNSERVED] * 4
    assert why_not(problem(), nothing, 1, 2).text == "$500 a year dearer"


@pytest.mark.parametrize("split", [True, False])
def test_what_is_told_on_the_way_holds_for_the_whole(split: bool):
    cost, fixed, demand = instance(5, 250, 100)
    told: list[tuple[float, float, float]] = []

    def tell(best: float, bound: float, gap: float) -> None:
        told.append((best, bound, gap))

    found = facility_location(fixed, cost, demand, np.full(100, demand.sum() / 15), split=split, progress=tell)
    assert told
    assert all(bound <= found.objective * (1 + 1e-9) and best >= found.objective * (1 - 1e-9) for best, bound, _ in told)
    assert all(0 <= gap < 0.05 for *_, gap in told)


def test_a_solution_above_a_capacity_is_no_answer():
    given_ = Instance(fixed=np.ones(2), cost=np.ones((2, 2)), need=np.ones(2), room=np.array([1.0, 2.0]), split=True)
    opened = np.array([True, True])
    fine = _cleaned(given_, opened, np.array([[1.0 + 1e-9, 0.0], [-1e-9, 1.0]]))
    assert (fine.objective, fine.shares.tolist()) == (4.0, [[1.0, 0.0], [0.0, 1.0]])
    for shares in ([[1.0, 0.0], [1e-4, 1.0 - 1e-4]], [[1.0, 0.0], [0.0, 0.9]]):
        with pytest.raises(PermanentError, match="serves not everybody within the capacities"):
            _cleaned(given_, opened, np.array(shares))


def test_progress_is_told_and_a_wish_to_stop_is_heard():
    cost, fixed, demand = instance(5, 30, 15)
    told: list[float] = []
    room = np.full(15, demand.sum() / 6)
    whole = facility_location(fixed, cost, demand, room, progress=lambda best, bound, gap: told.append(gap), split=False)
    assert whole.gap <= 1e-6
    assert told
    assert len(place(problem(), cancelled=lambda: True).at) == 4
