"""How much memory is left: the machine's, or what the control groups above this process allow."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from nearhall.drivers.node_memory import FixedMemory, SystemMemory

GIB = 1 << 30
MEMINFO = "MemTotal:       8388608 kB\nMemFree:         100000 kB\nMemAvailable:    4194304 kB\n"


def machine(root: Path, groups: str, files: dict[str, str], *, meminfo: str = MEMINFO) -> SystemMemory:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(meminfo)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SystemMemory(root)


V2 = {
    "site/memory.max": str(2 * GIB),
    "site/memory.current": str(GIB),
    "site/memory.stat": f"anon 5\ninactive_file {GIB // 4}\nactive_file {GIB // 4}\n",
    "site/gateway/memory.max": "max",
    "site/gateway/memory.current": "4096",
}
V1 = {
    "memory/pod/memory.limit_in_bytes": str(GIB),
    "memory/pod/memory.usage_in_bytes": str(GIB // 4),
    "memory/memory.limit_in_bytes": "9223372036854771712",
    "memory/memory.usage_in_bytes": str(GIB),
}
CASES = {
    "no group": ("", {}, 4096.0),
    "v2, a limit above our own group": ("0::/site/gateway\n", V2, 1536.0),
    "v1": ("5:cpu:/\n4:memory:/pod\n0::/\n", V1, 768.0),
    "a container: the host's path is not there": (
        "0::/docker/abc\n",
        {"memory.max": str(GIB), "memory.current": "0", "memory.stat": "inactive_file many\n"},
        1024.0,
    ),
    "over its limit": ("0::/x\n", {"x/memory.max": "1048576", "x/memory.current": "3145728"}, 0.0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_least_that_is_left_counts(tmp_path: Path, case: tuple[str, dict[str, str], float]):
    groups, files, left_mib = case
    assert machine(tmp_path, groups, files).free_mib() == left_mib


def test_a_machine_that_does_not_say_is_without_limit(tmp_path: Path):
    assert SystemMemory(tmp_path).free_mib() > 1e9
    assert machine(tmp_path, "", {}, meminfo="MemTotal: 1 kB\n").free_mib() > 1e9


def test_what_this_process_holds():
    here = SystemMemory()
    before = here.resident_mib()
    with mmap.mmap(-1, 64 << 20) as fresh:  # the allocator may hold memory that an earlier test has left
        fresh.write(os.urandom(1 << 20) * 64)
        assert here.resident_mib() - before > 50
    assert here.resident_mib(os.getpid()) == pytest.approx(here.resident_mib(), rel=0.1)
    assert here.resident_mib(2**22 + 1) == 0.0
    assert 0 < here.free_mib() < 1e9


def test_a_tests_memory_is_what_it_says():
    fixed = FixedMemory(100.0)
    fixed.children[7] = 30.0
    assert (fixed.free_mib(), fixed.resident_mib(), fixed.resident_mib(7), fixed.resident_mib(8)) == (100.0, 100.0, 30.0, 0.0)
