"""Batches that pay: only by a curve measured here, of this file, by enough, within the SLO."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.evidence import Kind
from nearhall.policy.batching import CHANGES, GAIN_MIN, Curve, Point, Runs, Shape, Shapes, batching, device_key

HERE = Runs(device="cpu:Old Faithful 1000", sha256="a" * 64, threads=1)


def curve(**p50_ms: float) -> Curve:
    points = tuple(Point(batch=int(name[1:]), p50_ms=ms, p90_ms=ms * 1.2) for name, ms in p50_ms.items())
    return Curve(of=HERE, points=points)


FLAT = curve(b1=1.0, b2=2.0, b4=4.0, b8=8.0)
"""As measured of a convolutional net on two cores: eight at once take eight times as long."""
STEEP = curve(b1=1.0, b2=1.2, b4=1.6, b8=2.4)


def test_on_a_flat_curve_nothing_is_batched_and_on_a_steep_one_everything():
    assert batching(FLAT, here=HERE) == ()
    assert batching(STEEP, here=HERE) == (2, 4, 8)


def test_the_slo_ends_the_batch():
    assert batching(STEEP, here=HERE, p90_ms_max=2.0) == (2, 4)
    assert batching(STEEP, here=HERE, p90_ms_max=0.5) == ()
    untold = Curve(of=HERE, points=(*STEEP.points[:2], replace(STEEP.points[2], p90_ms=None)))
    assert (batching(untold, here=HERE, p90_ms_max=100.0), batching(untold, here=HERE)) == ((2,), (2, 4))


def test_a_larger_batch_that_gives_less_than_a_smaller_one_does_not_pay():
    assert batching(curve(b1=1.0, b2=1.0, b4=2.5, b8=3.0), here=HERE) == (2, 8)


def test_exactly_a_tenth_more_pays_and_less_does_not():
    assert batching(curve(b1=GAIN_MIN, b2=2.0), here=HERE) == (2,)
    assert batching(curve(b1=1.0, b2=1.9), here=HERE) == ()


@pytest.mark.parametrize(
    "here",
    [
        replace(HERE, device="cpu:another"),
        replace(HERE, device="cuda:Old Faithful 1000"),
        replace(HERE, sha256="b" * 64),
        replace(HERE, threads=2),
    ],
    ids=["another CPU", "a GPU", "another file", "other threads"],
)
def test_what_was_measured_of_something_else_does_not_count(here: Runs):
    assert batching(STEEP, here=here) == ()
    assert batching(STEEP, here=HERE) != ()


def test_without_a_measured_curve_from_batch_1_on_nothing_is_batched():
    assert batching(None, here=HERE) == ()
    assert batching(replace(STEEP, kind=Kind.ASSUMED), here=HERE) == ()
    assert batching(Curve(of=HERE, points=STEEP.points[1:]), here=HERE) == ()
    assert batching(Curve(of=HERE, points=()), here=HERE) == ()


def test_a_run_that_took_no_time_that_the_clock_could_tell_pays():
    assert batching(curve(b1=1.0, b2=0.0), here=HERE) == (2,)
    assert batching(curve(b1=0.0, b2=1.0), here=HERE) == ()


def test_a_cpu_is_known_by_its_name_and_a_gpu_by_its_own():
    assert device_key("cpu", "Old Faithful 1000") == HERE.device
    assert device_key("cuda:NVIDIA H100", "Old Faithful 1000") == "cuda:NVIDIA H100"


times = st.floats(0.01, 1000)
curves = st.dictionaries(st.sampled_from([1, 2, 3, 4, 8, 16, 64]), st.tuples(times, st.one_of(st.none(), times)), max_size=7)


@given(curves, st.one_of(st.just(inf), times), st.randoms(use_true_random=False))
def test_every_size_that_pays_gives_a_tenth_more_than_one_by_one_and_is_within_the_limit(said, limit, draw):
    points = [Point(batch=batch, p50_ms=p50, p90_ms=p90) for batch, (p50, p90) in said.items()]
    pays = batching(Curve(of=HERE, points=tuple(points)), here=HERE, p90_ms_max=limit)
    assert batching(Curve(of=HERE, points=tuple(draw.sample(points, len(points)))), here=HERE, p90_ms_max=limit) == pays
    assert list(pays) == sorted(set(pays))
    gives = [1e3 * batch / said[batch][0] for batch in pays]
    assert gives == sorted(set(gives))
    for batch, rate in zip(pays, gives, strict=True):
        assert batch > 1
        assert rate >= GAIN_MIN * 1e3 / said[1][0] * (1 - 1e-12)
        assert limit == inf or (said[batch][1] is not None and said[batch][1] <= limit)


@given(curves, times, st.floats(1, 10))
def test_a_looser_slo_never_lowers_the_best_throughput(said, limit, factor):
    measured = Curve(of=HERE, points=tuple(Point(batch=b, p50_ms=p50, p90_ms=p90) for b, (p50, p90) in said.items()))

    def most(p90_ms_max: float) -> float:
        return max((batch / said[batch][0] for batch in batching(measured, here=HERE, p90_ms_max=p90_ms_max)), default=0.0)

    assert most(limit * factor) >= most(limit)
    assert most(inf) >= most(limit)


SHAPES = Shapes(run_ms={1: 0.15, 2: 0.16, 4: 0.17, 8: 0.22}, change_ms=10.0)
"""As measured of a convolutional net on a GPU: a new shape takes fifty runs."""


def sizes_of(rows: list[int], shapes: Shapes = SHAPES) -> list[int]:
    shape, found = Shape(), []
    for each in rows:
        shape = shape.for_rows(each, shapes)
        found.append(shape.rows)
    return found


def test_a_shape_grows_at_once_and_stays_while_less_is_needed():
    assert sizes_of([1, 1, 3, 1, 2, 4, 7, 1, 8]) == [1, 1, 4, 4, 4, 4, 8, 8, 8]


def test_more_rows_than_the_largest_size_run_as_they_are():
    assert sizes_of([9, 12, 3, 1]) == [9, 12, 4, 4]


def test_it_falls_to_what_was_needed_once_the_padding_has_cost_two_changes():
    runs = int(CHANGES * SHAPES.change_ms / (0.22 - 0.16)) + 1
    sizes = sizes_of([8, *[2] * runs])
    assert sizes[-2:] == [8, 2]
    assert set(sizes[:-1]) == {8}
    assert sizes_of([8, *[2] * (runs - 1), 8, *[2] * (runs - 1)])[-1] == 8, "needed again, it starts anew"


def test_sizes_without_one_are_told():
    with pytest.raises(ValueError, match="sizes from 1 on"):
        Shapes(run_ms={2: 1.0}, change_ms=1.0)


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=400),
    st.floats(0.01, 50.0),
    st.lists(st.floats(0.05, 5.0), min_size=4, max_size=4),
)
def test_it_holds_all_rows_and_never_costs_much_more_than_changing_each_time_or_never(
    rows: list[int], change_ms: float, steps: list[float]
):
    run_ms = {1: steps[0], 2: sum(steps[:2]), 4: sum(steps[:3]), 8: sum(steps)}
    shapes = Shapes(run_ms=run_ms, change_ms=change_ms)
    sizes = sizes_of(rows, shapes)
    assert all(size >= each for size, each in zip(sizes, rows, strict=True))

    def cost(chosen: list[int]) -> float:
        before = [1, *chosen]
        return sum(run_ms[size] + (size != last) * change_ms for size, last in zip(chosen, before, strict=False))

    never = cost([8] * len(rows))
    each_time = cost([min(size for size in run_ms if size >= each) for each in rows])
    # Growing step by step may take three changes, and each fall is paid for by as much waste as it saves.
    assert cost(sizes) <= 3 * min(never, each_time) + 6 * change_ms + run_ms[8]
