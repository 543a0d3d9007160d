"""The cabinet and the link as programs: ready, serving, stopped, and one clear line for a slip."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient

STOP_SECONDS = 15


@contextmanager
def _program(module: str, settings: dict[str, Any], folder: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    with _started(module, settings, folder) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("READY "), process.stderr.read() if process.stderr else ""
        yield process, json.loads(line.removeprefix("READY "))


@contextmanager
def _started(module: str, settings: object, folder: Path) -> Iterator[subprocess.Popen[str]]:
    config = folder / f"{module}.json"
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", f"nearhall.cli.roots.{module}", str(config)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _cabinet(folder: Path, port: int) -> dict[str, Any]:
    return {
        "site": "shop-01",
        "port": port,
        "follow": [str(folder / "agent.json")],
        "server": {"id": "a", "idle_w": 100.0, "busy_w": 300.0, "power_factor": 0.99, "source": "a test"},
        "host_cores": 2,
        "ups": {"rating_w": 500.0},
        "state_file": str(folder / "state.json"),
        "scale_error": {"4": 1.1},
        "exit_with_stdin": True,
    }


def _link(to: int) -> dict[str, Any]:
    lane = {"site": "shop-01", "name": "api", "listen": "127.0.0.1:0", "to": f"127.0.0.1:{to}"}
    return {"lanes": [lane], "rtt_ms": 5.0, "jitter_ms": 0.0, "mbps": 0.0, "seed": 1, "exit_with_stdin": True}


def _end_input(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


ENDINGS = [
    pytest.param(_end_input, id="end of input"),
    pytest.param(lambda process: process.send_signal(signal.SIGTERM), id="SIGTERM"),
    pytest.param(lambda process: process.send_signal(signal.SIGINT), id="SIGINT"),
]


@pytest.mark.parametrize("end", ENDINGS)
def test_a_cabinet_serves_and_stops(tmp_path: Path, end: Callable[[subprocess.Popen[str]], None]):
    with _program("cabinet", _cabinet(tmp_path, 0), tmp_path) as (process, ready):
        client = ModbusTcpClient("127.0.0.1", port=ready["port"])
        assert client.connect()
        answer = client.read_input_registers(52, count=2, device_id=4)
        watts = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32)
        assert watts == pytest.approx(110.0), "idle, with the planted error"
        client.close()
        end(process)
        assert process.wait(STOP_SECONDS) == 0
        assert json.loads((tmp_path / "state.json").read_text())["energy_kwh"]["1"] > 0


@pytest.mark.parametrize("end", ENDINGS)
def test_a_link_carries_and_stops(tmp_path: Path, end: Callable[[subprocess.Popen[str]], None]):
    with (
        socket.create_server(("127.0.0.1", 0)) as hub,
        _program("link", _link(hub.getsockname()[1]), tmp_path) as (process, ready),
    ):
        host, _, port = ready["lanes"]["shop-01"]["api"].rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as site:
            site.sendall(b"hello")
            there, _ = hub.accept()
            with there:
                there.settimeout(5)
                assert there.recv(5) == b"hello"
        with urllib.request.urlopen(f"http://{ready['control']}/stats", timeout=5) as answer:
            assert json.load(answer)["shop-01"]["api"]["up_bytes"] == 5
        cut = urllib.request.Request(f"http://{ready['control']}/cut?site=nowhere", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(cut, timeout=5)
        with refused.value:
            assert refused.value.code == 400
        end(process)
        assert process.wait(STOP_SECONDS) == 0


@pytest.mark.parametrize(
    ("module", "change", "said"),
    [
        ("cabinet", {"port": "here"}, "port"),
        ("cabinet", {"port": 70_000}, "port is 70000"),
        ("cabinet", {"host_cores": 0}, "host_cores is 0; at least 1"),
        ("cabinet", {"scale_error": {"feed": 1.1}}, "scale_error names unit 'feed'; one of: 1, 2, 3, 4, 5"),
        ("cabinet", {"server": {"id": "a"}}, "idle_w"),
        ("link", {"rtt_ms": -1}, "rtt_ms is -1; between 0 and"),
        ("link", {"rtt": 40}, "rtt"),
        ("link", {"control": "here"}, "HOST:PORT"),
    ],
)
def test_a_slip_is_one_line_and_exit_two(tmp_path: Path, module: str, change: dict[str, Any], said: str):
    right = _cabinet(tmp_path, 0) if module == "cabinet" else _link(1)
    with _started(module, {**right, **change}, tmp_path) as process:
        out, error = process.communicate(timeout=30)
        assert process.returncode == 2
        assert said in error
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert "READY" not in out


@pytest.mark.parametrize("module", ["cabinet", "link"])
def test_an_occupied_port_is_one_line_and_exit_one(tmp_path: Path, module: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = _cabinet(tmp_path, port) if module == "cabinet" else {**_link(1), "control": f"127.0.0.1:{port}"}
        with _started(module, settings, tmp_path) as process:
            _, error = process.communicate(timeout=30)
            assert process.returncode == 1
            assert "cannot listen" in error
            assert "Traceback" not in error
