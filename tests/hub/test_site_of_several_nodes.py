"""A site of several servers is one entry of pilot.json: what is counted adds up, and what is not everywhere is not there."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.small_site import START_S, WINDOW_S, about, event, meters, path, record, store_with, video
from nearhall.documents.pilot_returns import parse_pilot
from nearhall.drivers.store_memory import MemoryStore
from nearhall.hub.pilot import build_pilot
from nearhall.ports.store import SiteRow
from nearhall.report.pilot.page import render_report
from nearhall.wire.telemetry import LinkWindow, Record, WorkloadStats
from pilot.contract import missing

N = 30
END_S = START_S + N * WINDOW_S
NODES = [{"id": "n1", "hardware": "orin"}, {"id": "n2", "hardware": "l4"}]
IDLE_W = {"id": "server", "idle_w": 90.0, "busy_w": 200.0, "source": "a data sheet"}
"""Half of the one server's, so that two of them draw the same."""
NOTHING = WorkloadStats()
CHAT = WorkloadStats(local=1, sent_bytes=100, paths={"local": path(1, queue=0.0, service=200.0, network=0.0, ttft=50.0)})


def first(**more: Any) -> dict[str, Any]:
    """What the first node says: it knows the meters."""
    return about(nodes=NODES, **more)


def second(**more: Any) -> dict[str, Any]:
    """What another one says."""
    return about(nodes=NODES, host={"cpu": "another", "cores": 4}, meters=[], ups={}, **more)


def bare(window: int, **more: Any) -> Record:
    """A window of a node that reads no meters."""
    return record(window, **({"meters": {}, "outcomes": {}, "link": LinkWindow(rtt_ms=41.0), "cpu_share": 0.0} | more))


def pilot_of(one: list[Record], other: list[Record] | None, **said: Any) -> dict[str, Any]:
    """The document of a site of two nodes; None for one that never said hello."""
    store = store_with(one, said=first(**said), into=MemoryStore())
    if other is not None:
        store_with(other, site="shop-01.n2", said=second(**said), into=store)
    return build_pilot(store, start_s=START_S, end_s=END_S, seed=7)


