"""nearhall's headers: read, refused with words, and the times that an answer accounts for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import Refusal
from nearhall.core.residency import Residency
from nearhall.wire.headers import AskHeaders, parse_ask, parse_server_timing, server_timing


def test_a_request_without_ours_says_nothing():
    assert parse_ask([(b"host", b"x"), (b"accept", b"*/*")]) == AskHeaders()


def test_everything_that_can_be_said():
    found = parse_ask(
        [
            (b"x-nearhall-deadline-ms", b"12.5"),
            (b"x-nearhall-total-deadline-ms", b"100"),
            (b"x-nearhall-residency", b"jurisdiction:DE"),
            (b"x-nearhall-priority", b"3"),
            (b"x-nearhall-workload", b"cams"),
            (b"x-nearhall-raw-bytes", b"1000"),
            (b"x-nearhall-probe", b"1"),
            (b"inference-header-content-length", b"20"),
            (b"content-encoding", b" GZIP "),
            (b"content-length", b"40"),
        ]
    )
    assert found == AskHeaders(
        deadline_ms=12.5,
        total_deadline_ms=100.0,
        residency=Residency.parse("jurisdiction:DE"),
        priority=3,
        workload="cams",
        raw_bytes=1000,
        probe=True,
        head_bytes=20,
        encoding="gzip",
        content_length=40,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-nearhall-deadline-ms", b"nan"),
        (b"x-nearhall-deadline-ms", b"0"),
        (b"x-nearhall-deadline-ms", b"soon"),
        (b"x-nearhall-priority", b"10"),
        (b"x-nearhall-raw-bytes", b"-1"),
        (b"x-nearhall-raw-bytes", b"9" * 40),
        (b"x-nearhall-residency", b"moon"),
        (b"inference-header-content-length", b"x"),
    ],
)
def test_a_value_that_is_none_is_named(name, value):
    with pytest.raises(Refusal, match=name.decode()):
        parse_ask([(name, value)])


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_times_come_back(queue_ms, compute_ms, network_ms):
    found = parse_server_timing(server_timing(queue_ms=queue_ms, compute_ms=compute_ms, network_ms=network_ms))
    assert found["queue"] == pytest.approx(queue_ms, abs=0.001)
    assert found["compute"] == pytest.approx(compute_ms, abs=0.001)
    assert ("network" in found) == (network_ms is not None)


@given(st.binary(max_size=60))
def test_rubbish_gives_no_times_and_no_error(value):
    assert all(duration >= 0 for duration in parse_server_timing(value).values())


def test_only_durations_count():
    assert parse_server_timing(b'cache;desc="x", queue;dur="1.5", a;dur=inf, b;dur=-1, c;dur=x') == {"queue": 1.5}
