"""The models that lie in a folder: `<repo>/<model>/model.yaml`, or a Triton folder with `config.pbtxt`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.core.tensor import TensorSpec
from nearhall.documents.model import ModelDocument, TensorShape
from nearhall.documents.profile import FILE_NAME as PROFILE_NAME
from nearhall.documents.profile import Profile, read_profile
from nearhall.documents.yaml_file import read_document
from nearhall.gateway.models.known import MIB, VariantEntry, comparable, known
from nearhall.gateway.models.profiles import is_of
from nearhall.gateway.models.samples import Example
from nearhall.gateway.models.triton_config import FILE_NAME as TRITON_FILE
from nearhall.gateway.models.triton_config import read_triton
from nearhall.ports.runtime import ModelFile

log = logging.getLogger("nearhall.gateway")

FILE_NAME = "model.yaml"
MODELS_MAX = 256
"""Each loaded model costs a thread and its weights; a folder with more is not a site's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model as it lies in the repository; with `fault` set it cannot be loaded, and that says why."""

    name: str
    version: str = ""
    versions: tuple[str, ...] = ()
    chat: bool = False
    embeds: bool = False
    """Texts into vectors: listed and asked at `/v1`, and a model of tensors in all else."""
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
            right="name a folder with one sub-folder per model; `nearhall models fetch` makes that of the default models, "
            "`nearhall models add FILE` puts in one of yours",
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
    variants = comparable([_variant(place, document, name) for name in names])
    default = variants[0]
    if default.fault:
        raise InputError(default.fault, where=str(place / FILE_NAME), right="fetch or add the model again")
    return Entry(
        name=document.name,
        version=document.default_version,
        versions=tuple(document.versions),
        chat=document.task == "chat",
        embeds=document.task == "embeddings",
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


def _variant(place: Path, document: ModelDocument, name: str) -> VariantEntry:
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
        quality=variant.quality,
        file_mib=path.stat().st_size / MIB if local and path.is_file() else 0.0,
    )
    return known(entry, variant.measured, _profile(path, variant.sha256) if local else None)


def _profile(file: Path, sha256: str | None) -> Profile | None:
    """The profile beside the file, if it is one and of this very file; what is wrong with it is told, and it does not count."""
    try:
        profile = read_profile(file.parent)
    except InputError as error:
        log.warning("a profile is not used: %s", error)
        return None
    if profile is not None and not is_of(profile, file, sha256):
        log.warning("%s is of another file, and is not used", file.parent / PROFILE_NAME)
        return None
    return profile


def _specs(shapes: list[TensorShape]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(s.name, s.dtype, tuple(s.shape), s.optional) for s in shapes)


def _tritons(place: Path) -> Entry:
    config = read_triton(place)
    file = ModelFile(
        model=place.name, version=config.version, variant="triton", runtime=config.runtime, path=str(config.file), threads=1
    )
    size = config.file.stat().st_size / MIB if config.file.is_file() else 0.0
    variant = known(VariantEntry(file=file, platform=config.platform, file_mib=size), None, _profile(config.file.parent, None))
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
