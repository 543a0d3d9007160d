"""`nearhall models profile`, `quantise`, `list` and `show`, as a person types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nearhall.cli.roots.models import cache_folder
from nearhall.documents.model import TensorShape
from nearhall.documents.profile import FILE_NAME, read_profile
from profiling_rig import chat_model, classifier, elsewhere, put
from waiting import until

pytestmark = pytest.mark.timeout(120)

DIGITS = cache_folder(os.environ) / "models" / "inspection"
GGUF = cache_folder(os.environ) / "models" / "smollm2" / "1" / "cpu" / "SmolLM2-135M-Instruct.Q4_1.gguf"


_talks = pytest.mark.skipif(
    find_spec("openvino_genai") is None or not GGUF.exists(), reason="needs the extra `llm` and `nearhall models fetch`"
)


def _nearhall(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nearhall", *arguments], capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    put(tmp_path / "repo", "door", fp32=classifier(), other=classifier(seed=1))
    np.save(tmp_path / "data.npy", np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32))
    return tmp_path / "repo"


def test_every_variant_is_measured_and_seen_in_list_and_show(repository: Path, tmp_path: Path):
    at = ("--repository", str(repository))
    before = _nearhall("models", "list", *at)
    assert (before.returncode, "not measured" in before.stdout) == (0, True)
    advice = " ".join(_nearhall("models", "show", "door", *at).stdout.split())
    assert advice.replace(" ", "").endswith(f"nearhallmodelsprofiledoor--all--repository{repository}")
    done = _nearhall(
        "models", "profile", "door", "--all", "--data", str(tmp_path / "data.npy"), "--seconds", "0.05", "--json", *at
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert [profile["variant"] for profile in data["profiles"]] == ["fp32", "other"]
    for profile in data["profiles"]:
        assert read_profile(repository / "door" / "1" / profile["variant"]) is not None
    listed = json.loads(_nearhall("models", "list", "--json", *at).stdout)
    assert set(listed["models"][0]["profiles"]) == {"fp32", "other"}
    shown = _nearhall("models", "show", "door", *at)
    assert shown.returncode == 0, shown.stderr
    for word in ("batches that pay", "fp32*", "assumed", "measured", "agreement", "samples", "µJ"):
        assert word in shown.stdout, shown.stdout
    alone = _nearhall("models", "profile", "door", "--variant", "other", "--seconds", "0.05", "--batches", "1,4", *at)
    assert alone.returncode == 0, alone.stderr
    assert "tells little" in " ".join(alone.stdout.split())


def test_one_that_is_refused_ends_with_1_its_figures_and_nothing_else(repository: Path, tmp_path: Path):
    at = ("--repository", str(repository), "--data", str(tmp_path / "data.npy"), "--seconds", "0.05")
    refused = _nearhall("models", "quantise", "door", "--metric", "cosine", "--quality-min", "1", *at)
    assert refused.returncode == 1
    assert "Refused: " in refused.stdout
    assert "Nothing was kept." in refused.stdout
    assert refused.stderr.strip() == ""
    assert sorted(path.name for path in (repository / "door" / "1").iterdir()) == ["fp32", "other"]
    kept = _nearhall("models", "quantise", "door", "--quality-min", "0.5", "--keep-slower", "--make-default", "--json", *at)
    assert kept.returncode == 0, kept.stderr
    data = json.loads(kept.stdout)
    assert (data["kept"], data["way"], data["folder"]) == (True, "static", str(repository / "door" / "1" / "int8"))
    assert data["bytes"]["after"] > 0
    assert "default_variant: int8" in (repository / "door" / "model.yaml").read_text()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("profile doors", "did you mean 'door'?"),
        ("profile door --variant fp23", "did you mean 'fp32'?"),
        ("profile door --all --variant fp32", "give --variant or --all"),
        ("profile door --batches 1,x", "whole numbers with commas"),
        ("profile door --batches 0", "from 1 to 65536"),
        ("profile door --seconds 0", "--seconds"),
        ("profile door --metric iou", "one of top1, boxes, cosine, close"),
        ("profile door --data none.npz", "does not exist"),
        ("profile door --meter http://meter", "modbus://HOST:PORT/UNIT"),
        ("profile door --commissioning record.json", "there is no meter"),
        ("quantise door --to int4", "'int4' cannot be made"),
        ("quantise door --from fp23", "did you mean 'fp32'?"),
        ("quantise door --name a/b", "is no name of a variant"),
        ("quantise door --static --dynamic", "both are asked for"),
        ("quantise door --quality-min 98", "such as 0.98"),
        ("quantise door --name other", "has a variant 'other' already"),
        ("show doors", "did you mean 'door'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(repository: Path, line: str, told: str):
    done = _nearhall("models", *line.split(), "--repository", str(repository))
    assert (done.returncode, told in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert list(repository.rglob(FILE_NAME)) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("profile talk --all --metric top1", "compared token by token"),
        ("profile talk --all --data none.txt", "does not exist"),
        ("profile talk --all --data data.npy", "is no file of prompts"),
        ("profile talk --all --data odd.jsonl", "line 2: is no JSON"),
        ("profile talk --reference q9", "it has q8, q4"),
    ],
)
def test_prompts_that_are_none_are_one_line_before_anything_is_loaded(repository: Path, line: str, told: str):
    chat_model(repository, "talk", "q8", "q4")
    (repository.parent / "odd.jsonl").write_text('"one"\ntwo\n')
    words = [str(repository.parent / word) if word in {"data.npy", "odd.jsonl"} else word for word in line.split()]
    done = _nearhall("models", *words, "--repository", str(repository))
    assert (done.returncode, told in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert list(repository.rglob(FILE_NAME)) == []


@_talks
def test_a_language_model_agrees_with_itself(repository: Path):
    """In every token, but for near ties: which answers share a step, and so how sums round, a busy machine decides."""
    folder = chat_model(repository, "talk", "one", "other", file=GGUF)
    (folder / "prompts.txt").write_text("What is snow?\nName two colours.\nWie geht es dir?\n")
    line = ("models", "profile", "talk", "--all", "--seconds", "0.05", "--repository", str(repository))
    done = _nearhall(*line)
    assert done.returncode == 0, done.stderr
    one, other = (read_profile(folder / "1" / name) for name in ("one", "other"))
    assert one is not None
    assert other is not None
    assert one.agreement is None
    assert other.agreement is not None
    assert (other.agreement.n, other.agreement.reference_sha256) == (3, one.sha256)
    assert other.agreement.score > 0.95
    assert f"{other.agreement.score:.1%} measured" in done.stdout
    assert other.agreement.positions is not None
    assert other.agreement.positions > 40
    assert other.samples is not None
    assert (other.samples.source, other.samples.kind) == (str(folder / "prompts.txt"), "measured")


@_talks
def test_ctrl_c_while_language_models_are_compared_leaves_nothing(repository: Path):
    chat_model(repository, "talk", "one", "other", file=GGUF)
    before = sorted(str(path) for path in repository.rglob("*"))
    line = [sys.executable, "-m", "nearhall", "models", "profile", "talk", "--variant", "other", "--repository", str(repository)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: bool(_children(process.pid)), 60, what="the reference's process")
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert sorted(str(path) for path in repository.rglob("*")) == before
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 10, what="the end of its processes")


def test_a_meter_that_does_not_answer_is_told_before_anything_is_measured(repository: Path, free_port: Callable[[], int]):
    url = f"modbus://127.0.0.1:{free_port()}/1"
    done = _nearhall("models", "profile", "door", "--meter", url, "--repository", str(repository))
    assert (done.returncode, "does not answer" in done.stderr) == (1, True), done.stderr
    assert list(repository.rglob(FILE_NAME)) == []


@pytest.mark.parametrize("command", ["profile", "quantise"])
def test_ctrl_c_leaves_nothing(repository: Path, tmp_path: Path, command: str):
    before = sorted(str(path) for path in repository.rglob("*"))
    line = [sys.executable, "-m", "nearhall", "models", command, "door", "--seconds", "60", "--repository", str(repository)]
    process = subprocess.Popen([*line, "--data", str(tmp_path / "data.npy")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        until(lambda: len(_children(process.pid)) >= (1 if command == "profile" else 2), 60, what="the variants' processes")
        children = _children(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert sorted(str(path) for path in repository.rglob("*")) == before
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 10, what="the end of its processes")


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def test_another_servers_model_is_measured_by_its_round_trips(repository: Path, free_port: Callable[[], int]):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    elsewhere(repository.parent / "here", "door", url, inputs=[TensorShape(name="x", dtype="FP32", shape=[-1, 8])])
    serve = [sys.executable, "-m", "nearhall", "serve", "--repository", str(repository), "--http", str(port)]
    process = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    profile = ("models", "profile", "door", "--seconds", "0.1", "--repository", str(repository.parent / "here"))
    try:
        until(lambda: _nearhall(*profile).returncode == 0, 60, what="the server")
    finally:
        process.terminate()
        process.wait(20)
    written = read_profile(repository.parent / "here" / "door" / "1" / "remote")
    assert written is not None
    assert (written.device, written.sha256, written.memory_mib) == ("elsewhere", None, None)
    assert [point.batch for point in written.latency_ms] == [1]


@pytest.mark.skipif(not DIGITS.is_dir(), reason="the models are not in the cache: nearhall models fetch")
def test_the_digits_are_judged_by_images_that_trained_nothing(tmp_path: Path):
    copied = subprocess.run(["cp", "-r", str(DIGITS), str(tmp_path / "inspection")], check=True)
    assert copied.returncode == 0
    at = ("--repository", str(tmp_path), "--seconds", "0.05")
    kept = _nearhall("models", "quantise", "inspection", "--keep-slower", "--json", *at)
    assert kept.returncode == 0, kept.stderr + kept.stdout
    agreement = json.loads(kept.stdout)["profiles"]["after"]["agreement"]
    assert (agreement["kind"], agreement["n"]) == ("measured", 384)
    assert agreement["score"] >= 0.98
