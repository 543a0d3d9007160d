"""The energy counters that a gateway finds in its machine: RAPL and NVML, where they can be read."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from nearhall.core.errors import NearhallError
from nearhall.gateway.metering.energy import EnergyBook
from nearhall.ports.devices import EnergyCounter


async def count_energy(book: EnergyBook) -> None:
    """Reads what counters the machine has, for as long as the gateway runs."""
    counters = await asyncio.to_thread(open_counters)
    try:
        if counters:
            await book.count(counters)
    finally:
        for counter in counters:
            counter.close()


def open_counters() -> list[EnergyCounter]:
    """Those that can be read; none is nothing to tell anybody of (`nearhall doctor` does)."""
    from nearhall.drivers.nvml import NvmlEnergy, open_nvml
    from nearhall.drivers.rapl import open_rapl

    found: list[EnergyCounter] = []
    for opened in (open_rapl, lambda: NvmlEnergy(open_nvml())):
        with suppress(NearhallError):
            counter = opened()
            counter.joules()
            found.append(counter)
    return found
