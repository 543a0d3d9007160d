"""A feed against published examples, and what must hold of any: lines, breaker, neutral, inrush, and what nobody could check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cabinet_sample import SAMPLES, SUPPLY, UPS, flat, load_of, rack, server, site
from nearhall.planner.power.check import Check
from nearhall.planner.power.feed import COMPRESSOR_START, Feed, feed_of
from nearhall.planner.power.lines import balance, lines_of
from nearhall.planner.serving.load import SiteLoad
from nearhall.planner.serving.server import Server
from planner.planned import made, small

NOTHING = flat(0.0)
NEC = {"phases": 3, "volts": 208, "code": "NEC", "breaker_a": 30}
ONE_PHASE = {"phases": 1, "volts": 230, "code": "IEC", "breaker_a": 16}


def feed(load: SiteLoad, *, supply: Mapping[str, object] | None = None, cooling_w: float = 0.0, **changed: object) -> Feed:
    at = site(supply=supply or SUPPLY, **changed)
    start = at.supply.compressor_start or COMPRESSOR_START
    return feed_of(at, load, ups_side_w=load.burst_w, cooling_w=flat(cooling_w), compressor_start=start)


def brick(watts: float) -> Server:
    return server(watts, power_factor=0.45, supply="brick", inrush_a=30.0)


def check(found: Feed, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


def p99(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.99))


def test_6180_va_balanced_on_a_30_a_feed():
    """datacentermd.com: 3 x 1,000 VA and 6 x 530 VA on 208 V, 30 A at 80 %: balanced 17.15 A a line of 24."""
    found = feed(load_of(rack(server(1000.0), 3), rack(server(530.0), 6)), supply=NEC)
    assert p99(found.worst_a) == pytest.approx(17.15, abs=0.01)
    assert check(found, "breaker").state == "ok"
    assert "<= 24 A on line" in check(found, "breaker").words
    assert (found.factor, found.needed_a) == (1.25, 25)


def test_6180_va_on_two_banks_trip_what_6180_va_balanced_do_not():
    """As two large units: 14.86 A a bank, 25.73 A in the line they share, above 24, though 6,180 VA are below 8,646."""
    found = feed(load_of(rack(server(3090.0), 2)), supply=NEC)
    assert p99(found.worst_a) == pytest.approx(25.73, abs=0.01)
    assert check(found, "breaker").state == "fails"
    assert check(found, "breaker").words == "breaker 30 A: 25.7 A > 24 A on line 2 (P99); 35 A would carry it"
    assert float(np.median(found.va)) == 6180.0


@pytest.mark.parametrize("fits", [True, False])
def test_iec_derates_by_ambient_and_grouping_and_never_by_a_quarter(fits: bool):
    """3 x 3 kW on 400 V: 13.0 A a line; 16 A x 0.91 x 0.9 carry 13.1 A, with 0.8 of grouping 11.6 A."""
    derated = {**SUPPLY, "ambient_factor": 0.91, "grouping_factor": 0.9 if fits else 0.8}
    found = feed(load_of(rack(server(1000.0), 9)), supply=derated)
    assert p99(found.worst_a) == pytest.approx(12.99, abs=0.01)
    assert check(found, "breaker").state == ("ok" if fits else "fails")
    assert found.needed_a == (16 if fits else 20)
    assert found.margin_percent == pytest.approx(100 * ((16 if fits else 20) / found.design_a - 1))


def test_without_a_breaker_the_next_rating_is_said():
    no_breaker = {key: value for key, value in SUPPLY.items() if key != "breaker_a"}
    found = feed(load_of(rack(server(1000.0), 9)), supply=no_breaker)
    assert check(found, "breaker").words == "13.0 A on line 1 (P99) is 13.0 A by IEC: next standard rating 13 A"
    large = feed(load_of(rack(server(10_000.0, supplies=6), 52)), supply=no_breaker)
    assert large.needed_a == 800
    huge = feed(load_of(rack(server(100_000.0), 60)), supply=no_breaker)
    assert (huge.needed_a, check(huge, "breaker").state) == (None, "fails")
    assert huge.margin_percent is None
    named = {c.name for c in huge.checks if c.state == "not_checked"}
    assert {"inrush", "compressor start", "neutral", "cable"} <= named
    behind = feed(load_of(rack(server(100_000.0), 60)), supply=no_breaker, ups={**UPS, "kva": 7000, "kw": 7000})
    assert {"inrush", "UPS walk-in", "UPS bypass", "UPS retransfer"} <= {
        c.name for c in behind.checks if c.state == "not_checked"
    }


def test_nameplates_ask_for_more_than_what_is_drawn():
    """The sample's nameplates say twice the busy power; bricks' watts are 2.2 volt-amperes each."""
    found = feed(load_of(rack(server(1000.0), 9)))
    assert found.nameplate_va == 18_000.0
    assert found.nameplate_a == pytest.approx(2 * p99(found.worst_a))
    assert found.nameplate_breaker_a == 32
    bricks = feed(load_of(rack(brick(45.0), 9)))
    assert bricks.nameplate_va == pytest.approx(9 * 90 / 0.45)
    behind = feed(load_of(rack(brick(45.0), 9)), ups=UPS)
    assert behind.nameplate_va == pytest.approx(9 * 90 / 0.99)


def test_bricks_are_sized_by_volt_amperes():
    bricks, servers = (feed(load_of(rack(server(100.0, power_factor=factor), 30))) for factor in (0.45, 1.0))
    assert p99(bricks.worst_a) == pytest.approx(p99(servers.worst_a) / 0.45)
    assert float(np.median(bricks.va)) == pytest.approx(3000 / 0.45)


def test_triplen_harmonics_of_bricks_load_the_neutral_more_than_a_line():
    """66 bricks of 100 VA are 9.5 A a line, which 16 A carry, and 16.5 A in the neutral, which a neutral of 16 A does not."""
    bricks, servers = (feed(load_of(rack(kind, 66))) for kind in (brick(45.0), server(100.0)))
    assert check(servers, "neutral").state == "ok"
    assert (check(bricks, "breaker").state, check(bricks, "neutral").state) == ("ok", "fails")
    assert p99(bricks.neutral_a) == pytest.approx(1.73 * p99(bricks.worst_a), rel=0.01)
    assert check(bricks, "neutral").value == pytest.approx(16.5, abs=0.05)
    assert "> 16.0 A that one of the lines' size carries" in check(bricks, "neutral").words
    assert "sized for 20 A, 4 mm2" in check(bricks, "neutral").words
    assert check(feed(load_of(rack(brick(45.0), 9))), "neutral").state == "ok", "2.2 A in it harm no conductor"
    alone = feed(load_of(rack(brick(45.0), 1)))
    assert p99(alone.neutral_a) == pytest.approx(p99(alone.worst_a)), "one line alone: what goes out comes back"
    assert check(alone, "neutral").state == "ok"
    between = feed(load_of(rack(brick(45.0), 9)), supply=NEC)
    assert np.all(between.neutral_a == 0.0)
    assert "nothing" in check(between, "neutral").words
    single = feed(load_of(rack(brick(45.0), 9)), supply=ONE_PHASE)
    np.testing.assert_array_equal(single.neutral_a, single.worst_a)
    assert "neutral" not in {c.name for c in single.checks}


def test_many_bricks_between_line_and_neutral_of_208_volts_overload_its_neutral():
    """20 A carry 16 A for hours: 12 A in each line of 120 V are 20.8 A in the neutral, which needs 30 A."""
    plugged = {**NEC, "breaker_a": 20, "plugged": "line_to_neutral"}
    found = feed(load_of(rack(brick(54.0), 36)), supply=plugged)
    assert p99(found.worst_a) == pytest.approx(36 * 120 / 3 / 120.1, rel=0.001)
    assert (check(found, "breaker").state, check(found, "neutral").state) == ("ok", "fails")
    assert check(found, "neutral").value == pytest.approx(20.8, abs=0.05)
    assert (check(found, "neutral").limit, "sized for 30 A" in check(found, "neutral").words) == (16.0, True)
    assert check(found, "cable").words.startswith("mm2 of the cable is not given; 20 A want 5.26 mm2 by NEC 310.16"), (
        "80 % of 12 AWG"
    )
    between = feed(load_of(rack(brick(54.0), 36)), supply={**SUPPLY, "plugged": "line_to_line"})
    assert np.all(between.neutral_a == 0.0)
    huge = feed(load_of(rack(brick(45_000.0), 120)), supply={**SUPPLY, "breaker_a": 6300})
    assert "more than any standard rating" in check(huge, "neutral").words


def test_supplies_of_a_large_server_stand_on_all_lines_and_each_counts():
    one, six = (feed(load_of(rack(server(9000.0, supplies=count), 1))) for count in (1, 6))
    assert p99(one.worst_a) == pytest.approx(9000 / 231, rel=0.001)
    assert p99(six.worst_a) == pytest.approx(9000 / 3 / 231, rel=0.001)
    assert (check(one, "inrush").value, check(six, "inrush").value) == (1, 2)
    assert (check(one, "leakage").value, check(six, "leakage").value) == (1.0, 6.0)
    shared = feed(load_of(rack(server(30.0, supply="shared_dc", supplies=0.25), 9)))
    assert (check(shared, "leakage").value, check(shared, "inrush").value) == (3.0, 1)
    assert "P90 of 3 supplies" in check(shared, "leakage").words


def test_a_small_ups_stands_on_one_line_and_the_cooling_on_another():
    """3 kVA at 230 V are 13 A of one line, not 4.3 A of each."""
    small, cool = {**UPS, "kva": 3.0, "kw": 2.7, "charger_kw": 0.05}, {"kind": "dx", "capacity_kw": 4.0}
    found = feed(load_of(rack(server(300.0), 8)), ups=small, cooling=cool, cooling_w=900.0)
    lines = sorted((float(np.median(line)) for line in found.lines_a), reverse=True)
    assert lines[0] == pytest.approx(2400 / 0.99 / 231, rel=0.05)
    assert lines[1] == pytest.approx(1000 / 231, rel=0.01)
    assert lines[2] == 0.0
    large = feed(load_of(rack(server(300.0), 8)), ups=UPS, cooling_w=9000.0)
    assert large.unbalance_percent == pytest.approx(0.0, abs=1e-9)


def test_cooling_that_hangs_on_the_ups_comes_through_it():
    cooling = {"kind": "dx", "capacity_kw": 10.0, "on_ups": True}
    load = load_of(rack(server(300.0), 8))
    through, beside = feed(load, ups=UPS, cooling=cooling, cooling_w=900.0), feed(load, ups=UPS, cooling_w=900.0)
    assert float(np.median(through.va)) == pytest.approx((2400 + 945) / 0.99)
    assert float(np.median(beside.va)) == pytest.approx(2400 / 0.99 + 1000)
    assert check(through, "UPS bypass").value == pytest.approx((2400 + 1000) / 3 / 231, rel=0.01)


def test_a_battery_that_recharges_is_on_the_breaker_and_not_in_the_peak():
    load = load_of(rack(server(300.0), 8))
    short, long = (feed(load, ups={**UPS, "charger_kw": kilowatts}) for kilowatts in (0.1, 1.0))
    np.testing.assert_array_equal(short.va, long.va)
    assert p99(long.worst_a) > 1.05 * p99(short.worst_a)


def test_on_bypass_the_supplies_meet_the_feed_themselves():
    """PF 0.99 at the UPS's input, 0.45 at the bricks: 6 kW are 8.7 A a line, and 19.2 A on bypass."""
    load = load_of(rack(brick(60.0), 100))
    found = feed(load, ups=UPS)
    assert check(found, "breaker").state == "ok"
    assert check(found, "UPS bypass").value == pytest.approx(6000 / 0.45 / 3 / 231, rel=0.01)
    assert check(found, "UPS bypass").state == "fails"
    behind = check(found, "neutral behind the UPS")
    assert "1.7 times" in behind.words
    assert (behind.state, behind.limit) == ("fails", pytest.approx(14.4, abs=0.05))
    ample = check(feed(load, ups={**UPS, "kva": 40, "kw": 36}), "neutral behind the UPS")
    assert (ample.state, ample.value) == ("ok", behind.value)
    assert (check(found, "neutral on bypass").state, check(found, "neutral on bypass").limit) == ("fails", 16.0)
    unknown = feed(
        load_of(rack(brick(45_000.0), 200)), ups={**UPS, "kva": 40_000, "kw": 36_000}, supply={**SUPPLY, "breaker_a": None}
    )
    assert unknown.needed_a is None
    assert "neutral on bypass" not in {c.name for c in unknown.checks}
    fine = feed(load_of(rack(server(1000.0), 6)), ups=UPS)
    assert check(fine, "UPS bypass").state == "ok"
    assert "neutral behind the UPS" not in {c.name for c in fine.checks}


