"""What an NVIDIA device brings behind the gateway: p50, batching and joules on it, on the CPU, and in this process.

Two models: the conv net of `nearhall bench serve` (about a millisecond on one core) and a wide one (some 25 times the work).
Answers are checked against the CPU provider before anything is timed. Slices of all contenders lie side by side in every round,
so only ratios of one run mean anything. Needs `make gpu` and a device; without one it says what is missing and measures nothing,
or with --anyway the CPU alone.

    python bench/gpu.py [--parts memory,speed] [--rounds 5] [--requests 200] [--seconds 4] [--out FILE] [--anyway]

The part `memory` (bench/device_memory.py) holds the gateway's account of the device's memory against what the driver counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from device_memory import device_budget, open_meter, out_of_memory

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would send what is loaded and run to its maker
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from nearhall.cli.roots.bench.built_in import conv_net
from nearhall.cli.roots.bench.load import ask, connect
from nearhall.cli.roots.bench.requests import binary_request
from nearhall.core.errors import NearhallError
from nearhall.core.tensor import Tensor
from nearhall.drivers.arrays import to_array
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.nvml import Nvml, open_nvml
from nearhall.drivers.onnx_runtime import OnnxRuntime
from nearhall.gateway.queues.lanes import Job, Lane
from nearhall.policy.admit import Estimate
from nearhall.ports.runtime import ModelFile
from own_gateway import Gateway

BATCHES = (1, 2, 4, 8, 16, 32)
LANE_ROWS = (1, 8, 32)
CLIENTS = (1, 8, 32)
LANE_MIB = "24576"
"""For 32 rows of the wide net, whose arena grows by doubling."""
IDLE_S = 4.0
SETTLE_S = 1.5
"""After a load, before the next: a device's clocks and its power average (about a tenth of a second) come down first."""


