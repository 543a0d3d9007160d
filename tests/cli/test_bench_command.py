"""`nearhall bench serve` as somebody types it: figures beside the limit and another server, and one line for what is wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
from rich.console import Console

from gateway.gateway_process import gateway
from gateway.small_models import add_model
from nearhall.cli.roots.bench import built_in
from nearhall.cli.roots.bench.compare import Footprint, Measured
from nearhall.cli.roots.bench.goals import judge
from nearhall.cli.roots.bench.measured import Between, Slice, row
from nearhall.cli.roots.bench.screen import footprint_lines, measured_table, verdict_table, warned
from nearhall.cli.roots.bench.servers import Subject

COMMAND = [sys.executable, "-m", "nearhall", "bench", "serve"]


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.timeout(120)
def test_it_measures_this_gateway_the_limit_and_another_server(tmp_path):
    built_in.write_models(tmp_path / "models")
    with gateway(tmp_path, tmp_path / "models") as other:
        line = ["--rounds", "1", "--seconds", "0.1", "--form", "binary", "--form", "json", "--model", built_in.TINY, "--json"]
        twin = ["--against", f"twin=http://{other.address}"]
        done = _bench(*line, *twin)
        assert (done.returncode, done.stderr) == (0, "")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        others = ["--against", f"wrong=http://{other.address}/conv", "--against", f"off=http://127.0.0.1:{port}"]
        done = _bench(*line, *twin, *others)
    assert done.returncode == 1
    silent = f"off is left out: 127.0.0.1:{port} cannot be reached (Connection refused); the others are measured"
    first, last = done.stderr.splitlines()
    assert first == f"! {silent}"
    assert last == "failed: not measured: off, wrong"
    said = json.loads(done.stdout)
    assert [(one["server"], one["form"]) for one in said["rows"]] == [
        ("nearhall", "binary"),
        ("nearhall", "json"),
        ("twin", "binary"),
        ("twin", "json"),
    ]
    for one in said["rows"]:
        assert one["p50_ratio"]["value"] > 1
        assert one["cpu_ms"] is not None
        assert one["refused"] == 0
    assert said["footprint"]["start_s"] > 0
    assert list(said["limits_p50_ms"]) == [built_in.TINY]
    assert 0 < said["limits_p50_ms"][built_in.TINY] < said["rows"][0]["p50_ms"]
    assert silent in said["warnings"]
    assert [line for line in said["warnings"] if line.startswith("wrong tiny binary is left out: wrong answered 400")]


@pytest.mark.timeout(120)
def test_a_model_that_json_has_no_form_of_is_measured_in_the_others(tmp_path):
    add_model(tmp_path, "half", "FP16")
    line = ["--repository", str(tmp_path), "--model", "half", "--rounds", "1", "--seconds", "0.1", "--json"]
    done = _bench(*line, "--form", "binary", "--form", "json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert [one["form"] for one in said["rows"]] == ["binary"]
    assert "half json is left out: JSON has no form of its FP16, NaN or infinities" in said["warnings"]
    done = _bench(*line, "--form", "json")
    assert done.returncode == 2
    assert "cannot be asked in JSON" in done.stderr


WRONG = {
    "form": (["--form", "xml"], "binary, json, grpc, unix"),
    "model": (["--model", "resnet"], "there is no test model 'resnet'"),
    "repository": (["--repository", "/nowhere"], "say which with --model"),
    "no repository": (["--repository", "/nowhere", "--model", "m"], "the model repository cannot be read"),
    "against": (["--against", "127.0.0.1:8000"], "NAME=http://HOST:PORT"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(case: str):
    arguments, words = WRONG[case]
    done = _bench(*arguments, "--json")
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def _shown(what: object) -> str:
    console = Console(width=300, no_color=True)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_a_person_sees_ratios_and_what_stays_out():
    def one(ms: float, cpu_s: float | None = None, steal: float = 0.0) -> Slice:
        return Slice(latencies_ms=[ms] * 500, took_s=1.0, cpu_s=cpu_s, steal=steal)

    def subject(server: str) -> Subject:
        return Subject(server=server, model="conv", form="json", one=one, many=lambda _n, _s: one(1), answer=dict, tree=None)

    quiet = Between(before=one(1.0, 0.5), slice=one(1.5, 0.75), after=one(1.0, 0.5))
    stolen = Between(before=one(1.0), slice=one(9.0, steal=0.5), after=one(1.0))
    good = Measured(subject=subject("ours"), one=row([quiet] * 6), many=row([quiet]), per_s=800.0, per_s_ratio=0.8)
    noisy = Measured(subject=subject("theirs"), one=row([stolen, stolen, quiet]), many=None, per_s=0.0, per_s_ratio=None)
    silent = Measured(subject=subject("dead"), one=None, many=None, per_s=0.0, per_s_ratio=None)
    text = _shown(measured_table([good, noisy, silent]))
    assert "1.50 to 1.50" in text
    limit = next(line.split() for line in text.splitlines() if line.strip().startswith("limit"))
    assert limit == ["limit", "conv", "session.run", "1.000", "ms", "1.00"]
    assert "6/6" in text
    assert "1/3 noisy" in text
    assert "no answer" in text
    narrow = _shown(measured_table([good, silent], columns=80))
    assert "95 %" not in narrow
    assert max(map(len, map(str.rstrip, narrow.splitlines()))) <= 80
    assert silent.plain()["model"] == "conv"
    assert good.plain()["cpu_ratio_at_8"] == 1.5
    cost = Footprint(start_s=0.5, idle_cpu_percent=0.1, pss_mib=70, models_mib=1, processes=1)
    assert "1 process" in footprint_lines(cost)
    goals = _shown(verdict_table([judge("binary_p50", 1.2), judge("start", 9.0, note="cold disk"), judge("storm", None)]))
    assert "holds" in goals
    assert "misses" in goals
    assert "not judged" in goals
    assert "cold disk" in goals
    assert "! busy" in _shown(warned(["busy"]))
