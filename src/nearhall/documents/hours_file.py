"""Hours in a CSV file beside a document: a column of numbers, one for each hour, or one line that says what is wrong with it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from nearhall.core.errors import InputError

FILE_BYTES_MAX = 16 * 1024 * 1024
"""A year of hours with a date in each row is some hundred kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hourly:
    """What such a file must hold."""

    column: str
    """Its name; a file of one column needs none."""
    what: str
    unit: str
    least: float
    most: float
    counts: tuple[int, ...]
    """So many hours, one of these."""
    right: str
    """What to write where there are more or fewer."""


def read_hours(path: Path, wanted: Hourly) -> list[float]:
    """The hours in order; raises InputError that names file, line, what is wrong and what would be right."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError("is too large for a year of hours", where=str(path), right=f"at most {FILE_BYTES_MAX} bytes")
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read", where=str(path), right="name a CSV file that exists, in UTF-8") from error
    column, first = _column(rows, path, wanted.column)
    hours = [_number(row, column, f"{path}:{line}", wanted) for line, row in enumerate(rows[first:], first + 1) if row]
    if len(hours) not in wanted.counts:
        raise InputError(f"holds {len(hours)} hours", where=str(path), right=wanted.right)
    return hours


def _column(rows: list[list[str]], path: Path, name: str) -> tuple[int, int]:
    """(index of the column, index of the first row of values)."""
    head = [cell.strip() for cell in rows[0]] if rows else []
    if name in head:
        return head.index(name), 1
    if len(head) == 1:
        return 0, 0 if _is_number(head[0]) else 1
    raise InputError(f"has no column {name}", where=str(path), right=f"name one so; it has: {', '.join(head) or 'nothing'}")


def _number(row: list[str], column: int, where: str, wanted: Hourly) -> float:
    text = row[column].strip() if column < len(row) else ""
    if not _is_number(text) or not wanted.least <= float(text) <= wanted.most:
        raise InputError(f"{text!r} is no {wanted.what}", where=where, right=wanted.unit)
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
