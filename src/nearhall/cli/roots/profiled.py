"""PROGRAM: one variant of a model in a process of its own, run on command, so that its memory and CPU time are its own.

    python -m nearhall.cli.roots.profiled

Reads one JSON object a line from standard input, the model's file first, and writes one answer a line to what standard output
was, the first once it is loaded. Ends with its input, and so with whoever started it.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import psutil

from nearhall.cli.roots.models import load_tensor_runtime
from nearhall.core.errors import NearhallError
from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.drivers.arrays import Array, to_array, to_tensor
from nearhall.ports.runtime import ModelFile, TensorRuntime

LINE_BYTES_MAX = 1 << 24
"""An answer with the times of 20,000 runs has 200 kB."""
BATCHES_KEPT = 8
"""Different batches that are run in turn, so that no cache knows the answer."""
WARM_UPS = 3
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
MIB = 2**20


class Command(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`samples` reads feeds from `path`; `outputs` writes those of all samples to it; `run` times a batch."""

    do: str
    path: str = ""
    batch: int = 1
    seconds: float = 0.0
    runs_min: int = 1
    runs_max: int = 1


class Spec(msgspec.Struct, kw_only=True):
    """An input or output."""

    name: str
    dtype: str
    shape: list[int]
    optional: bool = False


class Answer(msgspec.Struct, kw_only=True):
    """To any command; what does not belong to it is left at nothing."""

    failed: str = ""
    inputs: list[Spec] = []
    outputs: list[Spec] = []
    device: str = "cpu"
    note: str = ""
    """Why it does not run on a device that it might have used."""
    software: dict[str, str] = {}
    load_s: float = 0.0
    took_ms: list[float] = []
    cpu_ms: float = 0.0
    """Of all runs of a slice, all threads."""
    memory_mib: float = 0.0
    """What the model has added to this process so far."""


class Profiled:
    """The variant, and what it was given to run on."""

    def __init__(self, file: ModelFile) -> None:
        """Loads it; raises NearhallError where it does not load."""
        importlib.import_module(f"nearhall.drivers.{'openvino' if file.runtime == 'openvino' else 'onnx'}_runtime")
        gc.collect()
        self._process = psutil.Process()
        self._aside = self._process.memory_info().rss
        """Bytes that are not the model's: Python, the runtime's library, the samples."""
        began = time.perf_counter()
        self._runtime: TensorRuntime = load_tensor_runtime(file)
        self._load_s = time.perf_counter() - began
        self._library = file.runtime
        self._feeds: list[list[Tensor]] = []
        self._batches: dict[int, list[list[Tensor]]] = {}
        self._peak = 0

    def about(self) -> Answer:
        """What it takes and gives, and where it runs."""
        return Answer(
            inputs=list(map(_spec, self._runtime.inputs)),
            outputs=list(map(_spec, self._runtime.outputs)),
            device=getattr(self._runtime, "device", "cpu"),
            note=getattr(self._runtime, "note", ""),
            software=_software(self._library),
        )

    def do(self, command: Command) -> Answer:
        """Does it; raises NearhallError where the model does not run on what it was given."""
        if command.do == "samples":
            return self._take(command)
        if command.do == "outputs":
            return self._outputs(command)
        if command.do == "run":
            return self._run(command)
        return Answer(failed=f"{command.do!r} is no command")

    def _take(self, command: Command) -> Answer:
        before = self._process.memory_info().rss
        self._feeds = [list(map(_tensor, feed.items())) for feed in load_feeds(command.path)]
        self._batches = {}
        self._aside += max(0, self._process.memory_info().rss - before)
        began = time.perf_counter()
        self._runtime.run(self._feeds[0], [])
        return Answer(load_s=self._load_s + time.perf_counter() - began, memory_mib=self._memory_mib())

    def _outputs(self, command: Command) -> Answer:
        store_feeds(command.path, [{t.name: to_array(t) for t in self._runtime.run(feed, [])} for feed in self._feeds])
        return Answer()

    def _run(self, command: Command) -> Answer:
        """As many runs as fit into the seconds, within the limits, after a warm-up when a batch size is new."""
        feeds = self._batches.get(command.batch)
        if feeds is None:
            before = self._process.memory_info().rss
            feeds = self._batches[command.batch] = batches(self._feeds, command.batch)
            self._aside += max(0, self._process.memory_info().rss - before)
            for _ in range(WARM_UPS):
                self._runtime.run(feeds[0], [])
        took: list[float] = []
        began, cpu = time.perf_counter(), time.process_time()
        for feed in cycle(feeds):
            start = time.perf_counter()
            self._runtime.run(feed, [])
            end = time.perf_counter()
            took.append((end - start) * 1e3)
            if len(took) >= command.runs_max or (end - began >= command.seconds and len(took) >= command.runs_min):
                break
        cpu_ms = (time.process_time() - cpu) * 1e3
        return Answer(took_ms=took, cpu_ms=cpu_ms, memory_mib=self._memory_mib())

    def _memory_mib(self) -> float:
        self._peak = max(self._peak, self._process.memory_info().rss - self._aside)
        return self._peak / MIB


