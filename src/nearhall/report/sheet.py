"""Tables as values: heads and cells, so that every table becomes blocks on a phone and marks its figures in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nearhall.report.evidence_marks import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What stands in one place of a table; nothing of it is nothing to show."""

    text: str = ""
    figure: Figure | None = None
    sub: str = ""
    """A second, smaller line."""
    sub_figure: Figure | None = None
    badge: str = ""
    tone: str = "good"
    strong: bool = False
    chosen: bool = False
    """Its numbers are the plan's own choice, which nobody has to believe."""
    note: bool = False
    """Small and soft: why, or where from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A column: its words, and whether numbers stand below."""

    words: str
    number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table."""

    cells: tuple[Cell, ...]
    total: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table; without rows there is none."""

    heads: tuple[Head, ...]
    rows: tuple[Row, ...]


Told = Cell | Figure | str


def sheet(heads: Sequence[str], rows: Sequence[Sequence[Told] | Row]) -> Sheet:
    """A table from words: a head that begins with `#` has numbers below it, a bare figure or word becomes its cell."""
    made = tuple(row if isinstance(row, Row) else Row(cells=tuple(cell(c) for c in row)) for row in rows)
    return Sheet(heads=tuple(Head(words=h.removeprefix("#"), number=h.startswith("#")) for h in heads), rows=made)


def total(*cells: Told) -> Row:
    """The line below the others."""
    return Row(cells=tuple(cell(c) for c in cells), total=True)


def cell(told: Told) -> Cell:
    """A cell of whatever is shown."""
    if isinstance(told, Cell):
        return told
    return Cell(figure=told) if isinstance(told, Figure) else Cell(text=told)
