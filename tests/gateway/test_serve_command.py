"""`nearhall serve`: one line that says where, a curl line that works, one line and exit 2 for what is wrong."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys

import httpcore
import pytest

from gateway.small_models import add_model
from nearhall.cli.commands.serve import listen_at, settings_of
from nearhall.core.errors import InputError
from nearhall.documents.schemas import DOCUMENTS
from nearhall.documents.serve import Limits as WrittenLimits
from nearhall.documents.serve import ServeDocument
from nearhall.documents.yaml_file import parse_document
from nearhall.gateway.settings import Limits, Settings
from waiting import until

COMMAND = [sys.executable, "-m", "nearhall", "serve"]


@pytest.mark.parametrize("as_json", [True, False])
def test_it_serves_says_so_and_ends(tmp_path, as_json):
    add_model(tmp_path / "models", "double", doubled=True)
    add_model(tmp_path / "models", "texts", "BYTES")
    line = [*COMMAND, "--repository", str(tmp_path / "models"), "--http", "0", *(["--json"] if as_json else [])]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        first = process.stdout.readline()
        said = [first] if as_json else [first, *(process.stdout.readline() for _ in range(5))]
        with httpcore.ConnectionPool() as pool:
            if as_json:
                url = json.loads(first)["url"]
                assert [model["state"] for model in json.loads(first)["models"]] == ["ready", "ready"]
                assert pool.request("GET", f"{url}/v2/health/ready").status == 200
            for curl in (text for text in said if text.strip().startswith("curl")):
                _, _, address, _, body = shlex.split(curl)
                answer = pool.request("POST", address, content=body.encode())
                assert answer.status == 200, answer.content
        assert as_json or sum("curl" in text for text in said) == 2
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        process.stdout.close()
    logged = (tmp_path / "log").read_text().splitlines()
    assert as_json or logged
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO nearhall", line) for line in logged), "each says when"


def test_what_is_wrong_is_one_line(tmp_path):
    add_model(tmp_path / "models", "double")
    files = tmp_path / "tls.yaml"
    files.write_text("{schema: nearhall/serve/v1, repository: models, http: 0, tls: {ca: a.crt, cert: b.crt, key: c.key}}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        well = ["--repository", str(tmp_path / "models"), "--http", "0"]
        cases = {
            f"grpc: cannot listen at 127.0.0.1:{taken.getsockname()[1]}": [*well, "--grpc", str(taken.getsockname()[1])],
            "there is no folder /none": [*well, "--uds", "/none/s"],
            "there is no folder /nothing": [*well, "--control-socket", "/nothing/s"],
            f"tls.ca: {tmp_path / 'a.crt'} cannot be read": ["--config", str(files)],
            "Address already in use": ["--repository", str(tmp_path / "models"), "--http", str(taken.getsockname()[1])],
            "cannot be read": ["--repository", str(tmp_path / "none"), "--http", "0"],
            "is no address": ["--repository", str(tmp_path / "models"), "--http", "http://x"],
            "--grpc: 'x' is no address": ["--repository", str(tmp_path / "models"), "--http", "0", "--grpc", "x"],
            "is no socket": ["--repository", str(tmp_path / "models"), "--http", "0", "--uds", str(tmp_path / "models")],
            "`nearhall models fetch` makes": ["--repository", str(tmp_path / "none"), "--http", "0"],
            "--name: 'a b' is no name": ["--repository", str(tmp_path / "models"), "--http", "0", "--name", "a b"],
            "--name: a front passes on": ["--front", "--http", "0", "--name", "n1", "--node", "n1=http://127.0.0.1:9"],
            "--repository: is missing": ["--http", "0"],
            "--http: is missing": ["--repository", str(tmp_path / "models")],
            "none.yaml: cannot be read": ["--config", str(tmp_path / "none.yaml")],
        }
        for says, options in cases.items():
            ended = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False)
            assert ended.returncode == 2
            assert says in ended.stderr
            assert len(ended.stderr.splitlines()) == 1


def test_addresses():
    assert listen_at("8080") == ("127.0.0.1", 8080)
    assert listen_at("0.0.0.0:80") == ("0.0.0.0", 80)
    assert listen_at("[::1]:0") == ("::1", 0)
    for wrong in ("", "x", "1:2:x", "99999", "-1"):
        with pytest.raises(InputError):
            listen_at(wrong)


WRITTEN = """
schema: nearhall/serve/v1
repository: models
http: 0
grpc: 127.0.0.1:0
uds: here.sock
control_socket: run/gateway.ctl
node: shop-01/n1
jurisdiction: DE
hub: {url: "https://hub.example:8443", jurisdiction: DE, tls: {ca: tls/ca.crt, cert: tls/site.crt, key: tls/site.key}}
workloads:
  - {id: cams, model: faces, slo_p99_ms: 10, priority: 2, residency: site, quality_min: 0.97}
  - {id: talk, model: smollm2, slo_ttft_ms: 300}
