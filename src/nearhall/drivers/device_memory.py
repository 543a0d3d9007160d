"""How much memory NVIDIA's devices have and who holds it, by NVML (`ports.devices.DeviceMemory`), in CUDA's order of devices."""

# nvidia-ml-py comes without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nearhall.core.errors import PermanentError
from nearhall.drivers.nvml import open_library
from nearhall.ports.devices import DeviceSpace

MIB = 2**20


def open_device_memory(
    environment: Mapping[str, str] = os.environ, opened: Callable[[], Any] = open_library
) -> NvmlMemory | None:
    """That of this machine; None where NVML is not there, and with it no device whose memory anybody could count."""
    try:
        library = opened()
    except PermanentError:
        return None
    return NvmlMemory(library, environment)


class NvmlMemory:
    """Made by `open_device_memory`."""

    def __init__(self, library: Any, environment: Mapping[str, str]) -> None:
        """`library` is `pynvml` or what behaves like it, initialised."""
        self._nvml = library
        self._visible = environment.get("CUDA_VISIBLE_DEVICES")
        self._by_bus = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        self._open = True

    def look(self) -> Mapping[str, DeviceSpace]:
        """All devices that CUDA may use, by `cuda:<index>`; reads memory alone, which takes the driver some microseconds."""
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            found = [self._space(handle) for handle in handles]
            names = [str(nvml.nvmlDeviceGetName(handle)) for handle in handles]
            uuids = [_text(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        except nvml.NVMLError:
            return {}
        if len(set(names)) > 1 and not self._by_bus:
            return _least(found, len(found) if self._visible is None else len(visible(self._visible, uuids)))
        order = range(len(found)) if self._visible is None else visible(self._visible, uuids)
        return {f"cuda:{place}": found[index] for place, index in enumerate(order)}

    def close(self) -> None:
        """Lets the driver go."""
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()

    def _space(self, handle: Any) -> DeviceSpace:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return DeviceSpace(total_mib=memory.total / MIB, free_mib=memory.free / MIB, ours_mib=self._ours(handle))

    def _ours(self, handle: Any) -> float | None:
        """In a container the driver tells the pids of the host, or nothing: then this process is not among them."""
        nvml = self._nvml
        try:
            running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError:
            return None
        used = [each.usedGpuMemory for each in running if each.pid == os.getpid() and each.usedGpuMemory is not None]
        return sum(used) / MIB if used else None


def visible(said: str, uuids: Sequence[str]) -> list[int]:
    """The devices that `CUDA_VISIBLE_DEVICES` leaves, by NVML's index: up to the first that is none, as CUDA reads it."""
    found: list[int] = []
    for part in (each.strip() for each in said.split(",")):
        if part.isascii() and part.isdigit():
            index = int(part)
        else:
            index = next((at for at, uuid in enumerate(uuids) if part and uuid.startswith(part)), len(uuids))
        if index >= len(uuids):
            break
        found.append(index)
    return found


def _least(spaces: Sequence[DeviceSpace], count: int) -> Mapping[str, DeviceSpace]:
    """Devices of several kinds: CUDA counts the fastest first, NVML by the bus, and nobody says which is which.

    Each is taken for the one with the least room, so that none is passed; `CUDA_DEVICE_ORDER=PCI_BUS_ID` makes the two agree.
    """
    worst = DeviceSpace(
        total_mib=min(each.total_mib for each in spaces), free_mib=min(each.free_mib for each in spaces), ours_mib=None
    )
    return {f"cuda:{place}": worst for place in range(count)}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


class FixedDevices:
    """Devices as a test says they are: what is taken is told by whoever takes it."""

    def __init__(self, *total_mib: float, tells_ours: bool = True) -> None:
        self.total = {f"cuda:{index}": mib for index, mib in enumerate(total_mib)}
        self.ours = dict.fromkeys(self.total, 0.0)
        self.others = dict.fromkeys(self.total, 0.0)
        self.tells_ours = tells_ours
        self.gone = False
        """The driver does not answer."""

    def look(self) -> Mapping[str, DeviceSpace]:
        """What was set."""
        if self.gone:
            return {}
        return {
            name: DeviceSpace(
                total_mib=total,
                free_mib=total - self.ours[name] - self.others[name],
                ours_mib=(self.ours[name] or None) if self.tells_ours else None,
            )
            for name, total in self.total.items()
        }

    def close(self) -> None:
        """Nothing is held."""
