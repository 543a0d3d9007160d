"""The hold without mains: battery and heat, whichever ends first, and what is asked of the UPS."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabinet_sample import UPS, flat, ledger, load_of, rack, server, site
from nearhall.documents.plan_place import Ups
from nearhall.planner.power.battery import Habits, battery_of, carried_w, highest_w, new_s, recharge_of
from nearhall.planner.power.check import Check
from nearhall.planner.power.hold import ENDLESS_S, Hold, hold_of

DX = {"kind": "dx", "capacity_kw": 10.0, "restart_delay_s": 0.0}
COOLING_W = flat(2500.0)


def ups(**changed: object) -> Ups:
    return Ups.model_validate({**UPS, **changed})


def hold(kilowatts: float = 4.0, *, cooling: Mapping[str, object] | None = None, **changed: object) -> Hold:
    """Of a busiest hour at so many kilowatts (its bursts a third more)."""
    at = site(ups={**UPS, **changed}, cooling=cooling or DX)
    load = load_of(rack(server(kilowatts * 1000.0 / 6), 8))
    found = hold_of(at, load, cooling_w=COOLING_W, heat_w=load.busiest_w + 600.0, ledger=ledger())
    assert found is not None
    return found


def check(found: Hold, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


def test_without_a_ups_nothing_holds():
    load = load_of(rack(server(500.0), 8))
    assert hold_of(site(), load, cooling_w=COOLING_W, heat_w=load.busiest_w, ledger=ledger()) is None


def test_eight_kilowatts_in_a_cabinet_of_100_kj_per_k_rise_48_k_a_minute():
    """Of A2's 11 K between 24 and 35 degrees nothing is left after 2.3 minutes, whatever the battery holds."""
    at = site(ups=UPS, cooling=DX)
    load = load_of(rack(server(1000.0), 8))
    book = ledger()
    mass = book.take("x", None, "thermal.kj_per_k") * 8.0
    found = hold_of(at, load, cooling_w=COOLING_W, heat_w=flat(8000.0), ledger=book)
    assert found is not None
    typical = np.argmin(np.abs(mass - 100.0))
    assert found.thermal_s[typical] == pytest.approx(11.0 / 4.8 * 60.0, rel=0.01)
    assert np.all(found.hold_s <= found.thermal_s)
    assert "heat binds" in check(found, "hold").words
    assert check(found, "hold").state == "fails"


def test_with_cooling_on_the_ups_only_the_battery_counts():
    """The table says 10 minutes for 7.5 kW."""
    found = hold(4.0, cooling={**DX, "on_ups": True})
    assert np.all(found.thermal_s == ENDLESS_S)
    np.testing.assert_array_equal(found.hold_s, found.battery_s)
    carried = 4000.0 + 0.01 * 8000.0 + 0.02 * 4000.0 + 2500.0
    assert np.max(found.battery_s) <= float(new_s(ups(), flat(carried), Habits())[0])
    assert check(found, "hold").state == "ok"
    assert check(found, "compressor on the UPS").state == "not_checked"
    assert "compressor on the UPS" not in {c.name for c in hold(4.0, cooling={**DX, "kind": "fans", "on_ups": True}).checks}


def test_the_compressors_delay_is_taken_off_and_fans_have_none():
    prompt, slow = hold(cooling=DX), hold(cooling={**DX, "restart_delay_s": 60.0})
    np.testing.assert_allclose(np.maximum(prompt.thermal_s - 60.0, 0.0), slow.thermal_s)
    warm = {"design_out_c": 30.0, "supply_c": 24.0, "restart_delay_s": 60.0}
    free, fans = (hold(cooling={**DX, **warm, "kind": kind}) for kind in ("free", "fans"))
    assert np.median(free.thermal_s) == pytest.approx(float(np.median(prompt.thermal_s)) - 60.0), "a compressor helps out"
    np.testing.assert_allclose(fans.thermal_s, prompt.thermal_s * 5.0 / 11.0, err_msg="5 K from 30 to 35, no compressor")


def test_an_air_that_is_too_warm_already_holds_nothing():
    assert np.all(hold(cooling={**DX, "kind": "fans", "design_out_c": 40.0}).thermal_s == 0.0)


def test_amp_hours_times_volts_are_never_a_pass():
    """The example site: 9 Ah at 192 V and 8 kW are short of ten minutes as an upper bound; ample ones are still not checked."""
    known: dict[str, object] = {"table": [], "ah": 9.0, "volts": 192.0, "hold_min": 10}
    on = {**DX, "on_ups": True}
    short = hold(5.4, cooling=on, **known)
    assert short.upper_bound
    assert check(short, "hold").state == "fails"
    assert float(np.median(short.battery_s)) < 600.0
    ample = hold(5.4, cooling=on, **{**known, "ah": 90.0})
    assert check(ample, "hold").state == "not_checked"
    assert "upper bound" in check(ample, "hold").words
    lithium = hold(5.4, cooling=on, **{**known, "ah": 90.0, "chem": "li-ion"})
    assert (lithium.upper_bound, check(lithium, "hold").state) == (False, "ok")


