"""Sites that run something else decide as pilots do: the same week as CSV files, by a mapping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nearhall.documents.mapping import MappingDocument
from nearhall.documents.site_returns import SiteReturns
from nearhall.drivers.csv_series import csv_returns
from nearhall.planner.learning.decide import decide
from planner.metered_site import WATTS, site
from planner.test_decide import CASE, DRAWS

NAMES = ("a", "b", "c")
MAPPING = MappingDocument.model_validate(
    {
        "schema": "nearhall/mapping/v1",
        "sites": [{"id": name} for name in NAMES],
        "meters": [
            {
                "id": p.replace("_", "-"),
                "position": p,
                "series": f"{p} Wh",
                "unit": "Wh",
                "class_percent": 1.0,
                "commissioned": "A. Meyer, 2026",
            }
            for p in WATTS
        ],
        "workloads": [{"id": "cams", "good": {"series": "good"}, "total": {"series": "all"}}],
        "outdoor": {"series": "outdoor"},
        "sent": {"series": "sent kB", "unit": "kB"},
        "csv": {"clock_error_ms": 3.0},
    }
)


def export(returns: SiteReturns, path: Path) -> None:
    """What a recorder would have written: registers and counters that only rise, at the ends of blocks."""
    rows = [",".join(["time", *(f"{p} Wh" for p in WATTS), "good", "all", "outdoor", "sent kB"])]
    registers, good, total, sent = dict.fromkeys(WATTS, 5e6), 0, 0, 0.0

    def row(at_s: float, outdoor_c: float | None) -> str:
        return ",".join(str(value) for value in (at_s, *registers.values(), good, total, outdoor_c, sent))

    rows.append(row(returns.start_s, returns.blocks[0].outdoor_c))
    for block in returns.blocks:
        for position in WATTS:
            registers[position] += 1000.0 * (block.kwh(position) or 0.0)
        good, total = good + block.slo["cams"][0], total + block.slo["cams"][1]
        sent += (block.sent_bytes or 0.0) / 1000.0
        rows.append(row(block.end_s, block.outdoor_c))
    path.write_text("\n".join(rows) + "\n")


def test_the_same_week_gives_the_same_verdict(tmp_path: Path):
    sites = [site(name) for name in NAMES]
    for one in sites:
        export(one, tmp_path / f"{one.id}.csv")
    mapped = csv_returns(MAPPING, folder=tmp_path)
    here, there = decide(CASE, sites, DRAWS), decide(CASE, mapped, DRAWS)
    assert (there.state, there.stamp) == (here.state, here.stamp) == ("SCALE", "MEASURED")
    for one, other in zip(here.quantities, there.quantities, strict=True):
        assert one.data == pytest.approx(other.data, rel=1e-3), one.belief.name
        assert one.blocks == other.blocks


def two_workloads(name: str) -> SiteReturns:
    """The week again, a quarter of whose energy went to a kiosk that is asked twice as often."""
    one = site(name)
    blocks = [replace(b, slo={"cams": (900, 900), "kiosk": (1800, 1800)}) for b in one.blocks]
    cams = replace(one.workloads[0], joules_full=3.0)
    kiosk = replace(cams, id="kiosk", total=2 * cams.total, local=2 * cams.local, joules_full=0.5)
    return replace(one, blocks=blocks, workloads=(cams, kiosk))


@pytest.mark.parametrize("way", ["busy", "joules", "nothing"])
def test_two_workloads_decide_as_pilots_do(tmp_path: Path, way: str):
    sites = [two_workloads(name) for name in NAMES]
    for one in sites:
        path = tmp_path / f"{one.id}.csv"
        export(one, path)
        head, *rows = path.read_text().splitlines()
        more = [f"{row},{1800 * i},{300 * i},{100 * i}" for i, row in enumerate(rows)]
        path.write_text("\n".join([f"{head},kiosk,cams work,kiosk work", *more]) + "\n")
    told = [
        {"id": "cams", "good": {"series": "good"}, "total": {"series": "all"}},
        {"id": "kiosk", "good": {"series": "kiosk"}, "total": {"series": "kiosk"}},
    ]
    if way != "nothing":
        told = [{**one, way: {"series": f"{one['id']} work"}} for one in told]
    mapping = MappingDocument.model_validate({**MAPPING.model_dump(by_alias=True), "workloads": told})
    mapped = csv_returns(mapping, folder=tmp_path)
    here, there = decide(CASE, sites, DRAWS), decide(CASE, mapped, DRAWS)
    assert (there.state, there.stamp) == (here.state, here.stamp) == ("SCALE", "MEASURED")
    one, other = (next(q for q in v.quantities if q.belief.name == "joules:cams") for v in (here, there))
    if way == "nothing":
        assert any("shared out among 2 workloads by the numbers of their requests" in note for note in other.notes)
        assert other.new_site.p90 / other.new_site.p10 > 1.2 * one.new_site.p90 / one.new_site.p10
    else:
        assert other.data == pytest.approx(one.data, rel=1e-3)


def test_meters_that_nobody_commissioned_are_not_believed(tmp_path: Path):
    for name in NAMES:
        export(site(name), tmp_path / f"{name}.csv")
    plain = MAPPING.model_copy(update={"meters": [m.model_copy(update={"commissioned": None}) for m in MAPPING.meters]})
    verdict = decide(CASE, csv_returns(plain, folder=tmp_path), DRAWS)
    assert verdict.state == "HOLD"
    assert verdict.stamp == "PARTLY MEASURED", "requests and bytes are counted all the same"
    assert any("commission the meter" in reason for reason, _ in verdict.pilots[0].refused)
    unclocked = replace(csv_returns(MAPPING, folder=tmp_path)[0], clock_error_ms=None)
    assert decide(CASE, [unclocked], DRAWS).stamp == "NOT MEASURED"


def test_latency_in_place_of_counts_decides_alike(tmp_path: Path):
    """The same week told by its 99th percentile: kept where counts keep it, lost where they lose it."""
    workloads = [{"id": "cams", "limit_ms": 50, "p99": {"series": "p99"}, "total": {"series": "all"}}]
    told = MappingDocument.model_validate({**MAPPING.model_dump(by_alias=True), "workloads": workloads})
    for name in NAMES:
        path = tmp_path / f"{name}.csv"
        export(site(name), path)
        head, *rows = path.read_text().splitlines()
        levels = [40.0 if name != "c" or n % 3 else 80.0 for n in range(len(rows))]
        path.write_text("\n".join([f"{head},p99", *(f"{row},{p99 / 1e3}" for row, p99 in zip(rows, levels, strict=True))]) + "\n")
    verdict = decide(CASE, csv_returns(told, folder=tmp_path), DRAWS)
    kept = next(item for item in verdict.quantities if item.belief.name == "slo:cams")
    assert (kept.sites, kept.blocks) == (NAMES, 3 * 96 * 7)
    assert kept.data == pytest.approx((1.0 + 1.0 + 2.0 / 3.0) / 3.0, abs=1e-3)
    energy = next(item for item in verdict.quantities if item.belief.name == "joules:cams")
    assert energy.sites == ()
    assert "no block holds" in energy.refused[0][1]
