"""Polls a site's instruments, each at its own pace, and keeps what one telemetry window needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.ports.clock import Clock
from nearhall.ports.meter import Meter, MeterIdentity, Reading
from nearhall.wire.telemetry import MeterWindow

POWER, REGISTER = "power_w", "energy_import_kwh"
LOST_AFTER = 3
"""Missed polls in a row before a person is told; of a meter that a person must mend, the first."""
WRONG_PROFILE_S = 30.0
"""Between tries of a meter that answers but not as its profile says: a person must mend it."""

POWERS_MAX = 3600
"""Kept for the mean of a window: an hour of seconds, where a full disk makes one that long."""

Tell = Callable[[str, str, str], None]


@dataclass(slots=True)
class _Station:
    meter: Meter
    powers: list[float] = field(default_factory=list[float])
    last: Reading | None = None
    register_before: float | None = None
    register_before_s: float = 0.0
    polls: int = 0
    missed: int = 0
    missed_in_a_row: int = 0
    told_lost: bool = False
    """Whether a person has been told, and not yet that it is back."""


class MeterRoom:
    """All instruments of a site by id."""

    def __init__(self, meters: Mapping[str, Meter], *, poll_s: float, clock: Clock, tell: Tell) -> None:
        self._stations = {name: _Station(meter) for name, meter in meters.items()}
        self._poll_s = poll_s
        self._clock = clock
        self._tell = tell

    async def run(self) -> None:
        """Polls until cancelled; one slow or dead instrument does not hold up the others."""
        await asyncio.gather(*(self._poll(name, station) for name, station in self._stations.items()))
        await asyncio.Event().wait()  # a site without instruments has nothing to poll, and its agent goes on

    def window(self) -> dict[str, MeterWindow]:
        """What each instrument said since the last call."""
        for name, station in self._stations.items():
            self._tell_of_a_step_back(name, station)
        return {name: _window(station) for name, station in self._stations.items()}

    def identities(self) -> dict[str, MeterIdentity]:
        """Who the instruments are, as far as they have answered."""
        named = ((name, station.meter.identity) for name, station in self._stations.items())
        return {name: identity for name, identity in named if identity is not None}

    def _tell_of_a_step_back(self, name: str, station: _Station) -> None:
        register = station.last.values.get(REGISTER) if station.last is not None and station.polls else None
        before = station.register_before
        if register is not None and before is not None and register < before:
            text = f"meter {name}: its energy register went back from {before:g} to {register:g} kWh; was it replaced or reset?"
            self._tell("meter_stepped_back", text, "warning")

    async def _poll(self, name: str, station: _Station) -> None:
        while True:
            began = self._clock.monotonic()
            pause = self._poll_s
            try:
                reading = await station.meter.read()
            except TemporaryError as error:
                self._missed(name, station, str(error))
            except PermanentError as error:
                self._missed(name, station, str(error), told_after=1)
                pause = WRONG_PROFILE_S
            else:
                self._read(name, station, reading)
            await asyncio.sleep(max(0.0, pause - (self._clock.monotonic() - began)))

    def _read(self, name: str, station: _Station, reading: Reading) -> None:
        if station.told_lost:
            self._tell("meter_back", f"meter {name} answers again", "info")
        station.missed_in_a_row, station.told_lost = 0, False
        station.polls += 1
        station.last = reading
        if POWER in reading.values:
            station.powers.append(reading.values[POWER])
            del station.powers[:-POWERS_MAX]

    def _missed(self, name: str, station: _Station, why: str, *, told_after: int = LOST_AFTER) -> None:
        station.missed += 1
        station.missed_in_a_row += 1
        if station.missed_in_a_row >= told_after and not station.told_lost:
            station.told_lost = True
            self._tell("meter_lost", f"meter {name}: {why}", "warning")


def _window(station: _Station) -> MeterWindow:
    reading, powers = station.last, station.powers
    polls, missed = station.polls, station.missed
    station.powers, station.polls, station.missed = [], 0, 0
    identity = station.meter.identity
    virtual = identity.virtual if identity is not None else False
    if reading is None or not polls:
        return MeterWindow(virtual=virtual, kind="simulated" if virtual else "assumed", missed=missed)
    register = reading.values.get(REGISTER)
    registers: list[float] = []
    times: list[float] = []
    if register is not None:
        before = station.register_before
        # A register that went back was replaced or reset: the window has no energy, the next one has.
        registers = [before, register] if before is not None and register >= before else []
        times = [station.register_before_s, reading.at_s] if registers else []
        station.register_before, station.register_before_s = register, reading.at_s
    return MeterWindow(
        virtual=virtual,
        kind=reading.kind.value,
        power_w=sum(powers) / len(powers) if powers else None,
        register_kwh=registers,
        register_s=times,
        values={name: value for name, value in reading.values.items() if name not in {POWER, REGISTER}},
        polls=polls,
        missed=missed,
    )
