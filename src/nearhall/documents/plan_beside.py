"""The CSV files that a plan names: a year of weather, the shape of a day, what is on a feeder already."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from nearhall.documents.hours_file import Hourly, read_hours
from nearhall.documents.plan import Plan
from nearhall.documents.plan_hours import HOURS_A_DAY, HOURS_A_YEAR
from nearhall.documents.plan_place import Feeder, Site
from nearhall.documents.plan_work import Workload

WEATHER = Hourly(
    column="outdoor_c",
    what="outdoor temperature",
    unit="degrees C",
    least=-90.0,
    most=60.0,  # nothing outdoors was ever beyond these (WMO records)
    counts=(HOURS_A_YEAR,),
    right=f"{HOURS_A_YEAR} of them: every hour of a year without a leap day",
)
SHAPE = Hourly(
    column="load",
    what="load of an hour",
    unit="a number of at least 0; only their ratios count",
    least=0.0,
    most=1e12,
    counts=(HOURS_A_DAY,),
    right=f"{HOURS_A_DAY} of them: the hours of a day from midnight on, local time",
)
EXISTING = Hourly(
    column="existing_kva",
    what="load in kVA",
    unit="kVA, at least 0",
    least=0.0,
    most=1e9,
    counts=(HOURS_A_DAY, HOURS_A_YEAR),
    right=f"{HOURS_A_DAY} of them, the hours of a day, or {HOURS_A_YEAR}, those of a year, of which each hour's highest counts",
)

Part = TypeVar("Part", bound=BaseModel)


def with_files(plan: Plan, folder: Path) -> Plan:
    """The plan with its files read, each relative to `folder`; raises InputError for what is wrong in one."""
    return plan.model_copy(
        update={
            "sites": [_with_weather(site, folder) for site in plan.sites],
            "workloads": [_with_shape(workload, folder) for workload in plan.workloads],
            "feeders": [_with_existing(feeder, folder) for feeder in plan.feeders],
        }
    )


def _with_weather(site: Site, folder: Path) -> Site:
    climate = site.climate
    if climate is None or climate.file is None:
        return site
    return _changed(site, climate=_changed(climate, hours_c=read_hours(folder / climate.file, WEATHER)))


def _with_shape(workload: Workload, folder: Path) -> Workload:
    file = workload.arrivals.shape_file
    if file is None:
        return workload
    return _changed(workload, arrivals=_changed(workload.arrivals, shape=read_hours(folder / file, SHAPE)))


def _with_existing(feeder: Feeder, folder: Path) -> Feeder:
    if not isinstance(feeder.existing_kva, str):
        return feeder
    hours = read_hours(folder / feeder.existing_kva, EXISTING)
    return _changed(feeder, existing_kva=[max(hours[hour::HOURS_A_DAY]) for hour in range(HOURS_A_DAY)])


def _changed(part: Part, **update: object) -> Part:
    return part.model_copy(update=update)
