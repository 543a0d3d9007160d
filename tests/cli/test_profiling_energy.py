"""Joules of an item: by the plug where a meter can tell, by counters less what a rest takes, else assumed and said so."""

from __future__ import annotations

import asyncio

import pytest

from nearhall.cli.profiling.energy import READINGS_MIN, Burst, assumed, counted, metered, significant
from nearhall.core.errors import PermanentError
from nearhall.core.evidence import Kind
from nearhall.documents.profile import Figure
from profiling_meters import Counter, Plug


def test_a_rest_of_the_same_length_is_taken_off():
    counter = Counter()

    def work() -> Burst:
        counter.sum_j += 10.0 * 4 + 20.0
        return Burst(items=100, seconds=4.0)

    figure = counted(counter, work, kind=Kind.MEASURED, source="RAPL", rest=counter.rest)
    assert (figure.value, figure.kind) == (pytest.approx(0.2), "measured")
    assert figure.source == "RAPL; 10.0 W at rest taken off"


def test_less_than_a_rest_is_nothing_and_never_below():
    counter = Counter()
    figure = counted(counter, lambda: Burst(items=1, seconds=4.0), kind=Kind.ASSUMED, source="NVML", rest=counter.rest)
    assert figure.value == 0.0


def _metered(plug: Plug) -> Figure:
    def work() -> Burst:
        plug.wait()
        return Burst(items=50, seconds=10.0)

    return asyncio.run(metered(plug, work, name="plug", rest=plug.rest, poll_s=0.001))


def test_the_power_at_rest_is_taken_off_at_the_plug():
    figure = _metered(Plug(rest_w=40.0, busy_w=50.0))
    assert (figure.value, figure.kind) == (pytest.approx(2.0, rel=0.02), "measured")
    assert "W at rest taken off" in figure.source


@pytest.mark.parametrize("kind", [Kind.SIMULATED, Kind.ASSUMED])
def test_a_figure_is_as_weak_as_the_meters_readings(kind: Kind):
    assert _metered(Plug(rest_w=40.0, busy_w=50.0, kind=kind)).kind == kind.value


def test_what_drowns_in_the_readings_spread_is_no_figure():
    with pytest.raises(PermanentError, match=r"cannot tell .* measure longer"):
        _metered(Plug(rest_w=40.0, busy_w=41.0, spread_w=20.0))


def test_a_meter_that_fails_or_tells_no_power_is_said():
    silent, dumb = Plug(rest_w=1, busy_w=2), Plug(rest_w=1, busy_w=2)
    silent.faults, dumb.tells_power = True, False
    with pytest.raises(PermanentError, match="does not answer"):
        _metered(silent)
    with pytest.raises(PermanentError, match="tells no power"):
        _metered(dumb)


def test_too_few_readings_tell_no_average():
    plug = Plug(rest_w=1, busy_w=2)
    with pytest.raises(PermanentError, match=f"fewer than {READINGS_MIN} readings"):
        asyncio.run(metered(plug, lambda: Burst(items=1, seconds=1.0), name="plug", rest=lambda: None, poll_s=10.0))


def test_cpu_time_at_an_assumed_power_is_assumed():
    figure = assumed(250.0)
    assert (figure.value, figure.kind) == (2.0, "assumed")
    assert "no counter or meter was read" in figure.source


def test_four_digits_are_kept():
    assert [significant(value) for value in (1234.56, 0.000123456, 0.0)] == [1235.0, 0.0001235, 0.0]
