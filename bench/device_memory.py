"""Whether the gateway keeps to a device's memory (docs/adr/0028): its account beside what the driver counts. Two parts of gpu.py.

`device budget`: more models than the budget holds, asked for in turn over HTTP. `out of memory`: what does not fit is refused in
words, and nothing else stops. Without a device the same is tried with main memory's budget, as far as it has a meaning there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

from nearhall.cli.roots.bench.requests import binary_request, http_outputs
from nearhall.core.errors import NearhallError
from nearhall.drivers.nvml import open_library
from own_gateway import Gateway

MIB = 2**20
PART_S_MAX = 55.0
"""Of one part; what it has not come to by then it says."""
PINNED = "pinned"
NAMES = ("a", "b", "c", "d", "e", "f")
COMES_S_MAX = 30.0
"""A model stays at least ten seconds, or twenty times as long as it took to load."""
SPREAD_S = 3.0
"""Models that were loaded one after the other at start may leave one after the other; then all of them may."""
JUDGED = 2
"""So many times it is judged who leaves."""
POLL_S = 0.5
SAMPLE_S = 0.02
FREED_S = 1.0
LEFT_FREE_MIB = 160
"""What the program that fills the device leaves: less than half of what the gateway keeps free, so that somebody has to leave."""
SAYS_MAX = 420


class Meter:
    """What NVML counts of the first device."""

    def __init__(self) -> None:
        """Raises PermanentError where there is no driver, IndexError where it finds no device."""
        self._nvml = open_library()
        if not self._nvml.nvmlDeviceGetCount():
            raise IndexError
        self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0)

    def used_mib(self) -> float:
        """Of the device, by everybody."""
        return self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used / MIB

    def free_mib(self) -> float:
        """Of the device."""
        return self._nvml.nvmlDeviceGetMemoryInfo(self._handle).free / MIB

    def of_mib(self, pid: int) -> float | None:
        """By one process; None where the driver does not tell."""
        with suppress(self._nvml.NVMLError):
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            used = [each.usedGpuMemory for each in running if each.pid == pid and each.usedGpuMemory is not None]
            return sum(used) / MIB if used else None
        return None


def open_meter() -> Meter | None:
    """Of this machine's first device, None without one."""
    try:
        return Meter()
    except (NearhallError, IndexError):
        return None


