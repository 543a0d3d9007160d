"""What this machine is and how quiet: cores for client and server, time stolen, load, CPU and memory of processes."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nearhall.cli.pilot.machine import describe

LOAD_MAX = 0.5
"""Processes that want to run before anything is measured; an idle machine has hardly any."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Who may run where."""

    client: frozenset[int]
    server: frozenset[int]

    @property
    def disjoint(self) -> bool:
        """Whether client and server never take each other's time."""
        return not self.client & self.server


def split_cores(available: Collection[int], *, pinned: bool = True) -> Cores:
    """The first core for the client and the rest for the server, so that neither takes the other's time.

    All for both where there is one core, or where pinning is not wanted.
    """
    cores = sorted(available)
    if len(cores) < 2 or not pinned:
        return Cores(client=frozenset(cores), server=frozenset(cores))
    return Cores(client=frozenset(cores[:1]), server=frozenset(cores[1:]))


def available_cores() -> frozenset[int]:
    """The cores this process may use."""
    return frozenset(os.sched_getaffinity(0))


@contextmanager
def on_cores(cores: Iterable[int]) -> Generator[None]:
    """Keeps the calling thread, and what it starts meanwhile, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """The machine's CPU time so far, in ticks."""

    total: int
    stolen: int

    def stolen_since(self, before: CpuTimes) -> float:
        """Share of the time in between that a hypervisor gave to others."""
        total = self.total - before.total
        return (self.stolen - before.stolen) / total if total > 0 else 0.0


def cpu_times() -> CpuTimes:
    """From /proc/stat (proc(5): user nice system idle iowait irq softirq steal)."""
    fields = [int(value) for value in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    return CpuTimes(sum(fields), fields[7] if len(fields) > 7 else 0)


def waited_s() -> float:
    """How long the calling thread has been ready to run while others ran; 0 where the kernel does not count it (schedstat)."""
    with suppress(OSError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def warnings(cores: Cores) -> list[str]:
    """Why figures taken now may say more about the machine than about a server."""
    found: list[str] = []
    if not cores.disjoint:
        why = "there is one core" if len(cores.client) == 1 else "they were not pinned"
        found.append(f"client and server share their cores ({why}): each takes the other's time")
    load = os.getloadavg()[0]
    if load > LOAD_MAX:
        found.append(f"something else runs here (load {load:.1f} before the start): close it, or read ratios with care")
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    with suppress(OSError):
        kind = governor.read_text().strip()
        if kind not in {"performance", "schedutil"}:
            found.append(f"the CPU's governor is {kind!r}: its clock follows the load, and latencies with it")
    return found


def describe_machine() -> dict[str, Any]:
    """What figures of this run belong to."""
    import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]  # heavy, and only its version

    return {
        **describe(),
        "kernel": platform.release(),
        "onnxruntime": ort.__version__,
        "load_before": round(os.getloadavg()[0], 2),
    }


class Tree:
    """A process and its children, as they are whenever they are asked about."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """Those that live."""
        try:
            root = psutil.Process(self.pid)
            return [root.pid, *(child.pid for child in root.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """User and system seconds so far, ended children that were waited for with them (proc(5), `stat`)."""
        return sum(map(_cpu_ticks, self.pids())) / _TICKS_PER_S

    def pss_mib(self) -> float:
        """Memory, shared pages split among those who share them."""
        return sum(map(_pss_kib, self.pids())) / 1024


def _cpu_ticks(pid: int) -> int:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(value) for value in fields[11:15])
    return 0


def _pss_kib(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def listener_of(host: str, port: int) -> int | None:
    """The process on this machine that listens there; None for another machine's, or one that may not be looked at."""
    try:
        ours = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
        if not {found[4][0] for found in socket.getaddrinfo(host, port)} & ours:
            return None
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except (OSError, psutil.Error):
        return None
    pids = [c.pid for c in listening if c.laddr.port == port and c.pid is not None]  # type: ignore[union-attr]
    return _oldest(pids)


def _oldest(pids: list[int]) -> int | None:
    """Of several workers on one port, the one that is the others' parent."""
    living: list[tuple[float, int]] = []
    for pid in set(pids):
        with suppress(psutil.Error):
            living.append((psutil.Process(pid).create_time(), pid))
    return min(living)[1] if living else None
