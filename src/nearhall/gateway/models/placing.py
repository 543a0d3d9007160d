"""Where a variant may run and what it takes there, as far as memory is concerned: of main memory, and of a device's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nearhall.core.evidence import Kind
from nearhall.gateway.models.known import VariantEntry
from nearhall.policy.memory import ARENA_MIB

MAIN = ""
"""Main memory's name among the places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a variant takes, or is expected to take."""

    main_mib: float = 0.0
    main_kind: Kind = Kind.ASSUMED
    device: str = ""
    """`cuda:<index>` where it runs on a device whose memory is counted."""
    device_mib: float = 0.0
    device_kind: Kind = Kind.ASSUMED
    """A limit that a runtime was given is assumed to be what it takes, until the driver tells."""
    arena_mib: float = 0.0
    """What its runtime is held to there."""
    note: str = ""
    """Why it does not run on the device that it wished for, by the account of memory; empty where there is nothing to say."""

    @property
    def places(self) -> tuple[str, ...]:
        """Whose memory it takes."""
        return (MAIN, self.device) if self.device else (MAIN,)

    def mib_in(self, place: str) -> float:
        """How much of it."""
        if place == MAIN:
            return self.main_mib
        return self.device_mib if place == self.device else 0.0


def choices(entry: VariantEntry, budget_of: Callable[[str], float | None]) -> Sequence[Charge]:
    """What it takes where it would rather run, then where it may run instead; `budget_of` is None for an uncounted device."""
    on_cpu = Charge(main_mib=entry.memory_mib, main_kind=entry.memory_kind)
    device = device_of(entry)
    budget_mib = budget_of(device) if device else None
    if budget_mib is None:
        return (on_cpu,)
    options = entry.file.options
    arena_mib = min(ARENA_MIB, budget_mib) if fits_by_default(options) else float(options["gpu_memory_mib"])
    known = entry.device_mib > 0
    there = replace(
        on_cpu,
        device=device,
        device_mib=entry.device_mib if known else arena_mib,
        device_kind=Kind.MEASURED if known else Kind.ASSUMED,
        arena_mib=arena_mib,
    )
    return (there, on_cpu) if options.get("device") == "auto" else (there,)


def device_of(entry: VariantEntry) -> str:
    """The device that its options name, `cuda:<index>`; empty for the CPU, and for runtimes that count otherwise."""
    wish = entry.file.options.get("device", "cpu")
    if entry.file.runtime != "onnxruntime" or not (wish == "auto" or wish.startswith("cuda")):
        return ""
    return f"cuda:{int(wish.partition(':')[2] or 0)}"


def fits_by_default(options: Mapping[str, str]) -> bool:
    """Whether nobody said how much of a device it may take: then it is held to what the device has for models at most."""
    return "gpu_memory_mib" not in options