def test_what_age_and_cold_took_makes_the_rest_work_harder():
    """At 80 % of its capacity a lead battery has less than 80 % of its time: the load over what is left, in the maker's table."""
    found = battery_of(site(ups=UPS), ups(), flat(4000.0), ledger())
    new = float(new_s(ups(), flat(4000.0), Habits())[0])
    worn = found.health < 0.9
    assert np.all(found.seconds[worn] < found.health[worn] * new)
    assert np.all(found.seconds <= new)
    assert np.all((found.life_share > 0) & (found.life_share <= 1.0))
    assert 0.5 < float(np.mean(found.life_share)) < 1.0


def test_the_battery_beyond_its_table_and_without_one():
    assert check(hold(4.0), "battery power").state == "ok"
    assert check(hold(8.0), "battery power").state == "fails"
    assert "a guess" in check(hold(8.0), "battery power").words
    assert check(hold(4.0, table=[], battery_kwh=2.0), "battery power").state == "not_checked"
    assert highest_w(ups()) == 11_000.0


@pytest.mark.parametrize(
    ("kilowatts", "state", "words"),
    [(4.0, "ok", "<= 9 kW and 10 kVA"), (8.0, "fails", "next usual size is 15 kVA"), (800.0, "fails", "beyond the usual sizes")],
)
def test_the_ups_against_what_it_carries(kilowatts: float, state: str, words: str):
    found = check(hold(kilowatts), "UPS")
    assert found.state == state
    assert words in found.words


def test_bricks_ask_for_volt_amperes_where_servers_ask_for_watts():
    at = site(ups=UPS, cooling=DX)
    kinds = (("brick", 0.4), ("server", 1.0))
    bricks, servers = (load_of(rack(server(50.0, power_factor=factor, supply=kind), 80)) for kind, factor in kinds)
    of_bricks, of_servers = (
        hold_of(at, load, cooling_w=COOLING_W, heat_w=load.busiest_w, ledger=ledger()) for load in (bricks, servers)
    )
    assert of_bricks is not None
    assert of_servers is not None
    assert of_bricks.kw_needed == of_servers.kw_needed
    assert of_bricks.kva_needed > 2.0 * of_servers.kva_needed
    assert check(of_bricks, "UPS").state == "fails"
    assert check(of_servers, "UPS").state == "ok"


def test_recharging_puts_back_what_was_taken_and_no_more_than_there_is():
    """5 min of 4 kW are 1.2 MJ, 1.29 with the inverter's loss; over four hours at 85 %: 105 W."""
    assert float(recharge_of(ups(), flat(4000.0), Habits())[0]) == pytest.approx(4000 * 300 / 0.93 / 0.85 / 14_400)
    small = ups(table=[], battery_kwh=0.1)
    assert float(recharge_of(small, flat(4000.0), Habits())[0]) == pytest.approx(0.36e6 / 0.85 / 14_400)


def test_of_equal_powers_the_table_keeps_the_shortest():
    doubled = ups(table=[[5, 11.0], [6, 11.0], [10, 7.5], [15, 5.9], [30, 3.5]])
    assert float(new_s(doubled, flat(11_000.0), Habits())[0]) == pytest.approx(300.0)


@given(load_w=st.floats(200.0, 9000.0), minutes=st.floats(1.0, 60.0), longer=st.floats(1.0, 4.0))
@settings(max_examples=30, deadline=None)
def test_a_longer_hold_never_needs_a_smaller_battery(load_w: float, minutes: float, longer: float):
    """The least energy with which the median holds, by halving."""

    def needed_kwh(hold_min: float) -> float:
        low, high = 0.001, 1000.0
        for _ in range(40):
            middle = (low * high) ** 0.5
            found = battery_of(site(ups=UPS), ups(table=[], battery_kwh=middle, chem="li-ion"), flat(load_w), book)
            low, high = (low, middle) if float(np.median(found.seconds)) >= hold_min * 60.0 else (middle, high)
        return high

    book = ledger()
    assert needed_kwh(minutes * longer) >= needed_kwh(minutes) * (1 - 1e-9)


@given(kilowatts=st.floats(0.5, 8.0), more=st.floats(1.0, 2.0), required=st.floats(1.0, 30.0), longer=st.floats(1.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_more_load_and_more_minutes_are_never_held_more_surely(kilowatts: float, more: float, required: float, longer: float):
    on = {**DX, "on_ups": True}
    base = hold(kilowatts, cooling=on, hold_min=required)
    assert hold(kilowatts * more, cooling=on, hold_min=required).p_hold <= base.p_hold
    assert hold(kilowatts, cooling=on, hold_min=required * longer).p_hold <= base.p_hold
    assert hold(kilowatts * more, cooling=on).kva_needed >= base.kva_needed


def test_what_hangs_on_the_ups():
    it = flat(4000.0)
    off, on = site(ups=UPS, cooling=DX), site(ups=UPS, cooling={**DX, "on_ups": True})
    np.testing.assert_allclose(carried_w(off, it, COOLING_W), 4160.0)
    np.testing.assert_allclose(carried_w(on, it, COOLING_W), 6660.0)
