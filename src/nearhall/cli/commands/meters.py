"""`nearhall meters`: read an instrument, real or virtual, and list the known profiles."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nearhall.cli.output import console, emit
from nearhall.core.evidence import Kind
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.meter_profiles import PROFILES, Profile
from nearhall.drivers.modbus_meter import ModbusMeter, find_profile, parse_meter_url, read_commissioning
from nearhall.ports.meter import MeterIdentity, Reading

WATCH_SECONDS = 1.0
MEANING = {
    Kind.SIMULATED: "SIMULATED: a virtual device; these are no measurements",
    Kind.MEASURED: "measured: by a commissioned instrument",
    Kind.ASSUMED: "assumed: the instrument has no commissioning record (--commissioning FILE), so nobody vouches for it",
}

app = typer.Typer(add_completion=False, help=__doc__, no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output (with --watch: one a line).")]


@app.command(
    epilog="Examples:  nearhall meters read modbus://192.0.2.7:502/1  ·  nearhall meters read modbus://192.0.2.7:502/2 --watch"
)
def read(
    url: Annotated[str, typer.Argument(help="modbus://HOST[:PORT]/UNIT")],
    profile: Annotated[
        str, typer.Option(help="The instrument's register map; `nearhall meters profiles` lists them.")
    ] = "sdm630",
    commissioning: Annotated[
        Path | None, typer.Option(help="Its commissioning record (JSON): class, CT ratio, phase, serial, who, when.")
    ] = None,
    watch: Annotated[bool, typer.Option(help="Read again each second until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Read one instrument once: every quantity, its unit, and what kind of evidence it is.

    A virtual instrument says so in its identity, and nothing here can make its figures pass for measured ones.
    """
    record = read_commissioning(commissioning) if commissioning is not None else None
    meter = ModbusMeter(parse_meter_url(url), find_profile(profile), clock=SystemClock(), commissioning=record)
    with suppress(KeyboardInterrupt):
        asyncio.run(_read(meter, url, profile, watch=watch, as_json=as_json))


@app.command()
def profiles(as_json: Json = False) -> None:
    """List the register maps that are known, with their sources and what of each could not be confirmed."""
    emit(Group(*map(_profile, PROFILES.values())), {"profiles": [_profile_data(p) for p in PROFILES.values()]}, as_json=as_json)


def _profile(profile: Profile) -> RenderableType:
    lines = Table.grid(padding=(0, 2))
    lines.add_row("class", "-" if profile.class_percent is None else f"{profile.class_percent:g} %")
    lines.add_row("quantities", ", ".join(quantity.name for quantity in profile.quantities))
    lines.add_row("source", f"{profile.source} ({profile.checked_on})")
    for caution in profile.unconfirmed:
        lines.add_row("unconfirmed", caution)
    return Group(Text(f"{profile.name}: {profile.title}", style="bold"), Padding(lines, (0, 0, 1, 2)))


def _profile_data(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "title": profile.title,
        "class_percent": profile.class_percent,
        "quantities": [quantity.name for quantity in profile.quantities],
        "source": profile.source,
        "checked_on": profile.checked_on,
        "unconfirmed": list(profile.unconfirmed),
    }


async def _read(meter: ModbusMeter, url: str, profile: str, *, watch: bool, as_json: bool) -> None:
    try:
        while True:
            reading = await meter.read()
            emit(_shown(url, meter.identity, reading), _data(url, profile, meter.identity, reading), as_json=as_json)
            if not watch:
                return
            await asyncio.sleep(WATCH_SECONDS)
            if not as_json:
                console().rule()
    finally:
        await meter.close()


def _shown(url: str, identity: MeterIdentity | None, reading: Reading) -> RenderableType:
    table = Table("quantity", "value", "unit", "evidence", box=None, pad_edge=False)
    for name, value in reading.values.items():
        quantity, unit = split_unit(name)
        table.add_row(quantity, f"{value:,.4g}" if abs(value) < 1 else f"{value:,.3f}", unit, reading.kind.value)
    head = "" if identity is None else f"{url}: {identity.vendor} {identity.model}, serial {identity.serial}"
    warning = Text(MEANING[reading.kind], style="bold" if reading.kind is Kind.SIMULATED else "")
    return Group(Text(head), warning, table)


def _data(url: str, profile: str, identity: MeterIdentity | None, reading: Reading) -> dict[str, Any]:
    about = None
    if identity is not None:
        about = {
            "vendor": identity.vendor,
            "model": identity.model,
            "serial": identity.serial,
            "virtual": identity.virtual,
            "class_percent": identity.class_percent,
        }
    at = datetime.fromtimestamp(reading.at_s, UTC).isoformat(timespec="milliseconds")
    return {
        "url": url,
        "profile": profile,
        "at": at,
        "kind": reading.kind.value,
        "identity": about,
        "values": dict(reading.values),
    }


UNITS = {
    "w": "W",
    "va": "VA",
    "kwh": "kWh",
    "hz": "Hz",
    "c": "°C",
    "a": "A",
}


def split_unit(name: str) -> tuple[str, str]:
    """A quantity's name and its unit, from a name whose unit stands last (`power_w`) or before a line's (`current_a_l1`)."""
    parts = name.split("_")
    line = parts.pop() if parts[-1] in {"l1", "l2", "l3"} else ""
    if parts[0] == "volts":
        return f"voltage {line}".strip(), "V"
    if parts[-1] in UNITS and len(parts) > 1:
        return " ".join([*parts[:-1], line]).strip(), UNITS[parts[-1]]
    return " ".join([*parts, line]).strip(), ""
