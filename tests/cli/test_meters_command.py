"""`nearhall meters` as somebody types it, against a device that says it is virtual and one that does not."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Mapping

import pytest

from drivers.modbus_device import Device

VIRTUAL = {0: "nearhall", 1: "virtual-sdm630", 6: "VIRTUAL-shop-01-1"}
REAL = {0: "Eastron", 1: "SDM630"}


def _device(objects: Mapping[int, str]) -> Device:
    words: dict[int, int] = {}
    for address, value in {52: 240.5, 72: 12.5}.items():
        words[address], words[address + 1] = struct.unpack(">HH", struct.pack(">f", value))
    return Device(words, objects=objects, serial=(64512, 123))


def _meters(objects: Mapping[int, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of `nearhall meters ARGUMENTS`; `{url}` is the device's address."""

    async def story() -> tuple[int, str, str]:
        async with _device(objects).serving() as device:
            given = [argument.format(url=f"modbus://127.0.0.1:{device.port}/1") for argument in arguments]
            pipe = asyncio.subprocess.PIPE
            command = [sys.executable, "-m", "nearhall", "meters", *given]
            process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL)
            out, error = await process.communicate()
            return process.returncode or 0, out.decode(), error.decode()

    return asyncio.run(story())


@pytest.mark.parametrize(("objects", "loud"), [(VIRTUAL, True), (REAL, False)])
def test_a_virtual_meter_says_so_loudly_and_a_real_one_does_not(objects: Mapping[int, str], loud: bool):
    code, out, error = _meters(objects, "read", "{url}")
    assert code == 0, error
    assert "240.5" in out
    assert ("SIMULATED" in out) is loud


@pytest.mark.parametrize(("objects", "kind"), [(VIRTUAL, "simulated"), (REAL, "assumed")])
def test_json_is_one_object_with_its_evidence(objects: Mapping[int, str], kind: str):
    code, out, error = _meters(objects, "read", "{url}", "--json")
    assert code == 0, error
    said = json.loads(out)
    assert (said["kind"], said["values"]["power_w"]) == (kind, 240.5)
    assert said["identity"]["serial"] == objects.get(6, "123")


def test_the_profiles_say_what_of_them_could_not_be_confirmed():
    code, out, error = _meters(REAL, "profiles", "--json")
    assert code == 0, error
    told = {profile["name"]: profile for profile in json.loads(out)["profiles"]}
    assert (told["sdm630"]["class_percent"], told["iem3155"]["class_percent"]) == (1.0, 1.0)
    assert any("display" in caution for caution in told["iem3155"]["unconfirmed"])
    code, out, error = _meters(REAL, "profiles")
    assert code == 0, error
    assert "unconfirmed" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("read", "http://x/1"), 2, "modbus://HOST:PORT/UNIT"),
        (("read", "{url}", "--profile", "sdm603"), 2, "sdm630"),
        (("read", "{url}", "--profile", "iem3155"), 1, "iEM3155"),
        (("read", "{url}", "--commissioning", "no-such-file.json"), 2, "no-such-file.json"),
        (("read", "modbus://127.0.0.1:9/1"), 1, "does not answer"),
    ],
)
def test_what_is_wrong_is_one_clear_line(arguments: tuple[str, ...], code: int, said: str):
    ended, out, error = _meters(REAL, *arguments)
    assert (ended, out) == (code, "")
    lines = error.strip().splitlines()
    assert said in " ".join(lines)
    assert "Traceback" not in error
