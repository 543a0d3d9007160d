"""What must hold of any plan: its order changes nothing, and what is added leaves the rest as it was drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearhall.documents.plan import Plan
from nearhall.planner.plan import Planned
from nearhall.planner.results.fleet import fleet_part
from planner.planned import made, small

HUBS = """
  - {id: hub, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 500, hardware: big, egress: aws}
  - {id: far, lat: 52.4, lon: 4.9, jurisdiction: NL, cap_kw: 500, hardware: big, egress: azure}
  - {id: twin, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 500, hardware: big, egress: aws}
"""
ONE = "\n  - {id: hub, lat: 50.1, lon: 8.7, jurisdiction: DE, cap_kw: 500, hardware: big, egress: aws}\n"


@cache
def three_hubs() -> Plan:
    """The small plan with two sites alike in count on one feeder, and a hub twice."""
    changes = {ONE: HUBS, "supply: {phases: 3, volts: 400, code: IEC}": "supply: {phases: 3, volts: 400, code: IEC, feeder: f1}"}
    return small("jurisdiction:DE", **changes).model_copy(update={"samples": 120})


@cache
def at_a_hub() -> Plan:
    """The same with parts that weigh little and may not leave the country: two hubs cost the same to the cent."""
    return dear(three_hubs())


def dear(plan: Plan) -> Plan:
    cams, parts = plan.workloads
    light = parts.data.in_kb.__class__(
        p50=0.5, unit=parts.data.in_kb.unit, evidence=parts.data.in_kb.evidence, spread=parts.data.in_kb.spread
    )
    orin, big = plan.hardware
    return plan.model_copy(
        update={
            "workloads": [
                cams.model_copy(update={"sites": ["south"]}),  # at north nothing stands that parts could share
                parts.model_copy(update={"data": parts.data.model_copy(update={"in_kb": light, "residency": "jurisdiction:DE"})}),
            ],
            "hardware": [orin.model_copy(update={"cost_usd": big.cost_usd}), big],
        }
    )


@cache
def as_written(plan: Callable[[], Plan]) -> Planned:
    return made(plan())


@cache
def left_alone() -> Planned:
    """Whose ledger nothing but the plan itself has asked; results ask for more."""
    return made(three_hubs())


def told(planned: Planned) -> dict[str, Any]:
    """What a reader would act on, by name."""
    by_site = {site.site.id: site for site in planned.sites}
    return {
        "at": {p.point.id: (p.at, p.verdict) for p in planned.placed},
        "npv": {name: site.npv_usd for name, site in by_site.items()},
        "breaker": {name: site.feed.design_a for name, site in by_site.items()},
        "feeders": {name: day.needed_kva for name, day in planned.feeders.items()},
    }


def same(one: Planned, other: Planned) -> None:
    first, second = told(one), told(other)
    assert first["at"] == second["at"]
    for name, npv in first["npv"].items():
        assert np.allclose(npv, second["npv"][name], rtol=1e-9, atol=1e-6), name
    for part in ("breaker", "feeders"):
        assert first[part] == pytest.approx(second[part])
    assert one.answer.objective_usd == pytest.approx(other.answer.objective_usd)


@given(
    of=st.sampled_from([three_hubs, at_a_hub]),
    sites=st.permutations([0, 1]),
    workloads=st.permutations([0, 1]),
    hubs=st.permutations([0, 1, 2]),
    hardware=st.permutations([0, 1]),
)
@settings(max_examples=5, deadline=None)
def test_the_order_of_sites_workloads_hubs_and_hardware_changes_nothing(
    of: Callable[[], Plan], sites: list[int], workloads: list[int], hubs: list[int], hardware: list[int]
):
    plan = of()
    turned = plan.model_copy(
        update={
            "sites": [plan.sites[k] for k in sites],
            "workloads": [plan.workloads[k] for k in workloads],
            "hubs": [plan.hubs[k] for k in hubs],
            "hardware": [plan.hardware[k] for k in hardware],
        }
    )
    other = made(turned)
    same(as_written(of), other)
    first, second = fleet_part(as_written(of)), fleet_part(other)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first["restart"]["words"] == second["restart"]["words"]
        assert [f["words"] for f in first["feeders"]] == [f["words"] for f in second["feeders"]]


def test_two_hubs_that_cost_the_same_are_told_apart_by_name():
    at = {p.point.id: p.at for p in as_written(at_a_hub).placed}
    assert at["parts@north"] in {"hub", "twin"}


@given(count=st.integers(1, 40), lat=st.floats(-30, 30))
@settings(max_examples=4, deadline=None)
def test_a_site_that_is_added_leaves_what_was_drawn_for_the_others_as_it_was(count: int, lat: float):
    plan = three_hubs()
    more = plan.sites[1].model_copy(
        update={
            "id": "added",
            "count": count,
            "lat": lat,
            "supply": plan.sites[1].supply.model_copy(update={"feeder": None}),
        }
    )
    other = made(plan.model_copy(update={"sites": [*plan.sites, more]}))
    before, after = left_alone().ledger, other.ledger
    for name, samples in before.inputs().items():
        again = after.sampled(name)
        assert again is not None
        assert np.array_equal(samples, again), name
    mine = {p.point.id: p.at for p in other.placed if p.point.site.id != "added"}
    assert mine == {p.point.id: p.at for p in left_alone().placed}
    kwh = {site.site.id: site.year.facility_kwh for site in other.sites}
    for site in left_alone().sites:
        assert np.allclose(site.year.facility_kwh, kwh[site.site.id])