def same(one: Any, other: Any, where: str = "") -> None:
    """Equal, but for the last digits of sums taken in another order."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            same(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            same(*pair, f"{where}/{index}")
    else:
        assert other == (pytest.approx(one, rel=1e-6, abs=1e-6) if isinstance(one, float) else one), where


@given(choices=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=N, max_size=N))
def test_the_same_work_on_two_nodes_is_the_same_site(choices: list[tuple[bool, bool, bool]]):
    """Each workload's window, and the link's bytes, are counted by one node or by the other."""
    whole, parts = [], ([], [])
    for window, (video_here, chat_here, link_here) in enumerate(choices):
        work = {"video": video(late=1, rejected={"queue_full": 2}), "chat": CHAT}
        one = record(window, workloads=work, outcomes={}, events=[event("x", "y")])
        whole.append(one)
        own = {name for name, here in (("video", video_here), ("chat", chat_here)) if here}
        link = (one.link, LinkWindow(rtt_ms=41.0))
        parts[0].append(
            msgspec.structs.replace(one, workloads={k: v for k, v in work.items() if k in own}, link=link[not link_here])
        )
        parts[1].append(bare(window, workloads={k: v for k, v in work.items() if k not in own}, link=link[link_here]))
    alone = build_pilot(store_with(whole, said=about()), start_s=START_S, end_s=END_S, seed=7)
    both = pilot_of(*parts, catalogue=IDLE_W)
    assert [site["id"] for site in both["sites"]] == ["shop-01"]
    for site in (alone["sites"][0], both["sites"][0]):
        for item in site["workloads"]:
            del item["per_thousand"]["hub"]  # by the server that it would run on, of which there are two halves here
        for gone in ("nodes", "series"):
            del site[gone]
    same(alone["sites"], both["sites"])
    same(alone["totals"], both["totals"])
    same(alone["events"], both["events"])


def test_a_pilot_of_two_nodes_is_a_whole_document_and_a_decision_reads_one_site():
    pilot = pilot_of([record(n) for n in range(N)], [bare(n, cpu_share=0.5, clock_error_ms=-2.0) for n in range(N)])
    assert missing(pilot) == []
    assert "node n2" in render_report(json.loads(json.dumps(pilot, allow_nan=False)))
    (site,) = pilot["sites"]
    assert site["workloads"][0]["requests"]["local"] == 2 * N * 10
    assert site["clock_error_ms"] == -2.0, "of the clock that is worst"
    assert site["blocks"][0]["it_load"] == 0.75, "processors busy on both"
    assert site["series"]["local_per_s"] == [10.0] * (N), "both nodes' at each moment"
    assert site["host"]["cpu"] == "a processor"
    assert [(node["id"], node["hardware"], node["host"]["cpu"]) for node in site["nodes"]] == [
        ("n1", "orin", "a processor"),
        ("n2", "l4", "another"),
    ]
    (read,) = parse_pilot(json.dumps(pilot).encode(), name="pilot.json")
    assert (read.id, read.coverage, read.clock_error_ms, read.silent) == ("shop-01", 1.0, -2.0, ())
    assert read.blocks[0].slo["video"] == (2 * N * 10, 2 * N * 10)
    joules = 360.0 * N * WINDOW_S
    assert read.workloads[0].joules_full == pytest.approx(joules / (2 * N * 10), rel=1e-5)


@pytest.mark.parametrize(
    ("down", "covered"),
    [
        (((0, 10), (0, 10)), 2 / 3),
        (((0, 10), (10, 20)), 1 / 3),
        (((0, 10), (5, 20)), 1 / 3),
        (((), (0, 30)), 0.0),
        (((), ()), 1.0),
    ],
    ids=["together", "one after the other", "overlapping", "one always", "never"],
)
def test_a_site_is_covered_while_all_its_nodes_are(down: tuple[tuple[int, ...], tuple[int, ...]], covered: float):
    ups = [[n not in range(*hours) if hours else True for n in range(N)] for hours in down]
    pilot = pilot_of(
        [record(n, gateway_up=up) for n, up in enumerate(ups[0])], [bare(n, gateway_up=up) for n, up in enumerate(ups[1])]
    )
    (site,) = pilot["sites"]
    each = [node["coverage"] for node in site["nodes"]]
    assert site["coverage"] == pytest.approx(covered, abs=1e-4)
    assert each == pytest.approx([sum(up) / N for up in ups], abs=1e-4)
    assert site["coverage"] <= min(each)


@pytest.mark.parametrize("hello", [False, True], ids=["no hello", "hello and nothing else"])
def test_a_node_that_nobody_heard_of_is_named(hello: bool):
    pilot = pilot_of([record(n) for n in range(N)], [] if hello else None)
    (site,) = pilot["sites"]
    assert site["coverage"] == 0.0
    assert [(node["id"], node["heard"], node["coverage"]) for node in site["nodes"]] == [("n1", True, 1.0), ("n2", False, 0.0)]
    (told,) = [event for event in pilot["events"] if event["kind"] == "node_missing"]
    assert (told["site"], told["level"]) == ("shop-01", "error")
    assert told["text"].startswith("node n2 of shop-01 sent nothing in this period")
    assert site["workloads"][0]["requests"]["local"] == N * 10
    assert "no word of it" in render_report(pilot)
    (read,) = parse_pilot(json.dumps(pilot).encode(), name="pilot.json")
    assert (read.coverage, read.silent) == (0.0, ("n2",))


def test_while_the_first_is_silent_the_others_say_what_the_site_is():
    store = store_with([bare(n) for n in range(N)], site="shop-01.n2", said=second(), into=MemoryStore())
    (site,) = build_pilot(store, start_s=START_S, end_s=END_S, seed=7)["sites"]
    assert (site["id"], site["class"], site["coverage"], site["meters"]) == ("shop-01", "micro", 0.0, [])
    assert [(node["id"], node["heard"]) for node in site["nodes"]] == [("n1", False), ("n2", True)]
    assert site["workloads"][0]["requests"]["local"] == N * 10


def test_only_the_first_node_s_meters_count():
    pilot = pilot_of([record(n) for n in range(N)], [bare(n, meters=meters(n, scale={"feed": 7.0})) for n in range(N)])
    (site,) = pilot["sites"]
    assert site["energy"]["facility_kwh"] == pytest.approx(360 * 60 / 3.6e6)
    assert site["pue"]["value"] == pytest.approx(360 / 252, abs=1e-4)
    assert site["series"]["power_w"]["feed"] == [360.0] * N


@pytest.mark.parametrize("heard", [False, True])
def test_a_node_that_the_site_no_longer_names_counts_as_long_as_it_was_heard(heard: bool):
    store = store_with([record(n) for n in range(N)], said=about(nodes=NODES[:1]), into=MemoryStore())
    store_with([bare(n) for n in range(N // 2)] if heard else [], site="shop-01.n2", said=second(), into=store)
    (site,) = build_pilot(store, start_s=START_S, end_s=END_S, seed=7)["sites"]
    assert site["coverage"] == (0.5 if heard else 1.0)
    assert [node["id"] for node in site["nodes"]] == (["n1", "n2"] if heard else [])


@pytest.mark.parametrize(("seen_s", "nodes"), [(END_S + 1, []), (END_S - 1, ["n1", "n2"])], ids=["after it", "in it"])
def test_a_node_that_came_after_the_period_was_not_missing_in_it(seen_s: float, nodes: list[str]):
    store = store_with([record(n) for n in range(N)], said=first(), into=MemoryStore())
    body = json.dumps(second()).encode()
    store.seen(SiteRow(site="shop-01.n2", first_seen_s=seen_s, last_seen_s=seen_s, software="s", boot_id="b", about=body))
    (site,) = build_pilot(store, start_s=START_S, end_s=END_S, seed=7)["sites"]
    assert (site["coverage"], [node["id"] for node in site["nodes"]]) == (0.0 if nodes else 1.0, nodes)


def test_a_clock_that_nobody_compared_leaves_the_site_s_unknown():
    pilot = pilot_of([record(n) for n in range(N)], [bare(n, clock_error_ms=None) for n in range(N)])
    assert pilot["sites"][0]["clock_error_ms"] is None
    assert [node["clock_error_ms"] for node in pilot["sites"][0]["nodes"]] == [0.5, None]


def test_an_event_says_of_which_node_it_is():
    told = [event("gateway_started", "the gateway serves")]
    pilot = pilot_of([record(n, events=told * (n == 0)) for n in range(N)], [bare(n, events=told * (n == 0)) for n in range(N)])
    texts = [(row["site"], row["text"]) for row in pilot["events"]]
    assert texts == [("shop-01", "the gateway serves"), ("shop-01", "n2: the gateway serves")]


def test_a_site_that_no_node_introduced_is_named_by_its_sessions():
    store = store_with([record(n) for n in range(N)], said={}, into=MemoryStore())
    store_with([bare(n) for n in range(N)], site="shop-01.n2", said={}, into=store)
    (site,) = build_pilot(store, start_s=START_S, end_s=END_S, seed=7)["sites"]
    assert [node["id"] for node in site["nodes"]] == ["shop-01", "n2"]


def test_many_nodes_over_a_long_time_are_few_points():
    store = MemoryStore()
    store_with([record(n) for n in range(1000)], said=first(), into=store)
    store_with([bare(n) for n in range(1000)], site="shop-01.n2", said=second(), into=store)
    (site,) = build_pilot(store, start_s=START_S, end_s=START_S + 2000.0, seed=7)["sites"]
    assert 200 < len(site["series"]["t_s"]) <= 300
    assert site["series"]["local_per_s"] == [10.0] * len(site["series"]["t_s"])