@pytest.mark.parametrize(
    ("inrush_a", "supplies", "switched", "state", "words"),
    [
        (
            36.0,
            6,
            False,
            "ok",
            "all may start at once (2 supplies on a line, 36 A crest each (P90); curve C of 16 A may trip from 80 A on)",
        ),
        (36.0, 7, False, "fails", "only 2 may"),
        (65.0, 3, False, "ok", "all may start at once"),
        (65.0, 6, False, "fails", "only 1 may"),
        (65.0, 6, True, "ok", "in 2 steps of at most 1"),
        (90.0, 3, True, "fails", "not even one may"),
    ],
    ids=["HP: 2 at once", "HP: 3 are too many", "Intel: 1 at once", "Intel: 2 are too many", "switched", "not even one"],
)
def test_inrush_of_a_staggered_start(inrush_a: float, supplies: int, switched: bool, state: str, words: str):
    """HP 36 A for 20 ms, Intel 65 A for 10 ms, on C16 (80 A)."""
    supply = {**SUPPLY, "switched_outlets": switched}
    found = check(feed(load_of(rack(server(100.0, inrush_a=inrush_a), supplies)), supply=supply), "inrush")
    assert found.state == state
    assert words in found.words


def test_one_more_supply_beside_what_runs():
    """On C16 36 A beside 13 A x sqrt 2 stay below 80 A; 65 A do not."""
    few, many = (check(feed(load_of(rack(server(1000.0, inrush_a=peak), 9))), "inrush beside load") for peak in (36.0, 65.0))
    assert (few.state, few.value) == ("ok", 1)
    assert (many.state, many.value) == ("fails", 0)


