"""`nearhall up` as a user starts it: a process of its own, watched from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ENDED_SECONDS_MAX = 60.0


class PilotProcess:
    """Starts `nearhall up ARGS --out DIR --json`; leaves nothing running."""

    def __init__(self, out: Path, *arguments: str, traced: bool = True) -> None:
        """`traced`: whether coverage may look into its programs, which slows their start."""
        self.out = out
        self._notes = out.with_name(f"{out.name}.notes")
        self._errors = self._notes.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nearhall", "up", "--out", str(out), "--json", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={name: value for name, value in os.environ.items() if traced or not name.startswith("COVERAGE_")},
        )

    def __enter__(self) -> PilotProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(ENDED_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                for child in children:
                    child.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()

    @property
    def notes(self) -> str:
        """What it wrote for people so far."""
        return self._notes.read_text(errors="replace")

    def said(self, text: str) -> bool:
        """Whether it wrote `text`; fails when it has ended instead."""
        if self.process.poll() is not None and text not in self.notes:
            raise AssertionError(f"nearhall up ended with {self.process.returncode}:\n{self.notes}")
        return text in self.notes

    def returns(self, seconds: float) -> dict[str, Any]:
        """Waits for the end and gives pilot.json as printed on standard output."""
        output, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, self.notes
        return json.loads(output)

    def page_address(self) -> tuple[str, str]:
        """The page's base address and its token, as printed."""
        found = re.search(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", self.notes)
        assert found, self.notes
        return found[1], found[2]

    def live(self) -> dict[str, Any]:
        """The hub's live state, as the page gets it."""
        base, token = self.page_address()
        request = urllib.request.Request(f"{base}/api/v1/live", headers={"authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def settings(self, name: str) -> dict[str, Any]:
        """The settings file of one program."""
        return json.loads((self.out / "state" / "settings" / f"{name}.json").read_text())

    def pid(self, name: str) -> int | None:
        """The living process that runs with the settings file `name`; None when there is none at the moment."""
        wanted = str(self.out / "state" / "settings" / f"{name}.json")
        for process in psutil.process_iter():
            try:
                if wanted in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    return process.pid
            except psutil.Error:
                continue
        return None

    def kill(self, name: str) -> int:
        """Kill -9 of the process that runs with the settings file `name`; gives its pid."""
        pid = self.pid(name)
        assert pid is not None, f"no process runs {name}"
        os.kill(pid, signal.SIGKILL)
        return pid

    def link(self, command: str) -> None:
        """Posts to the link's control address, e.g. `cut?site=shop-01`."""
        control = self.settings("link")["control"]
        urllib.request.urlopen(urllib.request.Request(f"http://{control}/{command}", method="POST"), timeout=5).close()


def answers(port: int, path: str, *, seconds: float = 5.0) -> tuple[int, dict[str, str], float]:
    """Status, headers and time of one GET on a new connection; status 0 when the connection was refused or reset."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as answer:
            return answer.status, dict(answer.headers.items()), time.monotonic() - began
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers.items()), time.monotonic() - began
    except OSError:
        return 0, {}, time.monotonic() - began


def request_counts(pilot: dict[str, Any], field: str) -> int:
    """The sum of one request count over all sites and workloads."""
    return sum(workload["requests"][field] for site in pilot["sites"] for workload in site["workloads"])


def left_behind(out: Path) -> Sequence[str]:
    """Command lines of processes that still run with this pilot's settings."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if str(out / "state") in line:
            found.append(line)
    return found
