"""plan.yaml: the examples that ship read; every mistake is told at once, with its line, its path and what would be right."""

from __future__ import annotations

from importlib.resources import files

import pytest

from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import load_models
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.plan import Plan
from nearhall.documents.plan_across import mistakes_across
from nearhall.documents.plan_names import mistakes_with
from nearhall.documents.yaml_file import dump_document, parse_document

EXAMPLES = ("retail", "factory", "telco", "pilot")


def example(name: str) -> str:
    return files("nearhall.documents").joinpath(f"data/examples/{name}.yaml").read_text()


def read(text: str) -> Plan:
    return parse_document(text.encode(), Plan, name="plan.yaml", across=mistakes_with(load_catalogue(), load_models()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_reads_and_is_the_same_once_written(name: str):
    plan = read(example(name))
    assert parse_document(dump_document(plan), Plan, name="again", across=mistakes_across) == plan


SMALL = """schema: nearhall/plan/v1
workloads:
  - id: cams
    model: {kind: vision, ref: resnet50}
    arrivals: {rate_per_s: {p50: 120, p90: 200}}
    slo: {p99_ms: 10}
    data: {in_kb: 180, out_kb: 1}
hardware:
  - {id: orin, ref: "mlperf:v2.1/Orin_TRT_MaxQ"}
sites:
  - id: shop
    lat: 52.5
    lon: 13.4
    jurisdiction: DE
    hardware: [orin]
    it_budget_kw: 1
    supply: {phases: 1, volts: 230, code: IEC, breaker_a: 16, feeder: f1}
    cooling: {capacity_kw: 2}
    ups: {kva: 1, kw: 0.9, hold_min: 10, battery_kwh: 1}
    tariff: {energy_usd_per_kwh: 0.2}
    uplink: {kind: per_gb, usd_per_gb: 0.05}
hubs:
  - {id: fra, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 500, hardware: orin}
feeders:
  - {id: f1, headroom_kva: 100}
"""


def test_what_is_left_out_has_a_default():
    plan = read(SMALL)
    assert (plan.samples, plan.sites[0].count, plan.sites[0].cooling.kind) == (10_000, 1, "dx")
    assert plan.workloads[0].slo.limit_ms == 10


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("it_budget_kw: 1\n", "it_buget_kw: 1\n", "sites[0].it_buget_kw is not known; did you mean 'it_budget_kw'?"),
        ("{p50: 120, p90: 200}", "{p50: 120, p90: 20}", "workloads[0].arrivals.rate_per_s: p90 20 is below p50 120"),
        ("capacity_kw: 2}", "capacity_kw: 2000 W}", "'2000 W' is in W, the field in kW; write 2"),
        ("lat: 52.5", "lat: 152.5", "sites[0].lat: input should be less than or equal to 90"),
        ("lat: 52.5\n    lon: 13.4", "lat: 0\n    lon: 0", "Gulf of Guinea"),
        ("hardware: [orin]", "hardware: [orni]", "sites[0].hardware[0]: no hardware has the id 'orni'; did you mean 'orin'?"),
        ("feeder: f1", "feeder: street", "no feeder has the id 'street'; there is: f1"),
        ("hardware: orin}", "hardware: a100}", "hubs[0].hardware: no hardware has the id 'a100'"),
        ("slo: {p99_ms: 10}", "slo: {p99_ms: 10, ttft_p99_ms: 20}", "one of the two"),
        ("slo: {p99_ms: 10}", "slo: {}", "one of the two"),
        ("{kind: vision, ref: resnet50}", "{kind: vision}", "one of the two"),
        ("kind: per_gb, usd_per_gb: 0.05", "kind: flat_step, steps_mbps: [100]", "needs steps_mbps and as many usd_per_month"),
        (
            "kind: per_gb, usd_per_gb: 0.05",
            "kind: flat_step, steps_mbps: [200, 100], usd_per_month: [1, 2]",
            "steps_mbps must rise",
        ),
        ("hold_min: 10, battery_kwh: 1", "hold_min: 10", "needs the maker's table, battery_kwh, or ah and volts"),
        ("hold_min: 10, battery_kwh: 1", "hold_min: 10, table: [[0, 1]]", "both above 0"),
        ("hold_min: 10, battery_kwh: 1", "hold_min: 10, table: [[5, 1], [10, 1.2]]", "1 kW for 5 min and 1.2 kW for 10 min"),
        ("hold_min: 10, battery_kwh: 1", "hold_min: 10, table: [[5, 1], [5, 0.9]]", "no more power for a longer time"),
        ("out_kb: 1}", "out_kb: 1, residency: moon}", "is not one of: site, any"),
        ("headroom_kva: 100}", "headroom_kva: 100}\ncorrelation: {common: 0.8, regional: 0.4}", "together at most 1"),
        ("headroom_kva: 100}", "headroom_kva: 100}\nrollout: {waves: [0.5]}", "sum to 1"),
        ("p90: 200}}", "p90: 200}, burst: {factor: 30, share: 0.1}}", "more than its requests"),
        ("  - {id: f1, headroom_kva: 100}", "  - {id: f1, headroom_kva: 100}\n  - {id: f1, headroom_kva: 9}", "given twice"),
        (
            "{rate_per_s: {p50: 120, p90: 200}}",
            "{rate_per_s: 1, shape: shoppe}",
            "is no shape of a day; wants one of flat, office",
        ),
        ("{rate_per_s: {p50: 120, p90: 200}}", "{rate_per_s: 1, shape: 3}", "arrivals.shape: wants one of flat, office"),
        ("{rate_per_s: {p50: 120, p90: 200}}", "{rate_per_s: 1, shape: [1, 2]}", "has 2 values, 2 of them numbers of at least 0"),
        (
            "phases: 1, volts: 230",
            "phases: 3, volts: 400, transformer_phases: 1",
            "three phases come from no single-phase transformer",
        ),
        ("headroom_kva: 100}", "headroom_kva: 100, existing_kva: 7}", "existing_kva: wants 24 numbers of at least 0, or a .csv"),
        ("headroom_kva: 100}", "headroom_kva: 100, existing_kva: x.txt}", "is no load of a day; wants 24 numbers"),
        ("    model: {kind: vision, ref: resnet50}\n", "", "one of the two"),
        (
            "model: {kind: vision, ref: resnet50}",
            "llm: {params_: 8e9, layers: 2, kv_heads: 8, head_dim: 128}",
            "did you mean 'params'",
        ),
        ("id: fra", "id: shop", "hubs[0].id: 'shop' is the id of a site too"),
        (
            "slo: {p99_ms: 10}",
            "slo: {ttft_p99_ms: 10}",
            "only a language model has a first token; a model of kind vision",
        ),
        ("TRT_MaxQ", "TRT_MaxP", "hardware[0].ref: the catalogue has no hardware 'mlperf:v2.1/Orin_TRT_MaxP'; did you mean"),
        ("ref: resnet50", "ref: resnet5", "model.ref: the catalogue has no model 'resnet5'; did you mean 'resnet50'?"),
        ("kind: vision", "kind: speech", "model.kind: resnet50 is of kind vision, not speech"),
        ("ref: resnet50", "ref: resnet50, bits: 5", "model.bits: resnet50 is not known with 5 bits; it is with"),
        ("currency: USD", "currency: EUR", ""),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(old: str, new: str, told: str):
    text = SMALL.replace(old, new) if old in SMALL else SMALL + "currency: EUR\n"
    with pytest.raises(InputError, match=r"plan\.yaml:\d+: ") as caught:
        read(text)
    assert told in str(caught.value)


def test_all_mistakes_are_told_at_once():
    text = SMALL.replace("p90: 200", "p90: 20").replace("[orin]", "[orni]").replace("it_budget_kw", "it_buget_kw")
    text = text.replace("feeder: f1", "feeder: f2").replace("lat: 52.5", "lat: 520")
    with pytest.raises(InputError) as caught:
        read(text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6  # the misspelt key is unknown, and the right one missing
    assert [line.split(":")[1] for line in lines if "plan.yaml" in line]


def test_parts_of_another_shape_are_left_to_the_reader():
    assert list(mistakes_across({"sites": "none", "workloads": [1, {"id": "a", "sites": {"x": 1}}], "hubs": None})) == []


def test_a_language_model_may_be_written_in_short():
    short = read(
        SMALL.replace("model: {kind: vision, ref: resnet50}", f"llm: {{params: 8.03e9, {SIZES}, bits: 4, concurrent: 8}}")
    )
    full = read(
        SMALL.replace(
            "{kind: vision, ref: resnet50}", f"{{kind: llm, own: {{params: 8.03e+9, {SIZES}}}, bits: 4, concurrent: 8}}"
        )
    )
    assert short.workloads[0].wish == full.workloads[0].wish


SIZES = "layers: 32, kv_heads: 8, head_dim: 128"


def test_places_that_name_no_hardware_may_take_all_of_the_plans():
    plan = read(SMALL.replace("    hardware: [orin]\n", "").replace(", hardware: orin}", "}"))
    assert plan.hardware_at(plan.sites[0]) == plan.hardware_at(plan.hubs[0]) == ("orin",)
    assert read(SMALL).hardware_at(read(SMALL).hubs[0]) == ("orin",)
