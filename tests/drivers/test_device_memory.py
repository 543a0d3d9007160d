"""What NVML says of devices' memory, in CUDA's order; the library is one that behaves like it, since no device is here."""

# ruff: noqa: N802 (the library's names)

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from nearhall.core.errors import PermanentError
from nearhall.drivers.device_memory import FixedDevices, NvmlMemory, open_device_memory, visible
from nearhall.ports.devices import DeviceMemory, DeviceSpace

MIB = 2**20


class FakeNvmlError(Exception):
    """As the library's own."""


class FakeLibrary:
    """`pynvml` of a machine with devices, as far as it is used: (name, total, free) of each, MiB."""

    NVMLError = FakeNvmlError

    def __init__(self, *devices: tuple[str, int, int], running: Sequence[tuple[int, int | None]] | None = ()) -> None:
        self.devices = devices
        self.running = running
        self.gone = False
        self.shut = 0

    def nvmlDeviceGetCount(self) -> int:
        if self.gone:
            raise FakeNvmlError("Driver Not Loaded")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return self.devices[handle][0]

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return b"GPU-%d-abc" % handle

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        _, total, free = self.devices[handle]
        return SimpleNamespace(total=total * MIB, free=free * MIB, used=(total - free) * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, _: int) -> list[Any]:
        if self.running is None:
            raise FakeNvmlError("Not Supported")
        return [SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB) for pid, mib in self.running]

    def nvmlShutdown(self) -> None:
        self.shut += 1


def _opened(library: FakeLibrary, **environment: str) -> DeviceMemory:
    found = open_device_memory(environment, lambda: library)
    assert found is not None
    return found


def test_each_device_has_what_it_has_and_what_is_free():
    found = _opened(FakeLibrary(("T4", 16000, 15000), ("T4", 16000, 9000))).look()
    assert found == {
        "cuda:0": DeviceSpace(total_mib=16000, free_mib=15000),
        "cuda:1": DeviceSpace(total_mib=16000, free_mib=9000),
    }


@pytest.mark.parametrize(
    ("running", "ours"),
    [
        ([(1, 300), (os.getpid(), 700)], 700.0),
        ([(1, 300)], None),
        ([(os.getpid(), None)], None),
        (None, None),
    ],
    ids=["told", "of others alone, as in a container", "not how much", "not supported"],
)
def test_what_is_ours_is_told_where_the_driver_tells_it(running: Sequence[tuple[int, int | None]] | None, ours: float | None):
    found = _opened(FakeLibrary(("T4", 16000, 15000), running=running)).look()
    assert found["cuda:0"].ours_mib == ours


def test_a_driver_that_does_not_answer_tells_of_no_device_and_may_come_back():
    library = FakeLibrary(("T4", 16000, 15000))
    memory = _opened(library)
    library.gone = True
    assert memory.look() == {}
    library.gone = False
    assert list(memory.look()) == ["cuda:0"]
    memory.close()
    memory.close()
    assert library.shut == 1


TWO = (("T4", 16000, 15000), ("A2", 8000, 2000))


@pytest.mark.parametrize(
    ("environment", "free"),
    [
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, {"cuda:0": 15000, "cuda:1": 2000}),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}, {"cuda:0": 2000}),
        ({}, {"cuda:0": 2000, "cuda:1": 2000}),
        ({"CUDA_VISIBLE_DEVICES": "0"}, {"cuda:0": 2000}),
        ({"CUDA_VISIBLE_DEVICES": ""}, {}),
    ],
    ids=["by the bus", "by the bus, one of them", "of two kinds: the least of them", "the same, one of them", "none"],
)
def test_devices_are_counted_as_cuda_counts_them(environment: Mapping[str, str], free: Mapping[str, float]):
    found = NvmlMemory(FakeLibrary(*TWO), environment).look()
    assert {name: space.free_mib for name, space in found.items()} == free


@pytest.mark.parametrize(
    ("said", "left"),
    [("1,0", [1, 0]), ("GPU-1", [1]), (" 0 , GPU-1-abc", [0, 1]), ("0,7,1", [0]), ("-1", []), ("", []), ("MIG-x", [])],
)
def test_what_is_visible_ends_at_the_first_that_is_none(said: str, left: list[int]):
    assert visible(said, ["GPU-0-abc", "GPU-1-abc"]) == left


def test_a_machine_without_nvml_has_nothing_to_count():
    def absent() -> Any:
        raise PermanentError("nvidia-ml-py is not installed")

    assert open_device_memory({}, absent) is None


def test_the_devices_of_a_test_keep_the_same_contract():
    fixed = FixedDevices(8000, 4000)
    fixed.ours["cuda:0"], fixed.others["cuda:0"] = 1000.0, 500.0
    assert fixed.look()["cuda:0"] == DeviceSpace(total_mib=8000, free_mib=6500, ours_mib=1000)
    assert fixed.look()["cuda:1"] == DeviceSpace(total_mib=4000, free_mib=4000)
    fixed.gone = True
    assert fixed.look() == {}
    fixed.close()
