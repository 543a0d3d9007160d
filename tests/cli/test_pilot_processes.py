"""A program of the pilot is kept alive, and ended by its own handle."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from nearhall.cli.pilot.processes import Program, Running
from nearhall.core.errors import PermanentError
from waiting import until_async

SERVES = """
import signal, sys
def stop(*_):
    print('{"done": true}', flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('READY {"port": 7}', flush=True)
print('one', flush=True)
print('TELL  it rains ', flush=True)
sys.stdin.read()
"""
BREAKS = "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"


def _program(tmp_path: Path, code: str, *, restart: bool = True) -> Program:
    return Program(name="it", command=(sys.executable, "-c", code), log=tmp_path / "it.log", restart=restart)


def test_ready_is_what_it_said_and_the_last_line_is_kept(tmp_path: Path):
    async def story() -> None:
        told: list[str] = []
        running = Running(_program(tmp_path, SERVES), told.append)
        running.start()
        assert await running.until_ready() == {"port": 7}
        await until_async(lambda: told == ["it: it rains"], what="what it tells")
        assert running.last_line == b"one\n"
        await running.stop()
        assert running.last_line == b'{"done": true}\n'
        assert running.pid is None

    asyncio.run(story())


def test_killed_it_is_started_again_and_told(tmp_path: Path):
    async def story() -> None:
        told: list[str] = []
        back = asyncio.Event()

        def tell(line: str) -> None:
            if "rains" not in line:
                told.append(line)
                back.set()

        running = Running(_program(tmp_path, SERVES), tell)
        running.start()
        await running.until_ready()
        first = running.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await asyncio.wait_for(back.wait(), 10)
        async with asyncio.timeout(10):
            while running.pid in {None, first}:  # noqa: ASYNC110 (a process that comes back sets no event)
                await asyncio.sleep(0.01)
        assert "SIGKILL" in told[0]
        assert running.starts == 2
        await running.stop()

    asyncio.run(story())


def test_a_program_that_never_serves_is_a_fault_with_the_end_of_its_log(tmp_path: Path):
    async def story() -> None:
        running = Running(_program(tmp_path, BREAKS, restart=False), print)
        running.start()
        with pytest.raises(PermanentError, match=r"exit code 3.*no such thing"):
            await running.until_ready()
        await running.stop()

    asyncio.run(story())