def test_switched_outlets_count_what_runs_already():
    """C16, 36 A each: 45 servers of 190 W are 17.5 A of crest a line, beside which two at once become one."""
    switched = {**SUPPLY, "switched_outlets": True}
    found = check(feed(load_of(rack(server(190.0), 45)), supply=switched), "inrush")
    assert (found.state, found.value, found.limit) == ("ok", 15, 2)
    assert "in 11 steps of at most 2, the last beside what runs already, 17 A of crest" in found.words
    heavy = check(feed(load_of(rack(server(190.0, inrush_a=75.0), 45)), supply=switched), "inrush")
    assert heavy.state == "fails"
    assert "only 1 may start at once, and beside what runs already none" in heavy.words


def test_bricks_run_with_a_crest_of_three():
    """3 A of bricks are 9 A of crest, 3 A of servers 4.2: 75 A beside them are too many, and are not."""
    crests = (check(feed(load_of(rack(kind, 1))), "inrush beside load") for kind in (brick(312.0), server(693.0)))
    assert [int(c.words.split(" ")[1]) for c in crests] == [9, 4]
    beside = [
        check(feed(load_of(rack(server(watts, power_factor=factor, supply=kind, inrush_a=75.0), 1))), "inrush beside load").state
        for watts, factor, kind in ((312.0, 0.45, "brick"), (693.0, 1.0, "server"))
    ]
    assert beside == ["fails", "ok"]


