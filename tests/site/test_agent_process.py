"""The agent as a process, with a gateway that is killed, a hub that goes away, and a disk that is full (issue 2, 8.3 to 8.5)."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nearhall.drivers.clock import SystemClock
from nearhall.drivers.outbox_sqlite import SqliteOutbox
from site_rig import Site, alive, site
from waiting import until

pytestmark = pytest.mark.timeout(120)
MIB = 2**20
RESIDENT_MIB_MAX = 64
"""Of an agent that is idle, by the issue; it takes about 40."""


@pytest.fixture
def shop(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    with site(short_folder, free_port()) as made:
        yield made


def _records(made: Site, state: Path | None = None) -> list[dict[str, Any]]:
    box = SqliteOutbox((state or made.folder) / "outbox.db", bytes_max=2**30)
    try:
        return [json.loads(body) for _, body in box.pending(2**30)]
    finally:
        box.close()


def _events(made: Site, state: Path | None = None) -> list[str]:
    return [event["kind"] for record in _records(made, state) for event in record.get("events", [])]


def _counted(records: list[dict[str, Any]]) -> int:
    return sum(record.get("workloads", {}).get("video", {}).get("local", 0) for record in records)


def test_it_starts_the_gateway_and_stops_it_cleanly(shop: Site):
    shop.start()
    pid = shop.until_up()
    assert shop.end() == 0, shop.log.read_text()
    assert not alive(pid)
    assert _events(shop) == ["agent_started", "gateway_started"]
    assert _counted(_records(shop)) >= 1


def test_the_end_of_its_parent_ends_it(shop: Site):
    agent = shop.start()
    pid = shop.until_up()
    assert agent.stdin is not None
    agent.stdin.close()
    assert agent.wait(20) == 0
    assert not alive(pid)


def test_a_killed_gateway_is_answered_for_at_once_and_comes_back(shop: Site):
    shop.start()
    first = shop.until_up()
    until(lambda: _counted(_records(shop)) >= 1, what="a record of the first gateway")
    os.kill(first, signal.SIGKILL)
    until(lambda: shop.status() is not None, what="any answer after the kill")
    assert shop.until_up() != first
    assert not alive(first)
    shop.end()
    events = _events(shop)
    assert [kind for kind in events if kind.startswith("gateway")] == ["gateway_started", "gateway_lost", "gateway_started"]
    whole = _records(shop)
    assert len({record["gateway_id"] for record in whole if record.get("gateway_id")}) == 2


def test_after_a_kill_the_refusal_comes_within_100_ms_and_is_counted(shop: Site):
    shop.start()
    took: list[float] = []
    refused = 0
    for _ in range(3):
        os.kill(shop.until_up(), signal.SIGKILL)
        began = time.monotonic()
        first: int | None = None
        while first is None and time.monotonic() - began < 5:
            first = shop.status("POST", "/v2/models/faces/infer")
        took.append(time.monotonic() - began)
        refused += first == 503
    assert sorted(took)[1] < 0.1, f"seconds to the first answer: {took}"
    shop.until_up()
    shop.end()
    counted = [record.get("workloads", {}).get("video", {}).get("rejected", {}) for record in _records(shop)]
    assert sum(rejected.get("restarting", 0) for rejected in counted) == refused >= 1


def test_while_no_gateway_lives_the_refusal_says_restarting(short_folder: Path, free_port: Callable[[], int]):
    with site(short_folder, free_port(), gateway_command=[sys.executable, "-c", "raise SystemExit(3)"]) as shop:
        agent = shop.start()
        until(lambda: shop.status() == 503, what="the refusal")
        until(lambda: _losses(shop) >= 3, what="a crash loop")
        assert agent.poll() is None
        shop.end()
        records = _records(shop)
        assert all(record["gateway_up"] is False for record in records)
        texts = [event["text"] for record in records for event in record.get("events", [])]
        assert any("exit code 3" in text for text in texts)


def _losses(shop: Site) -> int:
    """How often a gateway was lost."""
    return _events(shop).count("gateway_lost")


def test_a_killed_agent_comes_back_and_adopts_the_gateway_which_serves_on(shop: Site):
    shop.start()
    pid = shop.until_up()
    until(lambda: _counted(_records(shop)) >= 1, what="a first record")
    assert shop.end(signal.SIGKILL) == -signal.SIGKILL
    answers = 1 + sum(shop.status() == 200 for _ in range(20))
    assert answers == 21, "serving is untouched"
    shop.start()
    until(lambda: shop.state()["gateway_pid"] == pid)
    assert shop.status() == 200
    until(lambda: _counted(_records(shop)) >= 22, what="the record of what was served meanwhile")
    assert (shop.gateway_pid, alive(pid)) == (pid, True)
    shop.end()
    assert "gateway_adopted" in _events(shop)
    assert not alive(pid)
    boots = {record["boot_id"] for record in _records(shop)}
    assert len(boots) == 2


def test_nothing_is_counted_twice_through_kills_of_the_agent(shop: Site):
    asked = 0
    shop.start()
    until(lambda: shop.status() == 200)
    asked = 1
    for _ in range(3):
        shop.end(signal.SIGKILL)
        asked += sum(shop.status() == 200 for _ in range(5))
        shop.start()
        asked += sum(shop.status() == 200 for _ in range(5))
    until(lambda: _counted(_records(shop)) >= asked, what="all of it")
    shop.end()
    counted = _counted(_records(shop))
    assert counted == asked, f"the gateway answered {asked}, the records say {counted}"


def test_a_stale_pid_file_is_not_believed(shop: Site):
    shop.pid_file.write_text(json.dumps({"pid": os.getpid(), "start_ticks": 1, "gateway_id": "g"}))
    shop.start()
    until(lambda: shop.status() == 200)
    assert shop.gateway_pid != os.getpid()
    shop.end()
    assert "gateway_adopted" not in _events(shop)


def test_an_idle_agent_is_small(shop: Site):
    agent = shop.start()
    until(lambda: shop.status() == 200)
    until(lambda: len(_records(shop)) >= 5, what="some windows")
    status = Path(f"/proc/{agent.pid}/status").read_text()
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib / 1024 < RESIDENT_MIB_MAX


@contextmanager
def _small_disk(folder: Path) -> Generator[Path]:
    """A file system of 512 kB in memory; skips where this account may mount none."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "nearhall", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no small disk could be mounted: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return ballast


