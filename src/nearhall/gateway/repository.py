"""The models that lie in a folder: `<repo>/<model>/model.yaml`, or a Triton folder with `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.core.tensor import TensorSpec
from nearhall.documents.model import Measured, ModelDocument, TensorShape
from nearhall.documents.yaml_file import read_document
from nearhall.gateway.profiles import NOTHING, Known, known_of
from nearhall.gateway.samples import Example
from nearhall.gateway.triton_config import FILE_NAME as TRITON_FILE
from nearhall.gateway.triton_config import read_triton
from nearhall.ports.runtime import ModelFile

FILE_NAME = "model.yaml"
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
MODELS_MAX = 256
"""Each loaded model costs a thread and its weights; a folder with more is not a site's."""


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
    quality: float | None = None
    """Its score over that of the reference variant; None where nobody knows it."""
    joules: float | None = None
    """Of one request; None where nobody measured it."""
    latency_ms: float = 0.0
    """Of one request, as measured before; 0 where nobody did."""
    load_s: float = 0.0
    """What loading took, or a guess from the file."""
    load_kind: Kind = Kind.ASSUMED

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.file.variant


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model as it lies in the repository; with `fault` set it cannot be loaded, and that says why."""

    name: str
    version: str = ""
    versions: tuple[str, ...] = ()
    chat: bool = False
    stateful: bool = False
    """A request to it is never repeated elsewhere."""
    file: ModelFile | None = None
    inputs: tuple[TensorSpec, ...] = ()
    """As documented; what the file itself says counts more once it is loaded."""
    outputs: tuple[TensorSpec, ...] = ()
    fault: str = ""
    platform: str = ""
    variants: tuple[VariantEntry, ...] = ()
    """Those of the version that is served, the default one first; empty for a model that cannot be loaded."""
    pinned: bool = False
    """Its default variant stays in memory."""
    examples: Mapping[str, Example] = field(default_factory=dict[str, Example])
    """What to warm up with, by input."""

    @property
    def variant(self) -> str:
        """The default variant; empty for a model that cannot be loaded."""
        return "" if self.file is None else self.file.variant

    @property
    def runtime(self) -> str:
        """The default variant's runtime; empty for a model that cannot be loaded."""
        return "" if self.file is None else self.file.runtime


def scan(folder: Path) -> dict[str, Entry]:
    """Every model in the folder, by name; a faulty one is an entry with its fault. Raises InputError for no folder."""
    try:
        places = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"the model repository cannot be read ({error.strerror})",
            where=str(folder),
            right="name a folder with one sub-folder per model; `nearhall models add FILE` makes one",
        ) from error
    found = [(place, entry) for place in places if (entry := read_entry(place)) is not None]
    if len(found) > MODELS_MAX:
        raise InputError(f"has {len(found)} models", where=str(folder), right=f"at most {MODELS_MAX}")
    return {entry.name: entry for _, entry in found}


def read_entry(place: Path) -> Entry | None:
    """The model in one folder; None where neither model.yaml nor config.pbtxt lies in it."""
    try:
        if (place / FILE_NAME).is_file():
            return _ours(place, read_document(place / FILE_NAME, ModelDocument))
        if (place / TRITON_FILE).is_file():
            return _tritons(place)
    except (InputError, ValueError, OSError) as error:
        return Entry(name=place.name, fault=str(error))
    return None


def _ours(place: Path, document: ModelDocument) -> Entry:
    if document.name != place.name:
        raise InputError(
            f"name is {document.name!r}, but its folder is {place.name!r}",
            where=str(place / FILE_NAME),
            right="make them the same",
        )
    version = document.versions[document.default_version]
    names = sorted(version.variants, key=lambda name: (name != document.default_variant, name))
    given = {name: version.variants[name] for name in names}
    folder = place / document.default_version
    known = known_of({name: (folder / name / Path(each.file).name, each.sha256) for name, each in given.items()})
    variants = tuple(_variant(place, document, name, known.get(name, NOTHING)) for name in names)
    default = variants[0]
    if default.fault:
        raise InputError(default.fault, where=str(place / FILE_NAME), right="fetch or add the model again")
    return Entry(
        name=document.name,
        version=document.default_version,
        versions=tuple(document.versions),
        chat=document.task == "chat",
        stateful=document.stateful,
        file=default.file,
        inputs=_specs(document.inputs),
        outputs=_specs(document.outputs),
        platform=default.platform,
        variants=variants,
        pinned=document.pinned,
        examples={
            s.name: (None if s.example_shape is None else tuple(s.example_shape), s.example_value)
            for s in document.inputs
            if s.example_shape is not None or s.example_value
        },
    )


def _variant(place: Path, document: ModelDocument, name: str, known: Known) -> VariantEntry:
    variant = document.versions[document.default_version].variants[name]
    path = place / document.default_version / name / variant.file
    local = variant.runtime != "upstream"
    file = ModelFile(
        model=document.name,
        version=document.default_version,
        variant=name,
        runtime=variant.runtime,
        path=str(path) if local else variant.file,
        threads=variant.threads,
        options=variant.options,
    )
    entry = VariantEntry(
        file=file,
        platform=f"nearhall_{variant.runtime}",
        fault=f"{path} is missing" if local and not path.is_file() else "",
        preload=variant.preload,
        quality=variant.quality if known.quality is None else known.quality,
        joules=known.joules,
        file_mib=path.stat().st_size / MIB if local and path.is_file() else 0.0,
    )
    return measured_before(entry, variant.measured)


def _specs(shapes: list[TensorShape]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(s.name, s.dtype, tuple(s.shape), s.optional) for s in shapes)


def _tritons(place: Path) -> Entry:
    config = read_triton(place)
    file = ModelFile(
        model=place.name, version=config.version, variant="triton", runtime=config.runtime, path=str(config.file), threads=1
    )
    size = config.file.stat().st_size / MIB if config.file.is_file() else 0.0
    variant = measured_before(VariantEntry(file=file, platform=config.platform, file_mib=size), None)
    return Entry(
        name=place.name,
        version=config.version,
        versions=config.versions,
        file=file,
        inputs=config.inputs,
        outputs=config.outputs,
        platform=config.platform,
        variants=(variant,),
    )


def measured_before(entry: VariantEntry, measured: Measured | None) -> VariantEntry:
    """With what was measured before it ran here; else with guesses from its file, of kind `assumed`."""
    if entry.file.runtime == "upstream":
        return entry
    cache_mib = _kv_mib(entry.file) if entry.file.runtime == "genai" else 0.0
    entry = replace(
        entry,
        memory_mib=entry.file_mib * HELD_PER_FILE + HELD_MIB + cache_mib,
        load_s=LOAD_S + entry.file_mib / LOAD_MIB_PER_S,
    )
    if measured is None:
        return entry
    # Less than the file itself was measured where the process had room left of another model.
    return replace(
        entry,
        memory_mib=max(measured.memory_mib, entry.file_mib) + cache_mib,
        memory_kind=Kind.MEASURED if measured.memory_mib >= entry.file_mib else Kind.ASSUMED,
        latency_ms=measured.latency_p50_ms,
    )


def _kv_mib(file: ModelFile) -> float:
    try:
        return float(file.options.get("kv_cache_gib", KV_GIB)) * 1024
    except ValueError:  # the runtime will say what is wrong with it
        return KV_GIB * 1024
