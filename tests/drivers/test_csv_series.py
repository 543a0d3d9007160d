"""CSV files of a site: what they give, and what is told of those that give nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.mapping import MappingDocument
from nearhall.drivers.csv_series import csv_returns

MAPPING = MappingDocument.model_validate(
    {
        "schema": "nearhall/mapping/v1",
        "sites": [{"id": "shop-01", "label": "berlin"}],
        "meters": [{"id": "main", "position": "feed", "series": "$site kWh", "commissioned": "A. Meyer, 2026"}],
        "workloads": [{"id": "cams", "good": {"series": "good"}, "total": {"series": "all"}}],
        "outdoor": {"series": "outdoor"},
        "csv": {"file": "$site.csv", "time": "when", "clock_error_ms": 20.0},
    }
)
ROWS = [
    "when,berlin kWh,good,all,outdoor",
    "2026-11-03T08:00:00Z,100.0,0,0,4.0",
    "2026-11-03T09:15:00+01:00,100.2,90,100,5.0",
    "1793694600,100.4,180,200,",
    "2026-11-03T08:44:00Z,100.6,270,300,nan",
]


def write(tmp_path: Path, rows: list[str] = ROWS, *, name: str = "berlin.csv", encoding: str = "utf-8-sig") -> Path:
    (tmp_path / name).write_text("\n".join(rows) + "\n", encoding=encoding)
    return tmp_path


def test_columns_at_the_ends_of_blocks(tmp_path: Path):
    (found,) = csv_returns(MAPPING, folder=write(tmp_path))
    assert found.seconds == 2700.0, "the last row is a minute older than the end of its block"
    assert [block.kwh("main") for block in found.blocks] == [pytest.approx(0.2)] * 3
    assert [block.slo["cams"] for block in found.blocks] == [(90, 100)] * 3
    assert [block.outdoor_c for block in found.blocks] == [4.5, 5.0, None]
    assert (found.clock_error_ms, found.coverage, found.register_coverage) == (20.0, 1.0, 1.0)
    assert found.origin.endswith("berlin.csv")


def test_rows_in_any_order_are_the_same_and_old_values_are_none(tmp_path: Path):
    (found,) = csv_returns(MAPPING, folder=write(tmp_path, [ROWS[0], *ROWS[:0:-1]]))
    assert [block.kwh("main") for block in found.blocks] == [pytest.approx(0.2)] * 3
    hole = [row.replace("1793694600", "1793694200") for row in ROWS]
    (found,) = csv_returns(MAPPING, folder=write(tmp_path, hole))
    assert [block.kwh("main") for block in found.blocks] == [pytest.approx(0.2), None, None]
    assert found.register_coverage == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (lambda rows: [rows[0].replace("outdoor", "roof"), *rows[1:]], "berlin.csv", "has no column 'outdoor'"),
        (lambda rows: [*rows[:2], rows[2].replace("100.2", "soon")], "berlin.csv:3", "berlin kWh is no number"),
        (lambda rows: [*rows[:2], "2026-11-03T08:15:00,1,1,1,1"], "berlin.csv:3", "is no time"),
        (lambda rows: [*rows[:2], "yesterday,1,1,1,1"], "berlin.csv:3", "is no time"),
        (lambda rows: [*rows[:2], rows[2].replace("100.2", "1e300")], "berlin.csv:3", "berlin kWh is no reading"),
        (lambda rows: rows[:2], "berlin.csv", "holds 0 whole blocks"),
        (lambda rows: rows[:1], "berlin.csv", "holds no rows"),
        (lambda _: [], "berlin.csv", "has no column 'when'"),
        (lambda rows: [*rows[:2], '"' + "x" * 200_000], "berlin.csv", "is no CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, change: Callable[[list[str]], list[str]], where: str, what: str):
    with pytest.raises(InputError) as caught:
        csv_returns(MAPPING, folder=write(tmp_path, change(list(ROWS)), encoding="utf-8"))
    assert where in caught.value.where
    assert what in caught.value.what
    assert caught.value.right


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        csv_returns(MAPPING, folder=tmp_path)
    (tmp_path / "berlin.csv").write_bytes(b"when\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8"):
        csv_returns(MAPPING, folder=tmp_path)


LEVELS = MappingDocument.model_validate(
    {
        "schema": "nearhall/mapping/v1",
        "sites": [{"id": "shop-01"}],
        "workloads": [
            {"id": "cams", "limit_ms": 50, "p99": {"series": "p99 ms", "unit": "ms"}},
            {"id": "chat", "in_time": {"series": "ok %", "unit": "%"}},
            {"id": "talk", "limit_ms": 20, "histogram": {"series": "le $le", "le": ["0.02", "+Inf"]}},
        ],
        "csv": {"clock_error_ms": 3.0},
    }
)


def test_of_several_levels_in_a_block_the_worst_counts(tmp_path: Path):
    rows = [
        "time,p99 ms,ok %,le 0.02,le +Inf",
        "1793693700,99,1,0,0",
        "1793694000,20,99.5,,",
        "1793694300,70,97,,",
        "1793694600,30,100,90,100",
        "1793695500,40,100,180,200",
    ]
    (found,) = csv_returns(LEVELS, folder=write(tmp_path, rows, name="shop-01.csv"))
    assert [block.p99_ms["cams"] for block in found.blocks] == [70.0, 40.0], "the row at the first end is of the block before"
    assert [block.in_time["chat"] for block in found.blocks] == [pytest.approx(0.97), 1.0]
    assert [block.slo["talk"] for block in found.blocks] == [(90, 100), (90, 100)]
    gap = [row for row in rows if not row.startswith("1793695500")] + ["1793695500,,,180,200"]
    (found,) = csv_returns(LEVELS, folder=write(tmp_path, gap, name="shop-01.csv"))
    assert [block.p99_ms.get("cams") for block in found.blocks] == [70.0, None]
    assert found.coverage == pytest.approx(0.5)
