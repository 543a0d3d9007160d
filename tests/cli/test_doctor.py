"""`nearhall doctor` says what is so, and what to do about what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nearhall.cli.roots.doctor import Finding, can_run, described, examine
from nearhall.core.errors import PermanentError
from nearhall.drivers.nvml import open_nvml
from nearhall.ports.devices import Device


def _no_nvml() -> str:
    """Why this machine has no NVML; empty where it has."""
    try:
        open_nvml().close()
    except PermanentError as error:
        return str(error)
    return ""


NO_NVML = _no_nvml()


def _found(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def _finding(state: str) -> Finding:
    return Finding(area="a", name="n", state=state, says="it is so")  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    root = tmp_path_factory.mktemp("root")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text("150000 100000\n")
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/driver/nvidia/version").write_text("NVRM version: 580\n")
    (root / "sys/class/powercap/intel-rapl:0").mkdir(parents=True)
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("1\n")
    return examine(root / "cache", root)


def test_this_machine_runs_the_kernel_features_that_the_tests_need(findings: list[Finding]):
    assert {f.name: f.state for f in findings if f.area == "kernel"} == dict.fromkeys(
        ["pidfd_open", "SO_REUSEPORT", "Unix sockets", "TCP_INFO", "TLS 1.3"], "ok"
    )


def test_models_that_are_not_fetched_do_not_stop_a_pilot(findings: list[Finding]):
    assert _found(findings, "faces").state == "absent"
    assert can_run([f for f in findings if f.area != "runtime"])


def test_instruments_are_seen_where_they_are(findings: list[Finding]):
    assert _found(findings, "RAPL").state == "ok"
    assert [f.state for f in findings if f.name.startswith("GPU")] in ([["unknown"]] if NO_NVML else [["ok"], ["absent"]])


def test_instruments_are_not_claimed_where_they_are_not(tmp_path: Path):
    bare = examine(tmp_path / "cache", tmp_path)
    assert _found(bare, "RAPL").state == "absent"
    if NO_NVML:
        assert _found(bare, "GPU").state == "absent"
        assert NO_NVML in _found(bare, "GPU").says


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            {"memory_total_mib": 81920.0, "memory_used_mib": 512.0, "power_w": 71.4, "power_limit_w": 700.0, "energy_j": 1.0},
            "NVIDIA T1, driver 580.1, 0.5 of 80.0 GiB used, 71 of 700 W, counts its energy",
        ),
        ({"power_w": 5.0}, "NVIDIA T1, driver 580.1, memory not told, 5 W, does not count its energy"),
        ({}, "NVIDIA T1, driver 580.1, memory not told, power not told, does not count its energy"),
    ],
)
def test_a_device_is_described_by_what_it_tells(told: dict[str, float], says: str):
    assert described(Device(name="NVIDIA T1", driver="580.1", **told)) == says


def test_what_is_not_well_says_how_to_mend_it(findings: list[Finding]):
    assert [f.name for f in findings if f.state != "ok" and not f.mend] == []


def test_one_broken_thing_stops_a_pilot_and_an_absent_one_does_not():
    assert can_run([_finding("ok"), _finding("absent"), _finding("unknown")])
    assert not can_run([_finding("ok"), _finding("broken")])


def test_the_command_prints_one_object_and_its_exit_code_agrees():
    done = subprocess.run(
        [sys.executable, "-m", "nearhall", "doctor", "--json"], capture_output=True, text=True, check=False, timeout=60
    )
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["up_can_run"] else 1)
    assert {"area", "name", "state", "says", "mend"} == set(said["findings"][0])
