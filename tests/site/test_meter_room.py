"""The meter room: what one window says of each instrument."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.core.evidence import Kind
from nearhall.drivers.clock import ManualClock
from nearhall.ports.meter import MeterIdentity, Reading
from nearhall.site.introduction import introduced
from nearhall.site.meters import LOST_AFTER, MeterRoom
from waiting import until_async

IDENTITY = MeterIdentity(vendor="nearhall", model="virtual-sdm630", serial="VIRTUAL-a-1", virtual=True)


def _reading(**values: float) -> Reading:
    return Reading(at_s=1.0, values=values, kind=Kind.SIMULATED)


class ScriptedMeter:
    """Answers as told, then waits for ever."""

    def __init__(self, script: Sequence[Reading | Exception]) -> None:
        self.script = list(script)
        self.identity: MeterIdentity | None = None

    async def read(self) -> Reading:
        if not self.script:
            await asyncio.Event().wait()
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.identity = IDENTITY
        return answer

    async def close(self) -> None:
        """Nothing to close."""


class Room:
    """A room with instruments `m0`, `m1`, ... and what it told."""

    def __init__(self, *meters: ScriptedMeter) -> None:
        self.meters = meters
        self.told: list[tuple[str, str]] = []
        by_name = {f"m{i}": meter for i, meter in enumerate(meters)}
        self.room = MeterRoom(by_name, poll_s=0.0, clock=ManualClock(), tell=lambda kind, text, _: self.told.append((kind, text)))

    async def play(self) -> None:
        """Until all scripts are played."""
        task = asyncio.create_task(self.room.run())
        try:
            await until_async(lambda: task.done() or not any(meter.script for meter in self.meters))
            for _ in range(3):
                await asyncio.sleep(0)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_power_is_the_mean_of_the_polls_and_energy_is_between_the_registers():
    async def story() -> None:
        meter = ScriptedMeter([_reading(power_w=100.0, energy_import_kwh=5.0, volts_l1=230.0)])
        room = Room(meter)
        await room.play()
        first = room.room.window()["m0"]
        assert (first.power_w, first.register_kwh, first.values) == (100.0, [], {"volts_l1": 230.0})
        meter.script = [_reading(power_w=w, energy_import_kwh=k) for w, k in ((100.0, 5.1), (300.0, 5.2))]
        await room.play()
        second = room.room.window()["m0"]
        assert (second.power_w, second.register_kwh, second.polls, second.missed) == (200.0, [5.0, 5.2], 2, 0)
        assert (second.kind, second.virtual) == ("simulated", True)

    asyncio.run(story())


def test_windows_without_a_poll_lose_no_energy():
    async def story() -> None:
        meter = ScriptedMeter([_reading(energy_import_kwh=5.0)])
        room = Room(meter)
        await room.play()
        room.room.window()
        empty = room.room.window()["m0"]
        assert (empty.register_kwh, empty.power_w, empty.polls, empty.virtual) == ([], None, 0, True)
        meter.script = [_reading(energy_import_kwh=6.0)]
        await room.play()
        assert room.room.window()["m0"].register_kwh == [5.0, 6.0]

    asyncio.run(story())


def test_a_register_that_went_back_gives_no_energy_and_the_next_window_has_it_again():
    async def story() -> None:
        meter = ScriptedMeter([])
        room = Room(meter)
        found: list[list[float]] = []
        for register in (900.0, 1.0, 2.0):
            meter.script = [_reading(energy_import_kwh=register)]
            await room.play()
            found.append(room.room.window()["m0"].register_kwh)
        assert found == [[], [], [1.0, 2.0]]
        assert room.told == [
            ("meter_stepped_back", "meter m0: its energy register went back from 900 to 1 kWh; was it replaced or reset?")
        ]

    asyncio.run(story())


def test_a_lost_meter_is_told_once_and_so_is_its_return():
    async def story() -> None:
        gone = TemporaryError("does not answer")
        room = Room(ScriptedMeter([*[gone] * (LOST_AFTER + 2), _reading(power_w=1.0), gone, _reading(power_w=1.0)]))
        await room.play()
        assert [kind for kind, _ in room.told] == ["meter_lost", "meter_back"]
        assert "m0" in room.told[0][1]
        assert room.room.window()["m0"].missed == LOST_AFTER + 3

    asyncio.run(story())


def test_a_meter_that_a_person_must_mend_is_told_at_once():
    async def story() -> None:
        room = Room(ScriptedMeter([_reading(power_w=1.0), PermanentError("is it of that type?")]))
        await room.play()
        assert room.told == [("meter_lost", "meter m0: is it of that type?")]

    asyncio.run(story())


def test_one_dead_instrument_does_not_hold_up_the_others():
    async def story() -> None:
        room = Room(ScriptedMeter([PermanentError("wrong profile")]), ScriptedMeter([_reading(power_w=7.0)] * 5))
        await room.play()
        windows = room.room.window()
        assert (windows["m0"].missed, windows["m0"].polls, windows["m0"].kind) == (1, 0, "assumed")
        assert windows["m1"].polls == 5

    asyncio.run(story())


def test_instruments_that_answered_are_named_in_the_sites_introduction():
    async def story() -> None:
        room = Room(ScriptedMeter([_reading(power_w=1.0)]), ScriptedMeter([TemporaryError("gone")]))
        await room.play()
        about = {"class": "micro", "meters": [{"id": "m0", "class_percent": 1.0}, {"id": "m1"}, {"id": "m2"}]}
        said = introduced(about, room.room.identities())
        first = {"serial": "VIRTUAL-a-1", "vendor": "nearhall", "model": "virtual-sdm630", "virtual": True}
        assert said["meters"] == [{"id": "m0", "class_percent": 1.0, **first}, {"id": "m1"}, {"id": "m2"}]
        assert said["class"] == "micro"
        assert introduced({"class": "device"}, room.room.identities()) == {"class": "device"}

    asyncio.run(story())


def test_a_site_without_instruments_polls_nothing_for_ever():
    async def story() -> None:
        room = Room()
        task = asyncio.create_task(room.room.run())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
