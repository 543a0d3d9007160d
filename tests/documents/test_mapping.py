"""mapping.yaml, and what series become by it."""

from __future__ import annotations

import inspect
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
    assert [one.key for one in wanted(mapping, site)] == ["meter:main", "good:cams", "total:cams", "busy:cams", "sent", "outdoor"]
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
        (('commissioned: "A. Meyer, 2026-10-01, protocol 17"', "commissioned: aaaaaaaa"), "does not say who and when"),
        (('commissioned: "A. Meyer, 2026-10-01, protocol 17"', 'commissioned: "2026"'), "does not say who and when"),
        (("limit_ms: 50", "limit_ms: 0"), "workloads[0].limit_ms"),
        (("of: latency", "of: ttft"), "workloads[0].of"),
        (("clock_error_ms: 12", "clock_error_ms: .nan"), "csv.clock_error_ms"),
        (("limit_ms: 50", "limit_ms: .inf"), "workloads[0].limit_ms"),
        (("busy: {", "joules: {series: j}\n    busy: {"), "has its energy told twice; give joules or busy"),
        (
            ("label: berlin-1}", "label: berlin-1}\n  - {id: shop-02, label: berlin-1}"),
            "sites shop-01 and shop-02 have the same label",
        ),
        (("label: berlin-1}", "label: shop-02}\n  - {id: shop-02}"), "one site's figures cannot stand for two"),
        (
            ("    total: {", "    p99: {series: a}\n    total: {"),
            "is told by good and p99; name one of good, histogram, p99, in_time",
        ),
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


def test_one_file_is_no_two_sites():
    two = EXAMPLE.replace("label: berlin-1}", "label: berlin-1}\n  - {id: shop-02}")
    assert len(document(two).sites) == 2
    with pytest.raises(InputError, match=r"csv.file 'all.csv' is one file for 2 sites; put \$site into its name"):
        document(two.replace("$site.csv", "all.csv"))
    assert document(EXAMPLE.replace("$site.csv", "all.csv")).csv.file == "all.csv", "one site needs no name of its own"


def test_unknown_units_of_energy_and_of_time_are_told():
    for way in ({"joules": {"series": "j", "unit": "cal"}}, {"busy": {"series": "b", "unit": "min"}}):
        with pytest.raises(InputError, match=r"workloads\[0\]"):
            document(yaml.safe_dump(told_by(good={"series": "g"}, total={"series": "t"}, **way)))


def test_energy_and_busy_time_of_a_workload_are_counted():
    way = {"good": {"series": "g"}, "total": {"series": "t"}, "limit_ms": 40, "of": "first_token"}
    values: dict[str, Values] = {"good:cams": [0.0, 90.0, 180.0], "total:cams": [0.0, 100.0, 200.0]}
    for extra, series, field, value in (
        ({"joules": {"series": "j", "unit": "Wh"}}, {"joules:cams": [1.0, 2.0, 4.0]}, "joules_full", 3.0 * 3600.0 / 200.0),
        ({"busy": {"series": "b", "unit": "ms"}}, {"busy:cams": [5e3, None, 1e3]}, "busy_s", None),
        ({"busy": {"series": "b"}}, {"busy:cams": [5.0, 9.0, 1.0]}, "busy_s", 5.0),
    ):
        mapping = document(yaml.safe_dump(told_by(**way, **extra)))
        found = returns_of(
            mapping,
            mapping.sites[0],
            ends_s=(0.0, 900.0, 1800.0),
            values={**values, **series},
            clock_error_ms=None,
            origin="x",
        )
        assert getattr(found.workloads[0], field) == pytest.approx(value)
        assert found.workloads[0].first_token is True


HISTOGRAM = {"series": "b$le", "le": ["0.01", "0.02", "+Inf"]}


