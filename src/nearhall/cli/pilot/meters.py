"""Reads the user's own meters once before a pilot starts: a wrong one is told now, not missed in the report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nearhall.core.errors import TemporaryError
from nearhall.documents.up import Meter, Up
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.modbus_meter import SILENCES_BELIEVED, ModbusMeter, find_profile, parse_meter_url, read_commissioning
from nearhall.ports.meter import Reading


def read_meters(up: Up, *, tell: Callable[[str], None]) -> None:
    """Tells who each meter is and what it says; raises TemporaryError or PermanentError for one that cannot be read."""
    for site in up.sites:
        for meter in site.meters:
            tell(f"meter {meter.id} of {site.id}, at {meter.position}: {asyncio.run(_read(meter))}")


async def _read(meter: Meter) -> str:
    record = read_commissioning(Path(meter.commissioning)) if meter.commissioning is not None else None
    instrument = ModbusMeter(parse_meter_url(meter.url), find_profile(meter.profile), clock=SystemClock(), commissioning=record)
    try:
        reading = await _asked(instrument)
        identity = instrument.identity
        power = reading.values.get("power_w")
        who = "unknown" if identity is None else f"{identity.vendor} {identity.model}, serial {identity.serial}"
        return f"{who}, {'no power' if power is None else f'{power:.1f} W'} ({reading.kind.value})"
    finally:
        await instrument.close()


async def _asked(instrument: ModbusMeter) -> Reading:
    """The first answer, of as many tries as a device may leave the question for its name unanswered."""
    for _ in range(SILENCES_BELIEVED - 1):
        with suppress(TemporaryError):
            return await instrument.read()
    return await instrument.read()
