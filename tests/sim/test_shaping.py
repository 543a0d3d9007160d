"""The link's times, as properties: order, the least delay, bandwidth, and nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearhall.sim.shaping import HELD_BYTES_MAX, HELD_BYTES_MIN, Order, Shape, Wire

numbers = st.floats(min_value=0.0, max_value=500.0)
shapes = st.builds(Shape.of, rtt_ms=numbers, jitter_ms=numbers, mbps=st.sampled_from([0.0, 1.0, 50.0, 1000.0]))
messages = st.lists(
    st.tuples(
        st.floats(min_value=0.0, max_value=0.1),
        st.integers(min_value=1, max_value=100_000),
        st.floats(min_value=0.0, max_value=1.0),
        st.integers(min_value=0, max_value=2),
    ),
    min_size=1,
    max_size=40,
)
"""Pause before it, bytes, draw of the jitter, and which of three connections of the site sends it."""


@given(shape=shapes, sent=messages)
def test_nothing_overtakes_and_nothing_comes_early(shape: Shape, sent: list[tuple[float, int, float, int]]):
    wire = Wire()
    orders = [Order(wire, opens_at_s=0.0) for _ in range(3)]
    arrived: list[list[float]] = [[], [], []]
    now = 0.0
    for pause, size, draw, connection in sent:
        now += pause
        due = orders[connection].due(size, now, shape, draw)
        assert due >= now + shape.rtt_s / 2.0
        if shape.bytes_per_s:
            assert due >= now + shape.rtt_s / 2.0 + size / shape.bytes_per_s - 1e-9
        arrived[connection].append(due)
    for times in arrived:
        assert times == sorted(times)


@given(shape=shapes, sent=messages)
def test_a_site_never_gets_more_than_its_bandwidth(shape: Shape, sent: list[tuple[float, int, float, int]]):
    wire = Wire()
    now = 0.0
    total = 0
    last = 0.0
    for pause, size, _, _ in sent:
        now += pause
        total += size
        last = wire.put(size, now, shape)
        assert last >= now
    if shape.bytes_per_s:
        assert last >= total / shape.bytes_per_s * (1 - 1e-9)
    else:
        assert last == now


@given(shape=shapes, size=st.integers(min_value=1, max_value=10_000), opens=st.floats(min_value=0.0, max_value=1.0))
def test_nothing_enters_before_the_connection_is_up(shape: Shape, size: int, opens: float):
    assert Order(Wire(), opens_at_s=opens).due(size, 0.0, shape, 0.0) >= opens + shape.rtt_s / 2.0


@given(shape=shapes)
def test_what_is_held_back_is_bounded(shape: Shape):
    assert HELD_BYTES_MIN <= shape.held_bytes_max <= HELD_BYTES_MAX


def test_the_units_of_people_become_seconds_and_bytes():
    assert Shape.of(rtt_ms=40, jitter_ms=2, mbps=50) == Shape(rtt_s=0.04, jitter_s=0.002, bytes_per_s=6_250_000.0)
    wire = Wire()
    assert wire.put(6_250_000, 1.0, Shape.of(rtt_ms=0, jitter_ms=0, mbps=50)) == 2.0
