"""What is known of a variant before it runs here: from its profile, from model.yaml, or guessed from its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nearhall.core.evidence import Kind
from nearhall.documents.model import Measured
from nearhall.documents.profile import Profile
from nearhall.ports.runtime import ModelFile

MIB = 1024 * 1024
HELD_PER_FILE = 2.0
HELD_MIB = 8.0
"""A guess of what a model takes before anybody measured it: ONNX Runtime held 1.0 to 1.25 times a file of 16 to 64 MiB, and up to
2.2 times where the process kept what loading had needed; small files cost some MiB more."""
KV_GIB = 1.0
"""A language model's cache of keys and values may grow to what its process is given, `options.kv_cache_gib` or this."""
LOAD_MIB_PER_S = 100.0
LOAD_S = 0.2
"""A guess of what loading takes: ONNX Runtime loaded 64 MiB in 0.3 s from a warm page cache, and a cold disk is slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantEntry:
    """One variant as it lies in the repository, and what is known of it before it has run here."""

    file: ModelFile
    platform: str = ""
    fault: str = ""
    """Why it cannot be loaded; empty if it can."""
    preload: bool = False
    file_mib: float = 0.0
    memory_mib: float = 0.0
    """What it takes once loaded: as measured, else guessed from the file."""
    memory_kind: Kind = Kind.ASSUMED
    device_mib: float = 0.0
    """What it took of a device's memory when it was last loaded there, as the driver counted it; 0 where nobody knows."""
    quality: float | None = None
    """Its score over that of the reference variant; None where nobody knows it."""
    joules: float | None = None
    """Of one request; None where nobody measured it."""
    joules_of: str = ""
    """Which parts of which machine those joules are of."""
    reference: str = ""
    """The variant that its quality was held against."""
    latency_ms: float = 0.0
    """Of one request, as measured before; 0 where nobody did."""
    load_s: float = 0.0
    """What loading took, or a guess from the file."""
    load_kind: Kind = Kind.ASSUMED

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.file.variant


def known(entry: VariantEntry, measured: Measured | None, profile: Profile | None) -> VariantEntry:
    """With what its profile says, else model.yaml; else with guesses from its file, of kind `assumed`."""
    if entry.file.runtime == "upstream":
        return entry
    cache_mib = _kv_mib(entry.file) if entry.file.runtime == "genai" else 0.0
    entry = replace(
        entry,
        memory_mib=entry.file_mib * HELD_PER_FILE + HELD_MIB + cache_mib,
        load_s=LOAD_S + entry.file_mib / LOAD_MIB_PER_S,
    )
    if measured is not None:
        entry = _holding(replace(entry, latency_ms=measured.latency_p50_ms), measured.memory_mib, Kind.MEASURED, cache_mib)
    return entry if profile is None else _profiled(entry, profile, cache_mib)


def _holding(entry: VariantEntry, memory_mib: float, kind: Kind, cache_mib: float) -> VariantEntry:
    """With a figure of its memory; the guess stays where less than the file was measured: the process had room left then."""
    return entry if memory_mib < entry.file_mib else replace(entry, memory_mib=memory_mib + cache_mib, memory_kind=kind)


def _profiled(entry: VariantEntry, profile: Profile, cache_mib: float) -> VariantEntry:
    if profile.memory_mib is not None:
        entry = _holding(entry, profile.memory_mib.value, Kind(profile.memory_mib.kind), cache_mib)
    if profile.load_s is not None:
        entry = replace(entry, load_s=profile.load_s.value, load_kind=Kind(profile.load_s.kind))
    single = next((point for point in profile.latency_ms if point.batch == 1), None)
    if single is not None:
        entry = replace(entry, latency_ms=single.p50 if single.p90 is None else single.p90)
    agreement = profile.agreement
    if agreement is not None:
        # Agreement on samples that are nobody's data tells little; model.yaml may still say what somebody knows.
        score = entry.quality if agreement.kind == Kind.ASSUMED.value else agreement.score
        entry = replace(entry, quality=score, reference=agreement.reference)
    joules, basis = _joules(profile)
    return replace(entry, joules=joules, joules_of=f"{basis}; {profile.host.cpu}")


def _joules(profile: Profile) -> tuple[float | None, str]:
    """Of one item, of what, and of which kind: the whole server's where that was metered, else of the parts that were."""
    per = profile.joules_per_item
    if per.it is not None:
        return per.it.value, f"it {per.it.kind}"
    parts = [(name, figure) for name, figure in (("cpu", per.cpu), ("gpu", per.gpu)) if figure is not None]
    basis = ", ".join(f"{name} {figure.kind}" for name, figure in parts)
    return (sum(figure.value for _, figure in parts), basis) if parts else (None, "")


def comparable(variants: Sequence[VariantEntry]) -> tuple[VariantEntry, ...]:
    """The same, each judged by the same measure.

    A variant that others were held against has quality 1. Joules count only where all of them are of the same parts of the same
    kind of machine.
    """
    references = {each.reference for each in variants if each.reference}
    judged = [replace(each, quality=1.0) if each.quality is None and each.name in references else each for each in variants]
    if len({each.joules_of for each in judged if each.joules is not None}) > 1:
        judged = [replace(each, joules=None) for each in judged]
    return tuple(judged)


def _kv_mib(file: ModelFile) -> float:
    try:
        return float(file.options.get("kv_cache_gib", KV_GIB)) * 1024
    except ValueError:  # the runtime will say what is wrong with it
        return KV_GIB * 1024
