"""An instrument on Modbus TCP behind `ports.meter.Meter`.

A virtual device names itself in its Modbus identification (function 43/14); that is read before any figure on each
new connection, and what it says is part of every reading: no setting makes a virtual meter's figures anything but `simulated`. A
device that does not answer the identification is taken for what it is commissioned as.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from nearhall.core.errors import InputError, PermanentError, TemporaryError
from nearhall.core.evidence import Kind
from nearhall.drivers.meter_profiles import FLOAT32, INT64, PROFILES, UINT32, WORDS, Profile, Quantity
from nearhall.ports.clock import Clock
from nearhall.ports.meter import MeterIdentity, Reading

ANSWER_S = 1.0
DEFAULT_PORT = 502
REGISTERS_MAX = 60
"""In one read; Modbus allows 125, Eastron's documents 80 or 60 (40 or 30 parameters)."""
VIRTUAL_VENDOR = "nearhall"
SILENCES_BELIEVED = 3
"""Times in a row that a device may leave its identification unanswered before it is read without one."""
NOT_KNOWN = frozenset({1, 2, 3})
"""Exception codes that say no for good: function, address or value not known. The others (busy, failed, a gateway that does not
reach its device) pass (Modbus application protocol V1.1b3, section 7)."""
POSSIBLE: dict[str, tuple[float, float]] = {
    "volts": (0.0, 1e5),
    "current_a": (-1e5, 1e5),
    "power_w": (-1e9, 1e9),
    "apparent_va": (-1e9, 1e9),
    "power_factor": (-2.0, 2.0),
    "frequency_hz": (0.0, 1e3),
    "energy_import_kwh": (0.0, 1e10),
}
"""Beyond what any instrument of a site says, by how a name begins: a figure outside was read with a wrong map or word order."""
TINIEST = 1e-20
"""No figure is smaller, save zero: 32 bit floats with their words exchanged are, very often."""
KEY_FIGURES = ("power_w", "energy_import_kwh")
"""A reading without any of those that its profile has is none."""

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what fails is told by our own errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Commissioning:
    """Who put the instrument in, and how: the record without which nothing is `measured`."""

    meter_class_percent: float
    ct_ratio: float
    phase: str
    serial: str
    commissioned_by: str
    commissioned_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterAddress:
    """Where an instrument is."""

    host: str
    port: int
    unit: int


def parse_meter_url(url: str) -> MeterAddress:
    """Reads `modbus://HOST[:PORT]/UNIT`; raises InputError that says what would be right."""
    right = "write modbus://HOST:PORT/UNIT, e.g. modbus://192.0.2.7:502/1"
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
        unit = int(parts.path.strip("/"))
    except ValueError as error:
        raise InputError(f"{url!r} is not the address of a meter", right=right) from error
    if parts.query or parts.fragment or parts.username is not None:
        said = "nothing may follow the unit, or stand before the host (a profile is an option of its own)"
        raise InputError(f"{url!r} is not the address of a meter: {said}", right=right)
    if parts.scheme != "modbus" or not parts.hostname or not 1 <= unit <= 247:
        raise InputError(f"{url!r} is not the address of a meter", right=right)
    return MeterAddress(host=parts.hostname, port=port, unit=unit)


def find_profile(name: str) -> Profile:
    """The profile; raises InputError that lists the known ones."""
    if name not in PROFILES:
        raise InputError(f"there is no meter profile {name!r}", right=f"one of: {', '.join(PROFILES)}")
    return PROFILES[name]


def read_commissioning(path: Path) -> Commissioning:
    """A commissioning record (JSON); raises InputError naming the missing field."""
    right = f"JSON with {', '.join(Commissioning.__dataclass_fields__)}"
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Commissioning)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path), right="name a commissioning record") from error
    except msgspec.DecodeError as error:
        raise InputError(f"is no commissioning record ({error})", where=str(path), right=right) from error
    if record.ct_ratio <= 0 or record.meter_class_percent <= 0:
        raise InputError("is no commissioning record (class and CT ratio are above 0)", where=str(path), right=right)
    if not all((record.serial, record.commissioned_by, record.commissioned_on)):
        raise InputError("is no commissioning record (serial, who and when are empty)", where=str(path), right=right)
    return record


