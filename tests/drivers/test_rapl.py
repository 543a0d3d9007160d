"""RAPL's counters: which are added up, how they wrap, and machines that have none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.rapl import open_rapl

RANGE_UJ = 10_000_000


def _zone(root: Path, folder: str, name: str, microjoules: int) -> Path:
    zone = root / folder
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return zone


def test_packages_and_memory_are_added_up_and_what_lies_within_them_is_not_counted_twice(tmp_path: Path):
    zones = [
        _zone(tmp_path, "intel-rapl:0", "package-0", 100),
        _zone(tmp_path, "intel-rapl:0:0", "core", 50),
        _zone(tmp_path, "intel-rapl:0:1", "dram", 20),
        _zone(tmp_path, "intel-rapl:1", "package-1", 100),
        _zone(tmp_path, "intel-rapl:2", "psys", 500),
    ]
    rapl = open_rapl(tmp_path)
    assert rapl.joules() == 0
    for zone in zones:
        (zone / "energy_uj").write_text("1000100\n")
    assert rapl.joules() == pytest.approx((1_000_000 + 1_000_080 + 1_000_000) * 1e-6)
    assert rapl.source == "rapl"
    rapl.close()


def test_a_counter_that_wraps_goes_on(tmp_path: Path):
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    rapl = open_rapl(tmp_path)
    (zone / "energy_uj").write_text("2000000\n")
    assert rapl.joules() == pytest.approx(3.0)
    (zone / "energy_uj").write_text("2500000\n")
    assert rapl.joules() == pytest.approx(3.5)


def test_a_machine_without_counters_says_so(tmp_path: Path):
    with pytest.raises(PermanentError, match="shows no energy counters"):
        open_rapl(tmp_path)
    (tmp_path / "intel-rapl:0").mkdir()
    with pytest.raises(PermanentError, match="shows no energy counters"):
        open_rapl(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_counters_that_only_root_reads_say_so(tmp_path: Path):
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (zone / "energy_uj").chmod(0)
    with pytest.raises(PermanentError, match="may be read by root alone; sudo chmod a"):
        open_rapl(tmp_path)


def test_a_counter_that_goes_away_is_a_temporary_error(tmp_path: Path):
    zone = _zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (zone / "max_energy_range_uj").unlink()
    rapl = open_rapl(tmp_path)
    (zone / "energy_uj").unlink()
    with pytest.raises(TemporaryError, match="cannot be read"):
        rapl.joules()
    (zone / "energy_uj").write_text("nonsense")
    with pytest.raises(TemporaryError, match="cannot be read"):
        rapl.joules()
