"""`nearhall serve --control-socket`: what its operator, and nobody else, may ask and tell."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import sys

from gateway.small_models import add_model
from waiting import until

COMMAND = [sys.executable, "-m", "nearhall", "serve"]


def asked(line: str) -> dict:
    """What a curl line that was shown to a person answers."""
    ended = subprocess.run(shlex.split(line), capture_output=True, timeout=20, check=True)
    return json.loads(ended.stdout)


def test_the_operator_has_a_socket_for_what_the_port_refuses(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    place = tmp_path / "gateway.ctl"
    options = ["--repository", str(tmp_path / "models"), "--http", "0", "--control-socket", str(place), "--json"]
    with (tmp_path / "log").open("wb") as log, (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen([*COMMAND, *options], stdout=out, stderr=log)
    try:
        until(lambda: (tmp_path / "out").read_bytes().endswith(b"\n") or process.poll() is not None, 30, what="what it says")
        said = json.loads((tmp_path / "out").read_bytes())
        assert said["control_socket"] == str(place)
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        curl, url = f"curl -s --unix-socket {place}", said["url"]
        assert asked(f"{curl} http://localhost/control/cap -d '{{\"step_down\": 0.5}}'")["step_down"] == 0.5
        assert asked(f"{curl} http://localhost/control/stats")["models"][0]["state"] == "ready"
        unload = "v2/repository/models/double/unload"
        assert "model_repository" not in asked(f"curl -s {url}/v2")["extensions"]
        assert "--control-socket PATH" in asked(f"curl -s -X POST {url}/{unload}")["error"]
        assert asked(f"{curl} -X POST http://localhost/{unload}") == {}
        assert asked(f"curl -s -X POST {url}/v2/repository/index")[0]["state"] == "UNAVAILABLE"
        assert asked(f"{curl} -X POST http://localhost/control/drain") == {}
        assert process.wait(15) == 0
        assert not place.exists()
    finally:
        process.kill()
        process.wait()


def test_its_path_is_named_at_the_start_with_a_command_that_asks_it(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    (tmp_path / "serve.yaml").write_text("{schema: nearhall/serve/v1, repository: models, http: 0, control_socket: c}")
    with (tmp_path / "log").open("wb") as log, (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen([*COMMAND, "--config", str(tmp_path / "serve.yaml")], stdout=out, stderr=log)
    said = (tmp_path / "out").read_text
    try:
        until(lambda: "/control/cap" in said() or process.poll() is not None, 30, what="the summary")
        assert f"control at the Unix socket {tmp_path / 'c'} (mode 0600)" in " ".join(said().split())
        line = next(line.strip() for line in said().splitlines() if "/control/cap" in line)
        assert asked(line)["step_down"] == 0
    finally:
        process.terminate()
        assert process.wait(15) == 0


def test_a_front_has_none_and_says_whose_it_is():
    options = ["--front", "--node", "n1=http://127.0.0.1:1", "--http", "0", "--control-socket", "x"]
    ended = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "a front has no control socket; give each node its own" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
