"""A small mark on every figure: how it came to be, as a letter, a shape and words, so that colour is never the only carrier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from nearhall.core.evidence import Kind, weakest


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One kind of evidence as the reader meets it."""

    kind: Kind
    letter: str
    line_dash: str
    """How a line of this kind is drawn, in every picture: solid is seen, broken is not."""
    meaning: str


MARKS: dict[Kind, Mark] = {
    Kind.MEASURED: Mark(
        kind=Kind.MEASURED, letter="M", line_dash="solid", meaning="read from a real clock, counter or instrument"
    ),
    Kind.SIMULATED: Mark(
        kind=Kind.SIMULATED, letter="S", line_dash="dashed", meaning="from a model of the world: no instrument saw it"
    ),
    Kind.VENDOR: Mark(kind=Kind.VENDOR, letter="V", line_dash="dashdot", meaning="the maker's own figure"),
    Kind.STANDARD: Mark(kind=Kind.STANDARD, letter="N", line_dash="dotdash", meaning="from a norm or a published table"),
    Kind.ASSUMED: Mark(kind=Kind.ASSUMED, letter="A", line_dash="dotted", meaning="a guess to be replaced by your own figure"),
}
"""Letters: S is taken by simulated, so a standard's figure has N, for norm."""

NOT_STATED = "the document does not say where this figure comes from, so it counts as assumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure as it is shown: its text and why it may be believed. `missing` figures have no mark, only a reason."""

    text: str
    kind: Kind = Kind.ASSUMED
    source: str = NOT_STATED
    missing: str = ""
    """Why there is no figure, in words; empty when there is one."""

    @property
    def letter(self) -> str:
        """The mark's letter."""
        return MARKS[self.kind].letter

    @property
    def title(self) -> str:
        """What a pointer resting on the mark, or a screen reader, is told."""
        return f"{self.kind.value}: {self.source}"

    @property
    def marked(self) -> str:
        """The figure and its letter, for places that show only text."""
        return self.text if self.missing else f"{self.text} [{self.letter}]"


Words = tuple["str | Figure", ...]
"""A sentence whose figures still know their evidence."""


def said(template: str, **parts: str | Figure) -> Words:
    """Fills `{name}` in a sentence with figures that keep their evidence, and with names from outside, which may hold braces."""
    words: list[str | Figure] = []
    for text, name, _, _ in Formatter().parse(template):
        words += [text] if text else []
        words += [parts[name]] if name else []
    return tuple(words)


def in_text(words: Words) -> str:
    """A sentence for places that show only text, its figures followed by their letters."""
    return "".join(word if isinstance(word, str) else word.marked for word in words)


def joined(text: str, figures: Sequence[Figure]) -> Figure:
    """One text made of several figures: as weak as the weakest, with every source named once."""
    sources = "; ".join(dict.fromkeys(figure.source for figure in figures))
    return Figure(text=text, kind=weakest(figure.kind for figure in figures), source=sources or NOT_STATED)


def kind_named(name: object) -> Kind:
    """The kind a document or the live state names; an unknown or missing name is the weakest kind."""
    try:
        return Kind(name)
    except ValueError:
        return Kind.ASSUMED


class EvidenceIndex:
    """Looks up a figure's evidence by its JSON pointer (RFC 6901).

    An entry for an object or a list holds for everything below it, unless something below has an entry of its own; a path
    segment `*` in an entry stands for any name or number.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._exact = {p: e for p, e in entries.items() if "*" not in p}
        self._patterns = {tuple(p.split("/")): e for p, e in entries.items() if "*" in p}

    def find(self, pointer: str) -> tuple[Kind, str]:
        """Kind and source of the figure at `pointer`; assumed, and saying so, when the document has no entry for it."""
        entry = self.entry(pointer)
        return (
            (Kind.ASSUMED, NOT_STATED)
            if entry is None
            else (kind_named(entry.get("kind")), str(entry.get("source") or NOT_STATED))
        )

    def entry(self, pointer: str) -> Mapping[str, Any] | None:
        """The entry that holds for `pointer`; None where the document has none."""
        parts = pointer.split("/")
        for length in range(len(parts), 0, -1):
            entry = self._exact.get("/".join(parts[:length])) or self._pattern(tuple(parts[:length]))
            if entry is not None:
                return entry
        return None

    def _pattern(self, parts: tuple[str, ...]) -> Mapping[str, Any] | None:
        for pattern, entry in self._patterns.items():
            if len(pattern) == len(parts) and all(p in {"*", part} for p, part in zip(pattern, parts, strict=True)):
                return entry
        return None
