"""CPU time and memory of a site's processes, by their pid files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

TREE_SECONDS = 1.0
"""How long a process tree is taken for unchanged: finding children reads every process of the machine (4 ms for 90 of them)."""


class ProcessCpu:
    """CPU seconds of the processes named in pid files (JSON with a `pid`), and of their children, summed over restarts.

    A process is known by pid and start time, so that a reused pid is another process. What a process used between the last
    look and its end is not seen: at five looks a second at most a fifth of a second's work. A new child is found within
    TREE_SECONDS and counted from its start.
    """

    def __init__(self, pid_files: Sequence[Path]) -> None:
        self._pid_files = tuple(pid_files)
        self._seen: dict[tuple[int, float], float] = {}
        self._total = 0.0
        self._first = True
        self._tree: list[psutil.Process] = []
        self._tree_until = float("-inf")

    def seconds(self) -> float:
        """CPU seconds since the first call."""
        now: dict[tuple[int, float], float] = {}
        if time.monotonic() >= self._tree_until or not all(process.is_running() for process in self._tree):
            self._tree = self._processes()
            self._tree_until = time.monotonic() + TREE_SECONDS
        for process in self._tree:
            with suppress(psutil.Error):
                times = process.cpu_times()
                key = (process.pid, process.create_time())
                now[key] = times.user + times.system
        if not self._first:
            self._total += sum(max(0.0, used - self._seen.get(key, 0.0)) for key, used in now.items())
        self._first = False
        self._seen = now
        return self._total

    def resident_bytes(self) -> int:
        """Resident memory of all of them now; shared pages count in each."""
        total = 0
        for process in self._processes():
            with suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def _processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for path in self._pid_files:
            with suppress(OSError, ValueError, KeyError, TypeError, psutil.Error):
                process = psutil.Process(int(json.loads(path.read_bytes())["pid"]))
                found[process.pid] = process
                for child in process.children(recursive=True):
                    found[child.pid] = child
        return list(found.values())
