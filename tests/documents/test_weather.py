"""A weather file beside a plan: a year of hours, or one line that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.weather import read_year, with_weather
from planner.planned import small

YEAR = [f"{10 + hour % 24 / 10:.1f}" for hour in range(8760)]


@pytest.mark.parametrize(
    "lines",
    [YEAR, ["celsius", *YEAR], ["time,outdoor_c", *(f"{n},{value}" for n, value in enumerate(YEAR))]],
    ids=["bare", "headed", "named"],
)
def test_a_year_is_read(tmp_path: Path, lines: list[str]):
    (tmp_path / "w.csv").write_text("\n".join(lines) + "\n")
    assert read_year(tmp_path / "w.csv")[8:12] == [10.8, 10.9, 11.0, 11.1]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (YEAR[:-1], "holds 8759 hours"),
        (["a,b", *(f"1,{v}" for v in YEAR)], "has no column outdoor_c"),
        ([*YEAR[:-1], "warm"], r"w\.csv:8760: 'warm' is no outdoor temperature"),
        ([*YEAR[:-1], "95"], "'95' is no outdoor temperature"),
        ([], "has no column"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, lines: list[str], told: str):
    (tmp_path / "w.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=told):
        read_year(tmp_path / "w.csv")


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        read_year(tmp_path / "none.csv")


def test_a_plan_takes_its_weather_from_beside_itself(tmp_path: Path):
    (tmp_path / "w.csv").write_text("\n".join(YEAR))
    plan = small(
        "site",
        **{"it_budget_kw: 0.2\n    supply: {phases: 1": "climate: {file: w.csv}\n    it_budget_kw: 0.2\n    supply: {phases: 1"},
    )
    north, south = with_weather(plan, tmp_path).sites
    assert north.climate is not None
    assert north.climate.hours_c is not None
    assert len(north.climate.hours_c) == 8760
    assert south.climate is None
