"""Processes of the pilot: started, watched, started again, and ended by their own handles."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearhall.core.errors import PermanentError
from nearhall.policy.backoff import crashes_after, restart_wait_s

READY = b"READY "
TELL = b"TELL "
"""A line for the person at the screen."""
READY_SECONDS_MAX = 90.0
"""A gateway that loads four small models on two busy cores needs a few seconds; more than this is a fault to be told."""
STOP_SECONDS_MAX = 15.0
"""Longer than any program's own drain (gateway 5 s, players 12 s); then the process is killed."""
STARTS_MAX = 5
"""Of a program that never served: then the pilot gives up and shows the end of its log."""
LINE_BYTES_MAX = 4 * 1024 * 1024
"""The players' closing report is one line; nothing else is longer than a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program to run."""

    name: str
    """What people call it in events: `hub`, `site shop-01`, ..."""
    command: tuple[str, ...]
    log: Path
    restart: bool = True
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """For its environment alone: what no file and no command line may hold."""


class Running:
    """A program kept alive until it is stopped. `ready` holds what it said when it first served."""

    def __init__(self, program: Program, tell: Callable[[str], None]) -> None:
        self.program = program
        self._tell = tell
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self.ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.last_line = b""
        """The last line it printed, for programs that close with a report."""
        self.starts = 0
        # One pipe for the program's whole life, through its restarts: what it started (a gateway outlives its agent) inherits the
        # reading end and ends when `up` does, not when the agent does.
        self._lifeline = list(os.pipe())

    @property
    def pid(self) -> int | None:
        """The living process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        """Starts it and keeps it alive from here on."""
        self._task = asyncio.create_task(self._keep_alive(), name=self.program.name)

    async def until_ready(self) -> dict[str, Any]:
        """What the program said when it served; raises PermanentError, with the end of its log, if it does not."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.ready), READY_SECONDS_MAX)
        except TimeoutError:
            message = f"{self.program.name} was not ready within {READY_SECONDS_MAX:.0f} s; the end of its log: {self._log_end()}"
            raise PermanentError(message) from None

    async def stop(self) -> None:
        """Asks it to stop (SIGTERM), waits, and kills it if it does not; then ends the pipe that its own children hold.

        Safe to call twice.
        """
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
            except TimeoutError:
                self._tell(f"{self.program.name} did not stop within {STOP_SECONDS_MAX:.0f} s and was killed")
                process.kill()
                await process.wait()
        if self._task is not None:
            await self._task
        while self._lifeline:
            os.close(self._lifeline.pop())

    async def ended(self) -> None:
        """Returns when the program has ended for good."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        crashes = 0
        while not self._stopping:
            began = loop.time()
            code = await self._run_once()
            if self._stopping or not self.program.restart:
                if not self.ready.done():
                    self._fail(code)
                return
            if not self.ready.done() and crashes >= STARTS_MAX:
                self._fail(code)
                return
            crashes = crashes_after(crashes, loop.time() - began)
            self._tell(f"{self.program.name} ended ({_ending(code)}) and is started again")
            await asyncio.sleep(restart_wait_s(crashes))

    async def _run_once(self) -> int:
        self.starts += 1
        with self.program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=self._lifeline[0],
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for `up`, which then stops the others in order
                limit=LINE_BYTES_MAX,
                env={**os.environ, **self.program.secrets},
            )
        self._process = process
        if process.stdout is not None:
            await self._read_lines(process.stdout)
        return await process.wait()

    async def _read_lines(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            if line.startswith(READY):
                if not self.ready.done():
                    self.ready.set_result(json.loads(line.removeprefix(READY)))
            elif line.startswith(TELL):
                self._tell(f"{self.program.name}: {line.removeprefix(TELL).decode(errors='replace').strip()}")
            else:
                self.last_line = line

    def _fail(self, code: int) -> None:
        message = f"{self.program.name} did not start ({_ending(code)}); the end of its log: {self._log_end()}"
        self.ready.set_exception(PermanentError(message))
        self.ready.exception()  # retrieved here too, so that nobody is warned when nobody waits

    def _log_end(self) -> str:
        lines = self.program.log.read_text(errors="replace").strip().splitlines() if self.program.log.exists() else []
        return lines[-1] if lines else "(empty)"


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def stop_all(running: Sequence[Running]) -> None:
    """Stops several programs at once."""
    await asyncio.gather(*(one.stop() for one in running))
