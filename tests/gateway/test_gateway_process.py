"""The gateway as a process: starts, stops, is killed and falls back over mutual TLS."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import threading
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path

import httpcore
import pytest

from gateway.gateway_process import gateway
from gateway.small_models import add_model
from nearhall.cli.roots.program import listen_unix
from nearhall.core.errors import InputError
from nearhall.drivers.authority import issue, make_authority
from waiting import until

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'


@pytest.fixture
def models(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    return tmp_path / "models"


def infer(pool, address, model="double", scheme="http", **headers):
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    answer = pool.request("POST", f"{scheme}://{address}/v2/models/{model}/infer", content=BODY, headers=given)
    return answer.status, {name.decode().lower(): value.decode() for name, value in answer.headers}, answer.content


def test_a_clean_stop_finishes_what_is_in_progress_and_tidies_up(tmp_path, models):
    pid_file = tmp_path / "gw.json"
    with gateway(tmp_path, models, pid_file=str(pid_file)) as running, httpcore.ConnectionPool() as pool:
        said = json.loads(pid_file.read_bytes())
        assert said["pid"] == running.process.pid
        assert said["port"] == running.port
        assert said["gateway_id"] == running.ready["gateway_id"] == running.stats()["gateway_id"]
        assert infer(pool, running.address)[0] == 200
        assert running.stop() == 0
        assert not pid_file.exists()
        assert "Traceback" not in running.log.read_text()


def test_a_second_one_on_the_same_control_socket_is_refused_and_the_first_serves_on(tmp_path, models):
    with gateway(tmp_path, models) as first:
        config = tmp_path / "second.json"
        plain = {"node": "s/m", "jurisdiction": "DE", "repository": str(models), "port": 0, "control_socket": first.socket}
        config.write_text(json.dumps(plain))
        command = [sys.executable, "-m", "nearhall.cli.roots.gateway", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        who = f"another program listens at {first.socket} (process {first.process.pid})"
        assert done.stderr == f"error: control_socket: {who}; end it, or name another path\n"
        assert first.stats()["pid"] == first.process.pid
        first.kill()
    with gateway(tmp_path, models) as after:  # a killed one leaves its socket, which is in nobody's way
        assert after.stats()["pid"] == after.process.pid


def test_a_program_that_answers_nobody_still_has_its_socket(tmp_path):
    place = tmp_path / "ctl"
    with ExitStack() as sockets:
        frozen = sockets.enter_context(socket.socket(socket.AF_UNIX))
        frozen.bind(str(place))
        frozen.listen(0)
        waiting = sockets.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(place))  # the backlog is full
        with pytest.raises(InputError, match=rf"^control_socket: another program listens at {place}; end it"):
            listen_unix(place, where="control_socket")
        frozen.close()
        with listen_unix(place, where="control_socket"):
            assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_the_end_of_standard_input_ends_it(tmp_path, models):
    with gateway(tmp_path, models, exit_with_stdin=True) as running:
        running.process.stdin.close()
        assert running.process.wait(15) == 0


def test_a_kill_resets_connections_and_hangs_none(tmp_path, models):
    with gateway(tmp_path, models) as running:
        idle = socket.create_connection(("127.0.0.1", running.port), timeout=5)
        ends = []

        def ask_on():
            with httpcore.ConnectionPool() as pool:
                try:
                    while True:
                        ends.append(infer(pool, running.address)[0])
                except (httpcore.NetworkError, httpcore.ProtocolError) as error:
                    ends.append(error)

        asking = threading.Thread(target=ask_on)
        asking.start()
        until(lambda: len(ends) > 20, what="requests are answered")
        running.kill()
        asking.join(5)
        assert not asking.is_alive()
        assert set(ends[:-1]) == {200}
        assert isinstance(ends[-1], Exception)
        with idle, suppress(ConnectionResetError):
            assert idle.recv(1) == b""


def run_root(config):
    command = [sys.executable, "-m", "nearhall.cli.roots.gateway", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)


def test_what_is_wrong_is_one_line_and_exit_2(tmp_path, models):
    good = {"node": "s/n", "jurisdiction": "DE", "repository": str(models), "port": 0}
    config = tmp_path / "c.json"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = {
            "(Address already in use); choose another port": {**good, "port": taken.getsockname()[1]},
            "model repository cannot be read": {**good, "repository": str(tmp_path / "none")},
            "unknown field `prot`": {**good, "prot": 1},
            "residency 'mars'": {**good, "workloads": [{"id": "a", "model": "m", "residency": "mars"}]},
            "probe.share is 2": {**good, "probe": {"share": 2}},
        }
        for says, settings in cases.items():
            config.write_text(json.dumps(settings))
            ended = run_root(config)
            assert ended.returncode == 2, (says, ended)
            assert says in ended.stderr
            assert "Traceback" not in ended.stderr
            assert "READY" not in ended.stdout


def test_falling_back_over_mutual_tls(tmp_path, models):
    (tmp_path / "hub").mkdir()
    (tmp_path / "site" / "models").mkdir(parents=True)
    authority = make_authority(tmp_path / "ca")
    hub_files = issue(authority, "hub", tmp_path / "ca" / "hub", kind="hub", dns_names=[], ip_addresses=["127.0.0.1"])
    site_files = issue(authority, "shop", tmp_path / "ca" / "shop", kind="site", dns_names=[], ip_addresses=[])

    def tls(files):
        return {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}

    with gateway(tmp_path / "hub", models, node="hub", tls=tls(hub_files)) as hub:
        link = {"url": f"https://{hub.address}", "jurisdiction": "DE", "tls": tls(site_files)}
        with gateway(tmp_path / "site", tmp_path / "site" / "models", hub=link) as site, httpcore.ConnectionPool() as pool:
            status, headers, content = infer(pool, site.address)
            assert status == 200
            assert json.loads(content)["outputs"][0]["data"] == [2, 4, 6, 8]
            assert headers["x-nearhall-served-by"] == "hub"
            assert headers["x-nearhall-reason"] == "hub_model_absent"
            assert "network;dur=" in headers["server-timing"]
            counts = site.stats()["workloads"]["model:double"]
            assert counts["hub"] == 1
            assert counts["sent_bytes"] > len(BODY)
            with pytest.raises(httpcore.NetworkError):
                infer(pool, hub.address, scheme="https")
            hub.kill()
            until(lambda: infer(pool, site.address)[0] == 503, what="the lost hub is noticed")
            assert infer(pool, site.address)[1]["x-nearhall-reason"] == "hub_unreachable"


def test_beyond_its_connections_it_refuses_with_a_reason_and_recovers(tmp_path, models):
    with gateway(tmp_path, models, limits={"connections": 3}) as running, httpcore.ConnectionPool() as pool:
        idle = [socket.create_connection(("127.0.0.1", running.port), timeout=5) for _ in range(3)]
        until(lambda: infer(pool, running.address)[0] == 429, what="the fourth connection is refused")
        status, headers, _ = infer(pool, running.address)
        assert (status, headers["x-nearhall-reason"], headers["retry-after"]) == (429, "queue_full", "1")
        assert pool.request("GET", f"http://{running.address}/v2/health/live").status == 200, "who only asks how it is, may"
        assert running.stats()["workloads"]["model:(other)"]["rejected"]["queue_full"] >= 1
        for one in idle:
            one.close()
        until(lambda: infer(pool, running.address)[0] == 200, what="room again")


def ask_raw(port, parts):
    """One request sent as it is; the answer's head, read while the request may still be going out."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        with suppress(ConnectionError):
            for part in parts:
                raw.sendall(part)
        answer = b""
        with suppress(ConnectionError):
            while b"\r\n\r\n" not in answer and (piece := raw.recv(65536)):
                answer += piece
        return answer.partition(b"\r\n\r\n")[0].decode().lower()


