"""`nearhall plan` as a user meets it: an example that plans at once, files that are whole, mistakes told in a line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from nearhall.cli.commands.plan import EXAMPLES
from nearhall.cli.main import dispatch
from nearhall.cli.output import run
from nearhall.cli.plan_files import in_json, site_yaml
from nearhall.documents.plan import Plan
from nearhall.documents.site import SiteDocument
from nearhall.documents.yaml_file import parse_document, read_document


def typed(*words: str) -> int:
    """Runs `nearhall WORDS` here; its exit code."""
    try:
        return run(lambda: dispatch(list(words)))
    except SystemExit as ended:
        return int(ended.code or 0)


def example(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The plan that the command prints."""
    assert typed("plan", "--example-named", name) == 0
    path = folder / "plan.yaml"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_planned_and_everything_is_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plan = example(name, tmp_path, capsys)
    assert typed("plan", str(plan), "--out", str(tmp_path / "out"), "--samples", "300", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "out" / "plan-result.json").read_text())
    assert result["plan"]["samples"] == 300
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    with (tmp_path / "out" / "bill-of-materials.csv").open() as file:
        parts = list(csv.DictReader(file))
    built = {site["id"] for site in result["sites"] if site["built"]}
    assert {part["site"] for part in parts} - {"all"} == built
    if built:
        *rows, _, total = parts
        assert total["item"] == "total"
        assert float(total["line_usd"]) == pytest.approx(result["money"]["capex"]["p50"], abs=1)
        assert sum(float(row["line_usd"] or 0) for row in parts[:-1]) == pytest.approx(float(total["line_usd"]), abs=len(rows))
    assert {path.stem for path in (tmp_path / "out" / "sites").iterdir()} == built
    for path in (tmp_path / "out" / "sites").iterdir():
        document = read_document(path, SiteDocument)
        assert document.id == path.stem
        assert document.envelope.feed is not None
        assert document.workloads
        (kind,) = (site for site in result["sites"] if site["id"] == path.stem)
        refs = {hardware.id: hardware.ref for hardware in read_document(plan, Plan).hardware}
        assert [node.hardware for node in document.nodes] == [refs[h["id"]] for h in kind["hardware"] for _ in range(h["count"])]
        assert typed("site", str(path), "--check", "--models", str(tmp_path), "--json") == 0
        settings = json.loads(capsys.readouterr().out)
        agents = [one["agent"] for one in (settings["nodes"].values() if len(document.nodes) > 1 else [settings])]
        assert [agent["node"] for agent in agents] == [f"n{n}" for n in range(1, len(document.nodes) + 1)]
        assert len({(agent["port"], agent["state_dir"]) for agent in agents}) == len(agents), "all may run on one machine"