def batches(feeds: Sequence[Sequence[Tensor]], size: int) -> list[list[Tensor]]:
    """A few different batches, put together along the first axis; samples of another shape than the first one are left out."""
    if size == 1:
        return [list(feed) for feed in feeds[: BATCHES_KEPT * 4]]
    like = [feed for feed in feeds if [t.shape for t in feed] == [t.shape for t in feeds[0]]]
    found: list[list[Tensor]] = []
    for number in range(BATCHES_KEPT):
        chosen = [like[(number * size + index) % len(like)] for index in range(size)]
        found.append(
            [to_tensor(t.name, np.concatenate([to_array(feed[place]) for feed in chosen])) for place, t in enumerate(chosen[0])]
        )
    return found


def store_feeds(path: str, feeds: Sequence[Mapping[str, Array]]) -> None:
    """Samples, or outputs of all samples, into one file."""
    names = list(feeds[0])
    arrays = {f"{index}/{place}": feed[name] for index, feed in enumerate(feeds) for place, name in enumerate(names)}
    plain = {key: array.astype(np.str_) if array.dtype.kind == "O" else array for key, array in arrays.items()}
    with Path(path).open("wb") as file:
        np.savez(file, allow_pickle=False, names=np.array(names), **plain)


def load_feeds(path: str) -> list[dict[str, Array]]:
    """What `store_feeds` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        names = [str(name) for name in stored["names"]]
        count = (len(stored.files) - 1) // len(names)
        return [{name: stored[f"{index}/{place}"] for place, name in enumerate(names)} for index in range(count)]


def _tensor(item: tuple[str, Array]) -> Tensor:
    return to_tensor(*item)


def _spec(spec: TensorSpec) -> Spec:
    return Spec(name=spec.name, dtype=spec.dtype, shape=list(spec.shape), optional=spec.optional)


def _software(runtime: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for package in (PACKAGES.get(runtime, ""), "numpy"):
        try:
            found[package] = version(package)
        except (PackageNotFoundError, ValueError):
            continue
    return found


def serve(commands: BinaryIO, answers: BinaryIO) -> None:
    """Loads what the first line says, says so, and does what it is told until nobody tells any more."""

    def say(answer: Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()

    first = commands.readline(LINE_BYTES_MAX)
    if not first:
        return
    try:
        profiled = Profiled(msgspec.json.decode(first, type=ModelFile))
    except (NearhallError, ImportError) as error:
        say(Answer(failed=str(error)))
        return
    say(profiled.about())
    for line in iter(lambda: commands.readline(LINE_BYTES_MAX), b""):
        try:
            say(profiled.do(msgspec.json.decode(line, type=Command)))
        except (NearhallError, MemoryError, ValueError) as error:
            say(Answer(failed=getattr(error, "message", "") or str(error) or type(error).__name__))


def main() -> None:
    """Runs the program; what libraries print goes to standard error, so that only answers are on the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(BrokenPipeError):  # whoever started it has gone
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
