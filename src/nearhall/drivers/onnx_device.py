"""Where ONNX Runtime runs a model: on the CPU, or on an NVIDIA device by its CUDA provider. Decided here, without a session."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearhall.core.errors import PermanentError
from nearhall.policy.memory import ARENA_MIB

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MIB = 2**20
_SEARCH = {"heuristic": "HEURISTIC", "exhaustive": "EXHAUSTIVE", "default": "DEFAULT"}
_NOISE = (
    re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "),
    re.compile(r"\S*onnxruntime_src/.*?\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "),
    re.compile(r"\S*onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])"),
    re.compile(r"\S+\.(?:cc|h|hpp|cpp):\d+ \w+(?:\(\))? "),
)
NO_ROOM = "is smaller than requested bytes"
"""What the arena says when a run does not fit."""
FAULT_MAX = 400
"""Of a fault's text: it goes into events, answers and lists of models."""
LOCK = "requirements/gpu.txt (make gpu)"

Provider = tuple[str, dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """What to open a session with."""

    providers: Sequence[Provider]
    """In the order of preference; the CPU is always the last, for what the device has no kernel for."""
    device: str
    """`cpu` or `cuda:<index>`."""
    demanded: bool = False
    """Whether the model must run there: a session that ends up elsewhere is refused."""
    note: str = ""
    """Why a model that might have used a device does not; empty where there is nothing to say."""


def on_cpu(note: str = "") -> Placing:
    """The CPU, and why."""
    return Placing(providers=[(CPU, {})], device="cpu", note=note)


def place(options: Mapping[str, str], available: Sequence[str]) -> Placing:
    """Where a model with these options of model.yaml goes, given the providers that this ONNX Runtime was built with.

    Raises PermanentError where `device: cuda` was demanded of a build without CUDA.
    """
    wish = options.get("device", "cpu")
    if wish == "cpu":
        return on_cpu()
    if CUDA not in available:
        why = f"this ONNX Runtime was built without CUDA; install {LOCK}"
        if wish == "auto":
            return on_cpu(f"runs on the CPU: {why}")
        raise PermanentError(f"device {wish} was asked for, and {why}, or say device: auto")
    index = int(wish.partition(":")[2] or 0)
    return Placing(
        providers=[(CUDA, cuda_options(options, index)), (CPU, {})],
        device=f"cuda:{index}",
        demanded=wish != "auto",
    )


def cuda_options(options: Mapping[str, str], index: int) -> dict[str, str]:
    """The CUDA provider's options, each with its reason.

    - `gpu_mem_limit` bounds the arena, in which weights and activations lie; `kSameAsRequested` keeps it from doubling past what
      is needed. The driver's context (about half a gigabyte) is outside of it.
    - `cudnn_conv_algo_search`: ONNX Runtime's default tries every algorithm at each new input shape, which holds up the first
      request of each batch size for a second; the heuristic takes milliseconds and runs as fast (microsoft/onnxruntime 19838,
      22705).
    - `use_tf32` off: tensor cores would round FP32 inputs to 10 bits of mantissa, and the answers would no longer be those of the
      CPU. `tf32: on` is for models whose quality has been measured with it.
    """
    mib = int(options.get("gpu_memory_mib", ARENA_MIB))
    return {
        "device_id": str(index),
        "gpu_mem_limit": str(mib * MIB),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": _SEARCH[options.get("conv_search", "heuristic")],
        "use_tf32": "1" if options.get("tf32", "off") == "on" else "0",
    }


def plain_fault(error: Exception) -> str:
    """What ONNX Runtime said, in one line and without its own source files, addresses and status codes."""
    text = " ".join(str(error).split()) or type(error).__name__
    for noise in _NOISE:
        text = noise.sub("", text)
    return text.strip()[:FAULT_MAX]


def settle(
    placing: Placing, *, prepare: Callable[[], None], open_session: Callable[[Placing], Any], why: Callable[[], str]
) -> tuple[Any, Placing]:
    """The session, and where it really runs: on the device, or on the CPU where the device was only wished for.

    `prepare` loads a device's libraries; `open_session` raises PermanentError; `why` asks the driver what is missing, for ONNX
    Runtime puts a model on the CPU without a word where CUDA's libraries or the device are. Raises PermanentError where the
    device was demanded.
    """
    if placing.device == "cpu":
        return open_session(placing), placing
    prepare()
    try:
        session = open_session(placing)
    except PermanentError as error:
        if placing.demanded:
            limit = f"{int(placing.providers[0][1]['gpu_mem_limit']) // MIB} MiB of its memory (options.gpu_memory_mib)"
            raise PermanentError(f"{error}; it was to run on {placing.device}, within {limit}") from error
        fallen = on_cpu(f"runs on the CPU: {placing.device} did not take it: {error}")
        return open_session(fallen), fallen
    if CUDA in session.get_providers():
        return session, placing
    if placing.demanded:
        raise PermanentError(f"device {placing.device} was asked for and cannot be used: {why()}")
    return session, on_cpu(f"runs on the CPU: {placing.device} cannot be used: {why()}")
