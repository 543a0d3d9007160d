"""What the sites on a feeder draw together, and placements that keep within it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nearhall.planner.grid.on_feeder import HIGH, FeederRestart, outage_of, restart_on, restarting
from nearhall.planner.place import feeder_kva
from nearhall.planner.plan import Planned
from nearhall.planner.results.fleet import fleet_part
from planner.planned import made, small

NORTH = "supply: {phases: 1, volts: 230, code: IEC, breaker_a: 16, feeder: f1}"
UPS = "    ups: {kva: 0.3, kw: 0.25, hold_min: 5, battery_kwh: 0.1, chem: li-ion}\n"


@cache
def ten(headroom_kva: float, *, ups: bool = False, cool: bool = False, both: bool = False, sites_each: int = 10) -> Planned:
    """Ten sites on brick supplies on one feeder; with `both` ten more of another kind, with `cool` the UPS carries cooling."""
    changes = {
        "  - id: north\n": "  - id: north\n    count: 10\n",
        "  - id: south\n": "  - id: south\n    count: 10\n",
        "headroom_kva: 10": f"headroom_kva: {headroom_kva}, sites_each: {sites_each}",
    }
    if not ups:
        changes[UPS] = ""
    if cool:
        changes["cooling: {kind: dx, capacity_kw: 0.4}"] = "cooling: {kind: dx, capacity_kw: 0.4, on_ups: true}"
    if both:
        changes["supply: {phases: 3, volts: 400, code: IEC}"] = "supply: {phases: 3, volts: 400, code: IEC, feeder: f1}"
    return made(small("site", **changes))


def p99_of_all(planned: Planned) -> float:
    return 10 * float(np.quantile(planned.sites[0].feed.va, HIGH)) / 1e3


def test_a_feeder_is_held_against_the_p99_with_power_factor_and_bursts():
    day = ten(10.0).feeders["f1"]
    whole = p99_of_all(ten(10.0))
    assert day.fleet_kva.max() == pytest.approx(whole, rel=0.25), "ten sites, each at its own P99"
    assert day.fleet_kva.max() > 1.5 * day.fleet_p50_kva.max(), "the middle case says little of the highest"
    watts = 10 * float(np.quantile(ten(10.0).sites[0].peak_parts_w["feed"], HIGH)) / 1e3
    assert day.fleet_kva.max() > 1.15 * watts, "bricks draw more volt-amperes than watts"
    assert day.p_over == 0.0
    assert "within its limit" in day.words
    assert "(P99)" in day.words


def test_what_the_middle_case_would_carry_and_the_p99_would_not_is_not_built():
    loose = ten(10.0)
    need = loose.feeders["f1"].needed_kva
    middle = float(loose.feeders["f1"].fleet_p50_kva.max())
    estimate = feeder_kva(loose.problem, loose.answer, loose.problem.feeders[0])
    between = (max(middle, estimate) + need) / 2
    assert max(middle, estimate) < between < need, "what was sized as a whole is more than its parts' estimates"
    tight = ten(round(between, 3))
    at = {p.point.id: p for p in tight.placed}["cams@north"]
    assert at.at is None
    assert "feeder f1" in at.against["north"]
    assert "f1" not in tight.feeders
    roomy = ten(round(1.1 * need, 3))
    assert {p.point.id: p.at for p in roomy.placed}["cams@north"] == "north"


def test_two_kinds_on_one_feeder_share_its_headroom():
    one, two = ten(10.0), ten(10.0, both=True)
    assert [f.places for f in two.problem.feeders] == [(0, 1)]
    assert two.problem.feeders[0].sites == (10.0, 10.0)
    alone = one.feeders["f1"].needed_kva
    together = two.feeders["f1"].needed_kva
    assert together > 1.5 * alone
    between = round((alone + together) / 2, 3)
    shared = ten(between, both=True)
    placed = {p.point.id: p.at for p in shared.placed}
    assert [placed["cams@north"], placed["cams@south"]].count(None) == 1, "either kind fits, both do not"
    assert all(day.needed_kva <= between for day in shared.feeders.values())


def test_a_feeder_carries_as_many_sites_as_hang_on_it():
    few, many = ten(10.0, sites_each=2), ten(10.0, sites_each=10)
    assert few.problem.feeders[0].sites == (2.0,)
    ratio = many.feeders["f1"].fleet_p50_kva.max() / few.feeders["f1"].fleet_p50_kva.max()
    assert 4.0 < ratio < 6.0
    assert ten(10.0, sites_each=50).problem.feeders[0].sites == (10.0,), "there are no more than ten"


def test_a_ups_takes_the_bricks_power_factor_from_the_feeder():
    with_ups, without = ten(10.0, ups=True), ten(10.0)
    ratios = [float(np.median(p.sites[0].feed.va / p.sites[0].peak_parts_w["feed"])) for p in (with_ups, without)]
    assert ratios[0] < 1.12 < ratios[1]


def test_the_restart_is_held_against_the_headroom():
    found = fleet_part(ten(10.0))
    assert found is not None
    (row,) = found["feeders"]
    assert row["kinds"] == ["north"]
    assert row["restart"]["fits_at_once"]
    assert "within the headroom of 10 kVA" in row["words"]
    assert row["restart"]["at_once_kva"] >= max(row["fleet_p50_kva"])
    assert row["restart"]["spread_kva"] <= row["restart"]["at_once_kva"]


@pytest.mark.parametrize(
    ("at_once", "spread", "told"),
    [(2.0, 1.0, "within the headroom"), (3.0, 1.0, "within it"), (3.0, 2.9, "still more")],
)
def test_a_restart_that_is_too_much_says_what_spreading_it_does(at_once: float, spread: float, told: str):
    restart = FeederRestart(at_once_kva=at_once, spread_kva=spread, spread_min=15, outage_min=30, room_kva=2.2)
    assert told in restart.words
    assert ("more than the headroom of 2.2 kVA" in restart.words) == (at_once > 2.2)


def test_what_waited_is_worked_off_and_a_battery_that_lasts_spares_the_start():
    plain = ten(10.0)
    outage = outage_of(plain.ledger)
    site = plain.sites[0]
    restart = restarting(site, outage, count=10, ledger=plain.ledger)
    assert restart.boot_s == outage.boot_s
    assert restart.backlog_s > 0.0
    assert restart.recharge_w == 0.0
    held = ten(10.0, ups=True, cool=True)
    short = type(outage)(minutes=2, boot_s=120, power_share=0.9, kept_share=0.1, spread_min=15)
    carried = restarting(held.sites[0], short, count=10, ledger=held.ledger)
    assert (carried.boot_s, carried.backlog_s) == (0.0, 0.0)
    assert carried.recharge_w > 0.0
    assert restart_on(held.plan.feeders[0], [held.sites[0]], short, held.ledger).at_once_kva > 0.0
