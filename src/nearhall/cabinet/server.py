"""The cabinet's Modbus TCP server: pymodbus in front of the plant's registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from pymodbus.simulator.simdevice import SimAction

from nearhall import __version__
from nearhall.cabinet import registers
from nearhall.cabinet.plant import ENVIRONMENT, UNITS

READ_INPUT = 4
Words = Callable[[int], Mapping[int, int]]
"""Unit to its registers as they are now."""


def make_server(*, site: str, host: str, port: int, words: Words) -> ModbusTcpServer:
    """A server for all units; every read gets the plant's present state, every write is refused."""

    def identify(sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        # pymodbus 3.16 keeps one identity for a whole server; each of our units has its own.
        if sending and isinstance(pdu, ReadDeviceInformationResponse):
            pdu.information = identity(site, pdu.dev_id)
        return pdu

    devices = [_device(unit, words) for unit in (*UNITS, ENVIRONMENT)]
    return ModbusTcpServer(devices, address=(host, port), trace_pdu=identify)


def identity(site: str, unit: int) -> dict[int, bytes]:
    """Modbus device identification (function 43/14) of one unit, by object id."""
    product = registers.PRODUCTS.get(unit, "none")
    texts = {0: registers.VENDOR, 1: product, 2: __version__, 4: product, 5: registers.MODEL, 6: registers.serial(site, unit)}
    return {number: text.encode() for number, text in texts.items()}


def _device(unit: int, words: Words) -> SimDevice:
    count = registers.ENVIRONMENT_REGISTERS if unit == ENVIRONMENT else registers.SDM630_REGISTERS
    data = SimData(0, values=0, count=count, datatype=DataType.UINT16)
    return SimDevice(unit, simdata=data, action=_on_access(unit, words))


def _on_access(unit: int, words: Words) -> SimAction:
    async def on_access(  # noqa: PLR0917 (pymodbus calls it so)
        code: int, start: int, address: int, count: int, current: list[int], given: list[int] | list[bool] | None
    ) -> ExcCodes | None:
        if given is not None or code != READ_INPUT:
            return ExcCodes.ILLEGAL_FUNCTION
        now = words(unit)
        for at in range(address, address + count):
            current[at - start] = now.get(at, 0)
        return None

    return on_access
