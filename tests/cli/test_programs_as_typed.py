"""`nearhall hub` and `nearhall site` as somebody types them, joined over one address, and what `nearhall` itself says."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.small_models import add_model
from nearhall.cli.main import main
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.hub.pilot import build_pilot
from waiting import until

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
STOP_S = 30
pytestmark = pytest.mark.timeout(120)

SITE = """
schema: nearhall/site/v1
id: shop-01
class: micro
jurisdiction: DE
hub: https://127.0.0.1:{hub}
hub_jurisdiction: DE
envelope: {{it_power_kw: 1}}
nodes: [{{id: n1, http: "127.0.0.1:{http}"}}]
workloads:
  - {{id: here, model: double, slo_p99_ms: 50, residency: site}}
  - {{id: there, model: only_at_hub, slo_p99_ms: 500, residency: any}}
"""


@contextmanager
def typed(log: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`nearhall ARGUMENTS`, its words in `log`; ended by Ctrl-C, always: a killed site leaves its gateway serving."""
    with log.open("wb") as out:
        command = [sys.executable, "-m", "nearhall", *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert code == 0, log.read_text()


def status(url: str, body: bytes | None = None) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}
    except OSError:
        return 0, {}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nearhall", *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def test_a_hub_and_a_site_of_two_nodes_as_typed(short_folder: Path, free_port: Callable[[], int]):
    hub, page, http, other = (free_port() for _ in range(4))
    add_model(short_folder / "hub-models", "only_at_hub", doubled=True)
    add_model(short_folder / "site-models", "double", doubled=True)
    state, credentials = short_folder / "hub", short_folder / "credentials"
    said = short_folder / "hub.log"
    with typed(said, "hub", "--state", state, "--listen", hub, "--page", page, "--repository", short_folder / "hub-models"):
        until(lambda: "Ctrl-C ends" in said.read_text(), 40, what="the hub's addresses")
        assert f"sites dial https://127.0.0.1:{hub}" in said.read_text()
        found = re.search(rf"http://127\.0\.0\.1:{page}/\?token=(\S+)", said.read_text())
        assert found is not None
        live = urllib.request.Request(f"http://127.0.0.1:{page}/api/v1/live", headers={"authorization": f"Bearer {found[1]}"})
        assert status(live.full_url)[0] == 403, "nobody looks without the token"
        issued = run("hub", "credentials", "--state", state, "--site", "shop-01", "--out", credentials)
        assert issued.returncode == 0, issued.stderr

        document = short_folder / "site.yaml"
        document.write_text(SITE.format(hub=hub, http=http).replace("}]", f'}}, {{id: n2, http: "127.0.0.1:{other}"}}]'))
        options = ["--state", short_folder / "s", "--models", short_folder / "site-models"]
        given = ["--credentials", credentials / "shop-01"]
        checked = run("site", document, *options, *given, "--check", "--json")
        assert checked.returncode == 0, checked.stderr
        for node in json.loads(checked.stdout)["nodes"].values():
            assert node["gateway"]["hub"]["url"] == node["agent"]["hub"]["url"]
        with (
            typed(short_folder / "n1.log", "site", document, "--node", "n1", *options, *given),
            typed(short_folder / "n2.log", "site", document, "--node", "n2", *options, *given),
        ):

            def served_by(port: int, model: str) -> str | None:
                return status(f"http://127.0.0.1:{port}/v2/models/{model}/infer", BODY)[1].get("x-nearhall-served-by")

            # Again and again: for a moment agent and gateway both hold the port, and the agent's answer is a refusal.
            until(lambda: served_by(http, "double") == "shop-01/n1", 40, what="an answer of the site")
            until(lambda: served_by(other, "double") == "shop-01/n2", 40, what="an answer of its other node")
            until(lambda: served_by(http, "only_at_hub") == "hub", 20, what="an answer of the hub")

            def answered() -> int:
                with urllib.request.urlopen(live, timeout=10) as answer:
                    sites = json.load(answer)["sites"]
                return sum(w.get("local", 0) + w.get("hub", 0) for site in sites for w in site["workloads"])

            until(lambda: answered() >= 3, 20, what="the telemetry of all")
        assert {served_by(port, "double") for port in (http, other)} == {None}, "the gateways ended with their agents"
    store = SqliteStore(state / "hub.db")
    try:
        start_s, end_s = store.span() or (0.0, 0.0)
        (site,) = build_pilot(store, start_s=start_s, end_s=end_s, seed=None)["sites"]
    finally:
        store.close()
    assert (site["id"], [(node["id"], node["heard"]) for node in site["nodes"]]) == ("shop-01", [("n1", True), ("n2", True)])
    assert {item["id"]: item["requests"]["local"] for item in site["workloads"]} == {"here": 2, "there": 0}, "one of each node"
    assert site["coverage"] > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--models", "none"], "there is no model repository"),
        ([], "--credentials: the hub knows its sites by certificate"),
        (["--credentials", "."], "ca.pem is missing"),
    ],
)
def test_a_site_that_cannot_be_is_one_line(tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "site.yaml").write_text(SITE.format(hub=8443, http=8080))
    (tmp_path / "models").mkdir()
    given = [*options] if "--models" in options else ["--models", str(tmp_path / "models"), *options]
    with pytest.raises(SystemExit) as ended:
        main(["site", str(tmp_path / "site.yaml"), *given])
    assert ended.value.code == 2
    noted = capsys.readouterr().err
    assert told in noted
    assert len(noted.strip().splitlines()) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_site_answers_grpc_and_at_a_socket_as_its_document_says(short_folder: Path, free_port: Callable[[], int]):
    triton = pytest.importorskip("tritonclient.grpc")
    add_model(short_folder / "models", "double", doubled=True)
    http, grpc = free_port(), free_port()
    document = short_folder / "site.yaml"
    document.write_text(_alone(f"[{{id: n1, http: '127.0.0.1:{http}', grpc: {grpc}, uds: none/s}}]"))
    options = ["--state", short_folder / "s", "--models", short_folder / "models"]
    refused = run("site", document, *options)
    assert refused.returncode == 2
    told = f"error: {document}: nodes[0].uds: there is no folder {short_folder}/none; make it, or name another path"
    assert refused.stderr.strip() == told
    document.write_text(document.read_text().replace("none/s", "g"))
    log = short_folder / "site.log"
    with typed(log, "site", document, *options), triton.InferenceServerClient(f"127.0.0.1:{grpc}") as client:
        until(lambda: status(f"http://127.0.0.1:{http}/v2/health/ready")[0] == 200, 40, what="the site is ready")
        assert client.is_model_ready("double")
        with socket.socket(socket.AF_UNIX) as here:
            here.connect(str(short_folder / "g"))
            here.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
            assert here.recv(4096).startswith(b"HTTP/1.1 200 ")
    said = " ".join(log.read_text().split())
    assert f"http://127.0.0.1:{http}, gRPC at 127.0.0.1:{grpc}, HTTP at the Unix socket {short_folder}/g, state in" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "error: --node: shop-01 has 2 nodes (n1, n2); say which runs here: --node n1"),
        (["--node", "n3"], "error: --node: shop-01 has no node 'n3'; one of: n1, n2"),
        (["--node", "n3", "--check"], "error: --node: shop-01 has no node 'n3'; one of: n1, n2"),
    ],
)
def test_which_node_runs_has_to_be_said(tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    document = tmp_path / "site.yaml"
    document.write_text(_alone("[{id: n1}, {id: n2, http: '127.0.0.1:8081'}]"))
    with pytest.raises(SystemExit) as ended:
        main(["site", str(document), "--models", str(tmp_path), *options])
    assert ended.value.code == 2
    assert capsys.readouterr().err.strip() == told


def test_of_many_nodes_a_line_names_the_first_and_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    document = tmp_path / "site.yaml"
    document.write_text(_alone(f"[{', '.join(f'{{id: n{n}, http: 127.0.0.1:{8000 + n}}}' for n in range(1, 53))}]"))
    with pytest.raises(SystemExit):
        main(["site", str(document), "--models", str(tmp_path)])
    assert "has 52 nodes (n1, n2, n3, n4, n5, n6, n7, n8, ... n52)" in capsys.readouterr().err


def test_a_check_says_what_would_run_on_each_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    document = tmp_path / "site.yaml"
    document.write_text(_alone("[{id: n1, hardware: orin}, {id: n2, http: '127.0.0.1:8081'}]", METER))
    words = ["site", str(document), "--models", str(tmp_path), "--state", str(tmp_path / "s"), "--check"]
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{document} is right: site shop-01, 2 workloads, 1 meters, hub none"
    assert said[1] == f"--node n1: http://127.0.0.1:8080, orin, state in {tmp_path}/s, reads the meters"
    assert said[2] == f"--node n2: http://127.0.0.1:8081, state in {tmp_path}/s/n2"
    with pytest.raises(SystemExit):
        main([*words, "--node", "n2", "--json"])
    assert json.loads(capsys.readouterr().out)["agent"]["site"] == "shop-01.n2", "one node as a site of one is told"


METER = 'meters: [{id: feed, position: feed, url: "modbus://meter.local:502/1"}]\n'


def _alone(nodes: str, more: str = "") -> str:
    """A site without a hub that has these nodes."""
    lines = [line for line in SITE.format(hub=8443, http=8080).splitlines() if not line.startswith(("hub", "nodes"))]
    return "\n".join([*lines, f"nodes: {nodes}", more])


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 0, "plan, rehearse, run and prove"),
        (["--help"], 0, "Start with"),
        (["--version"], 0, "nearhall 0."),
        (["upp"], 2, "did you mean 'up'?"),
        (["zzz"], 2, "the commands are up, "),
    ],
)
def test_nearhall_itself(arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert int(ended.value.code or 0) == code
    assert told in said.out + said.err
