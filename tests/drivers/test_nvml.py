"""NVML: what a device tells, what it does not, and a machine that has none."""

# ruff: noqa: N802 (the library's names)

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.nvml import Nvml, NvmlEnergy, open_nvml

MIB = 2**20


class FakeNvmlError(Exception):
    """As the library's own."""


class FakeLibrary:
    """`pynvml` of a machine with devices, as far as it is used; a question that is not in `knows` is not supported."""

    NVMLError = FakeNvmlError

    def __init__(
        self, devices: int = 1, *, knows: frozenset[str] = frozenset({"memory", "busy", "power", "limit", "energy"})
    ) -> None:
        self.devices = devices
        self.knows = knows
        self.energy_mj = 5_000_000
        self.gone = False
        self.shut = 0

    def _say(self, what: str, value: Any) -> Any:
        if what not in self.knows:
            raise FakeNvmlError("Not Supported")
        return value

    def nvmlSystemGetDriverVersion(self) -> str:
        if self.gone:
            raise FakeNvmlError("Driver Not Loaded")
        return "580.1"

    def nvmlDeviceGetCount(self) -> int:
        return self.devices

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA T%d" % handle

    def nvmlDeviceGetMemoryInfo(self, _: int) -> Any:
        return self._say("memory", SimpleNamespace(total=1000 * MIB, used=250 * MIB))

    def nvmlDeviceGetUtilizationRates(self, _: int) -> Any:
        return self._say("busy", SimpleNamespace(gpu=40, memory=10))

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:
        return self._say("power", 70_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, _: int) -> int:
        return self._say("limit", 350_000)

    def nvmlDeviceGetTotalEnergyConsumption(self, _: int) -> int:
        return self._say("energy", self.energy_mj)

    def nvmlShutdown(self) -> None:
        self.shut += 1


def test_a_device_tells_its_name_memory_power_energy_and_load_in_our_units():
    (device,) = Nvml(FakeLibrary()).look()
    assert (device.name, device.driver) == ("NVIDIA T0", "580.1")
    assert (device.memory_total_mib, device.memory_used_mib) == (1000, 250)
    assert (device.power_w, device.power_limit_w, device.energy_j, device.busy_share) == (70.5, 350, 5000, 0.4)


def test_what_a_device_does_not_tell_is_none_and_never_nought():
    (device,) = Nvml(FakeLibrary(knows=frozenset())).look()
    told = (
        device.memory_total_mib,
        device.memory_used_mib,
        device.power_w,
        device.power_limit_w,
        device.energy_j,
        device.busy_share,
    )
    assert set(told) == {None}


def test_energy_counts_from_the_first_look_over_all_devices():
    library = FakeLibrary(2)
    energy = NvmlEnergy(Nvml(library))
    assert energy.joules() == 0
    library.energy_mj += 1500
    assert energy.joules() == pytest.approx(3.0)
    assert energy.source == "nvml"


def test_energy_of_devices_that_do_not_count_cannot_be_read():
    with pytest.raises(TemporaryError, match="NVIDIA T0 does not count its energy"):
        NvmlEnergy(Nvml(FakeLibrary(knows=frozenset({"power"})))).joules()


def test_a_driver_that_goes_away_is_a_temporary_error():
    library = FakeLibrary()
    nvml = Nvml(library)
    library.gone = True
    with pytest.raises(TemporaryError, match="NVML does not answer: Driver Not Loaded"):
        nvml.look()


def test_it_is_let_go_once():
    library = FakeLibrary()
    energy = NvmlEnergy(Nvml(library))
    energy.close()
    energy.close()
    assert library.shut == 1


def test_this_machine_has_devices_or_says_in_one_clause_why_not():
    said = _devices_or_why()
    assert said
    assert all("\n" not in line for line in said)


def _devices_or_why() -> list[str]:
    try:
        nvml = open_nvml()
    except PermanentError as error:
        return [str(error)]
    try:
        return [device.name for device in nvml.look()] or ["none"]
    finally:
        nvml.close()
