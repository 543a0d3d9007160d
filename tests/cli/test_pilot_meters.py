"""The user's meters are read once before a pilot starts."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from drivers.modbus_device import Device
from nearhall.cli.pilot.meters import read_meters
from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.documents.up import Meter, Up, default_pilot


def _words(*, swapped: bool = False) -> dict[int, int]:
    words: dict[int, int] = {}
    for address, value in {0: 230.0, 52: 240.5, 72: 12.5}.items():
        words[address], words[address + 1] = struct.unpack(">HH", struct.pack(">f", value))
    return {address ^ 1: word for address, word in words.items()} if swapped else words


@contextmanager
def _served(device: Device) -> Generator[Up]:
    """A device in a thread of its own, and a pilot whose first site has it at the feed."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with device.serving():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        meter = Meter(id="mine", position="feed", url=f"modbus://127.0.0.1:{device.port}/1")
        up = default_pilot()
        sites = [up.sites[0].model_copy(update={"meters": [meter]}), *up.sites[1:]]
        yield up.model_copy(update={"sites": sites})
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def test_it_says_who_the_meter_is_and_what_it_reads():
    told: list[str] = []
    with _served(Device(_words(), objects={0: "Eastron", 1: "SDM630"}, serial=(64512, 123))) as up:
        read_meters(up, tell=told.append)
    assert told == ["meter mine of shop-01, at feed: Eastron SDM630, serial 123, 240.5 W (assumed)"]


def test_a_meter_of_another_language_is_told_before_anything_starts():
    with _served(Device(_words(swapped=True))) as up, pytest.raises(PermanentError, match="cannot be"):
        read_meters(up, tell=lambda _: None)


def test_a_meter_that_is_silent_once_is_asked_again_and_one_that_is_not_there_is_told():
    device = Device(_words())
    device.silent[4] = 1
    with _served(device) as up:
        read_meters(up, tell=lambda _: None)
    with pytest.raises(TemporaryError, match="does not answer"):
        read_meters(up, tell=lambda _: None)


def test_a_pilot_without_a_meter_reads_none():
    told: list[str] = []
    read_meters(default_pilot(), tell=told.append)
    assert told == []
