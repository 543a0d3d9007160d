"""mapping.yaml, and what series become by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.documents import mapping as module
from nearhall.documents.mapped_returns import Values, block_ends, returns_of, wanted
from nearhall.documents.mapping import MappingDocument, read_mapping
from nearhall.documents.yaml_file import parse_document

EXAMPLE = "\n".join(line[4:] for line in (module.__doc__ or "").splitlines() if line.startswith("    "))


def document(text: str = EXAMPLE) -> MappingDocument:
    return parse_document(text.encode(), MappingDocument, name="mapping.yaml")


def test_the_example_is_read_and_the_label_is_filled_in():
    mapping = document()
    (site,) = mapping.sites
    assert [one.key for one in wanted(mapping, site)] == ["meter:main", "good:cams", "total:cams", "sent", "outdoor"]
    assert wanted(mapping, site)[0].series == 'energy_total_kwh{site="berlin-1", meter="main"}'
    unlabelled = mapping.model_copy(update={"sites": [site.model_copy(update={"label": ""})]})
    assert 'site="shop-01"' in wanted(unlabelled, unlabelled.sites[0])[0].series
    assert mapping.login is not None
    assert mapping.login.variable == "PROMETHEUS_TOKEN"


def test_a_file(tmp_path: Path):
    path = tmp_path / "mapping.yaml"
    path.write_text(EXAMPLE)
    assert read_mapping(path) == document()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("unit: kWh ", "unit: W "), "give the meter's register of energy"),
        (("unit: kWh ", "unit: kwh "), "is not known; one of kWh"),
        (("unit: B}", "unit: bit}"), "is not known; one of B"),
        (("unit: C}", "unit: K}"), "outdoor.unit"),
        (("position: feed", "position: roof"), "meters[0].position"),
        (("label: berlin-1", "label: 'a\"b'"), "sites[0].label"),
        (("{bearer_env: PROMETHEUS_TOKEN}", "{}"), "name one variable"),
        (("PROMETHEUS_TOKEN", "se-cret"), "login.bearer_env"),
        (('file: "$site.csv"', 'file: "../$site.csv"'), "lies outside of the folder"),
        (('file: "$site.csv"', 'file: "/etc/passwd"'), "lies outside of the folder"),
        (("    good:", "    godo:"), "did you mean 'good'?"),
        (
            ("  - id: cams", "  - id: cams\n    good: {series: a}\n    total: {series: b}\n  - id: cams"),
            "two workloads have the id",
        ),
    ],
)
def test_mistakes_are_told_with_their_mend(change: tuple[str, str], message: str):
    assert change[0] in EXAMPLE
    with pytest.raises(InputError) as caught:
        document(EXAMPLE.replace(*change))
    assert message in str(caught.value)


def test_a_mapping_of_nothing_is_refused():
    with pytest.raises(InputError, match="maps nothing"):
        document(yaml.safe_dump({"schema": "nearhall/mapping/v1", "sites": [{"id": "a"}]}))


def test_ends_of_whole_blocks():
    assert block_ends(0.0, 1800.0) == (0.0, 900.0, 1800.0)
    assert block_ends(1.0, 2699.0) == (900.0, 1800.0)
    assert block_ends(1.0, 600.0) == ()


ENDS = (0.0, 900.0, 1800.0, 2700.0)
VALUES: dict[str, Values] = {
    "meter:main": [10.0, 10.5, None, 11.5],
    "good:cams": [100.0, 190.0, 280.0, 80.0],
    "total:cams": [100.0, 200.0, 300.0, 100.0],
    "sent": [0.0, 5.0, 10.0, 15.0],
    "outdoor": [4.0, 6.0, None, None],
}


def test_series_become_returns():
    mapping = document()
    found = returns_of(mapping, mapping.sites[0], ends_s=ENDS, values=VALUES, clock_error_ms=12.0, origin="here")
    assert (found.id, found.site_class, found.jurisdiction, found.origin) == ("shop-01", "micro", "DE", "here")
    assert (found.start_s, found.end_s, found.clock_error_ms) == (0.0, 2700.0, 12.0)
    assert found.energy_kwh == {"feed": 0.5}
    assert [block.kwh("main") for block in found.blocks] == [0.5, None, None]
    assert [block.slo["cams"] for block in found.blocks] == [(90, 100), (90, 100), (80, 100)], "a counter that began anew"
    assert [block.outdoor_c for block in found.blocks] == [5.0, 6.0, None]
    assert [block.sent_bytes for block in found.blocks] == [5.0, 5.0, 5.0]
    assert found.coverage == 1.0
    assert found.register_coverage == pytest.approx(1 / 3)
    assert (found.workloads[0].total, found.workloads[0].late) == (300, 40)
    assert found.meters[0].kind is Kind.MEASURED


def test_units_are_turned_and_what_nobody_commissioned_is_assumed():
    text = EXAMPLE.replace("unit: kWh ", "unit: J ").replace("unit: C}", "unit: F}").replace("unit: B}", "unit: kB}")
    text = "\n".join(line for line in text.splitlines() if "commissioned" not in line)
    mapping = document(text)
    values = {**VALUES, "outdoor": [32.0, 50.0, 50.0, 50.0], "total:cams": [None] * 4}
    found = returns_of(mapping, mapping.sites[0], ends_s=ENDS, values=values, clock_error_ms=None, origin="")
    assert found.blocks[0].kwh("main") == pytest.approx(0.5 / 3.6e6)
    assert found.blocks[0].outdoor_c == pytest.approx(5.0)
    assert found.blocks[0].sent_bytes == 5000.0
    assert found.blocks[0].slo == {}
    assert found.coverage == 0.0
    assert found.meters[0].kind is Kind.ASSUMED


def test_only_what_is_mapped_is_there():
    raw = {"schema": "nearhall/mapping/v1", "sites": [{"id": "a"}], "raw": {"series": "r"}, "sent": {"series": "s"}}
    mapping = document(yaml.safe_dump(raw))
    found = returns_of(
        mapping, mapping.sites[0], ends_s=ENDS[:2], values={"raw": [0, 7], "sent": [0, 5]}, clock_error_ms=0, origin=""
    )
    assert (found.blocks[0].raw_bytes, found.blocks[0].sent_bytes, found.blocks[0].outdoor_c) == (7.0, 5.0, None)
    assert found.register_coverage == 0.0
    meters = {**raw, "meters": [{"id": "m", "position": "it", "series": "x", "simulated": True}]}
    del meters["sent"], meters["raw"]
    mapping = document(yaml.safe_dump(meters))
    found = returns_of(mapping, mapping.sites[0], ends_s=ENDS[:2], values={"meter:m": [0, 7]}, clock_error_ms=0, origin="")
    assert found.meters[0].kind is Kind.SIMULATED
    assert found.coverage == 1.0
    assert found.blocks[0].sent_bytes is None
