"""Plans for tests: the examples that ship, and small ones, with few draws."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from nearhall.documents.catalogue_models import load_models
from nearhall.documents.defaults import all_defaults
from nearhall.documents.hardware import load_catalogue
from nearhall.documents.plan import Plan
from nearhall.documents.plan_across import mistakes_across
from nearhall.documents.yaml_file import parse_document
from nearhall.planner.plan import Planned, make_plan
from nearhall.planner.samples.draws import Samples

EXAMPLES = ("retail", "factory", "telco", "pilot")
SAMPLES = 400

SMALL = """schema: nearhall/plan/v1
samples: 400
workloads:
  - id: cams
    model: {kind: vision, ref: resnet50, bits: 8}
    arrivals: {rate_per_s: {p50: 300, p90: 400}, shape: shop}
    slo: {p99_ms: 10}
    data: {in_kb: 100, out_kb: 1, residency: RESIDENCY}
  - id: parts
    model: {kind: vision, ref: resnet50, bits: 8}
    arrivals: {rate_per_s: {p50: 20, p90: 30}, shape: office}
    slo: {p99_ms: 400}
    data: {in_kb: 100, out_kb: 1}
hardware:
  - {id: orin, ref: orin-maxq, cost_usd: 2000}
  - {id: big, ref: a100-pcie-8x40, cost_usd: 120000}
sites:
  - id: north
    lat: 53.5
    lon: 10.0
    jurisdiction: DE
    hardware: [orin]
    it_budget_kw: 0.2
    supply: {phases: 1, volts: 230, code: IEC, breaker_a: 16, feeder: f1}
    cooling: {kind: dx, capacity_kw: 0.4}
    ups: {kva: 0.3, kw: 0.25, hold_min: 5, battery_kwh: 0.1, chem: li-ion}
    tariff: {energy_usd_per_kwh: 0.2, demand_usd_per_kw_month: 8, ratchet: 0.5}
    uplink: {kind: per_gb, usd_per_gb: 0.05, mbps: 1000}
  - id: south
    lat: 48.1
    lon: 11.6
    altitude_m: 520
    jurisdiction: DE
    hardware: [orin]
    it_budget_kw: 0.2
    supply: {phases: 3, volts: 400, code: IEC}
    cooling: {kind: free, capacity_kw: 0.4, class: A3}
    tariff: {energy_usd_per_kwh: 0.2}
    uplink: {kind: lte_quota, quota_gb: 500, usd_per_gb: 1, usd_per_month: [30], mbps: 1000}
    access: lte
hubs:
  - {id: hub, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 500, hardware: big, egress: aws}
feeders:
  - {id: f1, headroom_kva: 10}
"""


def read(text: str) -> Plan:
    return parse_document(text.encode(), Plan, name="plan.yaml", across=mistakes_across)


def small(residency: str = "any", **changes: str) -> Plan:
    """The small plan, with pieces of its text replaced (`old=new`, by the old text)."""
    text = SMALL.replace("RESIDENCY", residency)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return read(text)


def made(plan: Plan, overrides: Mapping[str, Samples] | None = None) -> Planned:
    return make_plan(plan, catalogue=load_catalogue(), models=load_models(), defaults=all_defaults(), overrides=overrides)


@cache
def example(name: str) -> Planned:
    text = files("nearhall.documents").joinpath(f"data/examples/{name}.yaml").read_text()
    return made(read(text).model_copy(update={"samples": SAMPLES}))