def test_inrush_is_a_bad_supplys_and_not_a_typical_ones():
    kind = replace(server(100.0), inrush_peak_a=np.where(np.arange(SAMPLES) % 5 == 0, 90.0, 30.0))
    found = check(feed(load_of(rack(kind, 3))), "inrush")
    assert found.state == "fails"
    assert "not even one may (1 supply on a line, 90 A crest each (P90)" in found.words


@pytest.mark.parametrize(("limiter_a", "state"), [(70.0, "ok"), (80.0, "fails")])
def test_a_limiter_holds_what_starts_when_it_stays_below_the_threshold(limiter_a: float, state: str):
    supply = {**SUPPLY, "limiter_a": limiter_a}
    found = feed(load_of(rack(server(100.0), 30)), supply=supply)
    assert check(found, "inrush").state == state
    assert f"lets {limiter_a:.0f} A of crest through" in check(found, "inrush").words
    assert check(found, "inrush beside load").state == "ok", "beside what runs the limiter does not act"
    behind = check(feed(load_of(rack(server(100.0), 30)), supply=supply, ups=UPS), "UPS bypass start")
    assert behind.state == {"ok": "ok", "fails": "not_checked"}[state]


@pytest.mark.parametrize(
    ("supply", "changed", "state", "crest_a"),
    [
        ({}, {}, "ok", 4.33 * (2.0**0.5) * 6),
        ({"compressor_start": 1}, {}, "ok", 4.33 * 2.0**0.5),
        ({"curve": "B", "breaker_a": 6}, {}, "fails", 4.33 * (2.0**0.5) * 6),
        ({}, {"ups": UPS, "cooling": {"kind": "dx", "capacity_kw": 10.0, "on_ups": True}}, None, 0.0),
        ({}, {"cooling": {"kind": "fans", "capacity_kw": 10.0}}, None, 0.0),
        ({}, {"cooling": {"kind": "free", "capacity_kw": 10.0, "design_out_c": 15.0}}, None, 0.0),
    ],
    ids=["at once", "by a drive", "a small breaker", "behind the UPS", "fans alone", "air alone"],
)
def test_a_compressor_starts_with_several_times_its_current(
    supply: dict[str, object], changed: dict[str, object], state: str | None, crest_a: float
):
    """2.7 kW of cooling are 4.3 A in each line."""
    found = feed(load_of(own_w=0.001), supply={**SUPPLY, **supply}, cooling_w=2700.0, **changed)
    named = {c.name: c for c in found.checks}
    if state is None:
        assert "compressor start" not in named
    else:
        assert (named["compressor start"].state, named["compressor start"].value) == (state, pytest.approx(crest_a, rel=0.01))
        assert ("a soft starter or a drive helps" in named["compressor start"].words) == (state == "fails")


