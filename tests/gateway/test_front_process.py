"""A front and two gateways as processes: one node frozen, killed and started again under load; and the command that starts it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpcore
import pytest

from gateway.gateway_process import GatewayProcess, gateway
from gateway.small_models import add_model
from nearhall.drivers.authority import issue, make_authority
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.mutual_tls import client_context
from nearhall.drivers.node_http import Address, NodeHttp
from nearhall.ports.node import NodeAnswer, NodeAsk
from waiting import until

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
DEADLINE_MS = 1500.0
"""A hundred times what the front takes to leave a silent node: a busy machine refuses or delays none of it. How early that is at
tight deadlines, the tests of one process say (test_front.py) and the benchmark."""
RATE_PER_S = 100.0
LATE_MS = 1500.0
"""What a busy machine may add to a timer, in the front and in this client. Who is forgotten waits for 25 s, the front's limit."""
ENDS_S = 40.0
"""For whatever these programs are waited for; each start takes more than a second of a core that may be shared by many."""
COMMAND = [sys.executable, "-m", "nearhall", "serve", "--front"]


@contextmanager
def command(folder, *options, as_json=True):
    """`nearhall serve --front`, ended at the end of the block; gives what it says first, and the process."""
    line = [*COMMAND, *options, *(["--json"] if as_json else [])]
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield process.stdout.readline(), process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(15) == 0, (folder / "front.log").read_text()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@dataclass(frozen=True)
class Sent:
    """One request of the load: when it was due to be sent, what it took, how it ended."""

    at_s: float
    took_ms: float
    status: int
    served: str


class Load:
    """Requests at a steady rate, whatever comes back."""

    def __init__(self, port: int) -> None:
        self.link = NodeHttp(Address(host="127.0.0.1", port=port), SystemClock())
        self.sent: list[Sent] = []
        self.going = True
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        begun, count = time.monotonic(), 0
        while self.going:
            at_s = begun + count / RATE_PER_S
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            task = asyncio.create_task(self._one())
            self._tasks.add(task)
            count += 1
        await asyncio.gather(*self._tasks)
        self.link.close()

    async def _one(self) -> None:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        headers = [(b"x-nearhall-deadline-ms", b"%.0f" % DEADLINE_MS), (b"content-type", b"application/json")]
        begun = time.monotonic()
        self.link.send(NodeAsk("POST", b"/v2/models/double/infer", headers, BODY, repeatable=False), answer.set_result)
        got = await asyncio.wait_for(answer, ENDS_S)
        took_ms = (time.monotonic() - begun) * 1e3
        assert isinstance(got, NodeAnswer), got
        served = dict(got.headers).get(b"x-nearhall-served-by", b"").decode()
        self.sent.append(Sent(begun, took_ms, got.status, served))

    async def until(self, condition) -> None:
        async with asyncio.timeout(ENDS_S):
            while not condition():  # noqa: ASYNC110 (of what other processes answer)
                await asyncio.sleep(0.02)

    def since(self, at_s: float) -> list[Sent]:
        return [sent for sent in self.sent if sent.at_s >= at_s]