@pytest.mark.parametrize(
    ("hardware", "nodes", "told"),
    [
        ([("orin", 2, ["crowds"])], ["o", "o"], "# Planned from Shops with cameras and a kiosk. n1 and n2: 2 x orin for crowds."),
        (
            [("orin", 1, ["crowds"]), ("a2-server", 3, ["kiosk", "shelf"])],
            ["o", "a", "a", "a"],
            "n1: 1 x orin for crowds; n2 to n4: 3 x a2-server for kiosk, shelf.",
        ),
        ([("orin", 1, ["crowds"])], ["o"], "n1: 1 x orin for crowds."),
        ([("orin", 300, ["crowds"])], ["o"] * 256, "300 servers stand here and a file holds 256"),
    ],
    ids=["two", "of two kinds", "one", "more than a file holds"],
)
def test_every_server_of_every_kind_is_a_node(
    hardware: list[tuple[str, int, list[str]]], nodes: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plan = read_document(example("retail", tmp_path, capsys), Plan)
    large = next(site for site in plan.sites if site.id == "shop-large")
    racks = [{"id": kind, "count": count, "workloads": served} for kind, count, served in hardware]
    part = {"hardware": racks, "workloads": ["crowds"], "breaker": {"needed_a": 16.0}}
    text = site_yaml(plan, large, part)
    site = parse_document(text, SiteDocument, name="shop-large.yaml")
    refs = {"o": "mlperf:v2.1/Orin_TRT_MaxQ", "a": "mlperf:v2.1/XR12_A2x1_TRT_MaxQ"}
    assert [node.hardware for node in site.nodes] == [refs[kind] for kind in nodes]
    assert [node.port for node in site.nodes] == list(range(8080, 8080 + len(nodes)))
    assert told in text.decode()
    assert (b"The first reads the meters" in text) == (len(nodes) > 1)


HALL = """schema: nearhall/plan/v1
samples: 400
workloads:
  - id: chat
    model: {kind: llm, ref: llama-3.1-8b, ctx: 4096, concurrent: 2000, prompt_tokens: 400, output_tokens: 120}
    arrivals: {rate_per_s: 16000, shape: flat}
    slo: {ttft_p99_ms: 3000}
    data: {in_kb: 4, out_kb: 3, residency: site}
    value_usd_per_year: 60000000
hardware:
  - {id: eight, ref: lenovo-sr680a-8xb200}
sites:
  - id: hall
    class: regional
    lat: 52.5
    lon: 13.4
    jurisdiction: DE
    it_budget_kw: BUDGET
    supply: {phases: 3, volts: VOLTS, code: IEC}
    cooling: {kind: dx, capacity_kw: 1200}
    tariff: {energy_usd_per_kwh: 0.2}
    uplink: {kind: per_gb, usd_per_gb: 0.01, mbps: 40000}
    climate: {mean_c: 10, season_c: 10}
hubs:
  - {id: hub, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 5000}
"""


@pytest.mark.parametrize(("volts", "breaker_a"), [(400, 2000), (60, None)])
def test_a_hall_of_eight_accelerator_servers_gets_its_breaker_or_none_and_its_file_either_way(
    volts: int, breaker_a: float | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Half a megawatt on 400 V needs one above 630 A; at 60 V no rating is enough, and JSON knows no NaN."""
    path = tmp_path / "hall.yaml"
    path.write_text(HALL.replace("VOLTS", str(volts)).replace("BUDGET", "2000"))
    assert typed("plan", str(path), "--out", str(tmp_path / "out"), "--json") == 0
    text = (tmp_path / "out" / "plan-result.json").read_text()
    assert "NaN" not in text + capsys.readouterr().out
    hall = json.loads(text)["sites"][0]
    assert hall["hardware"][0]["count"] >= 52
    assert hall["breaker"]["needed_a"] == breaker_a
    assert (hall["breaker"]["margin_percent"] is None) == (breaker_a is None)
    document = read_document(tmp_path / "out" / "sites" / "hall.yaml", SiteDocument)
    assert document.envelope.feed is not None
    assert document.envelope.feed.breaker_a == breaker_a
    with (tmp_path / "out" / "bill-of-materials.csv").open() as file:
        told = next(row["what"] for row in csv.DictReader(file) if row["item"] == "breaker")
    assert told.startswith("breaker 2000 A" if breaker_a else "none of the standard ratings carries")


@pytest.mark.parametrize(
    "value", [1.0, "x", None, True, float("nan"), float("inf"), [float("nan"), 1.0], {"a": (float("nan"), 2)}]
)
def test_what_is_no_number_is_null(value: object):
    told = json.dumps(in_json(value), allow_nan=False)
    assert ("null" in told) == ("nan" in repr(value) or "inf" in repr(value) or value is None)


SKETCH = """schema: nearhall/plan/v1
currency: USD
horizon_years: 5
discount_rate: 0.08
seed: 42
samples: 400
workloads:
  - id: cams
    model: {kind: vision, ref: mlperf:resnet50, bits: 8}
    arrivals: {rate_per_s: {p50: 120, p90: 200}, shape: daily.csv, burst: {factor: 3, seconds: 30}}
    slo: {p99_ms: 10}
    data: {in_kb: 180, out_kb: 1, residency: "jurisdiction:DE"}
    value_per_ms_usd_year: 0
hardware:
  - id: orin
    ref: mlperf:v2.1/Orin_TRT_MaxQ
    mem_gib: 32
    cost_usd: {p50: 2000, p90: 2400}
sites:
  - id: shop-01
    lat: 52.5
    lon: 13.4
    altitude_m: 40
    jurisdiction: DE
    it_budget_kw: 8
    supply: {phases: 3, volts: 400, code: IEC, breaker_a: 32, feeder: F1}
    cooling: {kind: dx, capacity_kw: 10, class: A2, cop: {p50: 3.0, p10: 2.3}, design_out_c: 36}
    ups: {kva: 10, kw: 9, ah: 9, cell_v: 192, strings: 1, chem: vrla, hold_min: 10}
    tariff: {energy_usd_per_kwh: 0.28, demand_usd_per_kw_month: 12, ratchet: 0.0}
    uplink: {kind: flat_step, steps_mbps: [100, 500, 1000], usd_per_month: [80, 150, 260]}
hubs: [{id: fra, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 5000}]
feeders: [{id: F1, headroom_kva: 160, existing_load: feeder.csv}]
correlation: {common: 0.6, regional: 0.2}
decision: {min_p_npv_positive: 0.8, min_p_slo: 0.95, min_p_pue_below: {1.5: 0.9}, pilots_min: 3}
"""
"""The smallest plan that says something of everything: a site and a hub that name no hardware, and two files beside it."""


def test_a_plan_with_files_beside_it_and_no_hardware_named_by_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "plan.yaml").write_text(SKETCH)
    words = ("plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out"), "--json")
    assert typed(*words) == 2
    assert "daily.csv: cannot be read; name a CSV file that exists" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "daily.csv").write_text("\n".join(str(abs(hour - 4)) for hour in range(24)))
    (tmp_path / "feeder.csv").write_text("\n".join(str(50 + hour) for hour in range(24)))
    assert typed(*words) == 0
    result = json.loads(capsys.readouterr().out)
    (placed,) = result["workloads"][0]["placed"]
    assert (placed["at"], placed["verdict"]) == ("shop-01", "edge")
    assert "round trip" in placed["why"]
    assert result["fleet"]["feeders"][0]["existing_kva"][-1] == 73


def test_the_summary_is_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plan = example("factory", tmp_path, capsys)
    assert typed("plan", str(plan), "--out", str(tmp_path / "out"), "--samples", "300") == 0
    said = capsys.readouterr().out
    assert "PLANNED" in said
    assert "review by a licensed" in said
    assert str(tmp_path / "out" / "report.html") in said.replace("\n", "")


def test_what_is_there_is_listed(capsys: pytest.CaptureFixture[str]):
    for option, known in (("--defaults", "hub.pue"), ("--hardware", "orin-maxq"), ("--models", "resnet50")):
        assert typed("plan", option) == 0
        (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(known + " ")]
        assert typed("plan", option, "--json") == 0
        (same,) = [row for row in json.loads(capsys.readouterr().out)["rows"] if known in row.values()]
        assert all(cell in row for cell in same.values()), "one line for each, to be searched"
    assert typed("plan", "--example") == 0
    assert capsys.readouterr().out.startswith("# A retail chain")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no plan is named"),
        (["missing.yaml"], "cannot be read"),
        (["--example-named", "bakery"], "one of: retail, factory, telco, pilot"),
        (["--example-named", ""], "one of: retail, factory, telco, pilot"),
        (["plan.yaml", "--out", ""], "would fill the folder that you are in"),
    ],
)
def test_a_mistake_on_the_line_is_told_in_a_line(given: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert typed("plan", *given) == 2
    assert told in capsys.readouterr().err


def test_mistakes_in_the_plan_are_all_told_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plan = example("retail", tmp_path, capsys)
    plan.write_text(plan.read_text().replace("it_budget_kw: 0.5", "it_buget_kw: 0.5").replace("p90: 45}", "p90: 4}"))
    assert typed("plan", str(plan), "--out", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert "did you mean 'it_budget_kw'?" in said
    assert "p90 4 is below p50 30" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plan = example("factory", tmp_path, capsys)
    (tmp_path / "out").write_text("a file")
    assert typed("plan", str(plan), "--out", str(tmp_path / "out"), "--samples", "300") == 2
    assert "--out" in capsys.readouterr().err
