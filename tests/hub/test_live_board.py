"""The live state is what the records add up to, however they come."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.hub_rig import rig
from hub.small_site import START_S, WINDOW_S, about, event, meters, path, probe, record, store_with, video
from nearhall.hub.about import About, parse_about
from nearhall.hub.live import MINUTE_WINDOWS, POINTS_KEPT, Board
from nearhall.wire.live import LiveSite, LiveState
from nearhall.wire.telemetry import LinkWindow, Outcome, Record, WorkloadStats

ABOUT = parse_about(json.dumps(about()).encode())


def board(*records: Record, introduced: bool = True) -> Board:
    made = Board(hub="hub", software="s", started_s=START_S)
    if introduced:
        made.introduce("shop-01", ABOUT, START_S)
    for taken in records:
        made.add("shop-01", taken, taken.end_s)
    return made


def site_of(made: Board, at_s: float = START_S + 4) -> LiveSite:
    return made.state(at_s).sites[0]


def test_a_site_is_shown_as_it_says_it_is():
    site = site_of(board(record(0), record(1, link=LinkWindow(sent_bytes=5, spooled_bytes=9))))
    assert (site.id, site.klass, site.jurisdiction, site.online, site.gateway_up) == ("shop-01", "micro", "DE", True, True)
    assert (site.rtt_ms, site.spooled_bytes, site.agent_bytes) == (41.0, 9, 1005)
    assert site.last_seen_s == START_S + 4
    assert [meter.position for meter in site.meters] == ["feed", "ups_in", "ups_out", "it", "cooling"]
    assert site.kinds == {
        "latency_local": "measured",
        "latency_hub": "simulated",
        "rtt": "simulated",
        "bytes_sent": "measured",
        "bytes_raw": "measured",
        "counts": "measured",
        "power": "simulated",
        "pue": "simulated",
        "temperature": "simulated",
    }


def test_totals_rates_and_quantiles():
    first = video(hub=2, rejected={"deadline": 1}, failed=1, late=3, probes=[probe(5, 44)], sent_bytes=50)
    site = site_of(board(record(0, workloads={"video": first}), record(1)))
    shown = site.workloads[0]
    assert (shown.local, shown.hub, shown.rejected, shown.failed, shown.late) == (20, 2, {"deadline": 1}, 1, 3)
    assert (shown.raw_bytes, shown.sent_bytes, shown.probes, shown.outcomes) == (200_000, 50, 1, {"faces": 6.0})
    assert shown.requests_per_s == 5.0, "of the last window"
    assert shown.local_p50_ms == pytest.approx(5.0, rel=0.006)
    assert shown.local_p99_ms is None
    point = site.points[0]
    assert (point.local_per_s, point.hub_per_s, point.refused_per_s) == (5.0, 1.0, 0.5)
    assert point.sent_bytes_per_s == (50 + 1000) / 2
    assert point.power_w["feed"] == 360.0


def test_chat_is_shown_by_its_first_token_and_kept_out_of_the_tensors_picture():
    chat = WorkloadStats(local=20, paths={"local": path(20, queue=0, service=900, network=0, ttft=50)})
    site = site_of(board(record(0, workloads={"chat": chat})))
    assert site.workloads[1].local_p50_ms == pytest.approx(50, rel=0.006)
    assert site.points[0].local_p50_ms is None


def test_the_picture_shows_the_last_minute():
    slow = {"video": video(20, paths={"local": path(20, queue=0, service=100, network=0)})}
    made = board(record(0, workloads=slow), *[record(n, workloads={}) for n in range(1, MINUTE_WINDOWS + 2)])
    points = site_of(made).points
    assert points[MINUTE_WINDOWS - 1].local_p50_ms == pytest.approx(100, rel=0.006)
    assert points[MINUTE_WINDOWS].local_p50_ms is None


def test_what_was_before_the_run_does_not_count():
    made = board(record(-1), record(0))
    assert site_of(made).workloads[0].local == 10


def test_an_unknown_workload_is_shown_under_its_model():
    site = site_of(board(record(0, workloads={"model:mine": video()})))
    assert [(w.id, w.model) for w in site.workloads] == [("video", "faces"), ("chat", "smollm2"), ("model:mine", "mine")]


def test_a_site_that_reports_before_it_says_hello_is_shown():
    made = board(record(0), introduced=False)
    assert site_of(made).workloads[0].local == 10
    made.introduce("shop-01", ABOUT, START_S + 3)
    assert site_of(made).workloads[0].model == "faces"


def test_a_silent_site_is_offline():
    made = board(record(0))
    assert site_of(made, START_S + 11).online
    assert not site_of(made, START_S + 13).online


def test_news_are_only_what_is_new():
    made = board(record(0, events=[event("a", "first")]), record(1, events=[event("b", "second")]))
    state = made.state(START_S + 4, points_after={"shop-01": START_S + 2}, events_after=1)
    assert [point.at_s for point in state.sites[0].points] == [START_S + 4]
    assert [told.text for _, told in state.events] == ["second"]
    assert made.events_total == 2


def test_pictures_and_events_are_bounded():
    made = board(*[record(n, events=[event("a", str(n))]) for n in range(POINTS_KEPT + 50)])
    state = made.state(START_S)
    assert len(state.sites[0].points) == POINTS_KEPT
    assert len(state.events) == 100
    assert state.events[-1][1].text == str(POINTS_KEPT + 49)
    assert len(msgspec.json.encode(state)) < 200_000


def test_a_state_does_not_change_while_it_is_drawn():
    made = board(record(0, workloads={"video": video(rejected={"deadline": 1})}))
    before = made.state(START_S + 2)
    made.add("shop-01", record(1, workloads={"video": video(rejected={"queue_full": 1})}), START_S + 4)
    assert before.sites[0].workloads[0].rejected == {"deadline": 1}
    assert len(before.sites[0].points) == 1


def test_the_state_travels():
    state = board(record(0)).state(START_S)
    assert msgspec.json.decode(msgspec.json.encode(state), type=LiveState) == state


def test_after_a_restart_the_hub_shows_the_same():
    async def story() -> None:
        records = [record(n, workloads={"video": video(probes=[probe(5, 45)])}) for n in range(700)]
        store = store_with(records)
        again = rig(store)
        await again.hub.recall(START_S)
        live = again.hub.live().sites[0]
        assert live.workloads == site_of(board(*records)).workloads
        assert live.points == site_of(board(*records)).points
        assert live.workloads[0].local == 7000

    asyncio.run(story())


@given(order=st.permutations(range(6)))
def test_totals_do_not_depend_on_the_order(order: list[int]):
    windows = [record(n, workloads={"video": video(n + 1)}, meters=meters(n)) for n in range(6)]
    shown = site_of(board(*[windows[n] for n in order]))
    straight = site_of(board(*windows))
    assert shown.workloads[0].local == straight.workloads[0].local == 21
    assert shown.pue == pytest.approx(straight.pue)
    assert shown.last_seen_s == straight.last_seen_s == START_S + 6 * WINDOW_S


@pytest.mark.parametrize("text", [b"", b"[]", b'{"meters": 5}', b"\xff"])
def test_a_description_that_cannot_be_read_is_an_empty_one(text: bytes):
    assert parse_about(text) == About()


def test_a_day_of_backlog_is_shown_in_seconds():
    records = [record(n) for n in range(2000)]
    began = time.monotonic()
    board(*records)
    per_record_ms = (time.monotonic() - began) / 2000 * 1e3
    assert per_record_ms < 2.0, "43,200 windows a day must not take longer than a start may"


def test_a_window_without_a_single_face_adds_none():
    empty = {"video": [Outcome(name="faces", count=10, total=0.0)]}
    assert site_of(board(record(0), record(1, outcomes=empty))).workloads[0].outcomes == {"faces": 3.0}


def test_the_round_trip_of_a_real_link_is_shown_as_the_kernel_sees_it():
    seen = record(0, link=LinkWindow(rtt_ms=41.0, kernel_rtt_ms=38.5))
    assert site_of(board(seen)).rtt_ms == 41.0, "a played link ends TCP on this machine"
    real = parse_about(json.dumps(about(link={"kind": "measured", "source": ""})).encode())
    made = Board(hub="hub", software="s", started_s=START_S)
    made.introduce("shop-01", real, START_S)
    made.add("shop-01", seen, seen.end_s)
    assert site_of(made).rtt_ms == 38.5
