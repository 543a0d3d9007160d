"""What a window of the meters says to the gateway: joules of the servers and of the feed, each with its kind."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from nearhall.site.energy import told_of
from nearhall.site.settings import Meter
from nearhall.wire.telemetry import MeterWindow

ABOUT = {"nodes": [{"id": "n1"}], "catalogue": {"id": "s", "idle_w": 50.0, "source": "a data sheet"}}


def meter(position: str, name: str | None = None) -> Meter:
    return Meter(id=name or position, position=position, url="modbus://x:502/1", profile="sdm630")


def read(watts: float, *, seconds: float = 2.0, kind: str = "simulated", back: bool = False) -> MeterWindow:
    first, last = (2.0, 1.0) if back else (1.0, 1.0 + watts * seconds / 3.6e6)
    return MeterWindow(
        virtual=kind == "simulated", kind=kind, power_w=watts, register_kwh=[first, last], register_s=[10.0, 10.0 + seconds]
    )


def test_the_servers_and_the_feed_are_told_with_their_kinds():
    windows = {"it": read(60.0), "feed": read(90.0, seconds=4.0, kind="measured"), "cooling": read(20.0)}
    told = told_of(windows, [meter("it"), meter("feed"), meter("cooling")], ABOUT)
    assert told is not None
    assert told.it_j == pytest.approx(120.0)
    assert told.site_j == pytest.approx(180.0)  # the feed's own four seconds, taken for the servers' two
    assert (told.seconds, told.it_kind, told.site_kind) == (2.0, "simulated", "measured")
    assert (told.idle_w, told.idle_kind) == (50.0, "vendor")
    assert (told.it_w, told.it_position, told.site_w) == (60.0, "it", 90.0)


def test_several_meters_at_one_position_add_up_as_the_weakest_of_them():
    meters = [meter("pdu", "left"), meter("pdu", "right")]
    told = told_of({"left": read(30.0, kind="measured"), "right": read(10.0, kind="assumed")}, meters, ABOUT)
    assert told is not None
    assert (told.it_j, told.it_kind, told.site_j) == (pytest.approx(80.0), "assumed", None)
    assert (told.it_w, told.it_position, told.site_w) == (40.0, "pdu", None)


def test_power_that_one_of_several_meters_does_not_tell_is_not_told():
    silent = structs.replace(read(10.0), power_w=None)
    told = told_of({"left": read(30.0), "right": silent}, [meter("pdu", "left"), meter("pdu", "right")], ABOUT)
    assert told is not None
    assert (told.it_j, told.it_w) == (pytest.approx(80.0), None)


def test_the_meter_nearest_to_the_servers_speaks_for_them():
    told = told_of({"it": read(60.0), "ups_out": read(70.0)}, [meter("ups_out"), meter("it")], ABOUT)
    assert told is not None
    assert told.it_j == pytest.approx(120.0)


def test_a_feed_alone_says_nothing_of_the_servers():
    told = told_of({"feed": read(90.0)}, [meter("feed")], {})
    assert told is not None
    assert (told.it_j, told.it_kind, told.idle_w, told.idle_kind) == (None, "assumed", None, "assumed")
    assert (told.it_w, told.it_position, told.site_w) == (None, "", 90.0)
    assert told.site_j == pytest.approx(180.0)


@pytest.mark.parametrize(
    ("windows", "meters", "about"),
    [
        ({}, [], ABOUT),
        ({"cooling": read(20.0)}, [meter("cooling")], ABOUT),
        ({}, [meter("it")], ABOUT),
        ({"it": MeterWindow(virtual=True, kind="simulated")}, [meter("it")], ABOUT),
        ({"it": read(60.0, seconds=0.0)}, [meter("it")], ABOUT),
        ({"it": read(60.0)}, [meter("it")], {"nodes": [{"id": "n1"}, {"id": "n2"}]}),
    ],
    ids=["no meters", "cooling alone", "not read", "no register yet", "no time between", "several nodes"],
)
def test_what_tells_nothing_is_not_told(windows: dict[str, MeterWindow], meters: list[Meter], about: dict[str, Any]):
    assert told_of(windows, meters, about) is None