@pytest.mark.parametrize(("altitude_m", "named"), [(1999.0, False), (2400.0, True)])
def test_above_2000_m_a_breaker_is_the_makers_to_say(altitude_m: float, named: bool):
    found = feed(load_of(rack(server(100.0), 3)), altitude_m=altitude_m)
    assert [c.state for c in found.checks if c.name == "breaker at altitude"] == ["not_checked"] * named


def test_between_lines_two_banks_meet_in_a_line():
    of_nine = feed(load_of(rack(server(100.0), 9)), supply=NEC)
    assert check(of_nine, "inrush").value == 6
    assert check(feed(load_of(rack(server(100.0), 9))), "inrush").value == 3
    assert check(feed(load_of(rack(server(100.0), 1)), supply=NEC), "inrush").value == 1


def test_behind_a_ups_inrush_is_the_makers_to_say_unless_it_is_harmless():
    few, many = (feed(load_of(rack(server(100.0), count)), ups=UPS) for count in (6, 12))
    assert (check(few, "inrush").state, check(few, "UPS bypass start").state) == ("ok", "ok")
    assert check(many, "inrush").state == "not_checked"
    for found in (few, many):
        assert {"UPS walk-in", "UPS retransfer", "inrush beside load"} <= {
            c.name for c in found.checks if c.state == "not_checked"
        }
        assert {"UPS bypass", "UPS bypass start"} <= {c.name for c in found.checks}
    assert "never start on bypass" in check(many, "UPS bypass start").words
    small = feed(load_of(rack(server(100.0), 6)), ups={**UPS, "kva": 3.0, "kw": 2.7})
    assert check(small, "inrush").value == 6, "all of them hang on the one line of a small UPS"


