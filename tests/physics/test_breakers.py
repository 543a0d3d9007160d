"""Conductors and breakers: published figures, worked examples, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.physics import breakers as b


@pytest.mark.parametrize(
    ("volts", "amps", "phases", "va"),
    [(120, 20, 1, 1920), (240, 30, 1, 5760), (240, 50, 1, 9600), (208, 20, 3, 5764), (208, 30, 3, 8646), (208, 60, 3, 17_292)],
)
def test_what_a_north_american_supply_carries_at_80_percent(volts: float, amps: float, phases: int, va: float):
    """HP DL360 manual, page 22, table 4."""
    assert b.rating_va(volts=volts, amps=amps, phases=phases, share=0.8) == pytest.approx(va, abs=1)


@pytest.mark.parametrize(("amps", "phases", "va"), [(32, 1, 7360), (32, 3, 22_080), (63, 3, 43_470)])
def test_what_a_european_supply_carries_line_to_neutral(amps: float, phases: int, va: float):
    """Same manual, table 5: 230 V line to neutral, no derating. 400 V line to line gives 22,170 VA for 32 A."""
    assert b.rating_va(volts=230, amps=amps, phases=phases, line_to_neutral=True) == va
    assert b.rating_va(volts=400, amps=32, phases=3) == pytest.approx(22_170, abs=1)


def test_6180_va_fit_on_30_a_when_balanced_and_not_on_two_banks():
    """3 x 1000 VA and 6 x 530 VA on 208 V, 30 A at 80 %: 24 A a line; datacentermd.com's verdicts, amperes computed."""
    each = 6180 / 3 / 208
    lines = b.delta_line_currents_a(ab_a=each, bc_a=each, ca_a=each)
    assert each == pytest.approx(9.90, abs=0.005)
    assert lines == pytest.approx((17.15,) * 3, abs=0.01)
    half = 6180 / 2 / 208
    worst = max(b.delta_line_currents_a(ab_a=half, bc_a=0.0, ca_a=half))
    assert half == pytest.approx(14.86, abs=0.005)
    assert worst == pytest.approx(25.73, abs=0.01)
    assert worst > 24 > max(lines)


def test_unbalance_as_distribution_units_report_it():
    """Raritan PXE help: lines of 4.6, 4.6 and 6.3 A are 21.9 % off balance."""
    assert b.unbalance_percent([4.6, 4.6, 6.3]) == pytest.approx(21.9, abs=0.05)
    assert b.unbalance_percent([0.0, 0.0, 0.0]) == 0.0


def test_triplen_harmonics_add_up_in_the_neutral():
    assert b.neutral_a(lines_a=(10.0, 10.0, 10.0), triplen_share=0.0) == pytest.approx(0.0)
    assert b.neutral_a(lines_a=(10.0, 10.0, 10.0), triplen_share=0.7) == pytest.approx(21.0)
    assert b.neutral_a(lines_a=(10.0, 0.0, 0.0), triplen_share=0.0) == pytest.approx(10.0)


def test_the_codes_factor_is_applied_once():
    assert b.design_current_a(current_a=20.0, code="NEC") == 25.0
    assert b.design_current_a(current_a=20.0, code="IEC", ambient_factor=0.8, grouping_factor=0.5) == 50.0
    assert b.next_breaker_a(design_a=25.0, code="NEC") == 25
    assert b.next_breaker_a(design_a=25.1, code="NEC") == 30
    assert b.next_breaker_a(design_a=14.0, code="IEC") == 16
    assert b.next_breaker_a(design_a=9e9, code="IEC") is None


@pytest.mark.parametrize(
    ("peak_a", "rating_a", "curve", "running_a", "together"),
    [
        (36.0, 16.0, "C", 0.0, 2),
        (65.0, 16.0, "C", 0.0, 1),
        (36.0, 16.0, "C", 20.0, 1),
        (36.0, 16.0, "B", 20.0, 0),
        (40.0, 16.0, "C", 0, 1),
    ],
    ids=["HP, 36 A for 20 ms", "Intel, 65 A for 10 ms", "beside what runs", "not even one", "just the threshold is too much"],
)
def test_how_many_supplies_may_be_switched_on_together(
    peak_a: float, rating_a: float, curve: str, running_a: float, together: int
):
    threshold = b.magnetic_threshold_a(rating_a=rating_a, curve=curve)
    assert b.at_once(inrush_peak_a=peak_a, threshold_a=threshold, running_peak_a=running_a) == together


