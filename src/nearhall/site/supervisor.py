"""Keeps the site's gateway alive: starts it, adopts a living one, and stands in for it while there is none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nearhall.core.errors import PermanentError
from nearhall.policy.backoff import crashes_after, restart_wait_s
from nearhall.ports.clock import Clock
from nearhall.site.stand_in import StandIn

READY_POLL_S = 0.02
"""While a gateway starts: small models are ready within a second or two, and every poll is one small file."""
READY_SECONDS_MAX = 60.0
LOG_BYTES_MAX = 16 * 2**20
"""Looked at when a gateway starts: what fills a log is a crash loop."""

Tell = Callable[[str, str, str], None]
"""(kind, text, level) of an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayProcess:
    """A living gateway, by what its pid file says."""

    pid: int
    gateway_id: str


class Supervisor:
    """The gateway's keeper."""

    def __init__(self, *, command: list[str], pid_file: Path, log: Path, stand_in: StandIn, clock: Clock, tell: Tell) -> None:
        self._command = command
        self._pid_file = pid_file
        self._log = log
        self._stand_in = stand_in
        self._clock = clock
        self._tell = tell
        self._crashes = 0
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self.gateway: GatewayProcess | None = None
        """The gateway that serves now; None while there is none."""

    def refused(self) -> dict[str, int]:
        """Requests that were refused since the last call because no gateway lived, by workload."""
        return self._stand_in.refused()

    async def run(self) -> None:
        """Adopts or starts the gateway, watches it, and starts it again, until `stop_gateway`."""
        found = read_pid_file(self._pid_file)
        if found is not None:
            self._tell("gateway_adopted", f"the gateway (process {found.pid}) was alive and is adopted", "info")
            await self._watch(found)
        while not self._stopping:
            began = self._clock.monotonic()
            await self._stand_in.listen()
            await self._start_and_watch()
            self._crashes = crashes_after(self._crashes, self._clock.monotonic() - began)
            await asyncio.sleep(restart_wait_s(self._crashes))

    async def stop_gateway(self, seconds_max: float) -> None:
        """Ends the gateway cleanly, or by force after `seconds_max`; it is not started again."""
        self._stopping = True
        gateway = self.gateway
        pid = gateway.pid if gateway is not None else (self._child.pid if self._child is not None else None)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                if not await _readable(descriptor, seconds_max):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    await _readable(descriptor, seconds_max)
            finally:
                os.close(descriptor)
        if self._child is not None:
            self._child.wait()

    async def _start_and_watch(self) -> None:
        child = self._child = self._spawned()
        gateway = await self._until_ready(child)
        if gateway is not None:
            self._tell("gateway_started", f"the gateway serves (process {gateway.pid})", "info")
            await self._watch(gateway)
        code = child.wait()
        if gateway is None:
            self._tell("gateway_lost", f"the gateway ended while it started (exit code {code}); see {self._log.name}", "error")

    def _spawned(self) -> subprocess.Popen[bytes]:
        """Not asyncio's own subprocess: its watcher belongs to this loop, and the gateway must outlive it.

        In a session of its own: what ends the agent's terminal does not end the gateway.
        """
        with self._opened_log() as log:
            try:
                return subprocess.Popen(self._command, stdin=None, stdout=log, stderr=log, start_new_session=True)
            except OSError as error:
                raise PermanentError(f"the gateway cannot be started: {self._command[0]}: {error.strerror}") from error

    def _opened_log(self) -> BinaryIO:
        """The gateway's log; a full one is put aside first, and a disk that takes none costs the log, not the service."""
        try:
            if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
                self._log.replace(self._log.with_suffix(".log.1"))
            return self._log.open("ab")
        except OSError:
            return Path(os.devnull).open("ab")

    async def _until_ready(self, child: subprocess.Popen[bytes]) -> GatewayProcess | None:
        deadline = self._clock.monotonic() + READY_SECONDS_MAX
        while child.poll() is None:
            found = read_pid_file(self._pid_file)
            if found is not None and found.pid == child.pid:
                return found
            if self._clock.monotonic() > deadline:
                self._tell("gateway_lost", f"the gateway did not serve within {READY_SECONDS_MAX:.0f} s and is ended", "error")
                child.kill()
                return None
            await asyncio.sleep(READY_POLL_S)
        return None

    async def _watch(self, gateway: GatewayProcess) -> None:
        """Returns when the gateway has ended; by then the stand-in listens."""
        try:
            descriptor = os.pidfd_open(gateway.pid)
        except ProcessLookupError:
            await self._stand_in.listen()
            return
        except OSError as error:
            raise PermanentError(
                f"this kernel cannot watch a process by pidfd ({error.strerror}); Linux 5.3 or newer is needed"
            ) from error
        self.gateway = gateway
        await self._stand_in.withdraw()
        try:
            await _readable(descriptor, None)
        finally:
            os.close(descriptor)
        self.gateway = None
        await self._stand_in.listen()
        if not self._stopping:
            text = f"the gateway (process {gateway.pid}) ended; requests get 503 until it is back"
            self._tell("gateway_lost", text, "error")


async def _readable(descriptor: int, seconds_max: float | None) -> bool:
    """Waits until the descriptor is readable (a pidfd: until its process has ended); False after `seconds_max`."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(seconds_max):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def read_pid_file(path: Path) -> GatewayProcess | None:
    """The gateway that the pid file names, if that very process lives (its start time is compared, pids are used again)."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(path.read_bytes())
        if process_start_ticks(int(said["pid"])) == int(said["start_ticks"]):
            return GatewayProcess(pid=int(said["pid"]), gateway_id=str(said["gateway_id"]))
    return None


def process_start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)): the process's start in clock ticks since boot; None if there is no such process."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return None
