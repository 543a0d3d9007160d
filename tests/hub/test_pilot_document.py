"""pilot.json from records whose every figure is worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hub.small_site import START_S, WINDOW_S, about, event, meters, path, probe, record, store_with, video
from nearhall.core.errors import InputError
from nearhall.drivers.store_memory import MemoryStore
from nearhall.hub.pilot import build_pilot
from nearhall.report.pilot.page import render_report
from nearhall.report.pilot.summary import words
from nearhall.wire.telemetry import LinkWindow, MeterWindow, Record, WorkloadStats
from pilot.contract import missing

N = 30
CHAT = WorkloadStats(
    local=1,
    sent_bytes=100,
    paths={"local": path(1, queue=0.0, service=200.0, network=0.0, ttft=50.0)},
    probes=[probe(50.0, 92.0, 0.0), probe(52.0, 90.0, 0.0)],
)


def build(records: list[Record], *, windows: int | None = None, said: dict[str, Any] | None = None) -> dict[str, Any]:
    end_s = START_S + WINDOW_S * (len(records) if windows is None else windows)
    return build_pilot(store_with(records, said=said), start_s=START_S, end_s=end_s, seed=7)


def at(document: Any, pointer: str) -> Any:
    for part in pointer.strip("/").split("/"):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.fixture
def pilot() -> dict[str, Any]:
    """60 s: ten video answers and a chat a window, two video probes (41 and 43 ms later), two refusals, one late."""
    first = video(rejected={"queue_full": 2}, late=1, cancelled=1, probes=[probe(5.0, 46.0)], probe_bytes=20_000, sent_bytes=0)
    second = video(probes=[probe(5.0, 48.0)], probe_bytes=20_000)
    records = [
        record(0, workloads={"video": first, "chat": CHAT}),
        record(1, workloads={"video": second, "chat": CHAT}, events=[event("gateway_started", "it started")]),
        *[record(n, workloads={"video": video(), "chat": CHAT}) for n in range(2, N)],
    ]
    return build(records)


# The video's pairs are corrected by what a probe's bytes (20,000) beyond the encoded ones (10,000) take at 50 Mbit/s: 1.6 ms.
# Both workloads answer 30 x 10 and 30 x 1 requests; service 30 x 10 x 3 ms = 900 ms and 30 x 200 ms = 6,000 ms. The programs used
# a quarter of a processor for 60 s: the 8.1 s beyond the runs are shared by answers.
VIDEO, CHATS = "/sites/0/workloads/0", "/sites/0/workloads/1"
FEED_J, IT_DYNAMIC_J = 360.0 * 60, (252.0 - 180.0) * 60
VIDEO_SHARE = (0.9 + 8.1 * 300 / 330) / 15
CHAT_SHARE = (6.0 + 8.1 * 30 / 330) / 15


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        (
            "/run",
            {"started": "2023-11-14T22:13:20.000Z", "ended": "2023-11-14T22:14:20.000Z", "software": "nearhall 0.1.0", "seed": 7},
        ),
        ("/sites/0/id", "shop-01"),
        ("/sites/0/class", "micro"),
        ("/sites/0/coverage", 1.0),
        ("/sites/0/clock_error_ms", 0.5),
        ("/sites/0/link/rtt_ms", 40.0),
        ("/sites/0/link/observed_rtt_ms", 41.0),
        (f"{VIDEO}/slo_p99_ms", 50.0),
        (f"{CHATS}/slo_p99_ms", 300.0),
        (f"{VIDEO}/requests/total", 303),
        (f"{VIDEO}/requests/local", 300),
        (f"{VIDEO}/requests/hub", 0),
        (f"{VIDEO}/requests/rejected", {"queue_full": 2}),
        (f"{VIDEO}/requests/failed", 0),
        (f"{VIDEO}/requests/late", 1),
        (f"{VIDEO}/latency_ms/local/n", 300),
        (f"{VIDEO}/latency_ms/local/p50", pytest.approx(5.0, rel=0.006)),
        (f"{VIDEO}/latency_ms/local/p95", pytest.approx(5.0, rel=0.006)),
        (f"{VIDEO}/latency_ms/local/p99", None),  # 300 answers are too few for it
        (f"{VIDEO}/latency_ms/local/service_p50", pytest.approx(3.0, rel=0.006)),
        (f"{VIDEO}/latency_ms/hub/n", 2),
        (f"{VIDEO}/latency_ms/hub/p50", None),  # two probes are too few
        (f"{VIDEO}/latency_ms/gain_p50/value", pytest.approx((41 + 43) / 2 - 1.6)),
        (f"{VIDEO}/latency_ms/gain_p50/low", None),  # two pairs give no interval
        (f"{VIDEO}/break_even_rtt_ms", pytest.approx(0.0)),  # 40 - 40.4, and never below none
        (f"{CHATS}/latency_ms/gain_p50/value", pytest.approx(40.0)),  # 30 pairs of 42 and 30 of 38
        (f"{CHATS}/latency_ms/gain_p50/low", 38.0),
        (f"{CHATS}/latency_ms/gain_p50/high", 42.0),
        (f"{CHATS}/break_even_rtt_ms", pytest.approx(0.0)),
        (f"{CHATS}/ttft_ms/local/p50", pytest.approx(50.0, rel=0.006)),
        (f"{CHATS}/ttft_ms/hub/n", 60),
        (f"{VIDEO}/ttft_ms", {"local": None, "hub": None}),
        # The agent's 30 x 1000 bytes are shared by answered requests: 300 and 30 of 330.
        (f"{VIDEO}/upstream_bytes/raw", 3_000_000),
        (f"{VIDEO}/upstream_bytes/sent", round(30_000 * 300 / 330)),
        (f"{VIDEO}/upstream_bytes/probe", 40_000),
        (f"{VIDEO}/upstream_bytes/saved_fraction", pytest.approx(1 - round(30_000 * 300 / 330) / 3_000_000, abs=1e-6)),
        (f"{VIDEO}/upstream_bytes/baseline", "the camera's stream"),
        (f"{CHATS}/upstream_bytes/raw", None),
        (f"{CHATS}/upstream_bytes/saved_fraction", None),
        (f"{CHATS}/upstream_bytes/sent", 30 * 100 + round(30_000 * 30 / 330)),
        (f"{VIDEO}/energy_j_per_request/full", pytest.approx(FEED_J * VIDEO_SHARE / 300, rel=1e-5)),
        (f"{VIDEO}/energy_j_per_request/marginal", pytest.approx(IT_DYNAMIC_J * VIDEO_SHARE / 300, rel=1e-5)),
        (f"{CHATS}/energy_j_per_request/full", pytest.approx(FEED_J * CHAT_SHARE / 30, rel=1e-5)),
        (f"{VIDEO}/per_thousand/local/energy_kwh", pytest.approx(FEED_J * VIDEO_SHARE / 300 * 1000 / 3.6e6, rel=1e-5)),
        (f"{VIDEO}/per_thousand/local/cost_usd", pytest.approx(FEED_J * VIDEO_SHARE / 300 * 1000 / 3.6e6 * 0.3, rel=1e-5)),
        # At the hub: 2 ms of service on one of two cores that draw (400 - 180) W together, PUE 1.2.
        (f"{VIDEO}/per_thousand/hub/energy_kwh", pytest.approx(0.002 * 110 * 1.2 * 1000 / 3.6e6, rel=1e-5)),
        (f"{CHATS}/per_thousand/hub/energy_kwh", None),  # a chat's probe ends at its first token: nobody knows its whole work
        (f"{VIDEO}/outcomes", {"faces": 90.0}),
        ("/sites/0/energy/facility_kwh", pytest.approx(360 * 60 / 3.6e6)),
        ("/sites/0/energy/ups_in_kwh", pytest.approx(288 * 60 / 3.6e6)),
        ("/sites/0/energy/it_kwh", pytest.approx(252 * 60 / 3.6e6)),
        ("/sites/0/energy/cooling_kwh", pytest.approx(72 * 60 / 3.6e6)),
        ("/sites/0/energy/other_kwh", pytest.approx(0.0, abs=1e-8)),
        ("/sites/0/pue", {"value": pytest.approx(360 / 252, abs=1e-4), "category": 3, "interim": True}),
        ("/sites/0/blocks/0/slo", {"video": [299, 302], "chat": [30, 30]}),
        ("/sites/0/blocks/0/bytes", {"sent": 33_000, "raw": 3_000_000}),
        ("/sites/0/blocks/0/it_load", 0.25),
        ("/sites/0/meters/0/serial", "VIRTUAL-feed"),
        ("/totals/requests/total", 333),
        ("/totals/requests/rejected", {"queue_full": 2}),
        ("/totals/upstream_bytes/sent", 33_000),
        ("/totals/upstream_bytes/raw", 3_000_000),
        ("/events/0/text", "it started"),
    ],
)
def test_a_figure_is_what_the_records_say(pilot: dict[str, Any], pointer: str, expected: Any):
    assert at(pilot, pointer) == expected


def test_every_field_of_the_contract_is_there(pilot: dict[str, Any]):
    assert missing(pilot) == []
    del pilot["sites"][0]["workloads"][0]["upstream_bytes"]["probe"]
    assert missing(pilot) == ["sites[].workloads[].upstream_bytes.probe"]


def test_it_is_json_and_a_report_and_words(pilot: dict[str, Any]):
    again = json.loads(json.dumps(pilot, allow_nan=False))
    assert "shop-01" in render_report(again)
    assert words(again)


def numbers(value: Any, pointer: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, f"{pointer}/{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{pointer}/{index}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield pointer


def vouched(evidence: dict[str, Any], pointer: str) -> dict[str, str] | None:
    while pointer:
        if pointer in evidence:
            return evidence[pointer]
        pointer = pointer.rpartition("/")[0]
    return None


def test_every_number_has_evidence(pilot: dict[str, Any]):
    bare = [
        p for p in numbers(pilot) if not p.startswith(("/run", "/counts", "/events")) and vouched(pilot["evidence"], p) is None
    ]
    assert bare == []
    del pilot["evidence"]["/sites/0/coverage"]
    assert vouched(pilot["evidence"], "/sites/0/coverage") is None
    assert sum(pilot["counts"].values()) > 60


@pytest.mark.parametrize(
    ("pointer", "kind"),
    [
        (f"{VIDEO}/latency_ms/local/p50", "measured"),
        (f"{VIDEO}/latency_ms/hub/n", "simulated"),
        (f"{VIDEO}/latency_ms/gain_p50/value", "simulated"),
        (f"{VIDEO}/upstream_bytes/sent", "measured"),
        (f"{VIDEO}/energy_j_per_request/full", "simulated"),
        (f"{VIDEO}/per_thousand/local/cost_usd", "assumed"),
        (f"{VIDEO}/per_thousand/hub/energy_kwh", "assumed"),
        ("/sites/0/energy/facility_kwh", "simulated"),
        ("/sites/0/pue/value", "simulated"),
        ("/sites/0/blocks/0/bytes/sent", "measured"),
        ("/sites/0/blocks/0/register_kwh/feed/0", "simulated"),
    ],
)
def test_a_figure_is_of_its_kind(pilot: dict[str, Any], pointer: str, kind: str):
    found = vouched(pilot["evidence"], pointer)
    assert found is not None
    assert found["kind"] == kind


def test_a_real_meter_makes_its_own_figures_measured_and_no_others():
    def mixed(window: int) -> dict[str, MeterWindow]:
        return meters(window) | {"feed": meters(window, kind="measured")["feed"]}

    evidence = build([record(n, meters=mixed(n)) for n in range(N)])["evidence"]
    kinds = {name: vouched(evidence, f"/sites/0/energy/{name}")["kind"] for name in ("facility_kwh", "it_kwh", "closure_percent")}
    assert kinds == {"facility_kwh": "measured", "it_kwh": "simulated", "closure_percent": "simulated"}
    assert vouched(evidence, "/sites/0/pue/value")["kind"] == "simulated"
    assert vouched(evidence, f"{VIDEO}/energy_j_per_request/full")["kind"] == "measured"


def test_a_real_feed_is_not_held_against_a_virtual_cabinet():
    def mixed(window: int) -> dict[str, MeterWindow]:
        real = meters(window, kind="measured", scale={"feed": 3.0})["feed"]
        return meters(window) | {"feed": real}

    pilot = build([record(n, meters=mixed(n)) for n in range(N)])
    site = pilot["sites"][0]
    assert site["energy"]["facility_kwh"] == pytest.approx(3 * 360 * 60 / 3.6e6)
    assert (site["energy"]["closes"], site["energy"]["findings"], site["energy"]["closure_percent"]) == (True, [], None)
    assert (site["energy"]["other_kwh"], site["pue"]["value"]) == (None, None)
    assert "feed" in vouched(pilot["evidence"], "/sites/0/energy/closes")["source"]
    assert "one meter is real and one virtual" in vouched(pilot["evidence"], "/sites/0/pue")["source"]


def test_real_meters_are_held_against_each_other():
    def real(window: int) -> dict[str, MeterWindow]:
        return meters(window, kind="measured", scale={"feed": 3.0})

    site = build([record(n, meters=real(n)) for n in range(N)])["sites"][0]
    assert site["energy"]["closes"] is False
    assert site["pue"]["value"] == pytest.approx(3 * 360 / 252, rel=1e-4)


def test_over_a_real_link_the_round_trip_is_the_one_seen():
    link = {"rtt_ms": 40.0, "mbps": None, "kind": "measured", "source": ""}
    said = about(link=link)
    pilot = build([record(n, link=LinkWindow(rtt_ms=12.0)) for n in range(N)], said=said)
    assert pilot["sites"][0]["link"]["rtt_ms"] == 12.0
    assert vouched(pilot["evidence"], "/sites/0/link/rtt_ms")["kind"] == "measured"
    assert vouched(pilot["evidence"], f"{VIDEO}/latency_ms/gain_p50/value")["kind"] == "measured"


def test_the_round_trip_of_a_real_link_is_the_kernels_and_of_a_played_one_as_it_was_set():
    seen = [record(n, link=LinkWindow(rtt_ms=41.0, kernel_rtt_ms=38.5)) for n in range(N)]
    real = build(seen, said=about(link={"rtt_ms": None, "mbps": None, "kind": "measured", "source": ""}))
    assert real["sites"][0]["link"]["rtt_ms"] == 38.5
    assert real["sites"][0]["link"]["observed_rtt_ms"] == 41.0
    assert build(seen)["sites"][0]["link"]["rtt_ms"] == 40.0


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ({}, []),
        ({"it": 1.15}, ["ups_out says", "than it", "position it"]),
        ({"feed": 0.9}, ["feed says", "position feed"]),
        ({"ups-in": 1.1}, ["feed says"]),
    ],
    ids=["true", "it lies", "feed lies", "ups_in lies"],
)
def test_a_planted_scale_error_is_noticed(scale: dict[str, float], told: list[str]):
    energy = build([record(n, meters=meters(n, scale=scale)) for n in range(N)])["sites"][0]["energy"]
    assert energy["closes"] is (not scale)
    assert bool(energy["findings"]) is bool(scale)
    assert all(word in " ".join(energy["findings"]) for word in told)


def test_a_register_knows_what_went_through_while_the_agent_was_away():
    away = [record(n) for n in range(N) if not 10 <= n < 20]
    site = build(away, windows=N)["sites"][0]
    assert site["energy"]["facility_kwh"] == pytest.approx(360 * 60 / 3.6e6)
    assert site["energy"]["register_coverage"] == 1.0
    assert site["coverage"] == pytest.approx(2 / 3, abs=1e-4)


def test_a_register_that_begins_anew_is_no_negative_energy():
    def reset(window: int) -> dict[str, MeterWindow]:
        found = meters(window)
        if window < 15:
            return found
        return {
            name: MeterWindow(
                virtual=True, kind="simulated", polls=1, register_kwh=[value - 100.0 for value in seen.register_kwh]
            )
            for name, seen in found.items()
        }

    energy = build([record(n, meters=reset(n)) for n in range(N)])["sites"][0]["energy"]
    assert energy["facility_kwh"] == pytest.approx(360 * 60 / 3.6e6)


def test_windows_at_the_edges_count_by_their_share():
    store = store_with([record(n) for n in range(N)])
    pilot = build_pilot(store, start_s=START_S + 1.0, end_s=START_S + 31.0, seed=0)
    assert pilot["sites"][0]["energy"]["facility_kwh"] == pytest.approx(360 * 30 / 3.6e6)
    assert pilot["sites"][0]["coverage"] == 1.0


def test_a_window_without_a_gateway_is_not_covered():
    pilot = build([record(0), record(1, gateway_up=False), record(2), record(3)])
    assert pilot["sites"][0]["coverage"] == 0.75


def test_a_long_run_has_blocks_of_fifteen_minutes_and_a_bounded_series():
    pilot = build([record(n) for n in range(1000)])
    blocks = pilot["sites"][0]["blocks"]
    assert [block["slo"]["video"][1] for block in blocks] == [4500, 4500, 1000]
    assert [block["start"][11:19] for block in blocks] == ["22:13:20", "22:28:20", "22:43:20"]
    assert pilot["sites"][0]["workloads"][0]["latency_ms"]["local"]["p99"] == pytest.approx(5.0, rel=0.006)
    assert len(pilot["sites"][0]["series"]["t_s"]) <= 300
    assert missing(pilot) == []


def test_what_is_not_known_is_null():
    bare = build(
        [record(n, meters={}, outcomes={}, workloads={"model:mine": video(raw_bytes=0, raw_known=0)}) for n in range(N)], said={}
    )
    site = bare["sites"][0]
    assert [w["id"] for w in site["workloads"]] == ["model:mine"]
    mine = site["workloads"][0]
    assert mine["model"] == "mine"
    assert mine["latency_ms"]["gain_p50"]["value"] is None
    assert mine["break_even_rtt_ms"] is None
    assert mine["upstream_bytes"]["raw"] is None
    assert mine["energy_j_per_request"] == {"marginal": None, "full": None, "fit": None}
    assert site["pue"]["value"] is None
    assert site["energy"]["facility_kwh"] is None
    assert site["energy"]["closes"] is None
    json.dumps(bare, allow_nan=False)
    assert render_report(bare)


def test_two_sites_add_up():
    store = MemoryStore()
    store_with([record(n) for n in range(N)], site="plant-02", into=store)
    store_with([record(n) for n in range(N)], site="shop-01", into=store)
    pilot = build_pilot(store, start_s=START_S, end_s=START_S + 60, seed=None)
    assert [site["id"] for site in pilot["sites"]] == ["plant-02", "shop-01"]
    assert pilot["totals"]["requests"]["local"] == 600
    assert pilot["totals"]["upstream_bytes"]["sent"] == 60_000
    assert pilot["run"]["seed"] is None


@pytest.mark.parametrize("records", [[], [record(500)]], ids=["empty", "another day"])
def test_a_period_without_telemetry_is_told_in_one_line(records: list[Record]):
    with pytest.raises(
        InputError, match=r"2023-11-14T22:13:20.000Z to .*: the store holds no telemetry of this period; name a period"
    ):
        build(records, windows=N)
