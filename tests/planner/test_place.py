"""Placement on plain arrays: known optima, independent solvers, and what must hold of any instance; and the plan's own model."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from nearhall.planner.place import UNSERVED, Answer, Feeder, Problem, facility_location, p_median, place, why_not

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


def test_each_alternative_says_what_speaks_against_it():
    asked = problem()
    answer = place(asked)
    assert why_not(asked, answer, 0, 2, forbidden=["residency: its data may not leave the site"]).text.startswith("residency")
    assert why_not(asked, answer, 1, 2).text == "$300 a year dearer"
    full = why_not(asked, answer, 3, 1)
    assert (full.kind, full.text) == ("capacity", "IT kW: 1 > 0.8")
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


def test_progress_is_told_and_a_wish_to_stop_is_heard():
    cost, fixed, demand = instance(5, 30, 15)
    told: list[float] = []
    room = np.full(15, demand.sum() / 6)
    whole = facility_location(fixed, cost, demand, room, progress=lambda best, bound, gap: told.append(gap), split=False)
    assert whole.gap <= 1e-6
    assert told
    assert len(place(problem(), cancelled=lambda: True).at) == 4