class Watching:
    """The most that a process, and the device, held while something went on: read all the time in a thread."""

    def __init__(self, pid: int, meter: Meter | None) -> None:
        self.process_mib = self.device_mib = 0.0
        self.told = False
        """Whether the driver told anything of the process."""
        self._pid, self._meter = pid, meter
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def now(self) -> float | None:
        """What the process holds: of the device, or of main memory where there is no device."""
        if self._meter is None:
            return psutil.Process(self._pid).memory_info().rss / MIB
        return self._meter.of_mib(self._pid)

    def _read(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            with suppress(psutil.Error):
                mib = self.now()
                self.told |= mib is not None
                self.process_mib = max(self.process_mib, mib or 0.0)
            if self._meter is not None:
                self.device_mib = max(self.device_mib, self._meter.used_mib())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What is tried, in sizes that fit the memory that is meant."""

    device: str
    shape: tuple[int, int]
    limit_mib: int
    """Each model's `gpu_memory_mib`."""
    budget_mib: int
    setting: str
    """The limit of the gateway's settings."""
    held: str
    """A model's charge in that memory, in `GET /control/stats`."""
    kind: str

    @property
    def weights_mib(self) -> float:
        """Of one model."""
        return self.shape[0] * self.shape[1] * 4 / MIB


ON_DEVICE = Rig(
    device="cuda", shape=(8192, 8192), limit_mib=384, budget_mib=2048,
    setting="models_gpu_mib", held="device_held_mib", kind="device_held_kind",
)  # fmt: skip
"""The pinned model comes first and is charged with CUDA's context too; three or four of the six others fit beside it."""
ON_CPU = Rig(
    device="cpu", shape=(4096, 2048), limit_mib=384, budget_mib=250, setting="models_mib", held="held_mib", kind="memory_kind"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A model, a request for it, and the answer by this process's CPU."""

    name: str
    request: bytes
    expected: np.ndarray

    def right(self, answer: tuple[int, bytes, bytes]) -> bool:
        """Whether that is the answer: FP32 sums of thousands of products, added in another order."""
        status, head, body = answer
        if status != 200:
            return False
        got = http_outputs(head, body)["y"]
        scale = float(np.abs(self.expected).max())
        return got.shape == self.expected.shape and float(np.abs(got - self.expected).max()) <= 1e-4 * scale


def text_of(answer: tuple[int, bytes, bytes]) -> str:
    """What a refusal says; empty of an answer."""
    status, _, body = answer
    try:
        return "" if status == 200 else str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")


def says(answer: tuple[int, bytes, bytes]) -> dict[str, Any]:
    """The same, as far as a report needs it."""
    return {"status": answer[0], "says": text_of(answer)[:SAYS_MAX]}


def in_words(answer: tuple[int, bytes, bytes], *words: str) -> bool:
    """Whether it is a refusal that names these."""
    return 400 <= answer[0] < 600 and all(word in text_of(answer) for word in words)


def put_product(repository: Path, name: str, weights: np.ndarray, options: Mapping[str, Any]) -> Asked:
    """`y = x W` for one row: all weights, nothing else."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, w]) for n, w in zip("xy", weights.shape, strict=True)]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], name, ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    _put(repository, name, graph, options)
    x = np.random.default_rng(3).standard_normal((1, weights.shape[0]), dtype=np.float32)
    return Asked(name, binary_request(name, {"x": x}, ["y"]), x @ weights)


def put_growing(repository: Path, name: str, wide: int, options: Mapping[str, Any]) -> Callable[[int], Asked]:
    """Small weights, and `wide` numbers between for each row: what it takes grows with the rows. Gives a request for so many."""
    weights = np.random.default_rng(4).standard_normal((16, wide), dtype=np.float32)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", w]) for n, w in (("x", 16), ("y", 1))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["y"], axes=[1], keepdims=1),
    ]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    _put(repository, name, graph, options)

    def asked(rows: int) -> Asked:
        x = np.random.default_rng(5).standard_normal((1, 16), dtype=np.float32)
        expected = np.maximum(x @ weights, 0).mean(axis=1, keepdims=True)
        return Asked(name, binary_request(name, {"x": np.repeat(x, rows, axis=0)}, ["y"]), np.repeat(expected, rows, axis=0))

    return asked


def _put(repository: Path, name: str, graph: onnx.GraphProto, options: Mapping[str, Any]) -> None:
    place = repository / name / "1" / "v"
    place.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (place / "m.onnx").write_bytes(model.SerializeToString())
    said = json.dumps({key: str(value) for key, value in options.items()})
    (repository / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: tensors\nlicence: none\nsource: bench\n"
        f"versions: {{'1': {{variants: {{v: {{runtime: onnxruntime, file: m.onnx, options: {said}}}}}}}}}\n"
        "default_version: '1'\ndefault_variant: v\n"
    )


@dataclass
class Turns:
    """Models asked for in turn, and what became of each."""

    gateway: Gateway
    rig: Rig
    asked: Mapping[str, Asked]
    ends_s: float
    steps: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def loaded(self) -> list[str]:
        """Who is there."""
        return [name for name, model in self.gateway.models().items() if model["state"] == "ready"]

    def charges(self) -> dict[str, str]:
        """With what each that is there is charged, and how that is known."""
        models = self.gateway.models()
        return {
            n: f"{m.get(self.rig.held, 0.0):.0f} {m.get(self.rig.kind, '')}" for n, m in models.items() if m["state"] == "ready"
        }

    def charged_mib(self) -> dict[str, float]:
        """The same as figures."""
        return {n: m.get(self.rig.held, 0.0) for n, m in self.gateway.models().items() if m["state"] == "ready"}

    def touch(self, names: Collection[str]) -> None:
        """Asks each for an answer, which must be right."""
        for name in names:
            answer = self.gateway.ask(self.asked[name].request)
            if not self.asked[name].right(answer):
                self.wrong.append(f"{name}: {says(answer)}")

    def come(self, name: str) -> list[str]:
        """Asks for one that is not there until it answers; who left for it."""
        before, begun, refused = set(self.loaded()), time.perf_counter(), ""
        ends_s = min(self.ends_s, begun + COMES_S_MAX)
        answer = self.gateway.ask(self.asked[name].request)
        while answer[0] != 200 and time.perf_counter() < ends_s:
            refused = str(says(answer)["says"])
            time.sleep(POLL_S)
            answer = self.gateway.ask(self.asked[name].request)
        waited_s = round(time.perf_counter() - begun, 2)
        if not self.asked[name].right(answer):
            self.wrong.append(f"{name}: {says(answer)}")
        left = sorted(before - set(self.loaded()))
        self.steps.append({"comes": name, "after_s": waited_s, "left": left, "charges": self.charges()})
        if refused:
            self.steps[-1]["was_refused"] = refused
        return left


def device_budget(place: Path, meter: Meter | None) -> dict[str, Any]:
    """More models than the budget holds, asked for in turn; see the checks."""
    begun = time.perf_counter()
    rig = ON_CPU if meter is None else ON_DEVICE
    options = {"device": rig.device} | ({"gpu_memory_mib": rig.limit_mib} if meter is not None else {})
    weights = np.random.default_rng(2).standard_normal(rig.shape, dtype=np.float32)
    repository = place / "models"
    names = (PINNED, *NAMES)
    asked = {name: put_product(repository, name, np.roll(weights, at, axis=0), options) for at, name in enumerate(names)}
    found: dict[str, Any] = {"models": len(names), "weights_mib": rig.weights_mib, "budget_mib": rig.budget_mib}
    found["limit_of_each_mib" if meter is not None else "skipped"] = (
        rig.limit_mib
        if meter is not None
        else "no device: the same with main memory and its budget; what a driver counts is left out"
    )
    before_mib = None if meter is None else meter.used_mib()
    limits = {rig.setting: rig.budget_mib}
    with Gateway(repository, place, limits=limits, pinned=[PINNED]) as gateway, Watching(gateway.pid, meter) as watching:
        turns = Turns(gateway, rig, asked, begun + PART_S_MAX)
        found["at_start"] = turns.charges()
        turns.touch(turns.loaded())
        checks = _in_turn(turns)
        found["quiet"] = _beside(turns, watching, meter, before_mib)
        charged = turns.charged_mib()
        found |= {"turns": turns.steps, "wrong_answers": turns.wrong}
        for name in turns.loaded():
            gateway.control("POST", f"/v2/repository/models/{name}/unload")
        time.sleep(FREED_S)
        stays_mib = watching.now()
        found["all_unloaded"] = _beside(turns, watching, meter, before_mib)
        checks["the gateway runs on"] = gateway.runs
    checks["every answer right"] = not turns.wrong
    if meter is not None and before_mib is not None:
        found |= _overheads(rig, charged, watching, stays_mib, before_mib)
        found["device_after_the_end_mib"] = round(meter.used_mib() - before_mib, 1)
        checks["all given back at the end"] = abs(meter.used_mib() - before_mib) <= 16
        checks["never more than the budget and CUDA's own"] = found["over_budget_mib"] <= found["cuda_itself_mib"]
        if watching.told:
            quiet = found["quiet"]
            accounted_mib = quiet["charged_mib"] + sum(quiet["beyond_mib"].values())
            checks["charges and what lies beyond are what the driver counts, to 64 MiB"] = (
                abs(accounted_mib - quiet["process_mib"]) <= 64
            )
    return {"checks": checks, **found, "took_s": round(time.perf_counter() - begun, 1)}


def _in_turn(turns: Turns) -> dict[str, bool | str]:
    """Those that are not there come one after the other, then those that had left; who should leave for them, and who did."""
    at_start = [name for name in turns.loaded() if name != PINNED]
    waiting = [name for name in NAMES if name not in at_start]
    checks: dict[str, bool | str] = {"not all of them fit": bool(waiting), f"{PINNED} there at start": PINNED in turns.loaded()}
    gone: list[str] = []
    stale, judged = "", 0
    while waiting and judged < JUDGED and time.perf_counter() < turns.ends_s - COMES_S_MAX / 2:
        name = waiting.pop(0)
        left = turns.come(name)
        waiting += left
        if left and stale:
            judged += 1
            checks[f"worth least left for {name}"] = left == [stale] or f"{stale} was expected"
        if left and not gone:
            time.sleep(SPREAD_S)
        gone += left
        # The age of the shelf rises with each who leaves; who is asked for after that is worth more than who is not.
        old = [each for each in turns.loaded() if each in at_start and each not in gone]
        stale = old[-1] if old and left else ""
        if gone and not old:
            break
        turns.touch([each for each in turns.loaded() if each != stale])
    checks["some left"] = bool(gone)
    if gone and gone[0] not in turns.loaded():
        turns.come(gone[0])
    checks["one that had left came back"] = bool(gone) and gone[0] in turns.loaded()
    models = turns.gateway.models()
    checks["the pinned one stayed"] = models[PINNED]["state"] == "ready" and models[PINNED].get("loads") == 1
    checks["budget kept in the account"] = sum(turns.charged_mib().values()) <= turns.rig.budget_mib
    return checks


def _beside(turns: Turns, watching: Watching, meter: Meter | None, before_mib: float | None) -> dict[str, Any]:
    """The account beside what the process holds."""
    now = watching.now()
    beyond = turns.gateway.stats().get("device_beyond_mib", {})
    told: dict[str, Any] = {"charged_mib": round(sum(turns.charged_mib().values()), 1), "beyond_mib": beyond}
    told["process_mib"] = "the driver does not tell" if now is None else round(now, 1)
    if meter is not None and before_mib is not None:
        told["device_grew_mib"] = round(meter.used_mib() - before_mib, 1)
    return told


def _overheads(
    rig: Rig, charged: Mapping[str, float], watching: Watching, stays_mib: float | None, before_mib: float
) -> dict[str, Any]:
    """What is not weights: CUDA's context and libraries (what stays when all models have left), arenas; and the most at once.

    Where the driver does not tell of the process, the device's growth stands for it, and what stays is not known apart.
    """
    grew_mib = watching.device_mib - before_mib
    most_mib = watching.process_mib if watching.told else grew_mib
    others = [mib for name, mib in charged.items() if name != PINNED]
    return {
        "cuda_itself_mib": round(1024.0 if stays_mib is None else stays_mib, 1),
        "cuda_itself_is": "assumed: the reserve" if stays_mib is None else "measured, when all models had left",
        "beside_weights_of_each_mib": round(statistics.median(others) - rig.weights_mib, 1) if others else None,
        "most_of_process_mib": round(most_mib, 1) if watching.told else "the driver does not tell",
        "most_of_device_mib": round(grew_mib, 1),
        "over_budget_mib": round(max(0.0, most_mib - rig.budget_mib), 1),
    }


def out_of_memory(place: Path, meter: Meter | None) -> dict[str, Any]:
    """What does not fit: by the budget, by its own limit at load and at a run, and because somebody else fills the device."""
    begun = time.perf_counter()
    repository = place / "models"
    draw = np.random.default_rng(6)
    small, large = (draw.standard_normal(shape, dtype=np.float32) for shape in ((2048, 2048), (8192, 2048)))
    on = "cuda" if meter is not None else "cpu"
    fits = put_product(repository, "fits", small, {"device": on, "gpu_memory_mib": 128})
    kept = put_product(repository, "kept", small + 1, {"device": on, "gpu_memory_mib": 128})
    greedy = put_product(repository, "greedy", large, {"device": on, "gpu_memory_mib": 8192})
    wishful = put_product(repository, "wishful", small + 2, {"device": "auto", "gpu_memory_mib": 8192})
    narrow = put_product(repository, "narrow", large, {"device": on, "gpu_memory_mib": 32})
    growing = put_growing(repository, "growing", 65536, {"device": on, "gpu_memory_mib": 256})
    limits = {"models_gpu_mib": 2048} if meter is not None else {"models_mib": 160}
    checks: dict[str, bool] = {}
    found: dict[str, Any] = {"limits": limits}
    with Gateway(repository, place, limits=limits, pinned=["kept"]) as gateway:

        def goes_on(after: str) -> None:
            checks[f"others answer after {after}"] = gateway.runs and kept.right(gateway.ask(kept.request))

        tried = {"larger than the budget": greedy, "wishes for more than the budget": wishful}
        if meter is not None:
            tried |= {"weights above its limit": narrow, "a run above its limit": growing(4096), "a small run": growing(2)}
        else:
            found["skipped"] = "no device: no limit of a model's own, no device to fill, and `auto` is the CPU"
        answers = {name: gateway.ask(asked.request) for name, asked in tried.items()}
        for name, answer in answers.items():
            found[name] = says(answer)
        checks["larger than the budget: refused with figures"] = in_words(answers["larger than the budget"], "MiB", "budget")
        checks["a wish above it: right, on the CPU"] = wishful.right(answers["wishes for more than the budget"])
        if meter is not None:
            checks["weights above its limit: refused in words"] = in_words(answers["weights above its limit"], "gpu_memory_mib")
            checks["a run above its limit: refused, names the option"] = in_words(
                answers["a run above its limit"], "gpu_memory_mib"
            )
            checks["the next run of the same: right"] = growing(2).right(answers["a small run"])
        goes_on("refusals")
        if meter is not None:
            _filled(gateway, meter, [fits, growing(2)], checks, found)
            goes_on("a full device")
        wanted = ("state", "detail", "device", "device_held_mib", "device_held_kind")
        found["models"] = {
            name: " ".join(str(model[key])[:SAYS_MAX] for key in wanted if model.get(key))
            for name, model in gateway.models().items()
        }
    return {"checks": checks, **found, "took_s": round(time.perf_counter() - begun, 1)}


HOG = """
import ctypes, sys
from nearhall.drivers.cuda import load_cuda_libraries
load_cuda_libraries(sys.argv[2])
cuda = ctypes.CDLL("libcudart.so." + (sys.argv[2].partition(".")[0] or "13"))
free, total, held = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
assert cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
size = free.value - int(sys.argv[1]) * 2**20
print(cuda.cudaMalloc(ctypes.byref(held), ctypes.c_size_t(size)), size // 2**20, flush=True)
sys.stdin.read()
"""
"""Another program that takes what is free but so many MiB, in one plain allocation, until its standard input ends."""


def _filled(gateway: Gateway, meter: Meter, unpinned: Sequence[Asked], checks: dict[str, bool], found: dict[str, Any]) -> None:
    """Somebody else fills the device: who is worth least leaves, what left is refused in words and comes back afterwards."""
    import onnxruntime as ort  # noqa: PLC0415

    command = [sys.executable, "-c", HOG, str(LEFT_FREE_MIB), getattr(ort, "cuda_version", "")]
    hog = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert hog.stdin is not None
    assert hog.stdout is not None
    left: list[Asked] = []
    try:
        found["another program takes"] = hog.stdout.readline().strip()
        found["free_mib_then"] = round(meter.free_mib(), 1)
        ends_s = time.perf_counter() + 10
        while not left and time.perf_counter() < ends_s:
            time.sleep(POLL_S)
            models = gateway.models()
            left = [each for each in unpinned if models[each.name]["state"] == "unloaded"]
        found["left_for_want_of_memory"] = {each.name: models[each.name].get("detail", "") for each in left}
        checks["a full device: somebody left"] = bool(left)
        answers = [gateway.ask(each.request) for each in left]
        found["asked_for_then"] = [says(answer) for answer in answers]
        checks["a full device: refused with figures"] = bool(left) and all(in_words(each, "MiB") for each in answers)
    finally:
        hog.stdin.close()
        hog.wait(20)
    ends_s = time.perf_counter() + 10
    back: list[Asked] = []
    while len(back) < len(left) and time.perf_counter() < ends_s:
        time.sleep(POLL_S)
        back = [each for each in left if each.right(gateway.ask(each.request))]
    checks["afterwards they come back"] = bool(left) and len(back) == len(left)
