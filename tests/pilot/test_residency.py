"""A marker planted in frames, audio and prompts never crosses the link under residency `site`; under `any` it does.

The link is watched in the clear: the tap holds the authority's key and ends TLS on both sides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearhall.cli.roots.models import cache_folder
from nearhall.drivers.authority import issue, make_authority
from nearhall.sim.players.work import TensorCall
from pilot.link_tap import LinkTap
from waiting import until

MODELS = cache_folder(os.environ) / "models"
MARKER = b"marker-7f3a9c51d"
"""Sixteen bytes: four numbers of a tensor, or a word of a prompt."""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("pilot"),
    pytest.mark.skipif(
        not (MODELS / "faces" / "model.yaml").exists(),
        reason="the default models are not in the cache; `nearhall models fetch` brings them",
    ),
]


@contextmanager
def _gateway(folder: Path, name: str, settings: dict[str, Any]) -> Iterator[int]:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(settings))
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "nearhall.cli.roots.gateway", str(path)],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(b"READY "), (folder / f"{name}.log").read_text()
            yield json.loads(line.removeprefix(b"READY "))["port"]
        finally:
            process.terminate()
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


def _ask(port: int, path: str, headers: list[tuple[str, str]], body: bytes) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return str(answer.headers["x-nearhall-served-by"])


def _frame(port: int) -> str:
    picture = np.zeros((1, 128, 128, 3), dtype=np.float32)
    picture.reshape(-1)[100:104] = np.frombuffer(MARKER, dtype=np.float32)
    request = TensorCall("faces", "video").request({"input": ("FP32", picture)}, raw_bytes=5000)
    return _ask(port, request.path, list(request.headers), request.body)


def _sound(port: int) -> str:
    frame = np.zeros((1, 576), dtype=np.float32)
    frame.reshape(-1)[100:104] = np.frombuffer(MARKER, dtype=np.float32)
    state = np.zeros((2, 1, 128), dtype=np.float32)
    inputs = {"input": ("FP32", frame), "state": ("FP32", state), "sr": ("INT64", np.array(16_000))}
    request = TensorCall("voice", "speech").request(inputs, raw_bytes=1024)
    return _ask(port, request.path, list(request.headers), request.body)


def _prompt(port: int) -> str:
    messages = [{"role": "user", "content": f"Repeat: {MARKER.decode()}"}]
    body = json.dumps({"model": "smollm2", "messages": messages, "max_completion_tokens": 4}).encode()
    return _ask(port, "/v1/chat/completions", [("content-type", "application/json")], body)


def _probes(port: int, workload: str) -> int:
    """How many probes the site's gateway has paired, by its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith("nearhall_probes_total") and f'"{workload}"' in line]
    return int(float(lines[0].rpartition(" ")[2])) if lines else 0


ASKS: dict[str, tuple[str, Callable[[int], str]]] = {
    "frames": ("video", _frame),
    "audio": ("speech", _sound),
    "prompts": ("chat", _prompt),
}


@pytest.mark.parametrize("residency", ["site", "any"])
@pytest.mark.parametrize("what", ASKS)
def test_what_must_stay_at_the_site_never_crosses_the_link(what: str, residency: str, short_folder: Path):
    workload, ask = ASKS[what]
    model = {"video": "faces", "speech": "voice", "chat": "smollm2"}[workload]
    if not (MODELS / model / "model.yaml").exists():
        pytest.skip(f"the model {model} is not in the cache; `nearhall models fetch` brings it")
    repository = short_folder / "models"
    repository.mkdir()
    (repository / model).symlink_to(MODELS / model, target_is_directory=True)
    authority = make_authority(short_folder / "ca")
    hub = issue(authority, "hub", short_folder / "hub", kind="hub", dns_names=[], ip_addresses=["127.0.0.1"])
    site = issue(authority, "shop-01", short_folder / "site", kind="site", dns_names=[], ip_addresses=[])

    def tls(bundle: Any) -> dict[str, str]:
        return {"ca": str(bundle.ca), "cert": str(bundle.cert), "key": str(bundle.key)}

    at_hub = {"node": "hub", "jurisdiction": "DE", "repository": str(repository), "port": 0, "tls": tls(hub)}
    with _gateway(short_folder, "hub", at_hub) as hub_port, LinkTap(hub=hub, site=site, to_port=hub_port) as tap:
        at_site = {
            "node": "shop-01/n1",
            "jurisdiction": "DE",
            "repository": str(repository),
            "port": 0,
            "hub": {"url": f"https://127.0.0.1:{tap.port}", "jurisdiction": "DE", "tls": tls(site)},
            "workloads": [{"id": workload, "model": model, "residency": residency, "chat": workload == "chat"}],
            "probe": {"share": 1.0, "per_second_max": 100.0, "seed": 1},
        }
        with _gateway(short_folder, "site", at_site) as port:
            until(lambda: _ready(port, model), 60, what="the model")
            places = {ask(port) for _ in range(3)}
            until(lambda: _probes(port, workload) >= 2, 60, what="probes on the link")
    assert places == {"shop-01/n1"}
    assert len(tap.seen) > 200, "something crossed the link"
    assert (MARKER in tap.seen) is (residency == "any")


def _ready(port: int, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{model}/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