def test_steps_of_a_staggered_start():
    """C16 (80 A), 36 A each: two beside little, one beside more than 8 A; HP's 36 A beside 45 A is one too many."""
    at = {"inrush_peak_a": 36.0, "threshold_a": 80.0}
    assert b.stagger(supplies=7, running_peak_a=0.0, **at) == (2, 2, 2, 1)
    assert b.stagger(supplies=7, running_peak_a=14.0, **at) == (2, 2, 1, 1, 1)
    assert b.stagger(supplies=7, running_peak_a=28.0, beside_peak_a=10.0, **at) == (1,) * 7
    assert b.stagger(supplies=2, running_peak_a=90.0, **at) == (2,), "all at once, before any of them runs"
    assert b.stagger(supplies=3, running_peak_a=90.0, **at) is None, "beside two thirds of that not one more"
    assert b.stagger(supplies=0, running_peak_a=0.0, **at) == ()


def test_cables_and_transformers():
    assert b.voltage_drop_percent(current_a=16, length_m=30, mm2=2.5, volts=230, phases=1) == pytest.approx(3.757, abs=0.001)
    three = b.voltage_drop_percent(current_a=16, length_m=30, mm2=2.5, volts=400, phases=3)
    assert three == pytest.approx(1.871, abs=0.001)
    assert b.short_circuit_a(transformer_kva=630, volts=400, impedance_percent=6) == pytest.approx(15_155, abs=1)
    single = b.short_circuit_a(transformer_kva=50, volts=240, impedance_percent=2, phases=1)
    assert single == pytest.approx(10_417, abs=1), "208 A at 2 %"
    assert b.leakage_ma(supplies=12, each_ma=0.75) == 9.0


def test_the_electricians_arithmetic_for_unlike_loads():
    """Stallcup's example: 837.5 kVA of demand, 558 with a diversity of 1.5. Its 600 kVA transformer is no preferred size."""
    demand, diversified = b.diversified_kva(kva=[250, 200, 150, 400], demand=[0.9, 0.8, 0.75, 0.85], diversity=1.5)
    assert demand == pytest.approx(837.5)
    assert diversified == pytest.approx(558, abs=0.5)


@pytest.mark.parametrize(("design", "iec", "nec"), [(631, 800, 700), (1201, 1250, 1600), (5001, 6300, 6000), (6200, 6300, None)])
def test_large_breakers_come_in_their_frames(design: float, iec: float, nec: float | None):
    assert (b.next_breaker_a(design_a=design, code="IEC"), b.next_breaker_a(design_a=design, code="NEC")) == (iec, nec)


@pytest.mark.parametrize(
    ("mm2", "code", "amps"),
    [
        (2.5, "IEC", 20),
        (3.0, "IEC", 20),
        (10, "IEC", 46),
        (400, "IEC", 339),
        (0.75, "IEC", 7.5),
        (3.3, "NEC", 20),
        (5.26, "NEC", 30),
    ],
)
def test_what_a_copper_conductor_carries_by_a_careful_table(mm2: float, code: str, amps: float):
    assert b.ampacity_a(mm2=mm2, code=code) == amps


@given(st.floats(0.5, 300), st.floats(1.0, 2.0), st.sampled_from(["NEC", "IEC"]))
def test_a_thicker_conductor_never_carries_less_and_the_section_it_takes_is_enough(mm2: float, more: float, code: str):
    held = b.ampacity_a(mm2=mm2, code=code)
    assert b.ampacity_a(mm2=mm2 * more, code=code) >= held
    section = b.section_mm2(amps=held, code=code)
    assert section is not None
    assert b.ampacity_a(mm2=section, code=code) >= held
    assert b.section_mm2(amps=340.0, code=code) is None


@given(st.floats(0.1, 4000), st.floats(1.0, 1.5), st.sampled_from(["NEC", "IEC"]), st.floats(0.5, 1.2))
def test_more_load_never_needs_less_breaker(current: float, more: float, code: str, factor: float):
    def needed(amps: float) -> float:
        design = b.design_current_a(current_a=amps, code=code, ambient_factor=factor)
        return b.next_breaker_a(design_a=design, code=code) or float("inf")

    assert needed(current * more) >= needed(current)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=3), st.floats(0, 1))
def test_floats_and_arrays_agree(lines: list[float], share: float):
    one = b.neutral_a(lines_a=lines, triplen_share=share)
    many = b.neutral_a(lines_a=[np.array([line]) for line in lines], triplen_share=share)
    assert many[0] == pytest.approx(one, abs=1e-9)
    delta = b.delta_line_currents_a(ab_a=lines[0], bc_a=lines[1], ca_a=lines[2])
    assert max(delta) >= max(lines) - 1e-9
