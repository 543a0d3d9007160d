"""Runs a virtual cabinet: steps the plant with the site's CPU use, serves its registers, remembers its energy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from pymodbus.server import ModbusTcpServer

from nearhall.cabinet import registers
from nearhall.cabinet.plant import UNITS, Plant, fresh, step
from nearhall.cabinet.server import make_server
from nearhall.cabinet.settings import Settings
from nearhall.core.errors import TemporaryError
from nearhall.ports.clock import Clock
from nearhall.ports.cpu import CpuUse

SAVE_SECONDS = 5.0
"""A meter keeps its count through a power cut; ours through a kill, to within this."""


class Cabinet:
    """One virtual cabinet. `save` writes its state file whole."""

    def __init__(self, settings: Settings, *, cpu: CpuUse, clock: Clock, save: Callable[[Path, bytes], None]) -> None:
        self._settings = settings
        self._cpu = cpu
        self._clock = clock
        self._save = save
        self._plant: Plant = fresh(settings, _remembered(Path(settings.state_file)))

    @property
    def plant(self) -> Plant:
        """The present state."""
        return self._plant

    def words(self, unit: int) -> Mapping[int, int]:
        """The unit's registers as they are now."""
        return registers.encoded(registers.values(self._plant, self._settings, unit))

    async def run(self, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serves until `stop`, having told `ready` the port; raises TemporaryError when the port is taken."""
        settings = self._settings
        server = make_server(site=settings.site, host=settings.host, port=settings.port, words=self.words)
        try:
            await server.serve_forever(background=True)
        except (OSError, RuntimeError) as error:
            raise TemporaryError(f"cannot listen on {settings.host}:{settings.port}: {error}") from error
        ready(_bound_port(server))
        try:
            await self._step_until(stop)
        finally:
            await server.shutdown()
            self._remember()

    async def _step_until(self, stop: asyncio.Event) -> None:
        last, used = self._clock.monotonic(), self._cpu.seconds()
        saved = last
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.step_s):
                    await stop.wait()
            now, total = self._clock.monotonic(), self._cpu.seconds()
            if now <= last:
                continue
            load = (total - used) / (now - last) / self._settings.host_cores
            self._plant = step(self._plant, self._settings, load=min(load, 1.0), seconds=now - last)
            last, used = now, total
            if now - saved >= SAVE_SECONDS:
                self._remember()
                saved = now

    def _remember(self) -> None:
        state = {"energy_kwh": {str(unit): kwh for unit, kwh in self._plant.energy_kwh.items()}}
        with suppress(OSError):  # a full disk costs a virtual meter its memory, not its service
            self._save(Path(self._settings.state_file), json.dumps(state).encode())


def _bound_port(server: ModbusTcpServer) -> int:
    """Where it listens, also when port 0 was asked for; pymodbus types its transport as a datagram's."""
    listening = cast("asyncio.Server", server.transport)
    return int(listening.sockets[0].getsockname()[1])


def _remembered(path: Path) -> dict[int, float] | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_bytes())["energy_kwh"]
        return {unit: float(kept[str(unit)]) for unit in UNITS}
    return None
