"""`nearhall serve`: one line that says where, a curl line that works, one line and exit 2 for what is wrong."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys

import httpcore
import pytest

from gateway.small_models import add_model
from nearhall.cli.commands.serve import listen_at
from nearhall.core.errors import InputError

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


def test_what_is_wrong_is_one_line(tmp_path):
    add_model(tmp_path / "models", "double")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = {
            "Address already in use": ["--repository", str(tmp_path / "models"), "--http", str(taken.getsockname()[1])],
            "cannot be read": ["--repository", str(tmp_path / "none"), "--http", "0"],
            "is no address": ["--repository", str(tmp_path / "models"), "--http", "http://x"],
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
