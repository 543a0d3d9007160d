"""Collects the evidence of a document's numbers by JSON pointer, and counts numbers by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nearhall.core.evidence import Kind

NOT_FIGURES = frozenset(
    {"schema", "run", "evidence", "counts", "events", "period", "host", "meters", "blocks", "series", "players"}
)
"""Parts of a document that are no figures to act on, or that repeat others (a series repeats its sums)."""


class Ledger:
    """The `evidence` object of a document: an entry covers everything at and below its pointer."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, str]] = {}

    def say(self, pointer: str, kind: Kind, source: str) -> None:
        """Everything at and below `pointer` is of this kind, unless a deeper entry says otherwise."""
        self.entries[pointer] = {"kind": kind.value, "source": source}

    def kind_of(self, pointer: str) -> str:
        """The kind of the nearest entry at or above a pointer; what nobody vouches for is assumed."""
        while pointer:
            if pointer in self.entries:
                return self.entries[pointer]["kind"]
            pointer = pointer.rpartition("/")[0]
        return Kind.ASSUMED.value

    def counts(self, document: Mapping[str, Any]) -> dict[str, int]:
        """How many figures of the document are of each kind."""
        counted = {kind.value: 0 for kind in Kind}
        for name, value in document.items():
            if name not in NOT_FIGURES:
                self._count(value, f"/{name}", counted)
        return counted

    def _count(self, value: Any, pointer: str, counted: dict[str, int]) -> None:
        if isinstance(value, Mapping):
            for name, inner in cast("Mapping[str, Any]", value).items():
                if name not in NOT_FIGURES:
                    self._count(inner, f"{pointer}/{name}", counted)
        elif isinstance(value, list):
            for index, inner in enumerate(cast("list[Any]", value)):
                self._count(inner, f"{pointer}/{index}", counted)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            counted[self.kind_of(pointer)] += 1