def test_nothing_to_switch_on():
    found = feed(load_of(own_w=25.0))
    assert check(found, "inrush").state == "not_checked"
    assert p99(found.worst_a) > 0
    with_ups = feed(load_of(own_w=25.0), ups=UPS)
    assert check(with_ups, "UPS bypass").state == "ok"


def test_cable_transformer_and_leakage_are_computed_or_named():
    load = load_of(rack(server(1000.0), 9))
    bare = feed(load)
    assert {c.name for c in bare.checks if c.state == "not_checked"} == {
        *("cable", "voltage drop", "short circuit", "fault at the cable's end", "selectivity"),
    }
    known = {**SUPPLY, "run_m": 30.0, "mm2": 2.5, "transformer_kva": 630.0, "impedance_percent": 6.0}
    full = feed(load, supply=known)
    assert check(feed(load, supply={**known, "cables": 2}), "voltage drop").value == check(full, "voltage drop").value / 2
    assert check(full, "voltage drop").value == pytest.approx(13.0 * 0.0225 * 30 / 2.5 / 231 * 100 * 1.15, rel=0.01)
    assert (check(full, "short circuit").state, check(full, "short circuit").value) == (
        "not_checked",
        pytest.approx(15_155, abs=1),
    )
    small = {**known, "transformer_kva": 100.0, "mm2": 0.5}
    assert check(feed(load, supply=small), "short circuit").state == "ok"
    assert check(feed(load, supply=small), "voltage drop").state == "fails"
    single = {**ONE_PHASE, "run_m": 30.0, "mm2": 2.5}
    drop = check(feed(load_of(rack(server(3680.0), 1)), supply=single), "voltage drop")
    assert (drop.value, drop.state) == (pytest.approx(3.757, abs=0.001), "ok")
    north = check(feed(load_of(rack(server(3680.0), 1)), supply={**single, "code": "NEC"}), "voltage drop")
    assert (north.value, north.limit, north.state) == (drop.value, 3.0, "fails")
    assert "recommended, not demanded" in north.words
    assert check(bare, "leakage").state == "ok"
    many = check(feed(load_of(rack(server(100.0), 11))), "leakage")
    assert many.state == "fails"
    assert "wants a reinforced protective conductor" in many.words
    reinforced = check(feed(load_of(rack(server(100.0), 11)), supply={**SUPPLY, "reinforced_pe": True}), "leakage")
    assert reinforced.state == "ok"


@pytest.mark.parametrize(
    ("supply", "kiloamperes"),
    [
        ({"phases": 3, "volts": 400, "code": "IEC"}, 18.04),
        ({"phases": 1, "volts": 230, "code": "IEC"}, 54.35),
        ({"phases": 1, "volts": 230, "code": "IEC", "transformer_phases": 3}, 18.11),
        ({"phases": 1, "volts": 240, "code": "NEC"}, 78.13),
        ({"phases": 1, "volts": 120, "code": "NEC"}, 104.17),
        ({"phases": 3, "volts": 208, "code": "NEC", "transformer_phases": 3}, 34.70),
    ],
    ids=["three phases", "one", "one line of three", "120/240 V, half winding", "half winding by its own volts", "208Y/120"],
)
def test_a_single_phase_transformer_gives_three_times_what_a_line_of_three_gives(supply: dict[str, object], kiloamperes: float):
    """500 kVA at 4 %."""
    found = feed(load_of(rack(server(100.0), 1)), supply={**supply, "transformer_kva": 500.0, "impedance_percent": 4.0})
    assert check(found, "short circuit").value == pytest.approx(kiloamperes * 1e3, rel=0.001)


