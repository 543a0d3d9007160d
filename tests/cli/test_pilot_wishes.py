"""The options of `nearhall up` change the document, or are refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nearhall.cli.pilot.free_ports import free_ports, is_free
from nearhall.cli.pilot.prepare import claim_folder, next_folder
from nearhall.cli.pilot.wishes import Wishes, parse_meter, with_wishes
from nearhall.core.errors import InputError
from nearhall.documents.up import default_pilot


def _wishes(**changes: object) -> Wishes:
    nothing: dict[str, object] = {
        "seconds": None,
        "seed": None,
        "light": False,
        "link": None,
        "hub_url": None,
        "credentials": None,
        "camera": None,
        "model": None,
        "meters": [],
    }
    return Wishes(**{**nothing, **changes})  # pyright: ignore[reportArgumentType]


def test_no_wish_changes_nothing():
    assert with_wishes(default_pilot(), _wishes()) == default_pilot()


def test_the_light_pilot_has_no_chat_and_the_full_one_has():
    assert all(w.kind != "chat" for site in default_pilot(light=True).sites for w in site.workloads)
    assert any(w.kind == "chat" for site in default_pilot().sites for w in site.workloads)


def test_a_camera_takes_the_place_of_the_first_workload(tmp_path: Path):
    clip = tmp_path / "door.mp4"
    clip.write_bytes(b"")
    up = with_wishes(default_pilot(), _wishes(camera=str(clip), model="mine"))
    first = up.sites[0].workloads[0]
    assert (first.kind, first.model, first.source, first.residency) == ("camera", "mine", str(clip), "site")
    assert "mine" in up.sites[0].models
    assert up.sites[1] == default_pilot().sites[1]


def test_a_camera_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no file or folder"):
        with_wishes(default_pilot(), _wishes(camera="/nowhere/door.mp4"))


def test_a_hub_elsewhere_needs_credentials(tmp_path: Path):
    with pytest.raises(InputError, match="by certificate"):
        with_wishes(default_pilot(), _wishes(hub_url="https://hub.example:8443"))
    up = with_wishes(default_pilot(), _wishes(hub_url="https://hub.example:8443/", credentials=tmp_path))
    assert up.hub.url == "https://hub.example:8443"


@pytest.mark.parametrize(
    "text",
    ["feed", "roof=modbus://h:1/1", "feed=http://h:1/1", "feed=modbus://h:502/1,colour=red", "feed=modbus://h:502/1,profile"],
)
def test_a_meter_that_is_none_is_refused(text: str):
    with pytest.raises(InputError, match="--meter"):
        parse_meter(text)


def test_a_meter_is_read_with_its_profile():
    meter = parse_meter("feed=modbus://192.0.2.7:502/1,profile=sdm630,commissioning=feed.json")
    assert (meter.position, meter.url, meter.profile, meter.commissioning) == (
        "feed",
        "modbus://192.0.2.7:502/1",
        "sdm630",
        str(Path("feed.json").resolve()),
    )


@pytest.mark.parametrize(
    ("meters", "said"),
    [
        (["feed=modbus://h:502/1,profile=sdm603"], "sdm630"),
        (["feed=modbus://h:502"], "modbus://HOST:PORT/UNIT"),
        (["feed=modbus://h:502/1?profile=sdm630"], "nothing may follow the unit"),
        (["feed=modbus://h:502/1,commissioning=/nowhere/feed.json"], "cannot be read"),
        (["feed=modbus://h:502/1", "feed=modbus://h:502/2,id=b"], "two meters of shop-01 have the position 'feed'"),
        (["feed=modbus://h:502/1,id=a", "it=modbus://h:502/2,id=a"], "two meters of shop-01 have the id 'a'"),
    ],
)
def test_what_the_agent_would_refuse_is_refused_before_anything_starts(meters: list[str], said: str):
    assert with_wishes(default_pilot(), _wishes(meters=["feed=modbus://h:502/1", "it=modbus://h:502/2"])).sites[0].meters
    with pytest.raises(InputError, match=re.escape(said)):
        with_wishes(default_pilot(), _wishes(meters=meters))


def test_free_ports_are_distinct_free_and_below_the_ephemeral_range():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(20_000 <= port < 32_768 and is_free("127.0.0.1", port) for port in ports)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("three years")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        claim_folder(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "three years"


def test_an_earlier_pilot_is_replaced_and_a_default_name_never_is(tmp_path: Path):
    old = next_folder(tmp_path)
    claim_folder(old)
    assert (old / "state").stat().st_mode & 0o777 == 0o700, "keys and the page's token are nobody else's"
    (old / "pilot.json").write_text("{}")
    claim_folder(old)
    assert next_folder(tmp_path) == tmp_path / "pilot-2"