class ModbusMeter:
    """One unit behind one TCP connection, which is made again when it breaks."""

    def __init__(
        self, address: MeterAddress, profile: Profile, *, clock: Clock, commissioning: Commissioning | None = None
    ) -> None:
        self._address = address
        self._profile = profile
        self._clock = clock
        self._commissioning = commissioning
        self._identity: MeterIdentity | None = None
        self._client: AsyncModbusTcpClient | None = None
        self._identified: AsyncModbusTcpClient | None = None
        """The connection on which the device named itself: behind a new one may be another."""
        self._silences = 0

    @property
    def identity(self) -> MeterIdentity | None:
        """None until the first successful read."""
        return self._identity

    async def read(self) -> Reading:
        """Polls once; raises TemporaryError where the next poll may do, PermanentError where a person must mend something."""
        try:
            client = await self._connected()
            identity = self._identity
            if identity is None or client is not self._identified:
                identity = await self._identify(client)
                client = await self._connected()
            values = await self._values(client)
            self._identity, self._identified = identity, client
        except (ModbusException, OSError, TimeoutError) as error:
            await self.close()
            raise TemporaryError(f"{self._where} does not answer ({_plain(error)})") from error
        return Reading(at_s=self._clock.utc(), values=values, kind=self._kind())

    async def close(self) -> None:
        """Closes the connection; the next read makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def _where(self) -> str:
        return f"modbus://{self._address.host}:{self._address.port}/{self._address.unit}"

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        client = AsyncModbusTcpClient(self._address.host, port=self._address.port, timeout=ANSWER_S, retries=0, reconnect_delay=0)
        if not await client.connect():
            client.close()
            raise TemporaryError(f"{self._where} does not answer (no connection)")
        self._client = client
        return client

    async def _identify(self, client: AsyncModbusTcpClient) -> MeterIdentity:
        texts = await self._identification(client)
        vendor, product, named = texts.get(0, ""), texts.get(1, ""), texts.get(6, "")
        virtual = vendor == VIRTUAL_VENDOR and (product.startswith("virtual") or named.startswith("VIRTUAL"))
        record = self._commissioning
        # Object 6 is a name that the user gives (Modbus application protocol V1.1b3, 6.21); the virtual cabinet's is its serial.
        serial = named if virtual else await self._serial()
        if record is not None and not virtual and serial and record.serial != serial:
            raise PermanentError(f"{self._where} has serial {serial!r}, but its commissioning record is for {record.serial!r}")
        return MeterIdentity(
            vendor=vendor or "unknown",
            model=product or self._profile.title,
            serial=serial or (record.serial if record is not None else "unknown"),
            virtual=virtual,
            ct_ratio=record.ct_ratio if record is not None else None,
            class_percent=record.meter_class_percent if record is not None and not virtual else self._profile.class_percent,
        )

    async def _identification(self, client: AsyncModbusTcpClient) -> dict[int, str]:
        """The device's texts by object id; none from a device that refuses to name itself, or is silent each time.

        One lost answer must not make a virtual device pass for a real one, so silence is believed after SILENCES_BELIEVED.
        """
        try:
            answer = await client.read_device_information(read_code=3, object_id=0, device_id=self._address.unit)
            if answer.isError() and answer.exception_code not in NOT_KNOWN:
                raise ModbusException(f"exception {answer.exception_code} to its identification")
        except (ModbusException, TimeoutError):
            self._silences += 1
            if self._silences < SILENCES_BELIEVED:
                raise
            await self.close()
            return {}
        if answer.isError():
            return {}
        return {number: bytes(text).decode("latin-1") for number, text in getattr(answer, "information", {}).items()}

    async def _serial(self) -> str:
        """The serial number in the instrument's registers; empty where there is none, or it does not tell."""
        if self._profile.serial_at is None:
            return ""
        client = await self._connected()
        try:
            answer = await client.read_holding_registers(self._profile.serial_at, count=2, device_id=self._address.unit)
        except (ModbusException, TimeoutError):
            await self.close()
            return ""
        if answer.isError() or len(answer.registers) != 2:
            return ""
        number = int(_number(list(answer.registers), UINT32, low_word_first=self._profile.low_word_first))
        return str(number) if number else ""

    def _kind(self) -> Kind:
        if self._identity is not None and self._identity.virtual:
            return Kind.SIMULATED
        return Kind.MEASURED if self._commissioning is not None else Kind.ASSUMED

    async def _values(self, client: AsyncModbusTcpClient) -> dict[str, float]:
        values: dict[str, float] = {}
        ratio = self._commissioning.ct_ratio if self._commissioning is not None else 1.0
        for first, group in _groups(self._profile.quantities):
            count = group[-1].address + WORDS[group[-1].form] - first
            read = client.read_input_registers if self._profile.function == 4 else client.read_holding_registers
            answer = await read(first, count=count, device_id=self._address.unit)
            if answer.isError() and answer.exception_code not in NOT_KNOWN:
                raise ModbusException(f"exception {answer.exception_code} to registers {first} to {first + count - 1}")
            if answer.isError() or len(answer.registers) != count:
                raise PermanentError(
                    f"{self._where} refuses registers {first} to {first + count - 1}: is it of the type {self._profile.title}?"
                )
            for quantity in group:
                words = list(answer.registers[quantity.address - first :][: WORDS[quantity.form]])
                value = _number(words, quantity.form, low_word_first=self._profile.low_word_first) * quantity.scale
                if isfinite(value):  # some meters say NaN for a power factor without a load; that is no figure
                    self._must_be_possible(quantity.name, value)
                    values[quantity.name] = value * (ratio if _through_transformer(quantity.name) else 1.0)
        known = {quantity.name for quantity in self._profile.quantities}.intersection(KEY_FIGURES)
        if known and not known.intersection(values):
            raise TemporaryError(f"{self._where} answers, but neither its power nor its energy is a number")
        return values

    def _must_be_possible(self, name: str, value: float) -> None:
        least, most = next((bounds for start, bounds in POSSIBLE.items() if name.startswith(start)), (-1e9, 1e9))
        if not least <= value <= most or 0.0 < abs(value) < TINIEST:
            raise PermanentError(
                f"{self._where} says {value:.3g} for {name}, which cannot be: "
                f"is it of the type {self._profile.title}, and the words in order?"
            )


