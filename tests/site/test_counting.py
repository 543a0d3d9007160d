"""From counters that grow to what one window added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.histogram import Histogram
from nearhall.site.counting import added, counted_under, recalled, remembered, with_refused
from nearhall.wire.telemetry import Event, GatewayStats, PathStats, ProbePair, Sketch, WorkloadStats


def _stats(gateway: str = "g1", **more: object) -> GatewayStats:
    return GatewayStats(gateway_id=gateway, pid=1, started_s=0.0, at_s=1.0, **more)  # type: ignore[arg-type]


def _sketch(*values: float) -> Sketch:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return Sketch.of(histogram)


def test_the_first_look_at_a_gateway_is_the_whole():
    window = added(_stats(workloads={"video": WorkloadStats(local=3, rejected={"queue_full": 1})}, cpu_s=2.0), None)
    assert window.workloads == {"video": WorkloadStats(local=3, rejected={"queue_full": 1})}
    assert window.cpu_s == 2.0


def test_the_next_look_is_the_difference_in_every_part():
    before = WorkloadStats(
        local=3, rejected={"queue_full": 1}, decisions={"local_first": 4}, paths={"local": PathStats(latency=_sketch(1, 5))}
    )
    now = WorkloadStats(
        local=5,
        hub=1,
        rejected={"queue_full": 1, "deadline": 2},
        decisions={"local_first": 6, "hub_deadline": 1},
        paths={"local": PathStats(latency=_sketch(1, 5, 9)), "hub": PathStats(latency=_sketch(40))},
        raw_bytes=100,
    )
    window = added(_stats(workloads={"video": now}), _stats(workloads={"video": before}))
    (video,) = window.workloads.values()
    assert (video.local, video.hub, video.raw_bytes) == (2, 1, 100)
    assert video.rejected == {"deadline": 2}
    assert video.decisions == {"local_first": 2, "hub_deadline": 1}
    assert video.paths["local"].latency.histogram().counts == _sketch(9).histogram().counts
    assert video.paths["local"].latency.total == pytest.approx(9)
    assert video.paths["hub"].latency == _sketch(40)


def test_a_workload_where_nothing_happened_is_left_out():
    same = WorkloadStats(local=3, decisions={"local_first": 3})
    assert added(_stats(workloads={"video": same}), _stats(workloads={"video": same})).workloads == {}


def test_another_gateway_counts_from_zero():
    before = _stats("g1", workloads={"video": WorkloadStats(local=100)}, cpu_s=50.0, events_total=9)
    event = Event(at_s=1.0, kind="model_ready", text="faces is ready")
    now = _stats("g2", workloads={"video": WorkloadStats(local=2)}, cpu_s=1.0, events=[event], events_total=1)
    window = added(now, before)
    assert window.workloads["video"].local == 2
    assert (window.cpu_s, window.events) == (1.0, [event])


def test_events_and_probes_are_told_once():
    events = [Event(at_s=float(i), kind="k", text=str(i)) for i in range(5)]
    pairs = [ProbePair(at_s=float(i), local_ms=1.0, hub_ms=40.0) for i in range(5)]

    def stats(n: int) -> GatewayStats:
        workloads = {"video": WorkloadStats(probes=pairs[:n], probes_total=n)}
        return _stats(events=events[:n], events_total=n, workloads=workloads)

    window = added(stats(5), stats(3))
    assert window.events == events[3:]
    assert window.workloads["video"].probes == pairs[3:]
    assert added(stats(5), stats(5)).events == []


def test_what_is_remembered_is_enough_and_nothing_else_survives():
    before = _stats(
        workloads={"video": WorkloadStats(local=3, probes=[ProbePair(at_s=0, local_ms=1, hub_ms=2)], probes_total=1)},
        events=[Event(at_s=0, kind="k", text="t")],
        events_total=1,
    )
    again = recalled(remembered(before))
    assert again is not None
    assert added(before, again).workloads == {}
    assert added(before, again).events == []
    assert (again.events, again.workloads["video"].probes) == ([], [])


@pytest.mark.parametrize("kept", [None, b"", b"nonsense", b"[]", b'{"gateway_id": 4}'])
def test_what_cannot_be_read_is_forgotten(kept: bytes | None):
    assert recalled(kept) is None


STEPS = st.lists(st.tuples(st.integers(0, 5), st.lists(st.floats(0.1, 1000), max_size=3), st.booleans()), max_size=20)


@given(steps=STEPS)
def test_windows_add_up_to_the_whole_through_restarts_of_gateway_and_agent(steps: list[tuple[int, list[float], bool]]):
    gateway, local, histogram = 0, 0, Histogram()
    before: GatewayStats | None = None
    counted, whole, seen = 0, 0, Histogram()
    for requests, latencies, restarts in steps:
        local += requests
        whole += requests
        for latency in latencies:
            histogram.add(latency)
        paths = {"local": PathStats(latency=Sketch.of(histogram))}
        now = _stats(f"g{gateway}", workloads={"video": WorkloadStats(local=local, paths=paths)})
        video = added(now, before).workloads.get("video", WorkloadStats())
        assert video.local >= 0
        counted += video.local
        if "local" in video.paths:
            seen.merge(video.paths["local"].latency.histogram())
        before = recalled(remembered(now))
        if restarts:
            gateway, local, histogram = gateway + 1, 0, Histogram()
    assert counted == whole
    assert seen.n == sum(len(latencies) for _, latencies, _ in steps)


def test_what_the_stand_in_refused_joins_the_window_under_restarting():
    window = {"video": WorkloadStats(local=3, rejected={"queue_full": 1})}
    found = with_refused(window, {"video": 2, "chat": 1})
    assert found["video"] == WorkloadStats(local=3, rejected={"queue_full": 1, "restarting": 2})
    assert found["chat"] == WorkloadStats(rejected={"restarting": 1})
    assert with_refused(found, {"chat": 4})["chat"].rejected == {"restarting": 5}
    assert window["video"].rejected == {"queue_full": 1}


WORKLOADS = [
    {"id": "video", "model": "faces"},
    {"id": "second", "model": "faces"},
    {"id": "chat", "model": "smollm2", "chat": True},
]


@pytest.mark.parametrize(
    ("head", "workload"),
    [
        (b"POST /v2/models/faces/infer HTTP/1.1\r\nhost: x\r\n\r\n", "video"),
        (b"POST /v2/models/faces/versions/1/infer?x=1 HTTP/1.1\r\n\r\n", "video"),
        (b"POST /v2/models/faces/infer HTTP/1.1\r\nX-Nearhall-Workload: second\r\n\r\n", "second"),
        (b"POST /v2/models/faces/infer HTTP/1.1\r\nX-Nearhall-Workload: nobody\r\n\r\n", "video"),
        (b"POST /v2/models/other/infer HTTP/1.1\r\n\r\n", "model:(other)"),
        (b"POST /v1/chat/completions HTTP/1.1\r\n\r\n", "chat"),
        (b"GET /v2/models/faces HTTP/1.1\r\n\r\n", None),
        (b"POST /v2/repository/index HTTP/1.1\r\n\r\n", None),
        (b"\x16\x03\x01 nonsense\r\n\r\n", None),
    ],
)
def test_a_refused_request_is_counted_under_its_workload(head: bytes, workload: str | None):
    assert counted_under(head, WORKLOADS) == workload


def test_chat_of_a_site_with_two_chats_is_nobodys():
    two = [*WORKLOADS, {"id": "chat-2", "model": "m", "chat": True}]
    assert counted_under(b"POST /v1/chat/completions HTTP/1.1\r\n\r\n", two) == "model:(other)"


@given(st.binary(max_size=200))
def test_no_head_is_too_strange_to_be_counted(head: bytes):
    assert counted_under(head, WORKLOADS) in {None, "video", "second", "chat", "model:(other)"}