@pytest.mark.parametrize("ran_before", [False, True], ids=["no outbox yet", "an outbox of before"])
def test_a_disk_that_is_full_at_the_start_costs_telemetry_time_and_no_service(
    short_folder: Path, free_port: Callable[[], int], ran_before: bool
):
    with (
        _small_disk(short_folder / "disk") as disk,
        site(short_folder, free_port(), state_dir=str(disk), agent_pid_file=str(disk / "agent.json")) as shop,
    ):
        asked = 0
        if ran_before:
            shop.start()
            until(lambda: shop.status() == 200, what="the gateway's answer")
            asked = 1
            shop.end(signal.SIGKILL)  # the gateway lives on
        ballast = _fill(disk)
        shop.start()
        until(lambda: shop.status() == 200, what="the gateway's answer on a full disk")
        asked += 1 + sum(shop.status("POST", "/v2/models/faces/infer") == 200 for _ in range(5))
        assert shop.state()["spooled_bytes"] == 0
        said = [line for line in shop.log.read_text().splitlines() if "serves on" in line]
        assert len(said) == 1, shop.log.read_text()
        ballast.unlink()
        until(lambda: _counted(_records(shop, disk)) >= asked, what="every answer in a record, once there is room")
        assert shop.agent is not None
        assert json.loads((disk / "agent.json").read_bytes())["pid"] == shop.agent.pid
        assert shop.end() == 0, shop.log.read_text()
        assert _counted(_records(shop, disk)) == asked
        told = [kind for kind in _events(shop, disk) if kind.startswith("spool")]
        assert told in (["spool_full", "spool_back"], []), "none where there was room again before the first record was due"


