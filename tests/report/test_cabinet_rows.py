"""The rows that tell how a cabinet is built."""

from __future__ import annotations

from nearhall.report.plan.cabinet import sizing
from nearhall.report.result_reader import ResultReader
from report.plan_result_sample import plan_result


def test_pue_tells_its_day_and_its_categories():
    rows = {row.what: row for row in sizing(ResultReader(plan_result()), "/sites/1")}
    words = rows["PUE over a year"].words
    assert words == "over the day 1.40 (from 0:00) to 1.49 (from 15:00); by category 1: 1.41, 2: 1.44, 3: 1.46"


def test_the_battery_is_told_at_the_end_of_its_life_and_new():
    rows = {row.what: row for row in sizing(ResultReader(plan_result()), "/sites/1")}
    assert {"battery lasts, at the end of its life", "battery lasts, new"} <= rows.keys()
    smallest = rows["battery, the smallest that does, as printed on a new one"]
    assert smallest.middle is None, "it is sized for the bad case"
    assert smallest.bad is not None
    assert smallest.bad.text == "0.38 kWh"
