"""What works on this machine, what does not, and why: one finding for each thing that `nearhall up` stands on."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from nearhall.cli.pilot.free_ports import HIGHEST, LOWEST, free_ports
from nearhall.core.errors import NearhallError, TemporaryError
from nearhall.drivers.host import cores, cpu_quota
from nearhall.drivers.nvml import open_nvml
from nearhall.drivers.tcp_info import link_bytes
from nearhall.ports.devices import Device

PYTHON_MIN = (3, 11)
MEMORY_GIB_MIN, MEMORY_GIB_LIGHT_MIN = 3.0, 1.5
"""Estimates, on the safe side: a dozen Python processes of some 60 to 150 MB each, and two runtimes of the chat model."""
DISK_GIB_MIN = 0.5
"""Models and clips need 0.2 GB; the rest is room for results and the spool."""
PILOT_PORTS = 16
"""Four for the hub, four for each of two sites, and some to spare."""
IMPORT_SECONDS_MAX = 60
"""A cold disk reads OpenVINO's libraries in some ten seconds."""
CLOCK_ERROR_MS_MAX = 100.0
"""Beyond this, times of site and hub cannot be laid side by side."""

State = Literal["ok", "absent", "unknown", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    area: str
    name: str
    state: State
    """`ok`; `absent`: not here and not needed; `unknown`: cannot be told from here; `broken`: `up` cannot run."""
    says: str
    mend: str = ""
    """What to do about it; empty where nothing is to do."""


def examine(cache: Path, root: Path = Path("/")) -> list[Finding]:
    """Looks at everything; `root` is where /proc and /sys are. Changes nothing, asks no other machine."""
    return [*_machine(cache, root), *_kernel(), *_libraries(), *_models(cache), *_ports(), *_instruments(root), *_for_tests()]


def can_run(findings: Sequence[Finding]) -> bool:
    """Whether `nearhall up` can run here."""
    return all(finding.state != "broken" for finding in findings)


# ---- the machine ----------------------------------------------------------------------------------------------


def _machine(cache: Path, root: Path) -> Iterator[Finding]:
    enough = sys.version_info >= PYTHON_MIN
    yield Finding(
        area="machine",
        name="Python",
        state="ok" if enough else "broken",
        says=f"{platform.python_version()} ({sys.executable})",
        mend="" if enough else "nearhall needs Python 3.11 or newer: make PYTHON=python3.12 setup",
    )
    yield _cores(root)
    yield _memory(root)
    yield _disk(cache)
    yield _clock()


def _cores(root: Path) -> Finding:
    allowed = cores()
    quota = cpu_quota(root)
    granted = min(float(allowed), quota or float(allowed))
    limited = f", limited to {quota:g} by the control group" if quota is not None and quota < allowed else ""
    return Finding(
        area="machine",
        name="cores",
        state="ok",
        says=f"{allowed} usable{limited}",
        mend="" if granted >= 2 else "one core plays hub, sites and cameras together: expect late answers; try --light",
    )


def _memory(root: Path) -> Finding:
    seen = psutil.virtual_memory()
    limits = [_words(root / "sys/fs/cgroup" / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    limit = next((int(words[0]) for words in limits if words and words[0].isdigit()), seen.total)
    total = min(limit, seen.total) / 2**30
    free = min(total, seen.available / 2**30)
    says = f"{total:.1f} GiB, {free:.1f} GiB free"
    if free < MEMORY_GIB_LIGHT_MIN:
        mend = f"the light pilot needs {MEMORY_GIB_LIGHT_MIN:g} GiB: end other programs"
        return Finding(area="machine", name="memory", state="broken", says=says, mend=mend)
    mend = "" if free >= MEMORY_GIB_MIN else f"the chat model wants {MEMORY_GIB_MIN:g} GiB: use nearhall up --light"
    return Finding(area="machine", name="memory", state="ok", says=says, mend=mend)


def _disk(cache: Path) -> Finding:
    place = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        mend = "set NEARHALL_CACHE to a folder that you may write"
        return Finding(area="machine", name="cache", state="broken", says=f"{place} cannot be written", mend=mend)
    says = f"{free:.1f} GiB free at {cache}"
    if free < DISK_GIB_MIN:
        mend = f"{DISK_GIB_MIN:g} GiB are needed: make room, or set NEARHALL_CACHE to a larger disk"
        return Finding(area="machine", name="cache", state="broken", says=says, mend=mend)
    return Finding(area="machine", name="cache", state="ok", says=says)


def _clock() -> Finding:
    error_ms = clock_error_ms()
    if error_ms is None:
        says = "the kernel does not say whether its clock is synchronised"
        mend = "on one machine it does not matter; across machines run chrony or systemd-timesyncd"
        return Finding(area="machine", name="clock", state="unknown", says=says, mend=mend)
    mend = (
        "" if error_ms <= CLOCK_ERROR_MS_MAX else "run chrony or systemd-timesyncd before sites and hub are on different machines"
    )
    return Finding(area="machine", name="clock", state="ok", says=f"synchronised within {error_ms:.1f} ms at most", mend=mend)


_TIMEX = struct.Struct("@Illlli")
"""Head of `struct timex` (adjtimex(2)): modes, offset, freq, maxerror (us), esterror, status."""
_TIMEX_BYTES = 256
"""The kernel's struct has 208 bytes on 64-bit machines and fewer on 32-bit ones."""
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


def clock_error_ms() -> float | None:
    """The kernel's own bound of the clock's error (adjtimex(2), modes 0: a query, no root); None when nobody disciplines it."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (AttributeError, OSError):
        return None
    _, _, _, error_us, _, status = _TIMEX.unpack_from(buffer)
    if state in {-1, _TIME_ERROR} or status & _STA_UNSYNC:
        return None
    return error_us / 1000


# ---- the kernel -----------------------------------------------------------------------------------------------


def _kernel() -> Iterator[Finding]:
    release = platform.release()
    tries: list[tuple[str, Callable[[], None], str]] = [
        ("pidfd_open", _try_pidfd, "an agent cannot adopt a living gateway: Linux 5.3 or newer is needed"),
        ("SO_REUSEPORT", _try_reuseport, "an agent cannot stand in for its gateway: Linux 3.9 or newer is needed"),
        ("Unix sockets", _try_unix_socket, "set TMPDIR to a short path on a local disk"),
        ("TCP_INFO", _try_tcp_info, "bytes on the link cannot be counted: Linux 4.19 or newer is needed"),
        ("TLS 1.3", _try_tls, "install a Python that is linked with OpenSSL 1.1.1 or newer"),
    ]
    for name, attempt, mend in tries:
        try:
            attempt()
        except (OSError, AttributeError, ValueError) as error:
            yield Finding(area="kernel", name=name, state="broken", says=f"does not work here ({error})", mend=mend)
        else:
            yield Finding(area="kernel", name=name, state="ok", says=f"works ({platform.system()} {release})")


def _try_pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _try_reuseport() -> None:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 0))
        two.bind(one.getsockname())


def _try_unix_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="nearhall-") as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(Path(folder) / "control-of-a-site-with-a-long-name.sock"))


def _try_tcp_info() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"seven b")
            accepted.recv(16)
            sent, _ = link_bytes(client)
            if sent < 7:
                message = f"7 bytes were sent and {sent} counted"
                raise ValueError(message)


def _try_tls() -> None:
    if not ssl.HAS_TLSv1_3:
        raise ValueError(ssl.OPENSSL_VERSION)


# ---- libraries and models -------------------------------------------------------------------------------------

ONNX_RUNTIME = "onnxruntime"
GPU_BUILD = "onnxruntime-gpu"
"""The other package that brings the same module; where it is installed it stands for the first."""

LIBRARIES: Sequence[tuple[str, str, str]] = (
    (ONNX_RUNTIME, "onnxruntime", ""),
    ("openvino", "openvino", ""),
    ("openvino-genai", "openvino_genai", "the chat model is left out: use nearhall up --light, or make setup"),
    ("av", "av", ""),
    ("onnx", "onnx", ""),
    ("scikit-learn", "sklearn", ""),
)
"""Package, the module it is imported by, and, for one that `up` can do without, what follows when it is missing."""


def _libraries() -> list[Finding]:
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(_library, LIBRARIES))


def _library(library: tuple[str, str, str]) -> Finding:
    """Imports it in a process of its own: a wheel built for another processor ends that one, not this."""
    package, module, without = library
    try:
        found = _installed(package)
    except PackageNotFoundError:
        return Finding(
            area="runtime",
            name=package,
            state="absent" if without else "broken",
            says="is not installed",
            mend=without or "make setup",
        )
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=IMPORT_SECONDS_MAX, check=False
        )
        said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"was not there after {IMPORT_SECONDS_MAX} s"
    if said:
        mend = "install it anew: .venv/bin/python -m pip install --force-reinstall --no-deps " + package
        return Finding(area="runtime", name=package, state="broken", says=f"{found} cannot be imported: {said}", mend=mend)
    return Finding(area="runtime", name=package, state="ok", says=found)


def _installed(package: str) -> str:
    """Its version; raises PackageNotFoundError."""
    try:
        return version(package)
    except PackageNotFoundError:
        if package != ONNX_RUNTIME:
            raise
        return f"{version(GPU_BUILD)} ({GPU_BUILD})"


def _models(cache: Path) -> Iterator[Finding]:
    for name in ("faces", "voice", "inspection", "smollm2"):
        here = (cache / "models" / name / "model.yaml").is_file()
        yield Finding(
            area="models",
            name=name,
            state="ok" if here else "absent",
            says="in the cache" if here else "not fetched yet",
            mend="" if here else "nothing to do: nearhall up fetches it; nearhall models fetch does so now",
        )


def _ports() -> Iterator[Finding]:
    try:
        free_ports(PILOT_PORTS)
    except TemporaryError as error:
        mend = "end other servers on 127.0.0.1, or allow programs to listen there"
        yield Finding(area="network", name="ports", state="broken", says=str(error), mend=mend)
    else:
        says = f"at least {PILOT_PORTS} free on 127.0.0.1 between {LOWEST} and {HIGHEST}"
        yield Finding(area="network", name="ports", state="ok", says=says)


# ---- instruments ----------------------------------------------------------------------------------------------


def _instruments(root: Path) -> Iterator[Finding]:
    yield from _gpus(root)
    yield _rapl(root)


def _gpus(root: Path) -> list[Finding]:
    """Each device with what it is, or one finding that says why there is none."""
    use = "set options: {device: auto} of a model's variant and install requirements/gpu.txt (make gpu): docs/how-to/use-a-gpu.md"
    try:
        nvml = open_nvml()
        try:
            devices = nvml.look()
        finally:
            nvml.close()
    except NearhallError as error:
        if not _words(root / "proc/driver/nvidia/version"):
            says = f"none: {error}; models run on the CPU"
            mend = "a GPU server elsewhere can be used: nearhall models add http://HOST:PORT"
            return [Finding(area="instruments", name="GPU", state="absent", says=says, mend=mend)]
        says = f"an NVIDIA driver is loaded, but {error}"
        mend = "in a container, start it with its devices and the driver's libraries (--gpus all)"
        return [Finding(area="instruments", name="GPU", state="unknown", says=says, mend=mend)]
    if not devices:
        says = "none: the NVIDIA driver finds no device; models run on the CPU"
        return [Finding(area="instruments", name="GPU", state="absent", says=says, mend="nvidia-smi -L lists what it finds")]
    return [
        Finding(area="instruments", name=f"GPU {index}", state="ok", says=described(device), mend=use)
        for index, device in enumerate(devices)
    ]


def described(device: Device) -> str:
    """A device in one line: name, driver, memory and power; what it does not tell is said to be so."""
    memory, power = "memory not told", "power not told"
    if device.memory_total_mib is not None and device.memory_used_mib is not None:
        memory = f"{device.memory_used_mib / 1024:.1f} of {device.memory_total_mib / 1024:.1f} GiB used"
    if device.power_w is not None:
        limit = "" if device.power_limit_w is None else f" of {device.power_limit_w:.0f}"
        power = f"{device.power_w:.0f}{limit} W"
    counts = "counts its energy" if device.energy_j is not None else "does not count its energy"
    return f"{device.name}, driver {device.driver}, {memory}, {power}, {counts}"


def _rapl(root: Path) -> Finding:
    counters = sorted((root / "sys/class/powercap").glob("*/energy_uj"))
    if not counters:
        says = "this machine shows no energy counters; power comes from meters, or is simulated"
        mend = "read a real meter: nearhall meters read modbus://HOST:502/1"
        return Finding(area="instruments", name="RAPL", state="absent", says=says, mend=mend)
    if not os.access(counters[0], os.R_OK):
        says = f"{counters[0]} may be read by root alone"
        return Finding(area="instruments", name="RAPL", state="absent", says=says, mend=f"sudo chmod a+r {counters[0]}")
    return Finding(area="instruments", name="RAPL", state="ok", says=f"{len(counters)} energy counters can be read")


def _for_tests() -> Iterator[Finding]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    yield Finding(
        area="tests",
        name="Chromium",
        state="ok" if browser else "absent",
        says=browser or "not here; only tests of the page use it",
        mend="" if browser else "Debian, Ubuntu: apt-get install chromium",
    )


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
