"""`nearhall up` from the outside: what it returns, that faults are survived, and that nothing is left behind.

These run the whole product, so they need the default models in the cache (`nearhall models fetch --light` brings them).
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from nearhall.cli.roots.models import cache_folder
from nearhall.drivers.clock import SystemClock
from pilot.contract import missing
from pilot.pilot_process import PilotProcess, answers, left_behind, request_counts
from waiting import until

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("pilot"),
    pytest.mark.skipif(
        not (cache_folder(os.environ) / "models" / "faces" / "model.yaml").exists(),
        reason="the default models are not in the cache; `nearhall models fetch --light` brings them",
    ),
]


def _start(out: Path, *arguments: str, traced: bool = True) -> PilotProcess:
    pilot = PilotProcess(out, "--light", *arguments, traced=traced)
    until(lambda: pilot.said("work begins"), 120, what="the start of the work")
    until(lambda: pilot.said("token="), 5, what="the page's address")
    return pilot


def test_a_pilot_returns_every_figure_of_the_contract(tmp_path: Path):
    out = tmp_path / "pilot"
    with _start(out, "--seconds", "20") as up:
        printed = up.returns(120)
    written = json.loads((out / "pilot.json").read_text())
    assert printed == written
    assert missing(written) == []
    assert request_counts(written, "total") > 400
    assert request_counts(written, "failed") == 0
    for site in written["sites"]:
        for workload in site["workloads"]:
            seen = written["players"][site["id"]]["workloads"][workload["id"]]
            assert seen["arrivals"] == seen["sent"] + seen["dropped"] + seen["idle"] + seen["unready"], workload["id"]
            ends = ("answered", "refused", "cut_short", "broken", "unanswered")
            assert seen["sent"] == sum(seen[end] for end in ends), workload["id"]
            assert seen["answered"] == workload["requests"]["local"] + workload["requests"]["hub"], workload["id"]
    assert "<html" in (out / "report.html").read_text()[:2000].lower()
    assert (out / "pilot.yaml").read_text().startswith("schema: nearhall/up/v1")
    assert left_behind(out) == []


def test_without_a_round_trip_there_is_no_gain_to_report(tmp_path: Path):
    with _start(tmp_path / "near", "--seconds", "25", "--wan", "rtt=0,jitter=0,mbps=0", traced=False) as near:
        at_zero = near.returns(120)
    with _start(tmp_path / "far", "--seconds", "25", "--wan", "rtt=40,jitter=0", traced=False) as far:
        at_forty = far.returns(120)

    def gains(pilot: dict) -> list[float]:
        found = [w["latency_ms"]["gain_p50"] for site in pilot["sites"] for w in site["workloads"]]
        return [gain["value"] for gain in found if gain is not None and gain["value"] is not None]

    assert gains(at_zero)
    assert all(gain < 8 for gain in gains(at_zero))
    assert all(30 < gain < 80 for gain in gains(at_forty))


def test_a_planted_meter_error_is_noticed(tmp_path: Path):
    with _start(tmp_path / "pilot", "--seconds", "25", "--plant-scale-error", "shop-01:4=1.15") as up:
        pilot = up.returns(120)
    by_site = {site["id"]: site["energy"] for site in pilot["sites"]}
    assert by_site["shop-01"]["closes"] is False
    assert any("it" in finding for finding in by_site["shop-01"]["findings"])
    assert by_site["plant-02"]["closes"] is True


def test_killed_parts_come_back_and_nothing_is_lost(tmp_path: Path):
    out = tmp_path / "pilot"
    with _start(out, "--seconds", "45", traced=False) as up:
        port = up.settings("gateway-shop-01")["port"]
        first = up.kill("gateway-shop-01")
        status, headers, took = _first_answer(port, "/v2/health/ready")
        assert took < 1.0, "a new connection must be answered at once, by the agent or the new gateway"
        assert status in {200, 503}
        if status == 503:
            assert headers["x-nearhall-reason"] == "restarting"
        until(lambda: answers(port, "/v2/models/faces/ready")[0] == 200, 5, what="the small models")
        second = up.pid("gateway-shop-01")
        assert second not in {None, first}
        until(lambda: f"process {second}" in json.dumps(up.live()["events"]), 15, what="the record of the new gateway")

        agent = up.kill("agent-shop-01")
        until(lambda: up.pid("agent-shop-01") not in {None, agent}, 10, what="a new agent")
        assert answers(port, "/v2/health/ready")[0] == 200
        until(lambda: "adopted" in json.dumps(up.live()["events"]), 15, what="the adoption")
        assert up.pid("gateway-shop-01") == second

        hub = up.kill("hub")
        assert answers(port, "/v2/health/ready")[0] == 200
        until(lambda: up.pid("hub") not in {None, hub}, 10, what="a new hub")
        pilot = up.returns(120)
    assert missing(pilot) == []
    assert left_behind(out) == []
    unhurt = next(site for site in pilot["sites"] if site["id"] == "plant-02")
    seen = pilot["players"]["plant-02"]
    for workload in unhurt["workloads"]:
        answered = workload["requests"]["local"] + workload["requests"]["hub"]
        assert answered == seen["workloads"][workload["id"]]["answered"], "nothing lost, nothing twice"
    hurt = next(site for site in pilot["sites"] if site["id"] == "shop-01")
    seen = pilot["players"]["shop-01"]
    for workload in hurt["workloads"]:
        refused = workload["requests"]["rejected"].get("restarting", 0)
        assert refused == seen["workloads"][workload["id"]]["by_reason"].get("restarting", 0), workload["id"]


def _first_answer(port: int, path: str) -> tuple[int, dict[str, str], float]:
    """The first answer on a new connection after a kill, and how long it took from now."""
    began = time.monotonic()
    while time.monotonic() - began < 5:
        status, headers, _ = answers(port, path)
        if status:
            return status, headers, time.monotonic() - began
    raise AssertionError("nobody answered within 5 s")


def test_a_cut_link_leaves_local_answers_alone_and_telemetry_arrives_after(tmp_path: Path):
    out = tmp_path / "pilot"
    with _start(out, "--seconds", "50", traced=False) as up:

        def site() -> dict:
            return next(site for site in up.live()["sites"] if site["id"] == "shop-01")

        until(lambda: site()["workloads"], 20, what="the first telemetry")
        up.link("cut?site=shop-01")
        port = up.settings("gateway-shop-01")["port"]
        threading.Event().wait(20)
        assert answers(port, "/v2/health/ready")[0] == 200
        cut_off_at = site()["last_seen_s"]
        up.link("restore?site=shop-01")
        restored_at = SystemClock().utc()
        until(lambda: site()["last_seen_s"] > restored_at - 2.5, 5, what="the telemetry of the cut")
        assert SystemClock().utc() - restored_at < 3.5
        assert site()["last_seen_s"] - cut_off_at > 15
        pilot = up.returns(120)
    shop = next(site for site in pilot["sites"] if site["id"] == "shop-01")
    assert shop["coverage"] > 0.9
    for workload in shop["workloads"]:
        if workload["residency"] == "site":
            assert workload["requests"]["hub"] == 0
            assert workload["requests"]["failed"] == 0
