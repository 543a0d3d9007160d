"""The hub as a process: mutual TLS on a real socket, kill -9, settings that cannot be."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.hub_rig import batch, hello
from hub.small_site import START_S, record
from nearhall.core.errors import InputError
from nearhall.drivers.authority import Bundle, issue, make_authority
from nearhall.drivers.mutual_tls import client_context
from nearhall.hub.settings import Api, Page, Settings, check_settings

TOKEN = "a-token-that-nobody-guesses"
pytestmark = pytest.mark.timeout(120)


def bundle(folder: Path, name: str) -> Bundle:
    kind = "hub" if name == "hub" else "site"
    return issue(make_authority(folder / "authority"), name, folder / name, kind=kind, dns_names=[], ip_addresses=["127.0.0.1"])


def settings_of(folder: Path, **more: Any) -> Path:
    own = bundle(folder, "hub")
    values = {
        "jurisdiction": "DE",
        "store": str(folder / "hub.db"),
        "api": {"port": 0, "tls": {"ca": str(own.ca), "cert": str(own.cert), "key": str(own.key)}},
        "page": {"port": 0, "token": TOKEN},
        "run_started_s": START_S,
        "exit_with_stdin": True,
    }
    path = folder / "hub.json"
    path.write_text(json.dumps(values | more))
    return path


@contextmanager
def running(config: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """The program, once it serves, with its ports."""
    command = [sys.executable, "-m", "nearhall.cli.roots.hub", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("READY "), process.stderr.read()
        try:
            yield process, json.loads(line.removeprefix("READY "))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(20)


def post(port: int, own: Bundle, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    context = client_context(ca=str(own.ca), cert=str(own.cert), key=str(own.key))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def live(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/api/v1/live", headers={"authorization": f"Bearer {TOKEN}"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_what_was_acknowledged_is_shown_again_after_kill_9(tmp_path: Path):
    config = settings_of(tmp_path)
    shop, plant = bundle(tmp_path, "shop-01"), bundle(tmp_path, "plant-02")
    telemetry = "/api/v1/sites/shop-01/telemetry"
    with running(config) as (process, ports):
        assert post(ports["api_port"], shop, "/api/v1/sites/shop-01/hello", hello())[0] == 200
        assert post(ports["api_port"], plant, "/api/v1/sites/shop-01/hello", hello())[0] == 403
        status, ack = post(ports["api_port"], shop, telemetry, batch((1, record(0)), (2, record(1))))
        assert (status, ack["acknowledged"]) == (200, 2)
        before = live(ports["page_port"])
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    with running(config) as (process, ports):
        after = live(ports["page_port"])
        assert after["sites"][0]["workloads"] == before["sites"][0]["workloads"]
        assert after["sites"][0]["points"] == before["sites"][0]["points"]
        # The answer to the last batch may have been lost: the site repeats it, and nothing counts twice.
        assert post(ports["api_port"], shop, telemetry, batch((2, record(1)), (3, record(2))))[1]["acknowledged"] == 3
        assert live(ports["page_port"])["sites"][0]["workloads"][0]["local"] == 30
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0, "it ends with its parent"


def test_a_clean_stop_answers_who_waits_and_leaves_no_noise(tmp_path: Path):
    shop = bundle(tmp_path, "shop-01")
    with running(settings_of(tmp_path)) as (process, ports):
        context = client_context(ca=str(shop.ca), cert=str(shop.cert), key=str(shop.key))
        poll = http.client.HTTPSConnection("127.0.0.1", ports["api_port"], timeout=20, context=context)
        poll.request("GET", "/api/v1/sites/shop-01/desired?after=0&wait_s=30")
        page = http.client.HTTPConnection("127.0.0.1", ports["page_port"], timeout=20)
        page.request("GET", "/api/v1/live/events", headers={"authorization": f"Bearer {TOKEN}"})
        with closing(poll), closing(page), page.getresponse() as stream:
            assert stream.readline().startswith(b"data: ")
            process.send_signal(signal.SIGTERM)
            with poll.getresponse() as answer:
                assert answer.status == 304
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def refused(config: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nearhall.cli.roots.hub", str(config)],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_settings_that_cannot_be_are_one_line(tmp_path: Path):
    page = {"port": 0, "token": TOKEN}
    assert "`colour`" in refused(settings_of(tmp_path, colour="blue"))
    assert "api.socket: /proc/x cannot be made" in refused(settings_of(tmp_path, api={"socket": "/proc/x"}))
    assert "the files cannot be used" in refused(
        settings_of(tmp_path, api={"port": 0, "tls": {"ca": "a", "cert": "b", "key": "c"}})
    )
    with running(settings_of(tmp_path)) as (_, ports):
        taken = refused(settings_of(tmp_path, api={"port": ports["page_port"]}, store=str(tmp_path / "other.db"), page=page))
        assert f"127.0.0.1:{ports['page_port']}: cannot listen" in taken


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"api": Api(port=70_000)}, "api.port is 70000"),
        ({"api": Api()}, "api has to listen in one place"),
        ({"api": Api(port=1, socket="x")}, "api has to listen in one place"),
        ({"api": Api(socket="x")}, None),
        ({"api": Api(host="0.0.0.0", port=1)}, "beyond this machine without TLS"),
        ({"page": Page(port=1, token="short")}, "short enough to be guessed"),
        ({"retention_days": 0}, "retention_days is 0"),
        ({}, None),
    ],
)
def test_settings_are_checked_before_anything_is_opened(changes: dict[str, Any], told: str | None):
    base: dict[str, Any] = {"jurisdiction": "DE", "store": "x", "api": Api(port=1), "page": Page(port=2, token=TOKEN)}
    settings = Settings(**(base | {"run_started_s": 0.0} | changes))
    if told is None:
        check_settings(settings, where="hub.json")
        return
    with pytest.raises(InputError, match=told):
        check_settings(settings, where="hub.json")
