"""The machine as the kernel tells of it: the CPU's name, the control group's quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearhall.drivers.host import cores, cpu_name, cpu_quota


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
    ],
)
def test_the_control_groups_quota_is_read(tmp_path: Path, files: dict[str, str], cores: float | None):
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cpu_quota(tmp_path) == cores


def test_the_cpu_is_named_by_the_kernel_and_else_by_the_platform(tmp_path: Path):
    bare = cpu_name(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : Old Faithful 1000\n")
    assert (cpu_name(tmp_path), bare == "Old Faithful 1000") == ("Old Faithful 1000", False)
    assert cores() >= 1
