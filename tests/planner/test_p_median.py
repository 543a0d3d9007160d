"""The p-median against brute force and against the plain model; bounds that hold, and ends that are wished for."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import floyd_warshall

from nearhall.planner.place import p_median
from nearhall.planner.placement.interchange import good, greedy, swapped, total
from nearhall.planner.placement.median_bound import Pace, Question, Watch, raised
from nearhall.planner.placement.solver import Rows, solve

Floats = NDArray[np.float64]


def brute(cost: Floats, p: int) -> float:
    """The least of all choices."""
    return min(float(cost[:, list(chosen)].min(axis=1).sum()) for chosen in combinations(range(cost.shape[1]), p))


def plain(cost: Floats, p: int) -> float:
    """The model as it stands in books, one row for each pair, given to HiGHS as it is."""
    points, places = cost.shape
    rows = Rows()
    rows.add(np.arange(places), np.ones(places), p, p)
    for i in range(points):
        rows.add(places + i * places + np.arange(places), np.ones(places), 1.0, 1.0)
    pairs = places + np.arange(points * places)
    rows.add_many(np.column_stack([pairs, np.tile(np.arange(places), points)]), np.array([[1.0, -1.0]]), -np.inf, 0.0)
    columns = places + points * places
    solved = solve(
        cost=np.concatenate([np.zeros(places), cost.ravel()]),
        lower=np.zeros(columns),
        upper=np.ones(columns),
        integer=np.concatenate([np.ones(places, bool), np.zeros(points * places, bool)]),
        rows=rows,
        gap=0.0,
        time_limit_s=60.0,
    )
    return solved.objective


def graph(n: int, seed: int) -> Floats:
    """Shortest paths of a connected graph of n nodes and n^2 / 50 edges of 1 to 100, as OR-Library's instances are made."""
    random = np.random.default_rng(seed)
    length = np.full((n, n), np.inf)
    tree = [(int(random.integers(0, a)), a) for a in range(1, n)]
    for a, b in [*tree, *random.integers(0, n, (max(n * n // 50 - n + 1, 0), 2)).tolist()]:
        length[a, b] = length[b, a] = random.integers(1, 101)
    np.fill_diagonal(length, 0.0)
    return np.asarray(floyd_warshall(length))


@given(
    seed=st.integers(0, 10_000),
    points=st.integers(1, 9),
    places=st.integers(1, 8),
    whole=st.booleans(),
    share=st.floats(0.0, 1.0),
)
@settings(max_examples=150, deadline=None)
def test_small_ones_are_the_least_of_all_choices(seed: int, points: int, places: int, whole: bool, share: float):
    """Ties (few lengths), zero weights, any p."""
    random = np.random.default_rng(seed)
    distance = random.integers(0, 6, (points, places)).astype(float) if whole else random.random((points, places))
    weight = random.integers(0, 3, points).astype(float)
    p = 1 + int(share * (places - 1))
    found = p_median(distance, weight, p)
    assert found.objective == pytest.approx(brute(distance * weight[:, None], p), abs=1e-9)
    assert found.bound <= found.objective
    assert found.status == "optimal"
    assert len(set(found.chosen)) == p
    served = distance[np.arange(points), found.assignment] * weight
    assert served.sum() == pytest.approx(found.objective, abs=1e-9)
    assert set(found.assignment.tolist()) <= set(found.chosen)


@pytest.mark.parametrize(("n", "p", "seed"), [(60, 3, 1), (60, 12, 2), (60, 25, 3), (80, 5, 4), (80, 16, 5)])
def test_graphs_agree_with_the_plain_model(n: int, p: int, seed: int):
    distance = graph(n, seed)
    found = p_median(distance, np.ones(n), p)
    assert found.objective == pytest.approx(plain(distance, p))
    assert found.bound == pytest.approx(found.objective)


@pytest.mark.parametrize("p", [2, 7, 20])
def test_points_on_a_plane_with_weights_agree_with_the_plain_model(p: int):
    random = np.random.default_rng(p)
    at = random.random((60, 2))
    distance = np.hypot(*(at[:, None, :] - at[None, :, :]).transpose(2, 0, 1))
    weight = random.random(60) * 100
    found = p_median(distance, weight, p)
    assert found.objective == pytest.approx(plain(distance * weight[:, None], p), rel=1e-6)
    assert found.gap <= 1e-8


def test_where_two_of_each_place_stand_ties_do_not_keep_it_from_ending():
    """Two points at one place each: whichever is open, it costs the same, and prices alone never decide."""
    distance = graph(40, 3)
    twice = np.kron(distance, np.ones((2, 2))) + 0.1
    for p in (4, 13, 27):
        found = p_median(twice, np.ones(80), p)
        assert found.status == "optimal"
        assert found.objective == pytest.approx(2 * p_median(distance + 0.1, np.ones(40), p).objective)


@pytest.mark.parametrize("p", [5, 10, 40, 133])
def test_four_hundred_nodes_are_proven(p: int):
    distance = graph(400, p)
    found = p_median(distance, np.ones(400), p)
    assert found.status == "optimal"
    assert found.bound == found.objective == total(distance, np.array(found.chosen))


@given(seed=st.integers(0, 10_000), points=st.integers(1, 12), places=st.integers(1, 12), share=st.floats(0.0, 1.0))
@settings(max_examples=50, deadline=None)
def test_the_first_places_are_those_that_help_most_each_time(seed: int, points: int, places: int, share: float):
    cost = np.random.default_rng(seed).integers(0, 9, (points, places)).astype(float)
    p, chosen = 1 + int(share * (places - 1)), list[int]()
    for _ in range(p):
        chosen.append(min(set(range(places)) - set(chosen), key=lambda j: (cost[:, [*chosen, j]].min(axis=1).sum(), j)))
    assert greedy(cost, p).tolist() == chosen


def test_the_search_for_a_first_solution_keeps_the_limits_too():
    """1,500 nodes: it alone took 40 seconds, whatever was allowed."""
    at = np.random.default_rng(9).random((1500, 2))
    distance = np.hypot(*(at[:, None, :] - at[None, :, :]).transpose(2, 0, 1))
    asked: list[int] = []
    ended = p_median(distance, np.ones(1500), 300, cancelled=lambda: not asked.append(1))
    assert len(asked) < 10, "no swap after the wish to end"
    assert (len(set(ended.chosen)), ended.status) == (300, "stopped")
    assert ended.bound <= ended.objective
    steps: list[float] = []
    some = swapped(distance[:200, :200], np.arange(20), lambda cells: bool(steps.append(cells)) or len(steps) > 3)
    assert len(set(some.tolist()) - set(range(20))) <= 3, "a swap for each step that was allowed"
    quick = p_median(distance[:400, :400], np.ones(400), 40, time_limit_s=0.05)
    assert quick.status == "stopped"
    assert quick.bound <= p_median(distance[:400, :400], np.ones(400), 40, gap=0.01).objective


@pytest.mark.parametrize("p", [0, 4, -1, 2.5, True, "3", None, float("nan")])
def test_p_is_a_whole_number_of_places(p: object):
    with pytest.raises(ValueError, match=r"p is .*it is between 1 and the number of places, 3, and whole"):
        p_median(np.ones((3, 3)), np.ones(3), p)  # type: ignore[arg-type]
    for two in (2, 2.0, np.int64(2)):
        assert p_median(np.ones((3, 3)), np.ones(3), two).chosen == (0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distance", "weight", "told"),
    [
        ([[0.0, np.nan]], [1.0], r"distance\[0, 1\] is nan"),
        ([[0.0, -np.inf]], [1.0], r"distance\[0, 1\] is -inf"),
        (np.full((5, 5), 1e200) + np.eye(5), np.full(5, 1e200), r"distance\[0, 0\] is 1e\+200; .* at most 1e\+100"),
        (np.ones((3, 3)), np.full(3, 1e101), r"weight\[0\] is 1e\+101"),
        (np.ones((3, 3)), [1.0, -1.0, 1.0], r"weight\[1\] is -1"),
        (np.ones((3, 3)), [1.0, np.inf, 1.0], r"weight\[1\] is inf"),
        (np.ones((3, 3)), [1.0], r"weight has the shape \(1,\); it must have \(3,\)"),
        (np.ones(3), np.ones(3), r"distance has the shape \(3,\)"),
        (np.ones((0, 3)), [], r"distance has the shape \(0, 3\)"),
        (np.ones((1, 3), complex), [1.0], "distance is no array of numbers"),
    ],
)
def test_what_cannot_be_computed_with_is_said(distance: Floats, weight: Floats, told: str):
    with pytest.raises(ValueError, match=told):
        p_median(distance, weight, 1)
    large = p_median(np.full((5, 5), 1e99) + 1e98 * np.eye(5), np.full(5, 1e100), 2, time_limit_s=5.0)
    assert large.objective == pytest.approx(5e199), "what is just not too large ends"


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e9])
def test_units_change_nothing(scale: float):
    distance = np.random.default_rng(1).random((40, 40))
    one, other = p_median(distance, np.ones(40), 9), p_median(distance * scale, np.ones(40), 9)
    assert (other.chosen, other.status) == (one.chosen, "optimal")
    assert other.objective == pytest.approx(one.objective * scale)


def test_an_early_end_is_told_from_what_cannot_be():
    only = np.where(np.eye(30) == 1, 1.0, np.inf)
    with pytest.raises(ValueError, match="no p places can serve"):
        p_median(only, np.ones(30), 29)
    with pytest.raises(TimeoutError, match="before it had found p places"):
        p_median(only, np.ones(30), 29, cancelled=lambda: True)


def test_places_that_may_not_serve_are_left_out():
    distance = np.array([[1.0, np.inf, 9.0], [np.inf, 1.0, 9.0], [1.0, np.inf, 9.0]])
    assert p_median(distance, np.ones(3), 2).objective == 3.0
    assert p_median(distance, np.ones(3), 1).chosen == (2,)
    with pytest.raises(ValueError, match="can serve every point"):
        p_median(distance[:, :2], np.ones(3), 1)


def test_a_bound_never_lies_above_what_any_places_cost():
    distance = graph(50, 9)
    asked = Question(cost=np.ascontiguousarray(distance.T), cap=np.full(50, np.inf), p=5)
    best = total(distance, good(distance, 5))
    price = np.partition(distance, 1, axis=1)[:, 1]
    pace = Pace(rounds=300, scale=1.5, stale=15, scale_min=1e-4)
    seen: list[int] = []
    watch = Watch(aims=lambda: (best, np.inf), seen=lambda among: seen.append(len(among)), stop=lambda: False)
    found = raised(asked, price, pace, watch=watch)
    assert set(seen) == {5}
    assert found.bound <= plain(distance, 5) <= best
    assert found.bound >= 0.95 * best, "and it is a good one"


def test_a_gap_that_is_asked_for_and_a_wish_to_end_are_kept():
    distance = graph(200, 3)
    loose = p_median(distance, np.ones(200), 20, gap=0.2)
    assert loose.gap <= 0.2
    ended = p_median(distance, np.ones(200), 20, cancelled=lambda: True)
    assert ended.bound <= ended.objective
    assert len(ended.chosen) == 20
    told: list[tuple[float, float, float]] = []
    exact = p_median(distance, np.ones(200), 20, progress=lambda best, bound, gap: told.append((best, bound, gap)))
    assert told[-1][0] == exact.objective
    assert all(bound <= best for best, bound, _ in told)
