"""What the gateway adds to a model: a request over HTTP on this host against `session.run` in this process.

Two models (a few microseconds, about a millisecond), two forms (JSON, binary tensors). Every round measures all of them one after
the other, so that a busy host disturbs them alike; medians of rounds are compared, and only ratios and differences of one run
mean anything. Answers are checked before anything is timed.

    python bench/gateway_overhead.py [--rounds 9] [--requests 200] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

READY_S = 30.0
WARM_UP = 50


@dataclass(frozen=True)
class Case:
    """A model, one input for it, and what it takes in this process."""

    name: str
    path: Path
    values: np.ndarray
    session: ort.InferenceSession

    def run(self) -> np.ndarray:
        """Runs it here."""
        return self.session.run(None, {"x": self.values})[0]


def make_small() -> onnx.ModelProto:
    """[n, 64] to [n, 10]: one matrix, a few microseconds."""
    weights = numpy_helper.from_array(np.linspace(-1, 1, 640, dtype=np.float32).reshape(64, 10), "w")
    return _model("small", [helper.make_node("MatMul", ["x", "w"], ["y"])], [weights], [1, 64])


def make_conv() -> onnx.ModelProto:
    """[n, 3, 64, 64] through four convolutions: about a millisecond on one core."""
    draw = np.random.default_rng(1)
    channels = [3, 32, 64, 64, 64]
    weights, nodes, last = [], [], "x"
    for step, (taken, given) in enumerate(pairwise(channels)):
        kernel = draw.standard_normal((given, taken, 3, 3), dtype=np.float32) / 9
        weights.append(numpy_helper.from_array(kernel, f"w{step}"))
        nodes.append(helper.make_node("Conv", [last, f"w{step}"], [f"c{step}"], pads=[1] * 4, strides=[2 if step else 1] * 2))
        nodes.append(helper.make_node("Relu", [f"c{step}"], [f"r{step}"]))
        last = f"r{step}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["p"]))
    nodes.append(helper.make_node("Flatten", ["p"], ["y"]))
    return _model("conv", nodes, weights, [1, 3, 64, 64])


def _model(name: str, nodes: list[Any], weights: list[Any], shape: list[int]) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph(nodes, name, [ends[0]], [ends[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def add(repository: Path, model: onnx.ModelProto) -> Case:
    """Puts the model into the repository and opens it here too, with the gateway's own session options."""
    name = model.graph.name
    place = repository / name / "1" / "cpu"
    place.mkdir(parents=True)
    path = place / "m.onnx"
    path.write_bytes(model.SerializeToString())
    (repository / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: tensors\nlicence: none\nsource: bench\n"
        "versions: {'1': {variants: {cpu: {runtime: onnxruntime, file: m.onnx}}}}\ndefault_version: '1'\ndefault_variant: cpu\n"
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    values = np.random.default_rng(2).random(shape, dtype=np.float32).round(4)
    return Case(name, path, values, ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))


class Client:
    """One kept-alive connection; as little client as can be."""

    def __init__(self, port: int) -> None:
        self.raw = socket.create_connection(("127.0.0.1", port))
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer."""
        self.raw.sendall(request)
        answer = self.raw.recv(1 << 16)
        while b"\r\n\r\n" not in answer:
            answer += self.raw.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self.raw.recv(1 << 16)
        return head, body


def json_request(case: Case) -> bytes:
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": case.values.shape,
        "data": [round(v, 4) for v in case.values.ravel().tolist()],
    }
    return _http(case.name, json.dumps({"inputs": [tensor]}).encode(), None)


def binary_request(case: Case) -> bytes:
    data = case.values.tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": case.values.shape, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return _http(case.name, head + data, len(head))


def _http(model: str, body: bytes, head: int | None) -> bytes:
    lines = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n"
    if head is not None:
        lines += f"inference-header-content-length: {head}\r\n"
    return lines.encode() + b"\r\n" + body


def check(case: Case, client: Client) -> None:
    """The gateway's answers are the session's own, in both forms."""
    expected = case.run()
    head, body = client.ask(json_request(case))
    assert b" 200 " in head.split(b"\r\n")[0], body
    assert np.allclose(json.loads(body)["outputs"][0]["data"], expected.ravel(), rtol=1e-4, atol=1e-5)
    head, body = client.ask(binary_request(case))
    start = int(head.lower().partition(b"inference-header-content-length: ")[2].partition(b"\r\n")[0])
    assert np.allclose(np.frombuffer(body[start:], np.float32), expected.ravel(), rtol=1e-4, atol=1e-5)


def p50_ms(work: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e3


def measure(case: Case, client: Client, rounds: int, requests: int) -> dict[str, Any]:
    """Medians over rounds; each round's slices lie side by side, with `session.run` on both ends."""
    as_json, binary = json_request(case), binary_request(case)
    for _ in range(WARM_UP):
        case.run(), client.ask(as_json), client.ask(binary)
    slices: dict[str, list[float]] = {"session_run": [], "binary": [], "json": []}
    for _ in range(rounds):
        before = p50_ms(case.run, requests)
        slices["binary"].append(p50_ms(lambda: client.ask(binary), requests))
        slices["json"].append(p50_ms(lambda: client.ask(as_json), requests))
        slices["session_run"].append((before + p50_ms(case.run, requests)) / 2)
    found: dict[str, Any] = {"model": case.name, "session_run_ms": round(statistics.median(slices["session_run"]), 4)}
    for form in ("binary", "json"):
        ratios = [a / b for a, b in zip(slices[form], slices["session_run"], strict=True)]
        added = [a - b for a, b in zip(slices[form], slices["session_run"], strict=True)]
        found[form] = {
            "p50_ms": round(statistics.median(slices[form]), 4),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_low_high": [round(min(ratios), 2), round(max(ratios), 2)],
            "added_ms": round(statistics.median(added), 4),
        }
    return found


def start(repository: Path, folder: Path) -> tuple[subprocess.Popen[str], int]:
    config = folder / "gateway.json"
    config.write_text(json.dumps({"node": "bench/n1", "jurisdiction": "ZZ", "repository": str(repository), "port": 0}))
    command = [sys.executable, "-m", "nearhall.cli.roots.gateway", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("READY "):
        process.kill()
        process.wait()
        raise SystemExit("the gateway did not start")
    return process, json.loads(line.removeprefix("READY "))["port"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=200, help="per slice")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cases = [add(folder / "models", make_small()), add(folder / "models", make_conv())]
        process, port = start(folder / "models", folder)
        try:
            client = Client(port)
            for case in cases:
                check(case, client)
            results = [measure(case, client, given.rounds, given.requests) for case in cases]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
    host = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "onnxruntime": ort.__version__,
        "python": platform.python_version(),
    }
    if given.json:
        print(json.dumps({"host": host, "compared_with": "session.run in the client's process, one thread", "results": results}))
        return
    print(
        f"gateway over in-process session.run, p50, medians of {given.rounds} rounds of {given.requests} ({host['cores']} cores)"
    )
    for found in results:
        print(f"  {found['model']:6} session.run {found['session_run_ms']:8.4f} ms")
        for form in ("binary", "json"):
            f = found[form]
            low, high = f["ratio_low_high"]
            shown = f"{f['p50_ms']:10.4f} ms   +{f['added_ms']:.4f} ms   x {f['ratio']:.2f} (rounds {low:.2f} to {high:.2f})"
            print(f"         {form:7} {shown}")


if __name__ == "__main__":
    main()