@pytest.mark.parametrize(
    ("supply", "kind", "state", "words"),
    [
        ({"mm2": 2.5}, server(100.0), "ok", "2.5 mm2 carry 20 A >= the breaker's 16 A"),
        ({"mm2": 1.5}, server(100.0), "fails", "1.5 mm2 carry 15 A < 16 A: the breaker does not protect them; 16 A want 2.5 mm2"),
        ({"mm2": 2.5, "ambient_factor": 0.91, "grouping_factor": 0.7}, server(100.0), "fails", "16 A want 4 mm2"),
        ({"mm2": 2.5, "ambient_factor": 1.2}, server(100.0), "ok", "carry 20 A"),
        ({"mm2": 2.5}, brick(45.0), "ok", "carry 17 A"),
        ({"mm2": 2.5, "breaker_a": 20}, brick(45.0), "fails", "20 A want 4 mm2"),
        ({"mm2": 500.0, "breaker_a": 630}, server(100.0), "not_checked", "beyond the table"),
        ({"mm2": 120.0, "breaker_a": 630}, server(100.0), "fails", "630 A want more than 300 mm2 by"),
        ({"mm2": 120.0, "breaker_a": 630, "cables": 4}, server(100.0), "ok", "4 x 120 mm2 carry 824 A"),
        ({"mm2": 50.0, "breaker_a": 630, "cables": 4}, server(100.0), "fails", "630 A want 4 x 95 mm2 by"),
        ({}, server(100.0), "not_checked", "mm2 of the cable is not given; 16 A want 2.5 mm2 by IEC 60364-5-52"),
    ],
    ids=[
        "enough",
        "too thin",
        "warm and among others",
        "cold gives no more",
        "bricks",
        "too thin for bricks",
        "large",
        "630 A",
        "four",
        "four thin",
        "none",
    ],
)
def test_a_breaker_is_held_against_what_its_cable_carries(supply: dict[str, object], kind: Server, state: str, words: str):
    found = check(feed(load_of(rack(kind, 9)), supply={**SUPPLY, **supply}), "cable")
    assert found.state == state
    assert words in found.words


def test_what_is_much_larger_than_it_has_to_be_is_told():
    little = check(feed(load_of(rack(server(100.0), 1))), "breaker")
    assert little.state == "ok"
    assert little.words.endswith("A would do")
    assert "would do" not in check(feed(load_of(rack(server(1000.0), 9))), "breaker").words


def test_nameplates_stand_beside_the_same_losses_and_cooling():
    load = load_of(rack(server(1000.0), 9))
    bare, cooled = feed(load), feed(load, cooling_w=900.0)
    assert cooled.nameplate_va - bare.nameplate_va == pytest.approx(1000.0)
    lossy = feed_of(site(supply=SUPPLY), load, ups_side_w=load.burst_w * 1.1, cooling_w=NOTHING)
    assert lossy.nameplate_va == pytest.approx(1.1 * bare.nameplate_va)


@given(
    units=st.lists(st.sampled_from([60.0, 100.0, 300.0, 530.0, 1000.0]), min_size=1, max_size=14),
    order=st.randoms(use_true_random=False),
    code=st.sampled_from(["IEC", "NEC"]),
)
@settings(max_examples=40, deadline=None)
def test_permuting_units_changes_nothing(units: list[float], order: Random, code: str):
    supply = {**NEC, "breaker_a": 100} if code == "NEC" else {**SUPPLY, "breaker_a": 100}
    shuffled = list(units)
    order.shuffle(shuffled)
    at = site(supply=supply)
    one, other = (
        lines_of(at, load, it_va=load.burst_va, cooling_va=NOTHING)
        for load in (load_of(*(rack(server(va), 1) for va in row)) for row in (units, shuffled))
    )
    for line, same in zip(one.currents_a, other.currents_a, strict=True):
        np.testing.assert_allclose(line, same, rtol=1e-9, atol=1e-9)
    assert one.worst_line() == other.worst_line()