def resident_mib(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_too_large_bodies_are_refused_in_bounded_memory(tmp_path, models):
    start = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: x\r\n"
    mib = bytes(1 << 20)
    bomb = zlib.compress(bytes(1 << 29), 9)
    cases = {
        "stated": [start + b"content-length: 900000000\r\n\r\n"],
        "in chunks": [start + b"transfer-encoding: chunked\r\n\r\n", *([b"100000\r\n" + mib + b"\r\n"] * 24), b"0\r\n\r\n"],
        "a bomb": [start + b"content-encoding: deflate\r\ncontent-length: %d\r\n\r\n" % len(bomb), bomb],
    }
    limits = {"body_mib": 8, "inflated_mib": 16}
    with gateway(tmp_path, models, limits=limits) as running, httpcore.ConnectionPool() as pool:
        assert infer(pool, running.address)[0] == 200
        before = resident_mib(running.process.pid)
        for name, parts in cases.items():
            head = ask_raw(running.port, parts)
            assert head.startswith("http/1.1 413"), (name, head)
            assert "x-nearhall-reason: too_large" in head
            assert infer(pool, running.address)[0] == 200
        assert resident_mib(running.process.pid) - before < 64
        assert "Traceback" not in running.log.read_text()


def test_what_a_refused_request_held_is_given_back_at_once(tmp_path, models):
    """Its numbers as objects take 16 MiB; an error and a frame that hold each other keep them until the next look for garbage."""
    head = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ['
    body = head + b"1," * (1 << 19) + b"1]}]}"
    request = b"POST /v2/models/double/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with gateway(tmp_path, models) as running, httpcore.ConnectionPool() as pool:
        assert infer(pool, running.address)[0] == 200
        before = resident_mib(running.process.pid)
        for _ in range(12):
            assert ask_raw(running.port, [request]).startswith("http/1.1 400")
        assert infer(pool, running.address)[0] == 200
        assert resident_mib(running.process.pid) - before < 96


@pytest.mark.parametrize(
    "rubbish", [b"\0\0\0\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /v2 HTTP/1.1\r\ncontent-length: -1\r\n\r\n"]
)
def test_what_is_no_http_is_answered_and_forgotten(tmp_path, models, rubbish):
    with gateway(tmp_path, models) as running, httpcore.ConnectionPool() as pool:
        head = ask_raw(running.port, [rubbish])
        assert head == "" or head.startswith(("http/1.1 400", "http/1.1 4"))
        assert infer(pool, running.address)[0] == 200
        assert "Traceback" not in running.log.read_text()