@pytest.fixture
def models(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    return tmp_path / "models"


def node(stack, folder, models, name, port):
    place = folder / name
    place.mkdir(exist_ok=True)
    return stack.enter_context(gateway(place, models, node=f"s/{name}", port=port, control_socket=None))


@pytest.mark.timeout(4 * ENDS_S)
def test_one_of_two_nodes_is_frozen_then_killed_then_back(short_folder, models, free_port):
    ports = [free_port(), free_port()]

    async def story(stack: ExitStack, first: GatewayProcess, port: int) -> None:
        load = Load(port)
        running = asyncio.create_task(load.run())
        # How many each gets is the policy's affair: one that a busy machine has slowed down gets few.
        await load.until(lambda: len(load.sent) > 30 and {"s/n1", "s/n2"} <= {sent.served for sent in load.sent})
        frozen_s = time.monotonic()
        first.process.send_signal(signal.SIGSTOP)
        await load.until(lambda: len(load.since(frozen_s + 1.0)) > 60)
        first.kill()
        killed_s = time.monotonic()
        await load.until(lambda: len(load.since(killed_s + 1.0)) > 30)
        back_s = time.monotonic()
        await asyncio.to_thread(node, stack, short_folder, models, "n1", ports[0])
        await load.until(lambda: any(sent.served == "s/n1" for sent in load.since(back_s)))
        load.going = False
        await running
        assert {sent.status for sent in load.sent} <= {200, 503, 504}
        assert max(sent.took_ms for sent in load.sent) < DEADLINE_MS + LATE_MS
        for change_s in (frozen_s, killed_s):
            after = [sent for sent in load.since(change_s + 1.0) if sent.at_s < back_s]
            good = sum(sent.status == 200 for sent in after)
            assert good >= 0.95 * len(after), Counter(sent.status for sent in after)
        meanwhile = [sent for sent in load.since(frozen_s) if sent.at_s < killed_s and sent.status == 200]
        assert {sent.served for sent in meanwhile[len(meanwhile) // 2 :]} == {"s/n2"}

    with ExitStack() as stack:
        first = node(stack, short_folder, models, "n1", ports[0])
        node(stack, short_folder, models, "n2", ports[1])
        options = [f"--node=n{i + 1}=http://127.0.0.1:{port}" for i, port in enumerate(ports)]
        said, _ = stack.enter_context(command(short_folder, *options, "--http", "0"))
        told = json.loads(said)
        assert [(row["id"], row["state"], [m["name"] for m in row["models"]]) for row in told["nodes"]] == [
            ("n1", "up", ["double"]),
            ("n2", "up", ["double"]),
        ]
        asyncio.run(story(stack, first, int(told["url"].rpartition(":")[2])))


def test_a_document_names_the_nodes_and_one_of_them_is_not_there(short_folder, models, free_port):
    with gateway(short_folder, models, node="s/n1") as running:
        nodes = [{"id": "n1", "url": f"http://{running.address}"}, {"id": "n2", "url": f"http://127.0.0.1:{free_port()}"}]
        document = {"schema": "nearhall/front/v1", "http": 0, "nodes": nodes}
        (short_folder / "front.yaml").write_text(json.dumps(document))
        with (
            command(short_folder, "--config", str(short_folder / "front.yaml"), as_json=False) as (said, process),
            httpcore.ConnectionPool() as pool,
        ):
            assert "one address for 2 nodes" in said
            url = said.partition("http://")[2].partition(" ")[0]
            lines = [process.stdout.readline() for _ in range(2)]
            assert "double" in lines[0]
            assert "cannot be reached" in lines[1]
            answer = pool.request("POST", f"http://{url}/v2/models/double/infer", content=BODY)
            assert (answer.status, json.loads(answer.content)["outputs"][0]["data"]) == (200, [2, 4, 6, 8])
            assert running.stop() == 0
            until(lambda: pool.request("GET", f"http://{url}/v2/health/ready").status == 503, what="nothing answers any more")
            refused = pool.request("POST", f"http://{url}/v2/models/double/infer", content=BODY)
            headers = {name.lower(): value for name, value in refused.headers}
            assert (refused.status, headers[b"x-nearhall-reason"], headers[b"retry-after"]) == (503, b"nodes_away", b"1")


@contextmanager
def root(folder, **settings):
    """The front's program on its settings, ended by the end of standard input; gives what it says when it serves."""
    config = folder / "front.json"
    config.write_text(json.dumps({"port": 0, "exit_with_stdin": True, **settings}))
    line = [sys.executable, "-m", "nearhall.cli.roots.front", str(config)]
    with (folder / "front.log").open("wb") as log:
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield json.loads(process.stdout.readline().partition("READY ")[2])
    finally:
        process.stdin.close()
        try:
            assert process.wait(15) == 0, (folder / "front.log").read_text()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def test_over_mutual_tls_on_both_sides_and_on_a_unix_socket(short_folder, models):
    authority = make_authority(short_folder / "ca")
    server = issue(authority, "n1", short_folder / "n1", kind="hub", dns_names=[], ip_addresses=["127.0.0.1"])
    client = issue(authority, "shop", short_folder / "shop", kind="site", dns_names=[], ip_addresses=[])
    own, shown = ({"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)} for files in (server, client))
    place = short_folder / "gw"
    place.mkdir()
    local = short_folder / "uds"
    with (
        gateway(place, models, node="s/n1", tls=own) as running,
        root(
            short_folder,
            nodes=[{"id": "n1", "url": f"https://{running.address}", "tls": shown}],
            tls=own,
            uds=str(local),
        ) as ready,
        httpcore.ConnectionPool(ssl_context=client_context(**shown)) as trusted,
        httpcore.ConnectionPool(uds=str(local)) as here,
        httpcore.ConnectionPool() as stranger,
    ):
        assert ready["nodes"] == {"n1": "up"}
        url = f"https://127.0.0.1:{ready['port']}/v2/models/double/infer"
        assert stat.S_IMODE(local.stat().st_mode) == 0o600
        for pool, where in ((trusted, url), (here, "http://front/v2/models/double/infer")):
            answer = pool.request("POST", where, content=BODY)
            assert (answer.status, json.loads(answer.content)["outputs"][0]["data"]) == (200, [2, 4, 6, 8])
        with pytest.raises(httpcore.NetworkError):
            stranger.request("POST", url, content=BODY)
    assert not local.exists()


def test_who_starts_second_is_told_at_once_though_the_first_does_not_listen_yet(short_folder, free_port):
    """The first waits for a node that takes its question and never answers, and is frozen there."""
    port, grpc, local = free_port(), free_port(), short_folder / "u"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = ["--node", f"n1=http://127.0.0.1:{silent.getsockname()[1]}"]
        line = [*COMMAND, *node, "--http", str(port), "--grpc", str(grpc), "--uds", str(local), "--json"]
        with (short_folder / "log").open("wb") as log:
            first = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            silent.settimeout(ENDS_S)
            with silent.accept()[0]:
                first.send_signal(signal.SIGSTOP)  # within a second and a half of that it does not listen yet
                for says, wish in {
                    f"http: cannot listen at 127.0.0.1:{port} (": ["--http", str(port)],
                    f"grpc: cannot listen at 127.0.0.1:{grpc} (": ["--http", "0", "--grpc", str(grpc)],
                    "uds: another program ": ["--http", "0", "--uds", str(local)],
                }.items():
                    one_line(says, [*COMMAND, *node, *wish])
                first.send_signal(signal.SIGCONT)
                assert str(port) in first.stdout.readline()
                first.send_signal(signal.SIGINT)
            assert first.wait(15) == 0
        finally:
            first.kill()
            first.wait()
            first.stdout.close()
    with command(short_folder, *node, "--http", str(port), "--grpc", str(grpc), "--uds", str(local)) as (said, _):
        assert json.loads(said), "and everything is free again"


def test_a_file_where_the_socket_is_to_be_stays(short_folder):
    (short_folder / "mine").write_text("mine")
    says = f"uds: {short_folder}/mine is there already and is no socket; name a path that is free"
    one_line(says, [*COMMAND, "--http", "0", "--node", "n1=http://127.0.0.1:1", "--uds", str(short_folder / "mine")])
    assert (short_folder / "mine").read_text() == "mine"


def test_certificates_that_are_none_are_named(short_folder):
    config = short_folder / "front.json"
    files = {"ca": "/none", "cert": "/none", "key": "/none"}
    node = {"id": "n1", "url": "https://127.0.0.1:1", "tls": files}
    cases = {
        "node n1: tls.ca: /none cannot be read (No such file or directory)": {"nodes": [node]},
        "error: tls.ca: /none cannot be read (No such file or directory)": {
            "nodes": [{"id": "n1", "url": "http://127.0.0.1:1"}],
            "tls": files,
        },
        "there are 0 nodes": {"nodes": []},
        "port is 70000": {"nodes": [node], "port": 70000},
        "limits.quiet_s is 0": {"nodes": [node], "limits": {"quiet_s": 0}},
        "unknown field": {"nodes": [node], "prot": 1},
    }
    for says, settings in cases.items():
        config.write_text(json.dumps({"port": 0, **settings}))
        command = [sys.executable, "-m", "nearhall.cli.roots.front", str(config)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
        assert (ended.returncode, says in ended.stderr) == (2, True), ended


SITE = """
schema: nearhall/site/v1
id: shop
class: micro
jurisdiction: DE
envelope: {it_power_kw: 2}
front: {http: "0"}
nodes:
  - {id: n1, http: "127.0.0.1:1"}
  - {id: n2, http: "127.0.0.1:2"}
"""


def test_a_sites_document_names_its_front(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    with command(tmp_path, "--config", str(tmp_path / "site.yaml")) as (said, _):
        assert [row["id"] for row in json.loads(said)["nodes"]] == ["n1", "n2"]
        assert {row["state"] for row in json.loads(said)["nodes"]} == {"away"}


WRONG = {
    "a front needs an address": ["--node", "n1=http://127.0.0.1:1"],
    "a front needs nodes": ["--http", "0"],
    "'n1' names no node": ["--http", "0", "--node", "n1"],
    "'ftp://x:1' is no address of a node": ["--http", "0", "--node", "n1=ftp://x:1"],
    "two nodes have the id 'n1'": ["--http", "0", "--node", "n1=http://a:1", "--node", "n1=http://a:2"],
    "two nodes have the address": ["--http", "0", "--node", "n1=http://a:1", "--node", "n2=http://a:1"],
    "is encrypted, but no certificate is named": ["--http", "0", "--node", "n1=https://a:1"],
    "a front holds no models": ["--http", "0", "--node", "n1=http://a:1", "--repository", "x"],
    "cannot be read": ["--http", "0", "--config", "/none.yaml"],
}


@pytest.mark.parametrize("says", WRONG)
def test_what_is_wrong_is_one_line_and_exit_2(says):
    one_line(says, [*COMMAND, *WRONG[says]])


def one_line(says, command):
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2, ended
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_nodes_without_a_front_are_a_mistake():
    one_line("nodes are for a front", [*COMMAND[:-1], "--http", "0", "--node", "n1=http://a:1"])
