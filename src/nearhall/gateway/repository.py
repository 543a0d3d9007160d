"""The models that lie in a folder: `<repo>/<model>/model.yaml`, or a Triton folder with `config.pbtxt`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.core.tensor import TensorSpec
from nearhall.documents.model import ModelDocument, TensorShape
from nearhall.documents.yaml_file import read_document
from nearhall.gateway.samples import Example
from nearhall.gateway.triton_config import FILE_NAME as TRITON_FILE
from nearhall.gateway.triton_config import read_triton
from nearhall.ports.runtime import ModelFile

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
    stateful: bool = False
    """A request to it is never repeated elsewhere."""
    file: ModelFile | None = None
    inputs: tuple[TensorSpec, ...] = ()
    """As documented; what the file itself says counts more once it is loaded."""
    outputs: tuple[TensorSpec, ...] = ()
    fault: str = ""
    memory_mib: float = 0.0
    platform: str = ""
    examples: Mapping[str, Example] = field(default_factory=dict[str, Example])
    """What to warm up with, by input."""

    @property
    def variant(self) -> str:
        """The variant that is served; empty for a model that cannot be loaded."""
        return "" if self.file is None else self.file.variant

    @property
    def runtime(self) -> str:
        """The runtime's name; empty for a model that cannot be loaded."""
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
    variant = version.variants[document.default_variant]
    file = place / document.default_version / document.default_variant / variant.file
    if variant.runtime != "upstream" and not file.is_file():
        raise InputError(f"{file} is missing", where=str(place / FILE_NAME), right="fetch or add the model again")
    return Entry(
        name=document.name,
        version=document.default_version,
        versions=tuple(document.versions),
        chat=document.task == "chat",
        stateful=document.stateful,
        file=ModelFile(
            model=document.name,
            version=document.default_version,
            variant=document.default_variant,
            runtime=variant.runtime,
            path=variant.file if variant.runtime == "upstream" else str(file),
            threads=variant.threads,
            options=variant.options,
        ),
        inputs=_specs(document.inputs),
        outputs=_specs(document.outputs),
        memory_mib=variant.measured.memory_mib if variant.measured is not None else 0.0,
        platform=f"nearhall_{variant.runtime}",
        examples={
            s.name: (None if s.example_shape is None else tuple(s.example_shape), s.example_value)
            for s in document.inputs
            if s.example_shape is not None or s.example_value
        },
    )


def _specs(shapes: list[TensorShape]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(s.name, s.dtype, tuple(s.shape), s.optional) for s in shapes)


def _tritons(place: Path) -> Entry:
    config = read_triton(place)
    return Entry(
        name=place.name,
        version=config.version,
        versions=config.versions,
        file=ModelFile(
            model=place.name,
            version=config.version,
            variant="triton",
            runtime=config.runtime,
            path=str(config.file),
            threads=1,
        ),
        inputs=config.inputs,
        outputs=config.outputs,
        platform=config.platform,
    )
