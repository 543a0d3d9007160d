"""`nearhall plan` as a user meets it: an example that plans at once, files that are whole, mistakes told in a line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from nearhall.cli.commands.plan import EXAMPLES
from nearhall.cli.main import dispatch
from nearhall.cli.output import run
from nearhall.documents.site import SiteDocument
from nearhall.documents.yaml_file import read_document


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
        assert known in capsys.readouterr().out
    assert typed("plan", "--example") == 0
    assert capsys.readouterr().out.startswith("# A retail chain")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no plan is named"),
        (["missing.yaml"], "cannot be read"),
        (["--example-named", "bakery"], "one of: retail, factory, telco, pilot"),
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
