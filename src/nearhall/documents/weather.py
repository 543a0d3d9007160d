"""A year's outdoor temperatures from a CSV file beside a plan."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.documents.plan import HOURS_A_YEAR, Plan

COLUMN = "outdoor_c"
FILE_BYTES_MAX = 16 * 1024 * 1024
COLDEST_C, HOTTEST_C = -90.0, 60.0
"""Nothing outdoors was ever beyond these (WMO records)."""


def with_weather(plan: Plan, folder: Path) -> Plan:
    """The plan with the files of its climates read, each relative to `folder`; raises InputError for what is wrong in one."""
    sites = [
        site
        if site.climate is None or site.climate.file is None
        else site.model_copy(
            update={"climate": site.climate.model_copy(update={"hours_c": read_year(folder / site.climate.file)})}
        )
        for site in plan.sites
    ]
    return plan.model_copy(update={"sites": sites})


def read_year(path: Path) -> list[float]:
    """8,760 temperatures in degrees C, from 1 January, 0 h on."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError("is too large for a year of hours", where=str(path), right=f"at most {FILE_BYTES_MAX} bytes")
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot be read", where=str(path), right="name a CSV file that exists, in UTF-8") from error
    column, first = _column(rows, path)
    hours = [_celsius(row, column, path, line) for line, row in enumerate(rows[first:], first + 1) if row]
    if len(hours) != HOURS_A_YEAR:
        right = f"{HOURS_A_YEAR} of them: every hour of a year without a leap day"
        raise InputError(f"holds {len(hours)} hours", where=str(path), right=right)
    return hours


def _column(rows: list[list[str]], path: Path) -> tuple[int, int]:
    """(index of the column, index of the first row of values)."""
    head = [cell.strip() for cell in rows[0]] if rows else []
    if COLUMN in head:
        return head.index(COLUMN), 1
    if len(head) == 1:
        return 0, 0 if _is_number(head[0]) else 1
    raise InputError(f"has no column {COLUMN}", where=str(path), right=f"name one so; it has: {', '.join(head) or 'nothing'}")


def _celsius(row: list[str], column: int, path: Path, line: int) -> float:
    text = row[column].strip() if column < len(row) else ""
    if not _is_number(text) or not COLDEST_C <= float(text) <= HOTTEST_C:
        raise InputError(f"{text!r} is no outdoor temperature", where=f"{path}:{line}", right="degrees C")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
