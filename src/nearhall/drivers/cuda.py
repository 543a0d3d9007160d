"""CUDA's libraries where pip put them, and why a device cannot be used: in words, before and after ONNX Runtime tries."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.nvml import open_nvml
from nearhall.ports.devices import Devices


def load_cuda_libraries(cuda_version: str, places: Sequence[Path] | None = None) -> list[str]:
    """Loads what ONNX Runtime's CUDA provider is linked with, out of the `nvidia-*` packages or from where the system has it.

    Gives the names that could not be loaded. The packages' folders are on no library path; a library that is loaded already is
    found by its name. `onnxruntime.preload_dlls` does the same, but prints to standard output, where our parent reads, and looks
    only beside itself.
    """
    folders = _nvidia_packages() if places is None else places
    missing: list[str] = []
    for name in _names(cuda_version):
        candidates = [str(path) for folder in folders for path in sorted(folder.glob(f"*/lib/{name}"))]
        if not any(_loads(candidate) for candidate in (*candidates, name)):
            missing.append(name)
    return missing


def why_no_device(missing: Sequence[str], opened: Callable[[], Devices] = open_nvml) -> str:
    """What the device's driver says; where it says that all is well, the libraries that could not be loaded."""
    try:
        nvml = opened()
    except PermanentError as error:
        return str(error)
    try:
        devices = nvml.look()
    except TemporaryError as error:
        return str(error)
    finally:
        nvml.close()
    if not devices:
        return "the driver finds no device"
    what = ", ".join(missing) + " cannot be loaded" if missing else "ONNX Runtime could not use CUDA on it"
    return f"{devices[0].name} is there, but {what} (make gpu)"


def named_device(device: str, opened: Callable[[], Devices] = open_nvml) -> str:
    """`cuda:<index>` with the device's name in place of the index, where all devices have one name.

    CUDA counts devices in another order than NVML where they differ or some are hidden; then the index stays.
    """
    try:
        nvml = opened()
    except PermanentError:
        return device
    try:
        names = {found.name for found in nvml.look()}
    except TemporaryError:
        return device
    finally:
        nvml.close()
    return f"cuda:{names.pop()}" if len(names) == 1 else device


def _loads(library: str) -> bool:
    with suppress(OSError):
        ctypes.CDLL(library)
        return True
    return False


def _names(cuda_version: str) -> Iterator[str]:
    """In the order in which they need each other; cuFFT 12 came with CUDA 13."""
    major = cuda_version.partition(".")[0] or "13"
    yield from (f"libcudart.so.{major}", f"libnvrtc.so.{major}", f"libcublasLt.so.{major}", f"libcublas.so.{major}")
    yield from ("libcurand.so.10", f"libcufft.so.{'12' if int(major) >= 13 else '11'}", "libcudnn.so.9")


def _nvidia_packages() -> list[Path]:
    """Where the `nvidia` packages lie: a namespace, so it may be several folders."""
    spec = find_spec("nvidia")
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
