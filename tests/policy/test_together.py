"""A batch is only made of what pays and keeps its deadlines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearhall.policy.batching import Waiting, together

requests = st.builds(
    Waiting, rows=st.integers(1, 8), input_bytes=st.integers(1, 4096), deadline_ms=st.none() | st.floats(0, 100, allow_nan=False)
)


def waiting(rows=1, deadline_ms=None):
    return Waiting(rows=rows, input_bytes=100 * rows, deadline_ms=deadline_ms)


def per_row(size: int) -> float:
    return size / 100


def test_as_many_as_pay():
    assert together([waiting()] * 10, rows_max=4, now_ms=0, expected_ms=per_row) == 4
    assert together([waiting(2), waiting(2), waiting(2)], rows_max=4, now_ms=0, expected_ms=per_row) == 2
    assert together([waiting(9), waiting(1)], rows_max=4, now_ms=0, expected_ms=per_row) == 1


def test_nobody_joins_who_would_make_another_late():
    tight = [waiting(deadline_ms=12.0), waiting(), waiting()]
    assert together(tight, rows_max=8, now_ms=10.0, expected_ms=per_row) == 2
    loose = [waiting(), waiting(deadline_ms=20.0), waiting()]
    assert together(loose, rows_max=8, now_ms=10.0, expected_ms=per_row) == 3


@given(st.lists(requests, min_size=1, max_size=20), st.integers(1, 16), st.floats(0, 50, allow_nan=False))
def test_a_batch_keeps_its_limits(given_requests, rows_max, now_ms):
    count = together(given_requests, rows_max=rows_max, now_ms=now_ms, expected_ms=per_row)
    assert 1 <= count <= len(given_requests)
    if count > 1:
        taken = given_requests[:count]
        assert sum(one.rows for one in taken) <= rows_max
        ends_ms = now_ms + per_row(sum(one.input_bytes for one in taken))
        assert all(one.deadline_ms is None or ends_ms <= one.deadline_ms for one in taken)


def test_nothing_waits():
    assert together([], rows_max=4, now_ms=0, expected_ms=per_row) == 0