def _groups(quantities: Sequence[Quantity]) -> list[tuple[int, list[Quantity]]]:
    """Quantities in as few reads as the register limit allows."""
    groups: list[tuple[int, list[Quantity]]] = []
    for quantity in sorted(quantities, key=lambda q: q.address):
        end = quantity.address + WORDS[quantity.form]
        if groups and end - groups[-1][0] <= REGISTERS_MAX:
            groups[-1][1].append(quantity)
        else:
            groups.append((quantity.address, [quantity]))
    return groups


def _number(words: list[int], form: str, *, low_word_first: bool) -> float:
    kinds = AsyncModbusTcpClient.DATATYPE
    kind = kinds.FLOAT32 if form == FLOAT32 else kinds.INT64 if form == INT64 else kinds.UINT32
    order = "little" if low_word_first else "big"
    value = AsyncModbusTcpClient.convert_from_registers(words, kind, word_order=order)
    return float(value)  # type: ignore[arg-type]


def _through_transformer(name: str) -> bool:
    """Currents, and what is made of them, are multiplied by the current transformers' ratio where the meter does not know it."""
    return name.startswith(("current_a", "power_w", "apparent_va", "energy_"))


def _plain(error: Exception) -> str:
    return str(error).removeprefix("Modbus Error: ").strip() or type(error).__name__
