"""What sets of workloads buy: never less for more of them, never less than was told, and as the money tables have it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from nearhall.planner.bought import ServersBought
from nearhall.planner.placement.cuts import Cuts
from nearhall.planner.plan import Planned
from nearhall.planner.results.placement import placement_part
from planner.planned import example, made, small


def bought(planned: Planned) -> ServersBought:
    found = planned.problem.bought
    assert isinstance(found, ServersBought)
    return found


@pytest.mark.parametrize("name", ["retail", "factory"])
def test_more_workloads_never_buy_less_and_never_less_than_told(name: str):
    planned = example(name)
    servers, least, sets = bought(planned), bought(planned).least_usd(), 0
    for place, options in enumerate(servers.at):
        known = {frozenset[int](): 0.0}
        for many in range(1, len(options) + 1):
            for one in map(frozenset, combinations(options, many)):
                known[one] = servers.usd(place, one)
                sets += 1
                assert known[one] >= least[list(one), place].sum() - 1e-6
                assert all(known[one] >= known[one - {point}] - 1e-6 for point in one)
    assert sets >= 4
    assert np.count_nonzero(least) >= 4


@pytest.mark.parametrize("name", ["retail", "factory", "telco"])
def test_what_was_compared_is_what_the_money_tables_have_beside_the_lines(name: str):
    planned = example(name)
    found = placement_part(planned)
    lines = sum(s.site.count * float(np.mean(s.accounts.site.uplink_usd)) for s in planned.sites)
    compared = found["objective_usd_per_year"]
    assert compared + lines == pytest.approx(found["as_sized_usd_per_year"], rel=0.01) or compared == pytest.approx(
        found["as_sized_usd_per_year"], rel=0.01
    ), "each workload's own part of a line that is billed by volume is compared"
    assert found["words"].startswith("proven: no other placement is cheaper")


def test_what_a_neighbour_answers_costs_no_hub():
    """North has a dear server alone; its parts go to south, whose server has room, and no hub is paid for them."""
    near = {
        "lat: 48.1\n    lon: 11.6": "lat: 53.6\n    lon: 10.1",
        "usd_per_gb: 0.05": "usd_per_gb: 0.001",
        "access: lte": "access: fibre",
    }
    split = {"  - id: parts": "  - id: parts\n    sites: [north]", "  - id: cams": "  - id: cams\n    sites: [south]"}
    planned = made(small("site", **near, **split))
    assert {p.point.id: p.at for p in planned.placed} == {"cams@south": "south", "parts@north": "south"}
    north = next(s for s in planned.sites if s.site.id == "north")
    assert not np.any(north.accounts.site.hub_usd)
    assert not np.any(north.accounts.site.egress_usd)
    found = placement_part(planned)
    standing = 12 * 30.0  # of south's line, whatever it carries
    assert found["objective_usd_per_year"] + standing == pytest.approx(found["as_sized_usd_per_year"], rel=0.01)


def test_what_limits_cost_is_told_with_the_proof():
    free = placement_part(made(small("any")))
    assert free["limits_usd_per_year"] == 0.0
    assert free["words"].startswith("proven: no other placement is cheaper. ")
    tight = "it_budget_kw: 0.001\n    supply: {phases: 1"
    small_budget = {"it_budget_kw: 0.2\n    supply: {phases: 1": tight}
    lost = placement_part(made(small("site", **small_budget)))
    assert lost["limits_usd_per_year"] is None
    assert "without those limits more would be answered" in lost["words"]
    dear = placement_part(made(small("any", **small_budget, **{"p99_ms: 10}": "p99_ms: 400}"}, **{"0.05, mbps": "5, mbps"})))
    assert dear["limits_usd_per_year"] > 1000
    assert "without those limits it would cost $" in dear["words"]


@pytest.mark.parametrize("name", ["retail", "factory"])
def test_a_workload_alone_buys_what_its_options_were_sized_with(name: str):
    servers = bought(example(name))
    for place, options in enumerate(servers.at):
        costs = servers.costs[place]
        for point in options:
            one = frozenset([point])
            assert costs is not None
            assert servers.usd(place, one) == pytest.approx(costs.site.count * servers.chosen(place, one).usd_per_year)


def test_a_plan_for_less_than_the_middle_case_is_told_no_least():
    servers = bought(made(small("any")))
    assert np.any(servers.least_usd() > 0)
    assert not np.any(replace(servers, p_min=0.4).least_usd())


def test_a_hub_buys_nothing_and_nobody_nothing():
    planned = made(small("any"))
    servers = bought(planned)
    hub, north = (planned.problem.places.index(name) for name in ("hub", "north"))
    assert servers.usd(hub, frozenset([0, 1])) == 0.0
    assert servers.usd(north, frozenset()) == 0.0
    assert servers.usd(north, frozenset([0])) > 0.0


def test_what_does_for_more_does_for_fewer_too():
    """A table in which two cost less than one of them: the pair's servers would do for the one."""

    class Odd:
        def usd(self, place: int, points: frozenset[int]) -> float:
            return {1: 50.0, 2: 30.0}.get(len(points), 0.0) * (place + 1)

        def least_usd(self) -> np.ndarray:
            return np.zeros((2, 1))

        likely_usd = least_usd

    cuts = Cuts(np.ones((2, 1), bool), Odd())
    assert cuts.learn(np.array([0, 0]), np.array([10.0]))
    assert not cuts.learn(np.array([0, 0]), np.array([10.0])), "known by now"
    assert {usd for _, _, usd in cuts.prices()} == {30.0}
    assert cuts.dearest_usd == 130.0