pinned: [faces]
limits: {queue_length: 32, body_mib: 8}
"""


def written(folder, text=WRITTEN):
    path = folder / "serve.yaml"
    path.write_text(text)
    return path


def test_a_file_says_it_all_and_its_paths_are_beside_it(tmp_path):
    found = settings_of(repository=None, http=None, config=written(tmp_path))
    assert (found.repository, found.host, found.port) == (str(tmp_path / "models"), "127.0.0.1", 0)
    assert (found.grpc, found.uds.path, found.uds.mode) == ("127.0.0.1:0", str(tmp_path / "here.sock"), "0600")
    assert found.control_socket == str(tmp_path / "run" / "gateway.ctl")
    assert (found.node, found.jurisdiction, found.pinned) == ("shop-01/n1", "DE", ["faces"])
    assert found.hub.tls.ca == str(tmp_path / "tls" / "ca.crt")
    cams, talk = found.workloads
    assert (cams.slo_ms, cams.priority, cams.residency, cams.quality_min, cams.chat) == (10, 2, "site", 0.97, False)
    assert (talk.slo_ttft_ms, talk.chat) == (300, True)
    assert found.limits == Limits(queue_length=32, body_mib=8)


def test_options_win_over_the_file(tmp_path):
    path = written(tmp_path)
    given = {"grpc": "unix:/s", "uds": tmp_path / "u", "control_socket": tmp_path / "c"}
    found = settings_of(repository=tmp_path / "r", http="1.2.3.4:5", **given, config=path)
    assert (found.repository, found.host, found.port) == (str(tmp_path / "r"), "1.2.3.4", 5)
    assert (found.grpc, found.uds.path) == ("unix:/s", str(tmp_path / "u"))
    assert found.node == "shop-01/n1"
    assert settings_of(repository=None, http=None, config=path, name="shop-02/n1").node == "shop-02/n1"
    assert found.control_socket == str(tmp_path / "c")


def test_a_file_may_be_json_and_leave_out_what_is_not_wanted(tmp_path):
    path = tmp_path / "serve.json"
    path.write_text(json.dumps({"schema": "nearhall/serve/v1", "repository": "m", "http": "8080", "grpc": "unix:g.sock"}))
    found = settings_of(repository=None, http=None, config=path)
    plain = Settings(
        node="serve/n1", jurisdiction="ZZ", repository=str(tmp_path / "m"), port=8080, grpc=f"unix:{tmp_path}/g.sock"
    )
    assert found == plain


MISTAKES = {
    "an unknown key": ("pined: [m]", "pinned"),
    "a port that is none": ("http: 99999", "port 99999 does not exist"),
    "words for a port": ("grpc: yes", "grpc"),
    "a mode in decimal": ("uds: {path: s, mode: '999'}", "mode"),
    "two of a name": ("workloads: [{id: a, model: m}, {id: a, model: n}]", "two workloads have the id 'a'"),
    "a residency that is none": ("workloads: [{id: a, model: m, residency: mars}]", "residency 'mars'"),
    "a limit of nothing": ("limits: {queue_length: 0}", "queue_length"),
    "a socket's path that no system holds": (f"control_socket: {'x' * 108}", "at most 107 bytes"),
    "half a certificate": ("tls: {ca: a, cert: b}", "key"),
    "another document": ("schema: nearhall/site/v1", "nearhall/serve/v1"),
}


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path, case):
    line, says = case
    text = line if line.startswith("schema") else f"schema: nearhall/serve/v1\n{line}"
    with pytest.raises(InputError) as caught:
        settings_of(repository=tmp_path, http="0", config=written(tmp_path, text))
    assert says in str(caught.value)
    assert "serve.yaml" in str(caught.value)


def test_every_limit_of_the_gateway_may_be_written():
    assert set(WrittenLimits.model_fields) == set(Limits.__struct_fields__)
    assert DOCUMENTS["serve"] is ServeDocument
    assert parse_document(b"schema: nearhall/serve/v1", ServeDocument, name="x").workloads == []


def test_every_address_is_named_with_a_way_to_ask_it(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    text = "schema: nearhall/serve/v1\nrepository: models\nhttp: 0\ngrpc: 0\nuds: {path: s, mode: '0660'}\n"
    with (tmp_path / "log").open("wb") as log, (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen([*COMMAND, "--config", str(written(tmp_path, text))], stdout=out, stderr=log)
    said = (tmp_path / "out").read_text
    try:
        until(lambda: "python -c" in said() or process.poll() is not None, 30, what="the summary")
        lines = said().splitlines()
        assert any(line.startswith("gRPC at 127.0.0.1:") for line in lines)
        assert any("Unix socket" in line and "mode 0660" in line for line in lines)
        for command in (line.strip() for line in lines if line.startswith("  curl") and "--unix-socket" in line):
            ended = subprocess.run(shlex.split(command), capture_output=True, timeout=20, check=False)
            assert b'"name":"nearhall"' in ended.stdout
        pytest.importorskip("tritonclient.grpc")
        python = next(line.strip() for line in lines if line.strip().startswith("python -c"))
        ended = subprocess.run([sys.executable, *shlex.split(python)[1:]], capture_output=True, timeout=30, check=False)
        assert b'name: "double"' in ended.stdout, ended.stderr
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    assert not (tmp_path / "s").exists()


def begun(folder, *options):
    """Starts it with its output in files, and waits until it serves; what people see, and on which stream."""
    with (folder / "log").open("wb") as log, (folder / "out").open("wb") as out:
        process = subprocess.Popen([*COMMAND, "--http", "0", *options], stdout=out, stderr=log)
    try:
        until(lambda: "Ctrl-C ends" in (folder / "out").read_text(), 30, what="the summary")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    return (folder / "out").read_text(), (folder / "log").read_text()


def test_a_repository_without_models_is_told_with_what_to_do(tmp_path):
    (tmp_path / "models").mkdir()
    out, log = begun(tmp_path, "--repository", str(tmp_path / "models"))
    (told,) = [line for line in log.splitlines() if line.startswith("warning: no model lies in")]
    assert f"`nearhall models add FILE --repository {tmp_path}/models`" in told
    assert "try:" not in out
    add_model(tmp_path / "models", "double", doubled=True)
    out, log = begun(tmp_path, "--repository", str(tmp_path / "models"))
    assert "warning: no model" not in log
    assert "try:" in out


def test_only_models_that_are_ready_are_offered(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    file = next((tmp_path / "models").rglob("*.onnx"))
    whole = file.read_bytes()
    file.write_bytes(b"no model")
    out, _ = begun(tmp_path, "--repository", str(tmp_path / "models"))
    assert "failed" in out
    assert "try:" not in out
    file.write_bytes(whole)
    out, _ = begun(tmp_path, "--repository", str(tmp_path / "models"))
    assert "/v2/models/double/infer" in out
