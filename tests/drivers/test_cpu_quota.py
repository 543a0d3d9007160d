"""The CPUs that a control group leaves, by both versions of them."""

from __future__ import annotations

import os

import pytest

from nearhall.drivers.cpu_quota import cpus_allowed, threads_beside

HERE = len(os.sched_getaffinity(0))


def groups(folder, files, own):
    for name, text in files.items():
        (folder / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup" / name).write_text(text)
    (folder / "own").write_text(own)
    return cpus_allowed(folder / "cgroup", folder / "own")


CASES = {
    "no control groups": ({}, "", HERE),
    "version 2, no quota": ({"cpu.max": "max 100000"}, "0::/\n", HERE),
    "version 2, in a container": ({"cpu.max": "50000 100000"}, "0::/\n", 0.5),
    "version 2, a unit below a tighter slice": (
        {"a.slice/cpu.max": "25000 100000", "a.slice/b.service/cpu.max": "50000 100000"},
        "0::/a.slice/b.service\n",
        0.25,
    ),
    "version 2, a path that is not mounted here": ({"cpu.max": "50000 100000"}, "0::/../elsewhere\n", 0.5),
    "version 1": ({"cpu/g/cpu.cfs_quota_us": "50000", "cpu/g/cpu.cfs_period_us": "100000"}, "4:cpu:/g\n", 0.5),
    "version 1, together with cpuacct": (
        {"cpu,cpuacct/cpu.cfs_quota_us": "75000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        "4:cpu,cpuacct:/\n",
        0.75,
    ),
    "version 1, no quota": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/\n", HERE),
    "nonsense": ({"cpu.max": "many few"}, "0::/\n", HERE),
    "more than there are": ({"cpu.max": "9900000 100000"}, "0::/\n", HERE),
}


@pytest.mark.parametrize(("files", "own", "cpus"), CASES.values(), ids=CASES)
def test_what_is_allowed(tmp_path, files, own, cpus):
    assert groups(tmp_path, files, own) == cpus


def test_on_this_machine():
    assert 0 < cpus_allowed() <= HERE


def test_threads_leave_some_to_others():
    assert [threads_beside(1, cpus) for cpus in (0.5, 1, 1.9, 2, 4, 4.5)] == [1, 1, 1, 1, 3, 3]
