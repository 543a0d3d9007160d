"""What sites returned as CSV files: columns by a mapping, read at the ends of blocks."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from nearhall.core.errors import InputError
from nearhall.documents.mapped_returns import Wanted, block_ends, returns_of, wanted
from nearhall.documents.mapping import MappedSite, MappingDocument
from nearhall.documents.site_returns import BLOCK_S, SiteReturns

AGE_S_MAX = 300.0
"""A value stands for the end of a block if it is no older, as Prometheus has it."""
FILE_BYTES_MAX = 512 * 1024 * 1024
ROWS_MAX = 5_000_000
"""A row every ten seconds for a year and a half."""
BLOCKS_MAX = 40_000
NUMBER_MOST = 1e15
"""No register or counter of a site comes near it; beyond, sums lose what they add."""
TEXT_SHOWN = 40
"""Characters of a cell, in a message."""


def csv_returns(mapping: MappingDocument, *, folder: Path) -> tuple[SiteReturns, ...]:
    """The returns of every site of the mapping, over the whole blocks that its file covers.

    Raises InputError with file, line and column for what cannot be read.
    """
    return tuple(_site(mapping, site, folder / mapping.csv.file.replace("$site", site.called)) for site in mapping.sites)


def _site(mapping: MappingDocument, site: MappedSite, path: Path) -> SiteReturns:
    series = wanted(mapping, site)
    times, columns = _read(path, mapping.csv.time, series)
    if not times:
        raise InputError("holds no rows", where=str(path), right="export the pilot's period")
    ends = block_ends(times[0], times[-1] + AGE_S_MAX)
    if not 2 <= len(ends) <= BLOCKS_MAX:
        raise InputError(
            f"holds {max(len(ends) - 1, 0)} whole blocks of 15 minutes", where=str(path), right=f"1 to {BLOCKS_MAX - 1}"
        )
    return returns_of(
        mapping,
        site,
        ends_s=ends,
        values={one.key: _of(one, ends, times, columns[one.key]) for one in series},
        clock_error_ms=mapping.csv.clock_error_ms,
        origin=str(path),
    )


def _read(path: Path, time_column: str, series: Sequence[Wanted]) -> tuple[list[float], dict[str, list[float]]]:
    """Times and columns by key, in order of time; NaN for an empty cell."""
    rows: list[tuple[float, ...]] = []
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError("is too long", where=str(path), right=f"at most {FILE_BYTES_MAX} bytes")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _has_columns(path, reader.fieldnames or (), [time_column, *(one.series for one in series)])
            for line, row in _numbered(reader, path):
                if len(rows) >= ROWS_MAX:
                    raise InputError(f"holds more than {ROWS_MAX} rows", where=str(path), right="one row a minute is plenty")
                where = f"{path}:{line}"
                rows.append((_time(row.get(time_column), where), *(_number(row.get(one.series), where, one) for one in series)))
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(path), right="one file a site, as csv.file names it"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=str(path), right="export it as UTF-8") from error
    rows.sort(key=lambda row: row[0])
    columns = {one.key: [row[i + 1] for row in rows] for i, one in enumerate(series)}
    return [row[0] for row in rows], columns


def _numbered(reader: csv.DictReader[str], path: Path) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    """Each row with its line; what the csv module cannot read is told with it."""
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"is no CSV ({error})", where=f"{path}:{reader.line_num}", right="commas, and quotes in pairs"
        ) from error


def _has_columns(path: Path, held: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in held]
    if missing:
        known = ", ".join(held) or "none"
        raise InputError(f"has no column {missing[0]!r}", where=str(path), right=f"map one of its columns: {known}")


def _time(cell: str | None, where: str) -> float:
    """Seconds since 1970 of a cell."""
    text = (cell or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds) and seconds >= 0:
        return seconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        right = "ISO 8601 with an offset, such as 2026-11-03T08:00:00Z, or seconds since 1970"
        raise InputError(f"is no time (given: {text[:TEXT_SHOWN]!r})", where=where, right=right)
    return at.timestamp()


def _number(cell: str | None, where: str, series: Wanted) -> float:
    text = (cell or "").strip()
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        right = "plain numbers with a point, or nothing where there was no reading"
        raise InputError(f"{series.series} is no number (given: {text[:TEXT_SHOWN]!r})", where=where, right=right) from None
    if math.isfinite(value) and abs(value) > NUMBER_MOST:
        raise InputError(
            f"{series.series} is no reading (given: {text[:TEXT_SHOWN]})", where=where, right=f"at most {NUMBER_MOST:g}"
        )
    return value if math.isfinite(value) else math.nan


def _of(series: Wanted, ends: Sequence[float], times: Sequence[float], column: Sequence[float]) -> list[float | None]:
    """One value for each end, read as the series asks."""
    if series.of == "highest":
        return _within(ends, times, column, max)
    if series.of == "lowest":
        return _within(ends, times, column, min)
    return _at(ends, times, column)


def _within(
    ends: Sequence[float], times: Sequence[float], column: Sequence[float], pick: Callable[[list[float]], float]
) -> list[float | None]:
    """The highest or lowest value after the end before and up to each end; both ascend."""
    found: list[float | None] = []
    row = 0
    for end in ends:
        held: list[float] = []
        while row < len(times) and times[row] <= end:
            if not math.isnan(column[row]) and times[row] > end - BLOCK_S:
                held.append(column[row])
            row += 1
        found.append(pick(held) if held else None)
    return found


def _at(ends: Sequence[float], times: Sequence[float], column: Sequence[float]) -> list[float | None]:
    """The newest value at or before each end, where it is new enough; both ascend."""
    found: list[float | None] = []
    row, value, value_s = 0, math.nan, -math.inf
    for end in ends:
        while row < len(times) and times[row] <= end:
            if not math.isnan(column[row]):
                value, value_s = column[row], times[row]
            row += 1
        found.append(value if end - value_s <= AGE_S_MAX else None)
    return found
