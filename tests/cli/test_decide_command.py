"""`nearhall decide` as a user meets it: a rehearsed pilot against the plan made for it, and mistakes told in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nearhall.cli.main import dispatch
from nearhall.cli.output import run
from nearhall.documents.mapping import read_mapping
from nearhall.documents.plan import Plan
from nearhall.documents.yaml_file import read_document

BLOCK_S = 900
BLOCKS = 96
RATES = {"video": 10.0, "speech": 31.0, "inspection": 3.7}


def typed(*words: str) -> int:
    """Runs `nearhall WORDS` here; its exit code."""
    try:
        return run(lambda: dispatch(list(words)))
    except SystemExit as ended:
        return int(ended.code or 0)


def moment(block: int) -> str:
    return f"2026-07-{1 + block // 96:02d}T{block % 96 // 4:02d}:{block % 4 * 15:02d}:00.000Z"


def site(name: str, *, watts: float = 200.0, pue: float = 1.7, kind: str = "measured") -> dict[str, Any]:
    """A day of one metered shop, as a hub would report it."""

    def energy(factor: float) -> float:
        return watts * factor * BLOCK_S * BLOCKS / 3.6e6

    def count(workload: str) -> int:
        return round(RATES[workload] * BLOCK_S) * BLOCKS

    parts = {"feed": pue, "ups_in": 1.1, "it": 1.0, "cooling": pue - 1.1}
    blocks = []
    for n in range(BLOCKS):
        kwh = {m: [f * watts * BLOCK_S * k / 3.6e6 for k in (n, n + 1)] for m, f in parts.items()}
        blocks.append(
            {
                "start": moment(n), "end": moment(n + 1), "register_kwh": kwh,
                "outdoor_c": 12.0 + 10.0 * (n % 96) / 96, "it_load": watts / 800.0,
                "slo": {w: [round(rate * BLOCK_S)] * 2 for w, rate in RATES.items()},
                "bytes": {"sent": 1000, "raw": 1_000_000},
            }
        )  # fmt: skip
    workloads = [
        {
            "id": w, "model": m, "slo_p99_ms": limit, "residency": "any",
            "requests": {"total": count(w), "local": count(w), "hub": 0, "failed": 0, "late": 0},
            "latency_ms": {"local": {"n": count(w), "p50": 3.0, "p95": 5.0, "p99": 8.0}, "hub": {"n": 0}},
            "energy_j_per_request": {"marginal": 1.0, "full": 8.0},
        }
        for w, m, limit in (("video", "faces", 50.0), ("speech", "voice", 20.0), ("inspection", "inspection", 10.0))
    ]  # fmt: skip
    return {
        "id": name, "class": "micro", "jurisdiction": "DE", "period": {"start": moment(0), "end": moment(BLOCKS)},
        "coverage": 1.0, "clock_error_ms": 3.0, "host": {}, "link": {"rtt_ms": 40.0, "mbps": 50.0},
        "meters": [
            {
                "id": m, "position": m, "protocol": "modbus", "serial": f"{name}-{m}", "class_percent": 1.0, "ct_ratio": 1.0,
                "kind": kind, "virtual": kind == "simulated",
            }
            for m in parts
        ],
        "workloads": workloads,
        "energy": {
            "register_coverage": 1.0, "facility_kwh": energy(pue), "it_kwh": energy(1.0), "ups_in_kwh": energy(1.1),
            "cooling_kwh": energy(pue - 1.1), "ups_out_kwh": None, "other_kwh": None, "closure_percent": None,
        },
        "pue": {"value": pue, "category": 3, "interim": True},
        "blocks": blocks,
    }  # fmt: skip


def pilot(path: Path, kind: str, *sites: dict[str, Any]) -> str:
    """pilot.json with all figures of this kind of evidence."""
    document = {
        "schema": "nearhall/pilot/v1",
        "run": {"started": moment(0), "ended": moment(BLOCKS), "software": "nearhall test", "seed": 1},
        "evidence": {"/sites": {"kind": kind, "source": "a test"}},
        "counts": {}, "sites": list(sites), "totals": {},
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert typed("plan", "--example-named", "pilot") == 0
    path = tmp_path / "plan.yaml"
    path.write_text(capsys.readouterr().out.replace("horizon_years: 5\n", "horizon_years: 5\nsamples: 400\n"))
    return str(path)


def decided(plan: str, folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert typed("decide", plan, *words, "--out", str(folder), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((folder / "decision.json").read_text())
    assert (folder / "report.html").read_text().lower().startswith("<!doctype html>")
    return found


def test_simulated_meters_make_it_a_rehearsal(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    returns = pilot(tmp_path / "p.json", "simulated", *(site(f"shop-{n}", kind="simulated") for n in range(3)))
    found = decided(plan, tmp_path / "out", capsys, "--pilot", returns)
    assert found["stamp"] == "REHEARSED"
    assert [c["verdict"] for c in found["site_classes"]] == ["HOLD"]
    assert found["next"]


def test_measured_returns_take_the_place_of_what_was_assumed(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    returns = pilot(tmp_path / "p.json", "measured", *(site(f"shop-{n}", watts=180 + 5 * n) for n in range(3)))
    found = decided(plan, tmp_path / "out", capsys, "--pilot", returns)
    assert found["stamp"] in {"MEASURED", "PARTLY MEASURED"}
    power = next(q for q in found["quantities"] if q["name"] == "IT power")
    assert power["data"]["n_sites"] == 3
    low, high = sorted([power["prior"]["p50"], power["data"]["value"]])
    assert low <= power["posterior"]["p50"] <= high
    spread = {k: power[k]["p90"] - power[k]["p10"] for k in ("prior", "posterior")}
    assert spread["posterior"] < spread["prior"]


def test_a_pilot_of_a_class_that_the_plan_does_not_build_is_listed(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    other = site("depot-1", watts=220.0) | {"class": "distributed"}
    found = decided(plan, tmp_path / "out", capsys, "--pilot", pilot(tmp_path / "p.json", "measured", site("shop-1"), other))
    mine, left = found["pilots"]
    assert (mine["site"], mine["kind_of_site"], mine["accepted"]) == ("shop-1", "shop", True)
    assert (left["site"], left["kind_of_site"], left["accepted"]) == ("depot-1", None, False)
    assert left["refused"][0]["why"] == "the plan builds no site of class distributed; it builds shop (class micro)"
    assert found["site_classes"][0]["scaling"]["sites"] == 40
    assert {row["kind"] for row in found["assumptions"]} == {"assumed"}
    assert next(row for row in found["assumptions"] if row["name"] == "decision.min_p_per_request")["value"] == 0.8


def test_copies_of_one_site_are_no_further_pilots(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first = site("shop-1")
    copies = [{**first, "id": name, "meters": [{**m, "serial": None} for m in first["meters"]]} for name in ("shop-1", "shop-2")]
    assert typed("decide", plan, "--pilot", pilot(tmp_path / "p.json", "measured", *copies), "--out", str(tmp_path / "o")) == 2
    assert "hold the same meter readings" in capsys.readouterr().err


def test_the_summary_is_for_people(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    returns = pilot(tmp_path / "p.json", "simulated", site("shop-1", kind="simulated"))
    assert typed("decide", plan, "--pilot", returns, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "REHEARSED" in said
    assert "HOLD" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "no pilot file is named"), (["--pilot", "missing.json"], "missing.json"), (["--pilot", "bad.json"], "bad.json")],
)
def test_a_mistake_is_told_in_a_line(
    plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text('{"schema": "nearhall/pilot/v1", "sites": 5}')
    assert typed("decide", plan, *words) == 2
    assert told in capsys.readouterr().err


def test_a_plan_that_builds_nothing_has_nothing_to_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert typed("plan", "--example-named", "telco") == 0
    path = tmp_path / "telco.yaml"
    path.write_text(capsys.readouterr().out.replace("horizon_years: 6\n", "horizon_years: 6\nsamples: 300\n"))
    returns = pilot(tmp_path / "p.json", "measured", site("shop-1"))
    assert typed("decide", str(path), "--pilot", returns) == 2
    assert "builds no site" in capsys.readouterr().err


def test_the_example_of_a_mapping_is_of_the_pilot_plans_workloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert typed("decide", "--example-mapping") == 0
    (tmp_path / "mapping.yaml").write_text(capsys.readouterr().out)
    mapping = read_mapping(tmp_path / "mapping.yaml")
    assert typed("plan", "--example-named", "pilot") == 0
    (tmp_path / "plan.yaml").write_text(capsys.readouterr().out)
    limits = {workload.id: workload.slo.limit_ms for workload in read_document(tmp_path / "plan.yaml", Plan).workloads}
    assert {workload.id: workload.limit_ms for workload in mapping.workloads} == limits
    assert {meter.position for meter in mapping.meters} >= {"feed", "it"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no plan is named"),
        (["plan.yaml", "--pilot", "p.json", "--from", "2026-01-01"], "a period is for --prometheus"),
    ],
)
def test_what_is_missing_or_idle_on_the_line_is_told(given: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert typed("decide", *given) == 2
    assert told in capsys.readouterr().err


MAPPING = """schema: nearhall/mapping/v1
sites: [{id: shop-9, class: micro, jurisdiction: DE}]
meters:
  - {id: f, position: feed, series: feed_kwh, class_percent: 1.0, commissioned: "A. Meyer, 2026-06-30, protocol 4"}
  - {id: u, position: ups_in, series: ups_kwh, class_percent: 1.0, commissioned: "A. Meyer, 2026-06-30, protocol 5"}
  - {id: i, position: it, series: it_kwh, class_percent: 1.0, commissioned: "A. Meyer, 2026-06-30, protocol 6"}
  - {id: c, position: cooling, series: cooling_kwh, class_percent: 1.0, commissioned: "A. Meyer, 2026-06-30, protocol 7"}
