"""CSV files beside a plan: weather, the shape of a day, a feeder's load; or one line that says what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.hours_file import Hourly, read_hours
from nearhall.documents.plan_beside import EXISTING, SHAPE, WEATHER, with_files
from nearhall.planner.serving.day import day_of
from planner.planned import small

YEAR = [f"{10 + hour % 24 / 10:.1f}" for hour in range(8760)]


@pytest.mark.parametrize(
    "lines",
    [YEAR, ["celsius", *YEAR], ["time,outdoor_c", *(f"{n},{value}" for n, value in enumerate(YEAR))]],
    ids=["bare", "headed", "named"],
)
def test_a_year_is_read(tmp_path: Path, lines: list[str]):
    (tmp_path / "w.csv").write_text("\n".join(lines) + "\n")
    assert read_hours(tmp_path / "w.csv", WEATHER)[8:12] == [10.8, 10.9, 11.0, 11.1]


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
        read_hours(tmp_path / "w.csv", WEATHER)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        read_hours(tmp_path / "none.csv", WEATHER)


def test_a_plan_takes_its_weather_from_beside_itself(tmp_path: Path):
    (tmp_path / "w.csv").write_text("\n".join(YEAR))
    plan = small(
        "site",
        **{"it_budget_kw: 0.2\n    supply: {phases: 1": "climate: {file: w.csv}\n    it_budget_kw: 0.2\n    supply: {phases: 1"},
    )
    north, south = with_files(plan, tmp_path).sites
    assert north.climate is not None
    assert north.climate.hours_c is not None
    assert len(north.climate.hours_c) == 8760
    assert south.climate is None


DAY = [str(float(hour)) for hour in range(24)]


def test_a_day_and_a_feeders_load_are_read_from_beside_the_plan(tmp_path: Path):
    (tmp_path / "daily.csv").write_text("\n".join(["hour,load", *(f"{n},{load}" for n, load in enumerate(DAY))]))
    (tmp_path / "feeder.csv").write_text("\n".join(["existing_kva", *(DAY * 364), *(str(float(9 * hour)) for hour in range(24))]))
    plan = small("site", **{"shape: shop": "shape: daily.csv", "headroom_kva: 10": "headroom_kva: 10, existing_load: feeder.csv"})
    assert plan.workloads[0].arrivals.shape_file == "daily.csv"
    with pytest.raises(InputError, match=r"feeder\.csv: is a file that nobody has read"):
        _ = plan.feeders[0].existing_hours_kva
    with pytest.raises(InputError, match=r"daily\.csv: is a file that nobody has read"):
        day_of(plan.workloads[0].arrivals)
    read = with_files(plan, tmp_path)
    assert read.workloads[0].arrivals.shape == [float(hour) for hour in range(24)]
    assert day_of(read.workloads[0].arrivals)[23] == 1.0
    assert read.workloads[1].arrivals.shape == "office"
    assert read.feeders[0].existing_hours_kva == [9.0 * hour for hour in range(24)], "of a year each hour's highest"


@pytest.mark.parametrize(
    ("wanted", "lines", "told"),
    [
        (SHAPE, DAY[:-1], "holds 23 hours; 24 of them"),
        (SHAPE, [*DAY[:-1], "-1"], r"h\.csv:24: '-1' is no load of an hour"),
        (EXISTING, DAY * 2, "holds 48 hours"),
        (EXISTING, ["a,b", "1,2"], "has no column existing_kva"),
    ],
)
def test_what_is_wrong_with_hours_is_said(tmp_path: Path, wanted: Hourly, lines: list[str], told: str):
    (tmp_path / "h.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=told):
        read_hours(tmp_path / "h.csv", wanted)
