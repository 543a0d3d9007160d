"""A pilot whose hub is elsewhere, over a link that nothing shapes: joined as typed, reported by the operator of the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.test_programs_as_typed import run, typed
from nearhall.cli.roots.models import cache_folder
from pilot.test_secrets import up
from waiting import until

MODELS = cache_folder(os.environ) / "models"
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("pilot"),
    pytest.mark.skipif(
        not (MODELS / "faces" / "model.yaml").exists(),
        reason="the default models are not in the cache; `nearhall models fetch` brings them",
    ),
]


def test_a_hub_elsewhere_holds_the_telemetry_and_writes_the_report(short_folder: Path, free_port: Callable[[], int]):
    listens, page = free_port(), free_port()
    state, credentials, log = short_folder / "hub", short_folder / "credentials", short_folder / "hub.log"
    with typed(log, "hub", "--state", state, "--listen", listens, "--page", page, "--repository", MODELS):
        until(lambda: "Ctrl-C ends" in log.read_text(), 40, what="the hub's addresses")
        for site in ("shop-01", "plant-02"):
            issued = run("hub", "credentials", "--state", state, "--site", site, "--out", credentials)
            assert issued.returncode == 0, issued.stderr
        url = f"https://127.0.0.1:{listens}"
        done = up("--hub", url, "--credentials", str(credentials), "--out", str(short_folder / "out"), "--json")
        assert done.returncode == 0, done.stderr.decode()
        assert f"the hub at {url} knows shop-01, plant-02" in done.stderr.decode()
        left = json.loads(done.stdout)
        assert left["hub"] == url
        assert left["drained"] is True
    written = run("report", "--store", state / "hub.db", "--out", short_folder / "report", "--json")
    assert written.returncode == 0, written.stderr
    for site in json.loads(written.stdout)["sites"]:
        assert site["link"]["rtt_ms"] < 5, "this machine's own loop, as the kernel sees it"
        for workload in site["workloads"]:
            seen = left["players"][site["id"]]["workloads"][workload["id"]]
            assert workload["requests"]["local"] + workload["requests"]["hub"] == seen["answered"] > 0