def told_by(**way: object) -> dict[str, object]:
    return {"schema": "nearhall/mapping/v1", "sites": [{"id": "a"}], "workloads": [{"id": "cams", **way}]}


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({}, "is told by nothing"),
        ({"good": {"series": "g"}}, "name total"),
        ({"p99": {"series": "p"}}, "give limit_ms"),
        ({"histogram": HISTOGRAM}, "give limit_ms"),
        ({"histogram": HISTOGRAM, "limit_ms": 15}, "has no bucket that ends at its limit of 15 ms"),
        ({"histogram": HISTOGRAM, "limit_ms": 20, "total": {"series": "t"}}, "has two totals"),
        ({"histogram": {**HISTOGRAM, "series": "b"}, "limit_ms": 20}, "has no $le"),
        ({"histogram": {**HISTOGRAM, "le": ["0.02", "0.01", "+Inf"]}, "limit_ms": 20}, "does not ascend to +Inf"),
        ({"histogram": {**HISTOGRAM, "le": ["0.01", "0.02"]}, "limit_ms": 20}, "does not ascend to +Inf"),
        ({"histogram": {**HISTOGRAM, "le": ["0.02", "all"]}, "limit_ms": 20}, "holds what is no number"),
        ({"in_time": {"series": "s", "unit": "permille"}}, "in_time.unit"),
    ],
)
def test_a_workload_is_told_in_one_way(way: dict[str, object], message: str):
    with pytest.raises(InputError) as caught:
        document(yaml.safe_dump(told_by(**way)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "way",
    [
        {"p99": {"series": "p"}, "limit_ms": 15},
        {"in_time": {"series": "s"}},
        {"in_time": {"series": "s"}, "total": {"series": "t"}},
        {"histogram": HISTOGRAM, "limit_ms": 20},
    ],
)
def test_each_way_of_telling_is_read(way: dict[str, object]):
    assert document(yaml.safe_dump(told_by(**way))).workloads[0].id == "cams"


def test_the_example_of_latency_is_read():
    text = inspect.cleandoc(module.MappedWorkload.__doc__ or "")
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    mapping = document("schema: nearhall/mapping/v1\nsites: [{id: a}]\n" + "\n".join(lines))
    keys = [one.key for one in wanted(mapping, mapping.sites[0])]
    assert keys == ["le:speech:0.01", "le:speech:0.02", "le:speech:0.05", "le:speech:+Inf", "p99:video", "in_time:chat"]
    assert [one.of for one in wanted(mapping, mapping.sites[0])] == ["count"] * 4 + ["highest", "lowest"]
    assert wanted(mapping, mapping.sites[0])[1].series.endswith('le="0.02"})')


def returned(way: dict[str, object], values: dict[str, Values]):
    mapping = document(yaml.safe_dump(told_by(**way)))
    assert {one.key for one in wanted(mapping, mapping.sites[0])} == set(values)
    return returns_of(mapping, mapping.sites[0], ends_s=ENDS, values=values, clock_error_ms=0.0, origin="")


def test_counters_that_are_swapped_are_told():
    way = {"good": {"series": "g"}, "total": {"series": "t"}, "limit_ms": 40}
    fewer: Values = [90.0 * i for i in range(len(ENDS))]
    more: Values = [100.0 * i for i in range(len(ENDS))]
    assert returned(way, {"good:cams": fewer, "total:cams": more}).workloads[0].total
    with pytest.raises(InputError, match="no more in time than all: are `good` and `total` swapped"):
        returned(way, {"good:cams": more, "total:cams": fewer})


def test_a_histogram_counts_what_is_in_time_and_how_long_it_took():
    found = returned(
        {"histogram": HISTOGRAM, "limit_ms": 20},
        {"le:cams:0.01": [0, 80, 150, 20], "le:cams:0.02": [0, 95, 190, 30], "le:cams:+Inf": [0, 100, 200, 40]},
    )
    assert [block.slo["cams"] for block in found.blocks] == [(95, 100), (95, 100), (30, 40)], "a counter that began anew"
    assert [block.latency["cams"] for block in found.blocks] == [(80, 15, 5), (70, 25, 5), (20, 10, 10)]
    assert found.workloads[0].upto_ms == (10.0, 20.0, float("inf"))
    assert (found.workloads[0].limit_ms, found.workloads[0].total, found.workloads[0].late) == (20.0, 240, 20)
    assert found.coverage == 1.0
    hole = {"le:cams:0.01": [0, 80, None, 20], "le:cams:0.02": [0, 95, 190, 230], "le:cams:+Inf": [0, 100, 200, 240]}
    gone = returned({"histogram": HISTOGRAM, "limit_ms": 20}, hole)
    assert [set(block.slo) for block in gone.blocks] == [{"cams"}, set(), set()]
    assert gone.coverage == pytest.approx(1 / 3)


def test_a_percentile_is_told_in_milliseconds_and_leaves_requests_unknown():
    found = returned({"p99": {"series": "p", "unit": "s"}, "limit_ms": 50}, {"p99:cams": [9.0, 0.04, None, 0.06]})
    assert [block.p99_ms.get("cams") for block in found.blocks] == [pytest.approx(40.0), None, pytest.approx(60.0)]
    assert all(not block.slo and not block.total for block in found.blocks)
    assert found.coverage == pytest.approx(2 / 3)
    counted = returned(
        {"p99": {"series": "p", "unit": "ms"}, "limit_ms": 50, "total": {"series": "t"}},
        {"p99:cams": [9.0, 40.0, 40.0, 60.0], "total:cams": [0, 100, 100, 300]},
    )
    assert [block.total["cams"] for block in counted.blocks] == [100, 0, 200]
    assert [block.p99_ms.get("cams") for block in counted.blocks] == [40.0, None, 60.0], "an idle block tells nothing"
    assert (counted.coverage, counted.workloads[0].total) == (1.0, 300)


def test_a_share_in_time_counts_requests_where_their_number_is_known():
    found = returned({"in_time": {"series": "s", "unit": "%"}}, {"in_time:cams": [1.0, 98.0, 104.0, None]})
    assert [block.in_time.get("cams") for block in found.blocks] == [pytest.approx(0.98), 1.0, None]
    counted = returned(
        {"in_time": {"series": "s"}, "total": {"series": "t"}},
        {"in_time:cams": [1.0, 0.98, None, 0.5], "total:cams": [0, 100, 200, 300]},
    )
    assert [block.slo.get("cams") for block in counted.blocks] == [(98, 100), None, (50, 100)]
    assert [block.total["cams"] for block in counted.blocks] == [100, 100, 100]


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
    "busy:cams": [2.0, 4.0, 6.0, 1.0],
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