def make_conv() -> onnx.ModelProto:
    """[n, 3, 64, 64], `nearhall bench serve`'s own, with a free first length."""
    model = onnx.load_model_from_string(conv_net())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def make_wide() -> onnx.ModelProto:
    """[n, 3, 128, 128] through six wider convolutions: some 25 times the conv net's time on one core."""
    draw = np.random.default_rng(1)
    channels = [3, 64, 128, 128, 256, 256, 256]
    weights, nodes, last = [], [], "x"
    for step, (taken, given) in enumerate(pairwise(channels)):
        kernel = draw.standard_normal((given, taken, 3, 3), dtype=np.float32) * np.float32((2 / (taken * 9)) ** 0.5)
        weights.append(numpy_helper.from_array(kernel, f"w{step}"))
        stride = 2 if step in {0, 2, 4} else 1
        nodes.append(helper.make_node("Conv", [last, f"w{step}"], [f"c{step}"], pads=[1] * 4, strides=[stride] * 2))
        nodes.append(helper.make_node("Relu", [f"c{step}"], [f"r{step}"]))
        last = f"r{step}"
    nodes += [helper.make_node("GlobalAveragePool", [last], ["p"]), helper.make_node("Flatten", ["p"], ["y"])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 128, 128]), ("y", None))]
    graph = helper.make_graph(nodes, "wide", [ends[0]], [ends[1]], weights)
    return _freed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def _freed(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    given = model.graph.output[0].type.tensor_type.shape
    given.dim.add().dim_param = "n"
    given.dim.add().dim_value = model.graph.initializer[-1].dims[0]
    return model


@dataclass(frozen=True)
class Net:
    """A model on disk and one input for it."""

    name: str
    path: Path
    values: np.ndarray

    def open(self, **options: str) -> OnnxRuntime:
        """The product's own runtime, in this process."""
        options = {key: value for key, value in options.items() if value}
        file = ModelFile(
            model=self.name, version="1", variant="v", runtime="onnxruntime", path=str(self.path), options=dict(options)
        )
        return OnnxRuntime(file)

    def batch(self, n: int) -> list[Tensor]:
        """The input `n` times over."""
        stacked = np.repeat(self.values, n, axis=0)
        return [Tensor("x", "FP32", stacked.shape, memoryview(stacked.tobytes()))]


def put(repository: Path, model: onnx.ModelProto, devices: Sequence[str]) -> Net:
    """Puts it into the repository once for each device, as `NAME-cpu`, `NAME-cuda`."""
    name = model.graph.name
    data = model.SerializeToString()
    for device in devices:
        place = repository / f"{name}-{device.replace(':', '')}" / "1" / "v"
        place.mkdir(parents=True)
        (place / "m.onnx").write_bytes(data)
        (place.parents[1] / "model.yaml").write_text(
            f"schema: nearhall/model/v1\nname: {place.parents[1].name}\ntask: tensors\nlicence: none\nsource: bench\n"
            f"versions: {{'1': {{variants: {{v: {{runtime: onnxruntime, file: m.onnx, options: {{device: '{device}'}}}}}}}}}}\n"
            "default_version: '1'\ndefault_variant: v\n"
        )
    path = repository / f"{name}-cpu" / "1" / "v" / "m.onnx"
    shape = [dimension.dim_value or 1 for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    return Net(name, path, np.random.default_rng(2).random(shape, dtype=np.float32))


def check(net: Net, device: str) -> dict[str, Any]:
    """How far the device's answers are from the CPU provider's: with tensor cores' rounding (tf32) off, the default, and on."""
    expected = to_array(net.open().run(net.batch(4), ())[0])
    scale = float(np.abs(expected).max())
    found: dict[str, Any] = {}
    for tf32 in ("off", "on"):
        got = to_array(net.open(device=device, tf32=tf32).run(net.batch(4), ())[0])
        found[f"largest_difference_over_largest_value_tf32_{tf32}"] = float(np.abs(got - expected).max()) / scale
    assert found["largest_difference_over_largest_value_tf32_off"] < 1e-4, found
    return found


def bound_run(session: ort.InferenceSession, values: np.ndarray) -> Callable[[], object]:
    """The same by ONNX Runtime's IO binding: input on the device beforehand, output bound to host memory; a lower bound."""
    held = ort.OrtValue.ortvalue_from_numpy(values, "cuda", 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", held)
    binding.bind_output("y", "cpu")

    def run() -> object:
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    return run


def request_of(net: Net, device: str) -> bytes:
    """A binary v2 request to the model's form on a device."""
    entry = net.open(device="cpu")
    return binary_request(f"{net.name}-{device}", {entry.inputs[0].name: net.values}, [entry.outputs[0].name])


def p50_ms(work: Callable[[], object], times: int) -> float:
    """The median of so many runs."""
    took: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e3


def latency(net: Net, port: int, devices: Sequence[str], rounds: int, requests: int) -> dict[str, Any]:
    """p50 of each contender, medians over rounds, and what the gateway adds to the session on the same device."""
    contenders: dict[str, Callable[[], object]] = {}
    for device in devices:
        runtime, one = net.open(device=device), net.batch(1)
        contenders[f"session {device}"] = lambda runtime=runtime, one=one: runtime.run(one, ())
        link, request = connect(("127.0.0.1", port)), request_of(net, device)
        contenders[f"gateway {device}"] = lambda link=link, request=request: ask(link, request)
    if "cuda" in devices:
        for search in ("exhaustive", "default"):
            runtime = net.open(device="cuda", conv_search=search)
            contenders[f"session cuda, {search} search"] = lambda runtime=runtime: runtime.run(net.batch(1), ())
        runtime = net.open(device="cuda", tf32="on")
        contenders["session cuda, tf32"] = lambda runtime=runtime: runtime.run(net.batch(1), ())
        bound = net.open(device="cuda")
        contenders["session cuda, IO binding"] = bound_run(bound._session, net.values)  # noqa: SLF001
    slices: dict[str, list[float]] = {name: [] for name in contenders}
    for work in contenders.values():
        for _ in range(20):
            work()
    for _ in range(rounds):
        for name, work in contenders.items():
            slices[name].append(p50_ms(work, requests))
    found: dict[str, Any] = {name: {"p50_ms": round(statistics.median(values), 4)} for name, values in slices.items()}
    for device in devices:
        ratios = [a / b for a, b in zip(slices[f"gateway {device}"], slices[f"session {device}"], strict=True)]
        added = [a - b for a, b in zip(slices[f"gateway {device}"], slices[f"session {device}"], strict=True)]
        found[f"gateway {device}"] |= {
            "over_session": round(statistics.median(ratios), 3),
            "added_ms": round(statistics.median(added), 4),
        }
    if "cuda" in devices:
        gain = [a / b for a, b in zip(slices["gateway cpu"], slices["gateway cuda"], strict=True)]
        found["gateway_cpu_over_cuda"] = round(statistics.median(gain), 2)
    return found


def first_runs(net: Net, device: str) -> dict[str, Any]:
    """What the first run of each new batch size takes, ms, by how cuDNN searches, and what a change back to a known one takes."""
    found: dict[str, Any] = {}
    for search in ("heuristic", "exhaustive"):
        runtime = net.open(device=device, conv_search=search)
        took = []
        for n in (1, 2, 3, 5, 7):
            begun = time.perf_counter()
            runtime.run(net.batch(n), ())
            took.append(round((time.perf_counter() - begun) * 1e3, 2))
        found[search] = took
        back = []
        for n in (1, 7, 1, 7, 1, 7):
            begun = time.perf_counter()
            runtime.run(net.batch(n), ())
            back.append(round((time.perf_counter() - begun) * 1e3, 2))
        found[f"{search}, sizes seen before"] = back
    return found


def batching(net: Net, device: str, rounds: int) -> dict[str, float]:
    """Milliseconds for one item at each batch size: whether batching pays here."""
    runtime = net.open(device=device)
    curve = {}
    for n in BATCHES:
        batch = net.batch(n)
        times = max(5, min(100, 200 // n))
        curve[str(n)] = round(statistics.median(p50_ms(lambda b=batch: runtime.run(b, ()), times) / n for _ in range(rounds)), 5)
    return curve


def through_lane(net: Net, device: str, seconds: float) -> dict[str, Any]:
    """Items a second through the gateway's own `Lane` in this process with 64 requests waiting, by its largest batch."""
    return {str(rows): asyncio.run(_lane_rate(net, device, rows, seconds)) for rows in LANE_ROWS}


async def _lane_rate(net: Net, device: str, rows: int, seconds: float) -> dict[str, float]:
    runtime, clock, one = net.open(device=device, gpu_memory_mib=LANE_MIB), SystemClock(), net.batch(1)
    for n in (1, rows):
        runtime.run(net.batch(n), ())
    lane = Lane(
        runtime, sample=one, first=Estimate(1.0), limit=1000, clock=clock, broken=sys.exit, name=net.name, batch_rows_max=rows
    )
    size, batches, ends = len(one[0].data), [], clock.monotonic() + seconds

    async def client() -> None:
        while clock.monotonic() < ends:
            job = Job(inputs=one, outputs=(), gone=lambda: False, arrived_s=clock.monotonic(), input_bytes=size)
            batches.append((await lane.submit(job)).batch)

    begun = clock.monotonic()
    await asyncio.gather(*(client() for _ in range(64)))
    lasted = clock.monotonic() - begun
    await asyncio.to_thread(lane.close)
    return {
        "per_s": round(len(batches) / lasted, 1),
        "mean_batch": round(statistics.fmean(batches), 2),
        "may": lane.batch_rows_max,
    }


def _ask_for(port: int, request: bytes, seconds: float, answers: Any) -> None:
    link, count, took = connect(("127.0.0.1", port)), 0, []
    ends = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < ends:
        status, _, _ = ask(link, request)
        count += status == 200
        took.append(time.perf_counter() - begun)
    answers.put((count, statistics.median(took) * 1e3))


@dataclass(frozen=True)
class Bench:
    """Where the gateway listens, and what meters the devices."""

    port: int
    nvml: Nvml | None
    idle_w: float | None


def load(bench: Bench, net: Net, device: str, clients: int, seconds: float) -> dict[str, Any]:
    """Closed-loop clients in processes of their own: requests a second, p50, and the device's joules for each, idle taken off."""
    time.sleep(SETTLE_S)
    request = request_of(net, device)
    fork = multiprocessing.get_context("fork")
    answers: Any = fork.Queue()
    workers = [fork.Process(target=_ask_for, args=(bench.port, request, seconds, answers)) for _ in range(clients)]
    joules, begun = energy_j(bench.nvml), time.perf_counter()
    for worker in workers:
        worker.start()
    told = [answers.get(timeout=seconds + 20) for _ in workers]
    lasted, after = time.perf_counter() - begun, energy_j(bench.nvml)
    for worker in workers:
        worker.join(5)
    count = sum(n for n, _ in told)
    found: dict[str, Any] = {"per_s": round(count / lasted, 1), "p50_ms": round(statistics.median(ms for _, ms in told), 3)}
    if joules is not None and after is not None and bench.idle_w is not None and count:
        found["device_w"] = round((after - joules) / lasted, 1)
        found["device_j_per_request"] = round((after - joules) / count, 5)
        found["device_j_per_request_above_idle"] = round(max(0.0, after - joules - bench.idle_w * lasted) / count, 5)
    return found


def energy_j(nvml: Nvml | None) -> float | None:
    """Of all devices since the driver was loaded."""
    counted = [device.energy_j for device in nvml.look()] if nvml is not None else []
    return sum(j for j in counted if j is not None) if counted and None not in counted else None


def idle_power_w(nvml: Nvml | None, seconds: float) -> float | None:
    """Mean power while nothing is asked: models loaded, contexts open."""
    before, begun = energy_j(nvml), time.perf_counter()
    time.sleep(seconds)
    after = energy_j(nvml)
    return None if before is None or after is None else (after - before) / (time.perf_counter() - begun)


def states(gateway: Gateway) -> list[dict[str, Any]]:
    """How the gateway's models stand."""
    kept = ("name", "state", "detail", "device", "memory_mib", "p50_ms")
    return [{key: model.get(key) for key in kept} for model in gateway.models().values()]


class Report:
    """What was found so far, written after every part: a part that fails says why and the next one goes on."""

    def __init__(self, out: Path | None) -> None:
        self.found: dict[str, Any] = {}
        self._out = out

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """Measures one part."""
        try:
            self.found[name] = work()
        except Exception as error:
            self.found[name] = {"failed": f"{type(error).__name__}: {error}"}
        if self._out is not None:
            self._out.write_text(self.text())
        return self.found[name]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(self.found, indent=1)


def memory(folder: Path, report: Report) -> None:
    """First of all, while this process holds nothing of the device."""
    meter = open_meter()
    for name, work in (("device budget", device_budget), ("out of memory", out_of_memory)):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            report.part(name, lambda w=work, p=Path(place): w(p, meter))


def speed(folder: Path, given: argparse.Namespace, nvml: Nvml | None, report: Report) -> None:
    """Latency, batching and joules, part by part."""
    repository = folder / "models"
    on_device = nvml is not None and bool(nvml.look())
    devices = ["cpu", "cuda"] if on_device else ["cpu"]
    nets = [put(repository, make(), [*devices, "auto", "cuda:9"]) for make in (make_conv, make_wide)]
    for net in nets if on_device else []:
        report.part(f"{net.name}: checked against the CPU", lambda net=net: check(net, "cuda"))
    with Gateway(repository, folder) as gateway:
        time.sleep(SETTLE_S)
        report.part("models", lambda: states(gateway))
        idle_w = report.part("device_idle_w", lambda: idle_power_w(nvml, IDLE_S))
        bench = Bench(gateway.port, nvml, idle_w if isinstance(idle_w, float) else None)
        for net in nets:
            requests = given.requests if net.name == "conv" else max(20, given.requests // 5)
            report.part(f"{net.name}: latency", lambda n=net, r=requests: latency(n, gateway.port, devices, given.rounds, r))
            for device in devices:
                if (device, net.name) != ("cpu", "wide"):
                    report.part(f"{net.name}: batching on {device}, ms per item", lambda n=net, d=device: batching(n, d, 3))
                    name = f"{net.name}: lane on {device}, by rows it may put together"
                    report.part(name, lambda n=net, d=device: through_lane(n, d, given.seconds / 2))
                for clients in CLIENTS[: 3 if device == "cuda" else 2]:
                    name = f"{net.name}: load on {device}, {clients} clients"
                    report.part(name, lambda n=net, d=device, c=clients: load(bench, n, d, c, given.seconds))
            if on_device:
                report.part(f"{net.name}: first runs of new batch sizes, ms", lambda n=net: first_runs(n, "cuda"))
        report.part("device_idle_w, afterwards", lambda: idle_power_w(nvml, IDLE_S))
        report.part("devices, afterwards", lambda: [] if nvml is None else [str(device) for device in nvml.look()])
        report.part("models, afterwards", lambda: states(gateway))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="per slice")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    parser.add_argument("--anyway", action="store_true", help="measure the CPU where there is no device")
    parser.add_argument("--parts", default="memory,speed", help="which of the two")
    given = parser.parse_args()
    begun = time.perf_counter()
    host: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    host |= {"onnxruntime": ort.__version__, "cuda": getattr(ort, "cuda_version", ""), "providers": ort.get_available_providers()}
    try:
        nvml: Nvml | None = open_nvml()
        host["devices"] = [str(device) for device in nvml.look()]
    except NearhallError as error:
        nvml, host["no_device"] = None, str(error)
    if not host.get("devices") and not given.anyway:
        print(
            f"no NVIDIA device: {host.get('no_device', 'the driver finds none')}; nothing is measured (--anyway measures the CPU)"
        )
        return
    report = Report(given.out)
    report.part("host", lambda: host)
    with tempfile.TemporaryDirectory() as place:
        if "memory" in given.parts:
            memory(Path(place), report)
        if "speed" in given.parts:
            speed(Path(place), given, nvml, report)
    report.part("took_s", lambda: round(time.perf_counter() - begun, 1))
    print(report.text())


if __name__ == "__main__":
    main()
