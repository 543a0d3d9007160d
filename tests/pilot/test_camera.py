"""The user's own camera in place of the first workload: a real RTSP server with a password, read by `up`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from camera_rig import needs_server, rtsp
from nearhall.cli.roots.models import cache_folder
from nearhall.core.addresses import LOGIN
from pilot.test_secrets import PASSWORD, holding, up

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("pilot"),
    needs_server,
    pytest.mark.skipif(
        not (cache_folder(os.environ) / "models" / "faces" / "model.yaml").exists(),
        reason="the default models are not in the cache; `nearhall models fetch` brings them",
    ),
]


def test_a_camera_is_played_and_its_password_is_in_no_file(tmp_path: Path):
    out = tmp_path / "out"
    with rtsp(f"viewer:{PASSWORD}") as port:
        address = f"127.0.0.1:{port}/cam"
        done = up("--camera", f"rtsp://viewer:{PASSWORD}@{address}", "--model", "faces", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert PASSWORD.encode() not in done.stdout + done.stderr
    assert holding(tmp_path, PASSWORD) == []
    assert f"rtsp://${{{LOGIN}}}@{address}" in (out / "pilot.yaml").read_text()
    pilot = json.loads(done.stdout)
    seen = pilot["players"]["shop-01"]["workloads"]["camera"]
    assert seen["answered"] == seen["sent"] > 10
    (camera,) = [w for site in pilot["sites"] for w in site["workloads"] if w["id"] == "camera"]
    for site in pilot["sites"]:
        for workload in site["workloads"]:
            counted = workload["requests"]["local"] + workload["requests"]["hub"]
            told = "one site works while another waits for its camera, and every request counts"
            assert counted == pilot["players"][site["id"]]["workloads"][workload["id"]]["answered"], told
    assert camera["residency"] == "site"
    assert camera["requests"]["local"] == seen["answered"]
    assert camera["requests"]["hub"] == 0
    assert 0 < camera["upstream_bytes"]["raw"] < seen["answered"] * 320 * 240, "the camera's own stream, not decoded pictures"
