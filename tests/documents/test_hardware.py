"""The hardware catalogue: readable, with a source for each figure, and the figures are the source's."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.hardware import Catalogue, System, load_catalogue
from nearhall.documents.yaml_file import parse_document

ROWS = Path(os.environ.get("NEARHALL_MLPERF_CSV", "/nonexistent"))
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
    assert 0 < system.idle_w < system.busy_w < 2000
    assert "MLPerf Inference Power v" in system.source
    assert system.kind == "vendor", "submitted by those who sell it, not measured by us"
    assert system.power_factor < 0.6 if system.supply == "brick" else system.power_factor > 0.9


def test_an_unknown_system_is_told_with_the_known_ones():
    with pytest.raises(InputError, match="dell-xe2420-1xa10"):
        load_catalogue().system("dell")


def test_a_busy_server_draws_more_than_an_idle_one():
    assert parse_document((SYSTEM % (10, 20)).encode(), Catalogue, name="h").system("a").busy_w == 20
    with pytest.raises(InputError, match="not above its idle_w"):
        parse_document((SYSTEM % (20, 20)).encode(), Catalogue, name="h")


@pytest.mark.skipif(not ROWS.exists(), reason="NEARHALL_MLPERF_CSV does not name the table of MLPerf power rows")
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
        and float(row["pf"]) == pytest.approx(system.power_factor, abs=0.001)
    ]
    assert same, [(row["model"], row["scenario"], row["mean_W"], row["idle_W"], row["pf"]) for row in rows]