outdoor: {series: outdoor_c}
csv: {file: "$site.csv", clock_error_ms: 5}
"""


def exported(folder: Path) -> None:
    """A day and a half of a site that runs no agent of ours, a row every five minutes."""
    rows = ["time,feed_kwh,ups_kwh,it_kwh,cooling_kwh,outdoor_c"]
    for n in range(12 * 36 + 1):
        hours = n / 12
        when = f"2026-07-{1 + int(hours) // 24:02d}T{int(hours) % 24:02d}:{n % 12 * 5:02d}:00Z"
        rows.append(f"{when},{0.34 * hours:.6f},{0.22 * hours:.6f},{0.2 * hours:.6f},{0.12 * hours:.6f},{15 + n % 24}")
    (folder / "shop-9.csv").write_text("\n".join(rows) + "\n")


def test_a_site_that_runs_something_else_is_read_from_its_files(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    exported(tmp_path)
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    words = ("--csv", str(tmp_path), "--mapping", str(tmp_path / "mapping.yaml"))
    found = decided(plan, tmp_path / "out", capsys, *words)
    power = next(q for q in found["quantities"] if q["name"] == "IT power")
    assert power["data"]["value"] == pytest.approx(200.0, rel=0.02)
    assert found["pilots"][0]["accepted"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--csv", "."], "--mapping"),
        (["--mapping", "mapping.yaml"], "one of the two"),
        (["--prometheus", "http://127.0.0.1:1", "--mapping", "mapping.yaml"], "--from, --to"),
        (
            ["--prometheus", "http://127.0.0.1:1", "--mapping", "login.yaml", "--from", "2026-07-01", "--to", "2026-07-03"],
            "NO_SUCH",
        ),
        (["--csv", "nowhere", "--mapping", "mapping.yaml"], "nowhere"),
    ],
)
def test_what_another_source_needs_is_told(
    plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    Path("mapping.yaml").write_text(MAPPING)
    Path("login.yaml").write_text(MAPPING + "login: {bearer_env: NO_SUCH}\n")
    assert typed("decide", plan, *words) == 2
    assert told in capsys.readouterr().err