@given(st.lists(st.floats(1.0, 5000.0), min_size=1, max_size=40))
def test_no_line_is_loaded_beyond_the_mean_by_more_than_two_thirds_of_a_unit(units: list[float]):
    """Any list's order is within the mean and two thirds of the largest unit (Graham 1966), and so is the largest first."""
    placed, sums = balance(units)
    assert sorted(i for line in placed for i in line) == list(range(len(units)))
    assert sum(sums) == pytest.approx(sum(units))
    assert max(sums) <= sum(units) / 3.0 + max(units) * 2.0 / 3.0 + 1e-6


def test_the_largest_first_finds_the_balance_of_case_5():
    """Three of 1,000 and six of 530: each line gets one and two."""
    _, sums = balance([530.0] * 6 + [1000.0] * 3)
    assert sums == [2060.0] * 3


@given(
    watts=st.floats(50.0, 2000.0),
    count=st.integers(1, 12),
    more=st.floats(1.0, 1.5),
    code=st.sampled_from(["IEC", "NEC"]),
    phases=st.sampled_from([1, 3]),
    with_ups=st.booleans(),
    spread=st.floats(0.0, 0.3),
    supplies=st.sampled_from([0.25, 1.0, 2.0, 6.0]),
    plugged=st.sampled_from(["line_to_neutral", "line_to_line"]),
)
@settings(max_examples=40, deadline=None)
def test_more_load_never_needs_less_breaker(
    watts: float,
    count: int,
    more: float,
    code: str,
    phases: int,
    with_ups: bool,
    spread: float,
    supplies: float,
    plugged: str,
):
    supply = {"phases": phases, "volts": 208 if code == "NEC" else 400, "code": code, "plugged": plugged}

    def needed(each: float) -> tuple[float, float]:
        load = load_of(rack(server(each, supplies=supplies), count), spread=spread)
        found = feed(load, supply=supply, ups=UPS if with_ups else None, cooling_w=each * count * 0.4)
        return found.needed_a or math.inf, found.nameplate_breaker_a or math.inf

    assert all(np.array(needed(watts * more)) >= np.array(needed(watts)))


@given(
    watts=st.floats(20.0, 2000.0),
    more=st.floats(1.0, 3.0),
    supply=st.sampled_from(
        [
            "phases: 3, volts: 400, code: IEC",
            "phases: 3, volts: 208, code: NEC",
            "phases: 3, volts: 208, code: NEC, plugged: line_to_neutral",
            "phases: 1, volts: 230, code: IEC",
        ]
    ),
    supplies=st.sampled_from([0.25, 1, 3]),
)
@settings(max_examples=6, deadline=None)
def test_servers_that_draw_more_never_need_less_breaker_through_a_whole_plan(
    watts: float, more: float, supply: str, supplies: float
):
    """Of as many servers: one more may take a line of its own, and the busiest line then carries less."""

    def design(each: float) -> tuple[float, ...]:
        changes = {
            "code: IEC, breaker_a: 16, feeder: f1": "code: IEC",  # no breaker and no feeder that could bind
            "phases: 3, volts: 400, code: IEC": supply,
            "cost_usd: 2000}": f"cost_usd: 2000, supplies: {supplies:g}, idle_w: {each / 2}, busy_w: {each}}}",
            "out_kb: 1}": "out_kb: 1, residency: site}",
            "it_budget_kw: 0.2": "it_budget_kw: 40",
        }
        planned = made(small("site", **changes))
        assert all(site.built for site in planned.sites)
        return tuple(site.feed.design_a for site in planned.sites)

    for less, greater in zip(design(watts), design(watts * more), strict=True):
        assert greater >= less * (1 - 1e-9)
