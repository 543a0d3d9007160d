"""NVIDIA's devices by NVML, the driver's management library (`ports.devices`). Reads alone; it sets nothing and resets nothing.

What NVML says is of the whole device, whoever uses it, and its instrument has no class and no commissioning record: every figure
that is derived from it is `assumed`.
"""

# nvidia-ml-py comes without types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.ports.devices import Device

MIB = 2**20


def open_nvml() -> Nvml:
    """NVML of this machine; raises PermanentError that says in one clause why there is none."""
    return Nvml(open_library())


def open_library() -> Any:
    """The library itself, initialised (NVML counts who has, so each closes for itself); raises PermanentError as above."""
    try:
        import pynvml
    except ImportError as error:
        raise PermanentError("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise PermanentError(_why(error)) from error
    return pynvml


class Nvml:
    """The devices; made by `open_nvml`."""

    def __init__(self, library: Any) -> None:
        """`library` is `pynvml` or what behaves like it, initialised."""
        self._nvml = library
        self._open = True

    def look(self) -> Sequence[Device]:
        """All devices by index; raises TemporaryError when the driver does not answer."""
        nvml = self._nvml
        try:
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            return [self._device(nvml.nvmlDeviceGetHandleByIndex(index), driver) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise TemporaryError(f"NVML does not answer: {error}") from error

    def close(self) -> None:
        """Lets the driver go."""
        if self._open:
            self._open = False
            self._nvml.nvmlShutdown()

    def _device(self, handle: Any, driver: str) -> Device:
        nvml = self._nvml
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        busy = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        return Device(
            name=_text(nvml.nvmlDeviceGetName(handle)),
            driver=driver,
            memory_total_mib=None if memory is None else memory.total / MIB,
            memory_used_mib=None if memory is None else memory.used / MIB,
            power_w=_scaled(self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))),
            power_limit_w=_scaled(self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))),
            energy_j=_scaled(self._ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))),
            busy_share=None if busy is None else busy.gpu / 100.0,
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer; None where this device does not know it (a small or virtual one often lacks power and energy)."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None


class NvmlEnergy:
    """The energy of all devices together (`ports.devices.EnergyCounter`)."""

    source = "nvml"

    def __init__(self, devices: Nvml) -> None:
        self._devices = devices
        self._first: float | None = None

    def joules(self) -> float:
        """Since the first call; raises TemporaryError where the driver does not answer or one device does not count."""
        total = 0.0
        for device in self._devices.look():
            if device.energy_j is None:
                raise TemporaryError(f"{device.name} does not count its energy")
            total += device.energy_j
        if self._first is None:
            self._first = total
        return max(0.0, total - self._first)

    def close(self) -> None:
        """Lets the driver go."""
        self._devices.close()


def _scaled(milli: float | None) -> float | None:
    return None if milli is None else milli / 1e3


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _why(error: Exception) -> str:
    """NVML's own words, and what they mean on a machine without a device."""
    text = str(error).strip() or type(error).__name__
    return f"the driver's library is not here ({text})" if "NotFound" in type(error).__name__ else f"NVML does not start ({text})"
