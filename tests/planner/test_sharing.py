"""Which servers stand at a site: the cheapest that do, alone and together."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.planner.plan import Planned
from planner.planned import example, made, small
from planner.test_plan import document

PI = {
    "hardware:\n": "hardware:\n  - {id: pi, ref: rpi4, cost_usd: 100}\n",
    "hardware: [orin]": "hardware: [orin, pi]",
    "office}\n    slo: {p99_ms: 400}\n    data: {in_kb: 100, out_kb: 1}": (
        "office}\n    slo: {p99_ms: 900}\n    data: {in_kb: 100, out_kb: 1, residency: site}"
    ),
}
"""The small plan with its slower work kept on site too, and a server that only that can use."""


def standing(planned: Planned, site: str) -> dict[str, int]:
    found = next(s for s in planned.sites if s.site.id == site)
    return {rack.server.id: rack.servers for rack in found.load.racks}


def test_what_would_be_cheaper_alone_goes_where_the_other_must_be():
    planned = made(small("site", **PI))
    parts = next(p for p in planned.placed if p.point.id == "parts@north").options[0]
    servers = {o.service.server: o.alone.servers for o in parts.kinds if o.service and o.alone}
    assert servers["pi"] * 100 < servers["orin"] * 2000, "alone the small ones would do for less"
    assert standing(planned, "north") == {"orin": 1}, "a server that is there anyhow costs less than any other"


def test_a_server_alone_is_the_cheapest_that_does():
    planned = made(
        small(
            "site",
            **PI,
            **{"  - id: parts": "  - id: parts\n    sites: [south]", "  - id: cams": "  - id: cams\n    sites: [north]"},
        )
    )
    assert set(standing(planned, "south")) == {"pi"}
    assert set(standing(planned, "north")) == {"orin"}


@pytest.mark.parametrize("dear", [3_000, 120_000])
def test_a_dearer_server_that_might_stand_there_too_changes_nothing(dear: int):
    one = made(small("site"))
    both = made(small("site", **{"hardware: [orin]": "hardware: [big, orin]", "cost_usd: 120000": f"cost_usd: {dear}"}))
    assert standing(both, "north") == standing(one, "north") == {"orin": 1}
    assert np.median(both.npv_usd) == pytest.approx(np.median(one.npv_usd), rel=0.2)


def test_what_shares_servers_is_told_with_its_times_beside_the_others():
    planned = example("retail")
    shelf = next(p for p in planned.placed if p.point.id == "shelf@shop-large")
    option = shelf.option
    assert option is not None
    assert option.pool is not None
    assert option.alone is not None
    assert {lane.workload.id for lane in option.pool.lanes} == {"crowds", "shelf"}
    assert np.median(option.pool.wait_p99_ms()) > np.median(option.alone.wait_p99_ms())
    (lane,) = (lane for lane in option.pool.lanes if lane.workload.id == "shelf")
    assert option.p_slo == option.pool.p_slo(lane)
    told = next(w for w in document(planned)["workloads"] if w["id"] == "shelf")
    here = next(part for part in told["latency"] if part["site"] == part["at"] == "shop-large")
    assert here["queue_ms"] == pytest.approx(np.median(option.pool.wait_p99_ms()))
    assert here["queue_ms"] > 0.0
    racks = next(s for s in planned.sites if s.site.id == "shop-large").load.racks
    assert [rack.pool.servers for rack in racks] == [option.pool.servers]
    share = np.interp(here["p99_ms"]["p50"], here["cdf"]["ms"], here["cdf"]["share"])
    assert share >= 0.99, "parts that are added lie on the safe side"
