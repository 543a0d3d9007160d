"""The virtual cabinet over Modbus TCP: its map, its identity, its memory, its lies."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from nearhall.cabinet import registers
from nearhall.cabinet.plant import ENVIRONMENT, FEED, IT, UNITS, UPS_OUT
from nearhall.cabinet.program import Cabinet
from nearhall.cabinet.settings import Server, Settings
from nearhall.core.errors import TemporaryError
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.clock import SystemClock
from waiting import until_async

IDLE_W, BUSY_W = 100.0, 300.0


class HalfBusy(SystemClock):
    """A clock, and processes that use half of two cores by it."""

    def __init__(self) -> None:
        self._looked = super().monotonic()

    def monotonic(self) -> float:
        self._looked = super().monotonic()
        return self._looked

    def seconds(self) -> float:
        return self._looked


def _cabinet(settings: Settings, save: Callable[[Path, bytes], None] = write_whole) -> Cabinet:
    host = HalfBusy()
    return Cabinet(settings, cpu=host, clock=host, save=save)


def _settings(folder: Path) -> Settings:
    return Settings(
        site="shop-01",
        port=0,
        follow=(),
        server=Server(id="a-server", idle_w=IDLE_W, busy_w=BUSY_W, power_factor=0.95, source="a test"),
        state_file=str(folder / "cabinet.json"),
        host_cores=2,
        step_s=0.01,
    )


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[tuple[Cabinet, AsyncModbusTcpClient]]:
    cabinet = _cabinet(settings)
    stop = asyncio.Event()
    ports: list[int] = []
    task = asyncio.create_task(cabinet.run(stop, ports.append))
    await until_async(lambda: ports or task.done())
    client = AsyncModbusTcpClient("127.0.0.1", port=ports[0], timeout=5)
    try:
        assert await client.connect()
        yield cabinet, client
    finally:
        client.close()
        stop.set()
        await asyncio.wait_for(task, 5)


async def _value(client: AsyncModbusTcpClient, unit: int, address: int) -> float:
    answer = await client.read_input_registers(address, count=2, device_id=unit)
    assert not answer.isError(), answer
    return struct.unpack(">f", struct.pack(">HH", *answer.registers))[0]


def test_every_unit_answers_by_its_map(tmp_path: Path):
    async def story() -> None:
        async with _running(_settings(tmp_path)) as (cabinet, client):
            await until_async(lambda: cabinet.plant.load > 0.4)
            for unit in UNITS:
                assert await _value(client, unit, 0) == 230.0
                assert await _value(client, unit, 70) == 50.0
                watts, factor = await _value(client, unit, 52), await _value(client, unit, 62)
                assert 0 < watts < 1000
                assert 0.5 < factor <= 1.0
            assert await _value(client, IT, 52) == pytest.approx((IDLE_W + BUSY_W) / 2, rel=1e-6)
            assert await _value(client, IT, 56) == pytest.approx(await _value(client, IT, 52) / 0.95, rel=1e-6)
            first = await _value(client, FEED, 72)
            await until_async(lambda: cabinet.plant.energy_kwh[FEED] > first * 1.01)
            assert await _value(client, FEED, 72) > first
            assert 20 < await _value(client, ENVIRONMENT, 0) < 30
            assert await _value(client, ENVIRONMENT, 2) > await _value(client, ENVIRONMENT, 0)
            assert await _value(client, ENVIRONMENT, 4) == 22.0
            assert await _value(client, ENVIRONMENT, 6) == 0.0
            whole = await client.read_input_registers(0, count=registers.SDM630_REGISTERS, device_id=IT)
            assert len(whole.registers) == registers.SDM630_REGISTERS, "one read takes the whole map"

    asyncio.run(story())


def test_every_unit_says_that_it_is_virtual_whatever_is_set(tmp_path: Path):
    async def story() -> None:
        settings = replace(_settings(tmp_path), scale_error={"4": 1.1})
        async with _running(settings) as (_, client):
            for unit in (*UNITS, ENVIRONMENT):
                answer = await client.read_device_information(read_code=3, device_id=unit)
                assert answer.information[0] == b"nearhall"
                assert answer.information[1] == (b"virtual-env" if unit == ENVIRONMENT else b"virtual-sdm630")
                assert b"simulated" in answer.information[5]
                assert answer.information[6] == f"VIRTUAL-shop-01-{unit}".encode()

    asyncio.run(story())


def test_what_it_does_not_do_is_refused(tmp_path: Path):
    async def story() -> None:
        async with _running(_settings(tmp_path)) as (_, client):
            assert (await client.read_input_registers(200, count=2, device_id=IT)).isError()
            assert (await client.read_holding_registers(52, count=2, device_id=IT)).isError()
            assert (await client.write_register(72, 0, device_id=IT)).isError()
            assert (await client.read_input_registers(0, count=2, device_id=77)).isError()
            assert not (await client.read_input_registers(0, count=2, device_id=IT)).isError()

    asyncio.run(story())


def test_a_planted_error_lies_in_one_units_registers_alone(tmp_path: Path):
    async def story() -> None:
        async with _running(replace(_settings(tmp_path), scale_error={str(UPS_OUT): 1.1})) as (cabinet, _):
            await until_async(lambda: cabinet.plant.energy_kwh[IT] > 0)
            plant, settings = cabinet.plant, replace(_settings(tmp_path), scale_error={str(UPS_OUT): 1.1})
            for address in (12, 52, 56, 72, 6):
                honest = registers.values(plant, settings, IT)[address]
                assert registers.values(plant, settings, UPS_OUT)[address] == pytest.approx(honest * 1.1)

    asyncio.run(story())


def test_energy_is_kept_through_a_restart_and_a_spoilt_file_starts_anew(tmp_path: Path):
    settings = _settings(tmp_path)

    async def story() -> float:
        async with _running(settings) as (cabinet, _):
            await until_async(lambda: cabinet.plant.energy_kwh[FEED] > 1e-6)
        return cabinet.plant.energy_kwh[FEED]

    counted = asyncio.run(story())
    again = _cabinet(settings)
    assert again.plant.energy_kwh[FEED] == counted
    for spoilt in (b"", b"{}", b"[]", json.dumps({"energy_kwh": {"1": "x"}}).encode()):
        Path(settings.state_file).write_bytes(spoilt)
        fresh = _cabinet(settings)
        assert fresh.plant.energy_kwh == dict.fromkeys(UNITS, 0.0)


def test_a_full_disk_costs_the_memory_not_the_service(tmp_path: Path):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async def story() -> None:
        cabinet = _cabinet(_settings(tmp_path), save=full)
        stop = asyncio.Event()
        stop.set()
        await asyncio.wait_for(cabinet.run(stop, lambda _: None), 5)

    asyncio.run(story())


def test_an_occupied_port_is_told_in_one_line(tmp_path: Path):
    async def story() -> None:
        taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        settings = replace(_settings(tmp_path), port=taken.sockets[0].getsockname()[1])
        with pytest.raises(TemporaryError, match="cannot listen"):
            await _cabinet(settings).run(asyncio.Event(), lambda _: None)
        taken.close()
        await taken.wait_closed()

    asyncio.run(story())


def test_thirty_seconds_of_energy_by_register_are_the_integral_of_the_power():
    # Fresh registers resolve 30 s of a small site; ones that had counted to 18,823 kWh would step by 2 Wh, as much as all of it.
    kwh = 0.0
    for _ in range(150):
        kwh += 250.0 * 0.2 / 3.6e6
    words = registers.encoded({72: kwh})
    read = struct.unpack(">f", struct.pack(">HH", words[72], words[73]))[0]
    assert read == pytest.approx(250.0 * 30 / 3.6e6, rel=0.005)
    late = [struct.unpack(">f", struct.pack(">f", 18823.5 + add))[0] for add in (0.0, kwh)]
    assert late[1] - late[0] != pytest.approx(kwh, rel=0.005)
