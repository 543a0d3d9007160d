"""The hardware catalogue: readable, with a source for each figure, and the figures are the source's."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.hardware import Benchmark, Catalogue, System, load_catalogue
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


def version_of(system: System) -> str:
    return system.source.split("Power ")[1].split(",")[0]


@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_every_system_is_plausible_and_says_where_it_comes_from(system: System):
    assert 0 < system.idle_w < system.busy_w <= (system.p99_w or system.busy_w) < 12_000
    assert system.mem_gib is not None
    assert system.benchmarks, "or it is of no use to a plan"
    assert "MLPerf Inference Power v" in system.source
    assert system.date == load_catalogue().rounds[version_of(system)].date
    for figure in ("mem_gib", "memory_gb_each", "peak_tflops", "bandwidth_gb_s", "cost_usd", "nameplate_w", "supplies"):
        assert (getattr(system, figure) is not None) == (figure in system.evidence), figure
    assert system.cost_usd is None or system.fact("cost_usd").kind == "assumed", "nobody asked for a quote"
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


def test_a_price_has_its_dearer_figure_last():
    text = (SYSTEM % (10, 20)).replace('date: "2022-09"', 'date: "2022-09", cost_usd: {p50: 100, p90: %s}')
    assert parse_document((text % 150).encode(), Catalogue, name="h").system("a").cost_usd is not None
    with pytest.raises(InputError, match="p90 50 is below p50 100"):
        parse_document((text % 50).encode(), Catalogue, name="h")


def test_a_figure_of_no_run_says_where_it_comes_from():
    orin = load_catalogue().system("orin-maxq")
    assert "32 GiB" in orin.fact("mem_gib").source
    assert "technical brief" in orin.fact("peak_tflops").source
    plain = parse_document((SYSTEM % (10, 20)).encode(), Catalogue, name="h").system("a")
    assert plain.fact("mem_gib").source == plain.source


@pytest.mark.parametrize(("system", "each_gib"), [("dell-xe2420-1xa10", 22.5), ("h200-sxm-8x", 140.4), ("orin-maxq", 30.0)])
def test_what_models_may_use_is_less_than_the_label_says(system: str, each_gib: float):
    found = load_catalogue().system(system)
    assert found.mem_gib is not None
    assert found.memory_gb_each is not None
    assert found.mem_gib / max(found.accelerators, 1) == pytest.approx(each_gib, abs=0.05)
    assert each_gib < found.memory_gb_each


def test_a_benchmark_holds_the_figure_of_its_scenario():
    for system in load_catalogue().systems:
        ids = [(run.model, run.scenario) for run in system.benchmarks]
        assert len(ids) == len(set(ids)), system.id
        for run in system.benchmarks:
            assert run.p99_w >= run.mean_w * 0.99
            held = {"single": run.latency_p90_ms, "multi": run.latency_p99_ms}.get(run.scenario, run.per_s)
            assert held is not None, (system.id, run)
            assert run.run.partition(" ")[0] in {ref.removeprefix("mlperf:") for ref in system.refs}


NEEDS_ROWS = pytest.mark.skipif(
    not ROWS.exists(), reason="the table of MLPerf power rows is not beside the project (NEARHALL_MLPERF_CSV)"
)


def table() -> dict[str, dict[str, str]]:
    """The rows by what the catalogue calls them: round/system, benchmark, scenario."""
    with ROWS.open() as file:
        return {f"{r['ver']}/{r['system']} {r['model']} {r['scenario']}": r for r in csv.DictReader(file)}


@NEEDS_ROWS
@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_watts_and_power_factor_are_those_of_the_row_that_the_source_names(system: System):
    name, benchmark, scenario = system.source.split(", ", 1)[1].replace(",", "").rsplit(" ", 2)
    row = table()[f"{version_of(system)}/{name.split(' ', 1)[1]} {benchmark} {scenario}"]
    assert (system.idle_w, system.busy_w, system.p99_w) == tuple(float(row[key]) for key in ("idle_W", "mean_W", "p99_W"))
    recorded = float(row["pf"]) if row["pf"] and float(row["pf"]) > 0 else None
    assert system.power_factor == recorded, "-1 and empty mean: not recorded"


@NEEDS_ROWS
@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_every_figure_of_every_benchmark_is_that_of_its_row(system: System):
    rows = table()
    for run in system.benchmarks:
        row = rows[run.run]
        assert run.model == row["model"].removesuffix(".9").removesuffix("-99").split("-precision")[0]
        assert row["scenario"].lower() == {"single": "singlestream", "multi": "multistream"}.get(run.scenario, run.scenario)
        assert (run.mean_w, run.p99_w) == (float(row["mean_W"]), float(row["p99_W"]))
        assert figure(run) == pytest.approx(told(run, row), rel=1e-6), run.run
        if run.mj_per_query is not None:
            assert run.mj_per_query == float(row["mJ_per_query"])
        assert float(row["idle_W"]) < 1.6 * system.idle_w, "two machines on one meter"


def figure(run: Benchmark) -> float | None:
    return run.per_s or run.latency_p90_ms or run.latency_p99_ms


def told(run: Benchmark, row: dict[str, str]) -> float:
    if run.per_s is not None:
        return float(row["offline"] or row["server"] or row["qps"])
    return float(row["lat90"] if run.scenario == "single" else row["lat99"]) / 1e6


def test_watts_and_millijoules_of_the_untether_rows():
    """Case 28. MLPerf Inference v4.1, published: 168,720/s at 398.33 W; 0.1204 ms, 29.239 mJ; eight 0.2125 ms, 61.317 mJ."""
    runs = {run.scenario: run for run in load_catalogue().system("mlperf:v4.1/h13_u3_slim").benchmarks}
    assert runs["offline"].per_s == pytest.approx(168_720, rel=1e-4)
    assert runs["offline"].mean_w == pytest.approx(398.33, rel=1e-4)
    assert runs["single"].latency_p90_ms == pytest.approx(0.1204, abs=5e-5)
    assert runs["single"].mj_per_query == pytest.approx(29.239, rel=1e-4)
    assert runs["multi"].latency_p99_ms == pytest.approx(0.2125, abs=1e-4)
    assert runs["multi"].mj_per_query == pytest.approx(61.317, rel=1e-4)


@pytest.mark.parametrize("system", load_catalogue().systems, ids=lambda system: system.id)
def test_millijoules_agree_with_watts_and_time(system: System):
    """A query's energy is the mean power times a time of about the latency: no factor of eight between conventions."""
    for run in system.benchmarks:
        latency_ms = run.latency_p90_ms or run.latency_p99_ms
        if run.mj_per_query is not None and latency_ms is not None:
            assert 0.3 < run.mj_per_query / (run.mean_w * latency_ms) < 1.5, run.run
