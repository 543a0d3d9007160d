"""CPU time of real processes, through their children, restarts and deaths."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearhall.drivers.processes import ProcessCpu
from waiting import until

SPIN = "while True: pass"
SLEEP = "import sys; sys.stdin.read()"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-S', '-c', {SPIN!r}])"


@contextmanager
def _running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _pid_file(folder: Path, pid: int, name: str = "a.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"pid": pid}))
    return path


def test_work_is_counted_and_idleness_is_not(tmp_path: Path):
    with _running(SPIN) as busy, _running(SLEEP) as idle:
        at_work = ProcessCpu([_pid_file(tmp_path, busy.pid)])
        at_rest = ProcessCpu([_pid_file(tmp_path, idle.pid, "b.json")])
        assert at_work.seconds() == at_rest.seconds() == 0.0
        until(lambda: at_work.seconds() > 0.1, 20)
        assert at_rest.seconds() < 0.1
        assert at_work.resident_bytes() > 1 << 20


def test_a_childs_work_is_its_parents(tmp_path: Path):
    with _running(CHILD) as parent:
        cpu = ProcessCpu([_pid_file(tmp_path, parent.pid)])
        cpu.seconds()
        until(lambda: cpu.seconds() > 0.3, 20)


def test_it_never_steps_back_and_goes_on_with_the_next_process(tmp_path: Path):
    path = tmp_path / "a.json"
    cpu = ProcessCpu([path])
    assert cpu.seconds() == 0.0
    assert cpu.resident_bytes() == 0
    seen = 0.0
    for _ in range(2):
        with _running(SPIN) as process:
            _pid_file(tmp_path, process.pid)
            until(lambda seen=seen: cpu.seconds() > seen + 0.1, 20)
            seen = cpu.seconds()
        assert cpu.seconds() >= seen, "a dead process takes nothing with it"


def test_a_spoilt_or_stale_pid_file_is_nobody(tmp_path: Path):
    path = tmp_path / "a.json"
    for spoilt in (b"", b"[]", b'{"pid": "x"}', b'{"pid": 4194303}'):
        path.write_bytes(spoilt)
        cpu = ProcessCpu([path, tmp_path / "none.json"])
        assert cpu.seconds() == 0.0
        assert cpu.resident_bytes() == 0


def test_two_files_that_name_one_process_count_it_once(tmp_path: Path):
    with _running(SPIN) as busy:
        once = ProcessCpu([_pid_file(tmp_path, busy.pid)])
        twice = ProcessCpu([_pid_file(tmp_path, busy.pid), _pid_file(tmp_path, busy.pid, "b.json")])
        once.seconds()
        twice.seconds()
        until(lambda: once.seconds() > 0.3, 20)
        assert twice.seconds() < once.seconds() * 1.3 + 0.1
