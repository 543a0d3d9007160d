"""The players as a program: READY, a report as its last line, and sums that hold with the gateway's own counts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.gateway_process import GatewayProcess, gateway
from nearhall.cli.pilot.processes import STOP_SECONDS_MAX
from nearhall.drivers.clock import SystemClock
from nearhall.sim.players.client import GatewayClient
from sim.test_players_counts import adds_up
from waiting import until

pytestmark = pytest.mark.timeout(120)


def add_classifier(repository: Path) -> None:
    """`inspection`: 64 numbers in, the first ten of them out as logits."""
    place = repository / "inspection" / "1" / "cpu"
    place.mkdir(parents=True)
    weights = numpy_helper.from_array(np.eye(64, 10, dtype=np.float32), "w")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph([helper.make_node("MatMul", ["image", "w"], ["logits"])], "i", [image], [logits], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (place / "m.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    (repository / "inspection" / "model.yaml").write_text(
        "schema: nearhall/model/v1\nname: inspection\ntask: tensors\nlicence: none\nsource: made by a test\n"
        "versions: {'1': {variants: {cpu: {runtime: onnxruntime, file: m.onnx}}}}\n"
        "default_version: '1'\ndefault_variant: cpu\n"
    )


@contextmanager
def serving(folder: Path) -> Iterator[GatewayProcess]:
    """A gateway that has the classifier, ready."""
    add_classifier(folder / "models")
    workloads = [{"id": "line", "model": "inspection"}]
    with gateway(folder, folder / "models", workloads=workloads) as running:

        async def status() -> int:
            client = GatewayClient(f"http://{running.address}", SystemClock())
            try:
                return (await client.get("/v2/models/inspection/ready"))[0]
            finally:
                await client.close()

        until(lambda: asyncio.run(status()) == 200, 30, what="the model ready")
        yield running


class PlayersProcess:
    """The program, on a settings file; ended by its handle."""

    def __init__(self, folder: Path, origin: str, *, rate_per_s: float = 50.0, **more: Any) -> None:
        line = {"id": "line", "kind": "inspection", "model": "inspection", "rate_per_s": rate_per_s, "seed": 3, **more}
        config = folder / "players.json"
        config.write_text(json.dumps({"site": "s", "gateway": origin, "workloads": [line], "exit_with_stdin": True}))
        self.out, self.log = folder / "players.out", folder / "players.log"
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nearhall.cli.roots.players", str(config)], stdin=subprocess.PIPE, stdout=out, stderr=log
            )

    def until_ready(self) -> None:
        until(lambda: b"READY" in self.out.read_bytes() or self.process.poll() is not None, 60, what="the players' READY")
        assert self.process.poll() is None, self.log.read_text()

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def report(self, seconds: float = STOP_SECONDS_MAX) -> dict[str, Any]:
        """Waits for the end; the last line."""
        assert self.process.wait(seconds) == 0, self.log.read_text()
        return json.loads(self.out.read_bytes().splitlines()[-1])


@contextmanager
def players(folder: Path, origin: str, **more: Any) -> Iterator[PlayersProcess]:
    """The program, killed at the end of the block if it still runs."""
    running = PlayersProcess(folder, origin, **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)
        running.close_stdin()


def counted(running: GatewayProcess) -> int:
    """Answers of the workload by the gateway's count."""
    return running.stats().get("workloads", {}).get("line", {}).get("local", 0)


def test_the_last_line_is_a_report_that_agrees_with_the_gateway(tmp_path: Path):
    with serving(tmp_path) as running, players(tmp_path, f"http://{running.address}") as playing:
        playing.until_ready()
        until(lambda: counted(running) > 60, 60, what="60 answers")
        playing.close_stdin()
        report = playing.report()
        answered = counted(running)
    seen = report["workloads"]["line"]
    adds_up(seen)
    adds_up({**report["totals"], "by_status": seen["by_status"]})
    assert report["site"] == "s"
    assert seen["answered"] == seen["sent"] == answered
    assert seen["by_error"] == {}
    assert seen["found"]["inspected"]["value"] == answered
    assert 0 < seen["p50_ms"] <= seen["from_intended_p50_ms"]


def test_a_gateway_killed_on_the_way_is_counted(tmp_path: Path):
    with serving(tmp_path) as running, players(tmp_path, f"http://{running.address}") as playing:
        playing.until_ready()
        until(lambda: counted(running) > 20, 60, what="20 answers")
        running.kill()
        until(lambda: "ConnectError" in playing.log.read_text(), 30, what="a refused connection in the log")
        playing.process.send_signal(signal.SIGTERM)
        report = playing.report()
    seen = report["workloads"]["line"]
    adds_up(seen)
    assert seen["answered"] > 20
    assert seen["broken"] > 0
    assert seen["by_error"]["ask ConnectError"] > 0
    assert playing.log.read_text().count("ConnectError") == 1, "logged once"


def test_answers_that_never_come_do_not_hold_the_players_up(tmp_path: Path):
    with serving(tmp_path) as running, players(tmp_path, f"http://{running.address}") as playing:
        playing.until_ready()
        until(lambda: counted(running) > 20, 60, what="20 answers")
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            stopped_s = time.monotonic()
            until(lambda: time.monotonic() - stopped_s > 0.5, what="half a second of questions")
            playing.process.send_signal(signal.SIGTERM)
            report = playing.report(STOP_SECONDS_MAX)
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
    seen = report["workloads"]["line"]
    adds_up(seen)
    assert seen["unanswered"] > 0


def test_players_without_a_gateway_start_and_count_every_refused_connection(tmp_path: Path, free_port: Any):
    with players(tmp_path, f"http://127.0.0.1:{free_port()}") as playing:
        playing.until_ready()
        until(lambda: "ConnectError" in playing.log.read_text(), 30, what="a refused connection in the log")
        playing.close_stdin()
        report = playing.report()
    seen = report["workloads"]["line"]
    adds_up(seen)
    assert seen["broken"] == seen["sent"] > 0
    assert seen["p50_ms"] is None


def test_work_without_its_source_is_refused_in_one_line(tmp_path: Path):
    with players(tmp_path, "http://127.0.0.1:1", kind="video") as playing:
        assert playing.process.wait(60) == 2
        assert "has no source; name a file" in playing.log.read_text().splitlines()[-1]
