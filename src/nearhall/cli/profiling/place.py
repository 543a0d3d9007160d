"""Where a model, its variants and their profiles lie in a repository."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.documents.model import ModelDocument, Variant
from nearhall.documents.profile import Profile, read_profile
from nearhall.documents.yaml_file import read_document
from nearhall.ports.runtime import ModelFile

FILE_NAME = "model.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A model of a repository, in its default version."""

    repository: Path
    document: ModelDocument
    elsewhere: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Folders of variants that lie in none of the repository's yet."""

    @property
    def path(self) -> Path:
        """Of model.yaml."""
        return self.repository / self.document.name / FILE_NAME

    @property
    def variants(self) -> dict[str, Variant]:
        """By name."""
        return self.document.versions[self.document.default_version].variants

    def folder(self, variant: str) -> Path:
        """Where the variant's file and profile lie."""
        return self.elsewhere.get(variant) or self.repository / self.document.name / self.document.default_version / variant

    def with_trial(self, name: str, variant: Variant, folder: Path) -> Place:
        """The same with one more variant, whose file lies in that folder; nothing is written."""
        version = self.document.versions[self.document.default_version]
        tried = version.model_copy(update={"variants": {**version.variants, name: variant}})
        document = self.document.model_copy(update={"versions": {**self.document.versions, self.document.default_version: tried}})
        return replace(self, document=document, elsewhere={**self.elsewhere, name: folder})

    def variant(self, name: str | None, *, option: str = "--variant") -> str:
        """The name, checked; the default variant's for None. Raises InputError naming those that there are."""
        if name is None:
            return self.document.default_variant
        if name not in self.variants:
            near = difflib.get_close_matches(name, self.variants, n=1)
            right = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(self.variants)}"
            raise InputError(f"{self.document.name} has no variant {name!r}", where=option, right=right)
        return name

    def file(self, name: str) -> ModelFile:
        """What a runtime needs to load it; raises InputError where the file is missing."""
        variant = self.variants[name]
        path = self.folder(name) / variant.file
        if variant.runtime != "upstream" and not path.is_file():
            raise InputError(f"{path} is missing", where=str(self.path), right="fetch or add the model again")
        return ModelFile(
            model=self.document.name,
            version=self.document.default_version,
            variant=name,
            runtime=variant.runtime,
            path=variant.file if variant.runtime == "upstream" else str(path),
            threads=variant.threads,
            options=variant.options,
        )

    def profile(self, name: str) -> Profile | None:
        """The variant's profile; None without one, or with one that cannot be read."""
        try:
            return read_profile(self.folder(name))
        except InputError:
            return None

    def reference(self, name: str | None) -> str:
        """What agreement is measured against: the one named; else the default variant, or what that was itself held against."""
        if name is not None:
            return self.variant(name, option="--reference")
        default = self.document.default_variant
        profile = self.profile(default)
        held = None if profile is None or profile.agreement is None else profile.agreement.reference
        return held if held in self.variants else default

    @property
    def examples(self) -> dict[str, tuple[Sequence[int] | None, float]]:
        """What model.yaml says that inputs are tried with."""
        return {
            shape.name: (shape.example_shape, shape.example_value)
            for shape in self.document.inputs
            if shape.example_shape is not None or shape.example_value
        }


def find_model(repository: Path, name: str) -> Place:
    """The model; raises InputError naming the nearest one that there is."""
    path = repository / name / FILE_NAME
    if "/" in name or not path.is_file():
        known = sorted(each.parent.name for each in repository.glob(f"*/{FILE_NAME}"))
        near = difflib.get_close_matches(name, known, n=1)
        right = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}" if known else "nearhall models fetch"
        raise InputError(f"the repository {repository} has no model {name!r}", where="MODEL", right=right)
    return Place(repository=repository, document=read_document(path, ModelDocument))