def test_results_are_added_up_and_only_numbers_leave(shop: Site):
    shop.start()
    until(lambda: shop.status() == 200)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as application:
        application.connect(str(shop.folder / "results"))
        for body in (
            b'{"workload": "video", "name": "faces", "count": 2, "value": 2.5}',
            b'{"workload": "video", "name": "faces", "value": 1}',
            b'{"workload": "video", "name": "a whole sentence of what somebody said"}',
            b'{"workload": "video", "name": "faces", "count": 1, "secret": "the face"}',
            b"nonsense",
        ):
            application.send(body)
    until(lambda: any(record.get("outcomes") for record in _records(shop)), what="outcomes")
    shop.end()
    found = [outcome for record in _records(shop) for outcome in record.get("outcomes", {}).get("video", [])]
    assert {outcome["name"] for outcome in found} == {"faces"}
    assert sum(outcome["count"] for outcome in found) == 4
    assert sum(outcome["total"] for outcome in found) == 4.5, "a report without a value counts as its number"
    assert b"sentence" not in json.dumps(_records(shop)).encode()
    assert b"secret" not in json.dumps(_records(shop)).encode()


def test_a_port_of_somebody_else_is_one_clear_line(short_folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        made = Site(short_folder, port, exit_with_stdin=False)
        command = [sys.executable, "-m", "nearhall.cli.roots.agent", str(made.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"failed: port {port} on 127.0.0.1 is taken (Address already in use)"


def _second(made: Site) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nearhall.cli.roots.agent", str(made.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)


def test_a_second_agent_on_the_same_folder_is_one_clear_line(shop: Site, free_port: Callable[[], int]):
    first = shop.start()
    shop.until_up()
    (shop.folder / "other").mkdir()
    names = {name: str(shop.folder / "other" / name) for name in ("gateway_pid_file", "agent_pid_file", "agent_socket")}
    other = Site(shop.folder / "other", free_port(), **names, state_dir=str(shop.folder), exit_with_stdin=False)
    done = _second(other)
    assert done.returncode == 2
    right = "end that one first, or give this one a folder of its own (--state)"
    assert done.stderr == f"error: {shop.folder}: another agent runs on this folder (process {first.pid}); {right}\n"
    assert done.stdout == ""
    assert json.loads((shop.folder / "agent.json").read_bytes())["pid"] == first.pid
    assert shop.status() == 200, "the first one serves on"
    assert shop.end(signal.SIGKILL) == -signal.SIGKILL
    shop.start()  # a killed agent leaves nothing that would be in the way
    assert shop.end() == 0, shop.log.read_text()


def test_two_agents_in_folders_of_their_own_run_beside_each_other(shop: Site, free_port: Callable[[], int]):
    shop.start()
    (shop.folder / "n2").mkdir()
    with site(shop.folder / "n2", free_port()) as other:
        other.start()
        other.until_up()
        assert shop.until_up() != other.gateway_pid
        assert other.end() == 0, other.log.read_text()


def test_a_gateway_that_cannot_be_started_is_one_clear_line(short_folder: Path, free_port: Callable[[], int]):
    made = Site(short_folder, free_port(), gateway_command=["/no/such/program"], exit_with_stdin=False)
    command = [sys.executable, "-m", "nearhall.cli.roots.agent", str(made.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert "the gateway cannot be started: /no/such/program: No such file" in done.stderr.splitlines()[-1]


class FakeHub:
    """The control API of a few lines on a port that stays its own: it stores record numbers and can go away."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stored: dict[int, dict[str, Any]] = {}
        self.twice: list[int] = []
        self.wish: dict[str, Any] | None = None
        self.reported: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def acknowledged(self) -> int:
        number = 0
        while number + 1 in self.stored:
            number += 1
        return number

    def hello(self) -> dict[str, Any]:
        return {
            "protocol": 1,
            "hub_id": "h",
            "acknowledged": self.acknowledged,
            "desired_version": 1,
            "now_s": SystemClock().utc(),
        }

    def telemetry(self, batch: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for item in batch["records"]:
                if item["number"] <= self.acknowledged:
                    self.twice.append(item["number"])
                self.stored.setdefault(item["number"], item["record"])
            return {"acknowledged": self.acknowledged, "desired_version": 1, "now_s": SystemClock().utc()}

    @contextmanager
    def serving(self) -> Iterator[None]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: FakeHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self._body()
            self._answer(200, hub.hello() if self.path.endswith("/hello") else hub.telemetry(body))

        def do_PUT(self) -> None:
            hub.reported.append(self._body())
            self._answer(200, {"acknowledged": 0, "desired_version": 1, "now_s": SystemClock().utc()})

        def do_GET(self) -> None:
            if hub.wish is not None and "after=0&" in self.path:
                self._answer(200, {"version": 1, "document": hub.wish})
            else:
                self._answer(503, {"error": "nothing is wished"})

        def _body(self) -> dict[str, Any]:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            if self.headers["content-encoding"] == "gzip":
                body = zlib.decompress(body, wbits=31)
            return json.loads(body)

        def _answer(self, status: int, said: dict[str, Any]) -> None:
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler


@pytest.fixture
def joined(short_folder: Path, free_port: Callable[[], int]) -> Iterator[tuple[Site, FakeHub]]:
    hub = FakeHub(free_port())
    url = f"http://127.0.0.1:{hub.port}"
    with site(short_folder, free_port(), hub={"url": url}, about={"class": "micro"}) as made:
        yield made, hub


def test_a_hub_that_goes_away_gets_everything_later_once_and_soon(joined: tuple[Site, FakeHub]):
    shop, hub = joined
    with hub.serving():
        shop.start()
        until(lambda: len(hub.stored) >= 3, what="telemetry at the hub")
    until(lambda: shop.state()["spooled_bytes"] > 2000, what="an outbox that grows")
    assert shop.status() == 200, "local answers are unaffected"
    with hub.serving():
        began = time.monotonic()
        waiting = shop.state()["spooled_bytes"]
        until(lambda: shop.state()["spooled_bytes"] < min(waiting, 2000), what="the drain")
        assert time.monotonic() - began < 2.0 + 1.0, "drained within 2 s of its return, and a second for shared cores"
        until(lambda: _has(hub, "link_back"), what="the news of its return")
        shop.end(signal.SIGKILL)
        shop.start()
        known = len(hub.stored)
        until(lambda: len(hub.stored) > known + 5, what="the second boot's telemetry")
        shop.end()
    assert sorted(hub.stored) == list(range(1, max(hub.stored) + 1)), "no gap"
    assert {"link_lost", "link_back"} <= {e["kind"] for record in hub.stored.values() for e in record.get("events", [])}
    starts = [hub.stored[number]["start_s"] for number in sorted(hub.stored)]
    assert starts == sorted(starts)
    assert _counted(list(hub.stored.values())) <= 1 + 1


def _has(hub: FakeHub, kind: str) -> bool:
    with hub.lock:
        return any(event["kind"] == kind for record in hub.stored.values() for event in record.get("events", []))


def test_what_the_hub_wants_is_done_and_reported(joined: tuple[Site, FakeHub]):
    shop, hub = joined
    hub.wish = {"schema": "nearhall/desired/v1", "models": {"faces": "unloaded"}}
    with hub.serving():
        shop.start()
        until(lambda: _reported(hub, 1), what="a report that names the version")
        shop.end()
    assert all(report["document"].get("problems", []) == [] for report in hub.reported)
    assert [report["sequence"] for report in hub.reported] == sorted({report["sequence"] for report in hub.reported})


def test_what_it_does_not_understand_it_reports_in_words(joined: tuple[Site, FakeHub]):
    shop, hub = joined
    hub.wish = {"schema": "nearhall/desired/v1", "colour": "green"}
    with hub.serving():
        shop.start()
        until(lambda: _reported(hub, 1), what="a report that names the version")
        shop.end()
    assert any("colour" in problem for report in hub.reported for problem in report["document"].get("problems", []))


def _reported(hub: FakeHub, version: int) -> bool:
    return any(report["document"].get("desired_version") == version for report in hub.reported)
