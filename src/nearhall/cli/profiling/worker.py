"""A handle on a variant in its own process (`cli.roots.profiled`): what it takes, its times, its outputs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import BinaryIO, Self, cast

import msgspec

from nearhall.cli.roots.profiled import Answer, Command, Spec, load_feeds, store_feeds
from nearhall.core.errors import PermanentError
from nearhall.core.tensor import TensorSpec
from nearhall.drivers.arrays import Array
from nearhall.ports.runtime import ModelFile

ANSWER_S_MAX = 600.0
"""A slice is short, and a load takes minutes from a slow disk; a process that is silent for longer hangs."""
STOP_S = 3.0


class Worker:
    """One variant's process; must be closed, which ends it."""

    def __init__(self, file: ModelFile) -> None:
        """Starts it and waits until the variant is loaded; raises PermanentError where it does not load."""
        self.variant = file.variant
        self._folder = tempfile.TemporaryDirectory(prefix="nearhall-profile-")
        # In a session of its own: Ctrl-C is ours to answer, and it ends when its input does.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "nearhall.cli.roots.profiled"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._to, self._from = cast("BinaryIO", self._child.stdin), cast("BinaryIO", self._child.stdout)
        try:
            self._tell(file)
            self.about = self._answer()
        except BaseException:
            self._child.kill()
            self.close()
            raise

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""
        return [_spec(spec) for spec in self.about.inputs]

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""
        return [_spec(spec) for spec in self.about.outputs]

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._child.pid

    def give(self, feeds: Sequence[Mapping[str, Array]]) -> Answer:
        """Hands it its samples, and runs the first one; raises PermanentError where it does not run on it."""
        path = str(Path(self._folder.name) / "samples.npz")
        store_feeds(path, feeds)
        return self.do(Command(do="samples", path=path))

    def run_all(self) -> list[dict[str, Array]]:
        """Its outputs to every sample, one by one."""
        path = str(Path(self._folder.name) / "outputs.npz")
        self.do(Command(do="outputs", path=path))
        return load_feeds(path)

    def do(self, command: Command) -> Answer:
        """Has a command done; raises PermanentError where that fails or the process dies."""
        self._tell(command)
        return self._answer()

    def close(self) -> None:
        """Ends the process and removes its files."""
        for pipe in (self._to, self._from):
            with suppress(OSError):
                pipe.close()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        finally:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        """Loaded already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends it; at once where something went wrong."""
        if error is not None:
            self._child.kill()
        self.close()

    def _tell(self, line: Command | ModelFile) -> None:
        with suppress(OSError):  # it has gone, which its answer will tell
            self._to.write(msgspec.json.encode(line) + b"\n")
            self._to.flush()

    def _answer(self) -> Answer:
        hangs = Timer(ANSWER_S_MAX, self._child.kill)
        hangs.daemon = True
        hangs.start()
        try:
            line = self._from.readline()
        finally:
            hangs.cancel()
        if not line:
            code = self._child.wait()
            raise PermanentError(f"the process of variant {self.variant} ended ({_why(code)})")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.failed:
            raise PermanentError(answer.failed)
        return answer


def _why(code: int) -> str:
    return f"killed by signal {-code}; was there too little memory?" if code < 0 else f"exit code {code}"


def _spec(spec: Spec) -> TensorSpec:
    return TensorSpec(spec.name, spec.dtype, tuple(spec.shape), spec.optional)
