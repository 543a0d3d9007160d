"""The Modbus driver: published register maps, honest evidence, devices that misbehave."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from drivers.modbus_device import HOLDING, IDENTIFICATION, INPUT, Device
from nearhall.core.errors import InputError, PermanentError, TemporaryError
from nearhall.core.evidence import Kind
from nearhall.drivers.clock import ManualClock
from nearhall.drivers.meter_profiles import ENVIRONMENT, FLOAT32, IEM3155, INT64, PROFILES, SDM630, WORDS, Profile
from nearhall.drivers.modbus_meter import (
    SILENCES_BELIEVED,
    Commissioning,
    MeterAddress,
    ModbusMeter,
    find_profile,
    parse_meter_url,
    read_commissioning,
)
from nearhall.ports.meter import Reading

RECORD = Commissioning(
    meter_class_percent=1.0, ct_ratio=40.0, phase="L1", serial="123", commissioned_by="A", commissioned_on="2026-11-01"
)
REAL = {0: "Eastron", 1: "SDM630", 6: "the cellar's"}
VIRTUAL = {0: "nearhall", 1: "virtual-sdm630", 6: "VIRTUAL-shop-01-1"}
PUBLISHED = {
    "volts_l1": (0, 230.5),
    "volts_l2": (2, 231.0),
    "volts_l3": (4, 229.5),
    "current_a_l1": (6, 1.25),
    "current_a_l2": (8, 1.5),
    "current_a_l3": (10, 1.75),
    "power_w": (52, 1000.0),
    "apparent_va": (56, 1100.0),
    "power_factor": (62, 0.90625),
    "frequency_hz": (70, 50.0),
    "energy_import_kwh": (72, 1234.5),
}
"""Eastron "SDM630-Modbus V2 protocol", table of input registers: parameter to its address, and a value to find there."""


def _float32(values: Mapping[int, float]) -> dict[int, int]:
    words: dict[int, int] = {}
    for address, value in values.items():
        words[address], words[address + 1] = struct.unpack(">HH", struct.pack(">f", value))
    return words


def _sdm630(objects: Mapping[int, str] | None, **values: float) -> Device:
    published = {name: (address, values.get(name, value)) for name, (address, value) in PUBLISHED.items()}
    serial = (64512, 123) if objects is REAL else None
    return Device(_float32(dict(published.values())), objects=objects, serial=serial)


def _meter(device: Device, profile: Profile = SDM630, record: Commissioning | None = None) -> ModbusMeter:
    return ModbusMeter(
        MeterAddress(host="127.0.0.1", port=device.port, unit=1), profile, clock=ManualClock(), commissioning=record
    )


def _read(device: Device, profile: Profile = SDM630, record: Commissioning | None = None) -> tuple[Reading, ModbusMeter]:
    async def once() -> tuple[Reading, ModbusMeter]:
        async with device.serving():
            meter = _meter(device, profile, record)
            try:
                return await meter.read(), meter
            finally:
                await meter.close()

    return asyncio.run(once())


def test_an_sdm630_is_read_by_its_published_map():
    reading, meter = _read(_sdm630(REAL))
    assert reading.values == {name: value for name, (_, value) in PUBLISHED.items()}
    assert reading.at_s == ManualClock().utc()
    assert meter.identity is not None
    assert (meter.identity.vendor, meter.identity.model, meter.identity.serial) == ("Eastron", "SDM630", "123")


def test_an_iem3155_is_read_by_its_published_map():
    words = _float32({3027: 230.5, 3059: 1.5})
    words |= {3203 + i: word for i, word in enumerate(struct.unpack(">4H", struct.pack(">q", 1_234_500)))}
    reading, _ = _read(Device(words, function=3, objects=None), IEM3155)
    assert reading.values == {"volts_l1": 230.5, "power_w": 1500.0, "energy_import_kwh": 1234.5}


def test_words_may_stand_the_other_way_round():
    words = {address ^ 1: word for address, word in _sdm630(None).registers.items()}
    reading, _ = _read(Device(words), replace(SDM630, low_word_first=True))
    assert reading.values["power_w"] == 1000.0


@pytest.mark.parametrize(
    ("objects", "record", "kind"),
    [
        (VIRTUAL, None, Kind.SIMULATED),
        (VIRTUAL, RECORD, Kind.SIMULATED),
        (VIRTUAL, replace(RECORD, serial="VIRTUAL-shop-01-1"), Kind.SIMULATED),
        (REAL, None, Kind.ASSUMED),
        (REAL, RECORD, Kind.MEASURED),
        (None, None, Kind.ASSUMED),
        (None, RECORD, Kind.MEASURED),
    ],
)
def test_what_a_reading_is_worth(objects: Mapping[int, str] | None, record: Commissioning | None, kind: Kind):
    reading, meter = _read(_sdm630(objects), record=record)
    assert reading.kind is kind
    assert meter.identity is not None
    assert meter.identity.virtual is (kind is Kind.SIMULATED)


def test_another_serial_than_the_commissioned_one_is_refused():
    with pytest.raises(PermanentError, match=r"serial '123'.*'999'"):
        _read(_sdm630(REAL), record=replace(RECORD, serial="999"))


def test_a_name_that_the_user_gave_it_is_no_serial():
    device = _sdm630(REAL)
    device.serial = None
    reading, meter = _read(device, record=replace(RECORD, serial="999"))
    assert reading.kind is Kind.MEASURED
    assert meter.identity is not None
    assert meter.identity.serial == "999"


@pytest.mark.parametrize(("function", "at"), [(HOLDING, 64512), (IDENTIFICATION, None)], ids=["serial", "identification"])
def test_a_device_that_is_silent_to_what_it_does_not_know_is_read_all_the_same(function: int, at: int | None):
    device = _sdm630(REAL)
    device.silent[function] = 1 if at is not None else SILENCES_BELIEVED

    async def story() -> None:
        async with device.serving():
            meter = _meter(device)
            for _ in range(0 if at is not None else SILENCES_BELIEVED - 1):
                with pytest.raises(TemporaryError):
                    await meter.read()
            assert (await meter.read()).values["power_w"] == 1000.0
            await meter.close()

    asyncio.run(story())


def test_another_device_behind_a_new_connection_is_asked_who_it_is():
    async def story() -> None:
        real, virtual = _sdm630(REAL), _sdm630(VIRTUAL)
        async with real.serving():
            meter = _meter(real, record=RECORD)
            assert (await meter.read()).kind is Kind.MEASURED
        with suppress(TemporaryError):
            await meter.read()
        async with virtual.serving(real.port):
            assert (await meter.read()).kind is Kind.SIMULATED
            await meter.close()

    asyncio.run(story())


@pytest.mark.parametrize("code", [5, 6, 10, 11])
def test_a_busy_device_is_asked_again_and_not_taken_for_one_of_another_type(code: int):
    async def story() -> None:
        device = _sdm630(REAL)
        async with device.serving():
            meter = _meter(device)
            await meter.read()
            device.exceptions[INPUT] = code
            with pytest.raises(TemporaryError, match=f"exception {code}"):
                await meter.read()
            del device.exceptions[INPUT]
            assert (await meter.read()).values["power_w"] == 1000.0
            await meter.close()

    asyncio.run(story())


def test_a_busy_answer_to_the_identification_does_not_make_a_virtual_device_real():
    async def story() -> None:
        device = _sdm630(VIRTUAL)
        device.exceptions[IDENTIFICATION] = 6
        async with device.serving():
            meter = _meter(device, record=RECORD)
            with pytest.raises(TemporaryError, match="exception 6"):
                await meter.read()
            del device.exceptions[IDENTIFICATION]
            assert (await meter.read()).kind is Kind.SIMULATED
            await meter.close()

    asyncio.run(story())


def test_words_in_the_wrong_order_are_noticed():
    words = {address ^ 1: word for address, word in _sdm630(None).registers.items()}
    with pytest.raises(PermanentError, match=r"volts_l1, which cannot be.*words in order"):
        _read(Device(words))


@pytest.mark.parametrize(
    ("name", "value"),
    [("volts_l2", -230.0), ("frequency_hz", 5e4), ("energy_import_kwh", -1.0), ("energy_import_kwh", 1e20), ("power_w", 1e-30)],
)
def test_a_figure_that_cannot_be_is_no_reading(name: str, value: float):
    with pytest.raises(PermanentError, match=f"for {name}, which cannot be"):
        _read(_sdm630(REAL, **{name: value}))


@pytest.mark.parametrize("value", [0.0, -3000.0])
def test_no_power_and_power_given_back_are_figures(value: float):
    reading, _ = _read(_sdm630(REAL, power_w=value))
    assert reading.values["power_w"] == value


def test_neither_power_nor_energy_is_no_reading():
    with pytest.raises(TemporaryError, match="neither its power nor its energy"):
        _read(_sdm630(REAL, power_w=float("nan"), energy_import_kwh=float("nan")))
    reading, _ = _read(_sdm630(REAL, power_w=float("nan")))
    assert (reading.values["energy_import_kwh"], "power_w" in reading.values) == (1234.5, False)


def test_no_read_is_longer_than_the_makers_allow():
    device = _sdm630(REAL)
    _read(device)
    assert device.asked.count(INPUT) == 2
    assert max(device.counts) <= 60


def test_the_transformers_ratio_goes_to_what_runs_through_them_and_to_nothing_else():
    reading, _ = _read(_sdm630(REAL), record=RECORD)
    assert (reading.values["current_a_l1"], reading.values["power_w"]) == (50.0, 40_000.0)
    assert reading.values["energy_import_kwh"] == pytest.approx(49_380.0)
    assert (reading.values["volts_l1"], reading.values["power_factor"], reading.values["frequency_hz"]) == (230.5, 0.90625, 50.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_left_out(value: float):
    reading, _ = _read(_sdm630(REAL, power_factor=value))
    assert "power_factor" not in reading.values
    assert reading.values["power_w"] == 1000.0


def test_a_wrong_profile_is_named():
    with pytest.raises(PermanentError, match=r"refuses registers 3027.*iEM3155"):
        _read(_sdm630(REAL), IEM3155)


def test_an_answer_cut_short_is_no_reading():
    device = _sdm630(REAL)
    device.short = True
    with pytest.raises((PermanentError, TemporaryError)):
        _read(device)


def test_a_device_that_never_names_itself_is_read_in_the_end_but_not_at_once():
    async def story() -> None:
        device = _sdm630(VIRTUAL)
        device.silent[IDENTIFICATION] = 1_000
        async with device.serving():
            meter = _meter(device)
            for _ in range(SILENCES_BELIEVED - 1):
                with pytest.raises(TemporaryError):
                    await meter.read()
                assert meter.identity is None
            assert (await meter.read()).kind is Kind.ASSUMED
            await meter.close()

    asyncio.run(story())


def test_one_lost_answer_does_not_make_a_virtual_device_real():
    async def story() -> None:
        device = _sdm630(VIRTUAL)
        device.silent[IDENTIFICATION] = SILENCES_BELIEVED - 1
        async with device.serving():
            meter = _meter(device, record=RECORD)
            for _ in range(SILENCES_BELIEVED - 1):
                with pytest.raises(TemporaryError):
                    await meter.read()
            assert (await meter.read()).kind is Kind.SIMULATED
            await meter.close()

    asyncio.run(story())


def test_it_reads_again_after_the_device_was_away():
    async def story() -> None:
        device = _sdm630(REAL)
        async with device.serving():
            meter = _meter(device)
            await meter.read()
            device.silent[4] = 1
            with pytest.raises(TemporaryError, match="does not answer"):
                await meter.read()
            assert (await meter.read()).values["power_w"] == 1000.0
            device.hang_up()
            with suppress(TemporaryError):  # whether the end was seen before the read is the kernel's choice
                await meter.read()
            assert (await meter.read()).values["power_w"] == 1000.0
        with pytest.raises(TemporaryError, match=f"modbus://127.0.0.1:{device.port}/1 does not answer"):
            await meter.read()
        async with device.serving(device.port):
            assert (await meter.read()).values["power_w"] == 1000.0
            await meter.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("url", "host", "port", "unit"),
    [
        ("modbus://meter.local:5020/3", "meter.local", 5020, 3),
        ("modbus://192.0.2.7/1", "192.0.2.7", 502, 1),
        ("modbus://[::1]:502/247/", "::1", 502, 247),
    ],
)
def test_an_address_is_read(url: str, host: str, port: int, unit: int):
    assert parse_meter_url(url) == MeterAddress(host=host, port=port, unit=unit)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "meter",
        "http://h/1",
        "modbus://h",
        "modbus://h/",
        "modbus://h/x",
        "modbus://h/0",
        "modbus://h/248",
        "modbus://h:x/1",
        "modbus://h:99999/1",
        "modbus:///1",
        "modbus://h/1/2",
        "modbus://h/1?profile=sdm630",
        "modbus://h/1#2",
        "modbus://me@h/1",
    ],
)
def test_what_is_no_address_is_told_what_would_be_right(url: str):
    with pytest.raises(InputError, match=r"modbus://HOST:PORT/UNIT"):
        parse_meter_url(url)


def test_an_unknown_profile_lists_the_known_ones():
    assert find_profile("sdm630") is SDM630
    with pytest.raises(InputError, match="sdm630, iem3155, nearhall-env"):
        find_profile("sdm603")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_is_in_order(profile: Profile):
    spans = sorted((q.address, q.address + WORDS[q.form]) for q in profile.quantities)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans)), "registers do not overlap"
    assert len({q.name for q in profile.quantities}) == len(profile.quantities)
    assert profile.function in {3, 4}
    assert all(q.form in {FLOAT32, INT64, "uint32"} for q in profile.quantities)
    assert profile.source
    assert date.fromisoformat(profile.checked_on)
    assert all(profile.unconfirmed)
    assert bool(profile.unconfirmed) is (profile is not ENVIRONMENT)
    assert (profile.class_percent is None) is (profile is ENVIRONMENT)


def _record_file(folder: Path, **changes: Any) -> Path:
    plain = {name: getattr(RECORD, name) for name in Commissioning.__dataclass_fields__} | changes
    path = folder / "record.json"
    path.write_text(json.dumps({name: value for name, value in plain.items() if value is not None}))
    return path


def test_a_commissioning_record_is_read(tmp_path: Path):
    assert read_commissioning(_record_file(tmp_path)) == RECORD


@pytest.mark.parametrize(
    "changes",
    [{"serial": None}, {"ct_ratio": "40"}, {"ct_ratio": 0}, {"meter_class_percent": -1}, {"serial": ""}, {"commissioned_by": ""}],
)
def test_half_a_commissioning_record_measures_nothing(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(InputError, match=r"record\.json: is no commissioning record"):
        read_commissioning(_record_file(tmp_path, **changes))


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff"])
def test_what_is_no_record_is_told_so(tmp_path: Path, body: bytes):
    path = tmp_path / "record.json"
    path.write_bytes(body)
    with pytest.raises(InputError, match="is no commissioning record"):
        read_commissioning(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_commissioning(tmp_path / "missing.json")
