"""The hardware catalogue: readable, with a source for each figure, and the figures are the source's."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.hardware import Catalogue, System, load_catalogue
from nearhall.documents.yaml_file import parse_document

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "mlperf_power.csv"
ROWS = Path(os.environ.get("NEARHALL_MLPERF_CSV", BESIDE))
"""The rows that the catalogue was made from are kept beside the project, not in it."""

SYSTEM = """
schema: nearhall/hardware/v1
default: a
systems:
  - {id: a, name: A, idle_w: %s, busy_w: %s, power_factor: 0.9, supply: server, kind: vendor, source: s, date: "2022-09"}
"""


def test_the_default_is_a_whole_server_of_the_catalogue():
    catalogue = load_catalogue()
    default = catalogue.system(catalogue.default)
    assert default.supply == "server"
    assert len({system.id for system in catalogue.systems}) == len(catalogue.systems) >= 6


@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_every_system_is_plausible_and_says_where_it_comes_from(system: System):
    assert 0 < system.idle_w < system.busy_w <= (system.p99_w or system.busy_w) < 12_000
    assert system.mem_gib is not None
    assert system.benchmarks, "or it is of no use to a plan"
    assert "MLPerf Inference Power v" in system.source
    assert system.kind == "vendor", "submitted by those who sell it, not measured by us"
    if system.power_factor is not None:
        assert system.power_factor < 0.6 if system.supply == "brick" else system.power_factor > 0.9


def test_an_unknown_system_is_told_with_the_known_ones():
    with pytest.raises(InputError, match="dell-xe2420-1xa10"):
        load_catalogue().system("abacus")
    with pytest.raises(InputError, match=r"did you mean 'mlperf:v2\.1/Orin_TRT_MaxQ'"):
        load_catalogue().system("mlperf:v2.1/Orin_TRT_MaxP")


def test_a_system_is_found_by_its_id_and_by_the_name_in_the_benchmark():
    catalogue = load_catalogue()
    assert catalogue.system("orin-maxq") is catalogue.system("mlperf:v2.1/Orin_TRT_MaxQ")
    assert len(catalogue.systems) >= 30
    names = [name for system in catalogue.systems for name in (system.id, *system.refs)]
    assert len(names) == len(set(names))


def test_a_busy_server_draws_more_than_an_idle_one():
    assert parse_document((SYSTEM % (10, 20)).encode(), Catalogue, name="h").system("a").busy_w == 20
    with pytest.raises(InputError, match="not above its idle_w"):
        parse_document((SYSTEM % (20, 20)).encode(), Catalogue, name="h")


@pytest.mark.skipif(not ROWS.exists(), reason="the table of MLPerf power rows is not beside the project (NEARHALL_MLPERF_CSV)")
@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_the_figures_are_the_sources(system: System):
    version = system.source.split("Power ")[1].split(",")[0]
    with ROWS.open() as file:
        rows = [row for row in csv.DictReader(file) if row["ver"] == version and row["system"] in system.source]
    same = [
        row
        for row in rows
        if float(row["mean_W"]) == pytest.approx(system.busy_w, abs=0.01)
        and float(row["idle_W"]) == pytest.approx(system.idle_w, abs=0.05)
        and (float(row["pf"]) == pytest.approx(system.power_factor, abs=0.001) if system.power_factor else float(row["pf"]) <= 0)
    ]
    assert same, [(row["model"], row["scenario"], row["mean_W"], row["idle_W"], row["pf"]) for row in rows]


@pytest.mark.skipif(not ROWS.exists(), reason="the table of MLPerf power rows is not beside the project (NEARHALL_MLPERF_CSV)")
@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_every_rate_and_latency_is_a_row(system: System):
    named = {ref.partition("/")[2] for ref in system.refs}
    with ROWS.open() as file:
        rows = [row for row in csv.DictReader(file) if row["system"] in named]
    for run in system.benchmarks:
        same = [row for row in rows if float(row["mean_W"]) == pytest.approx(run.mean_w, abs=0.006)]
        if run.per_s is not None:
            assert any(float(row[k] or 0) == pytest.approx(run.per_s, rel=1e-4) for row in same for k in ("offline", "server"))
        else:
            told = [float(row["lat90"] or 0) / 1e6 for row in same] + [1e3 / float(row["qps"]) for row in same if row["qps"]]
            assert any(t == pytest.approx(run.latency_p90_ms, rel=1e-3) for t in told), (system.id, run)


def test_watts_and_millijoules_of_the_untether_rows():
    """MLPerf Inference v4.1, published: 168,720/s at 398.33 W; 0.1204 ms a request."""
    runs = {run.scenario: run for run in load_catalogue().system("mlperf:v4.1/h13_u3_slim").benchmarks}
    assert runs["offline"].per_s == pytest.approx(168_720, rel=1e-4)
    assert runs["offline"].mean_w == pytest.approx(398.33, rel=1e-4)
    assert runs["single"].latency_p90_ms == pytest.approx(0.1204, rel=3e-4)
