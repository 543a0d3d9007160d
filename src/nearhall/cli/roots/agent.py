"""The site's agent: `python -m nearhall.cli.roots.agent SETTINGS.json`.

Stays small (an import test says so): no pydantic, typer, rich, numpy, bokeh, fastapi or onnxruntime.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Any
from uuid import uuid4

from nearhall import __version__
from nearhall.cli.roots.program import listen_unix, read_settings, run_program, say_ready, stop_event
from nearhall.core.errors import InputError, TemporaryError
from nearhall.documents.whole_file import write_whole
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.folder_lock import FolderLock
from nearhall.drivers.gateway_socket import GatewaySocket
from nearhall.drivers.modbus_meter import ModbusMeter, find_profile, parse_meter_url, read_commissioning
from nearhall.drivers.outbox_patient import PatientOutbox
from nearhall.drivers.outbox_sqlite import SqliteOutbox
from nearhall.drivers.processes import ProcessCpu
from nearhall.drivers.uplink_https import HttpsUplink
from nearhall.site.agent import Agent, Parts
from nearhall.site.counting import counted_under
from nearhall.site.meters import MeterRoom
from nearhall.site.results import Results
from nearhall.site.settings import Meter, Settings
from nearhall.site.stand_in import StandIn
from nearhall.site.supervisor import Supervisor, process_start_ticks
from nearhall.site.sync import Sync
from nearhall.wire.site_session import SiteIdentity, SiteSession
from nearhall.wire.telemetry import Event

MIB = 2**20
SOFTWARE = f"nearhall {__version__}"


async def main(path: str) -> None:
    """Runs until told to stop."""
    settings = read_settings(path, Settings)
    stop = stop_event(with_stdin=settings.exit_with_stdin)
    clock = SystemClock()
    boot_id = uuid4().hex
    events: list[Event] = []

    def tell(kind: str, text: str, level: str = "info") -> None:
        events.append(Event(at_s=clock.utc(), kind=kind, text=text, level=level))

    state_dir = Path(settings.state_dir)
    lock = state_lock(state_dir)
    with suppress(TemporaryError):  # a folder that is not there yet is held when the outbox is made in it
        lock.hold()
    own = listen_unix(Path(settings.agent_socket), where="agent_socket")
    executor = ThreadPoolExecutor(1, thread_name_prefix="outbox")

    async def off_loop(call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, partial(call, *arguments))

    outbox = PatientOutbox(partial(_outbox, settings, lock, boot_id=boot_id, tell=tell))
    if outbox.why:
        sys.stderr.write(f"{outbox.why}; the site serves on, and telemetry waits until there is room\n")
    meters = {meter.id: _meter(meter, clock) for meter in settings.meters}
    stand_in = StandIn(settings.host, settings.port, counted_under=partial(counted_under, workloads=settings.workloads))
    stand_in.prepare()
    supervisor = Supervisor(
        command=settings.gateway_command,
        pid_file=Path(settings.gateway_pid_file),
        log=state_dir / "gateway.log",
        stand_in=stand_in,
        clock=clock,
        tell=tell,
    )
    uplink, sync = None, None
    if settings.hub is not None:
        tls = settings.hub.tls
        uplink = HttpsUplink(settings.hub.url, (tls.ca, tls.cert, tls.key) if tls is not None else None)
        identity = SiteIdentity(
            site=settings.site, software=SOFTWARE, boot_id=boot_id, outbox_id=outbox.outbox_id, about=settings.about
        )
        sync = Sync(
            site=settings.site,
            session=SiteSession(identity),
            outbox=outbox,
            uplink=uplink,
            clock=clock,
            draw=Random(SystemRandom().randrange(2**32)),  # noqa: S311 (jitter, no secret)
            tell=tell,
            off_loop=off_loop,
        )
    control = GatewaySocket(settings.gateway_control_socket)
    desired = state_dir / "desired.json"
    parts = Parts(
        desired=desired.read_bytes() if desired.exists() else None,
        keep_desired=partial(write_whole, desired),
        clock=clock,
        supervisor=supervisor,
        control=control,
        meters=MeterRoom(meters, poll_s=settings.meter_poll_s, clock=clock, tell=tell),
        results=Results(),
        outbox=outbox,
        sync=sync,
        cpu=ProcessCpu([Path(settings.gateway_pid_file), Path(settings.agent_pid_file)]),
        off_loop=off_loop,
    )
    agent = Agent(settings, parts, boot_id=boot_id, software=SOFTWARE, events=events)
    local = await asyncio.start_unix_server(partial(_tell_state, agent), sock=own)
    try:
        await agent.run(stop, lambda: say_ready(port=settings.port))
    finally:
        local.close()
        await stand_in.close()
        for meter in meters.values():
            await meter.close()
        await control.close()
        if uplink is not None:
            await uplink.close()
        executor.shutdown()
        outbox.close()
        lock.close()


def state_lock(folder: Path) -> FolderLock:
    """There is one outbox and one desired state in a node's folder, for one agent."""
    return FolderLock(folder, program="agent", right="end that one first, or give this one a folder of its own (--state)")


def _outbox(settings: Settings, lock: FolderLock, *, boot_id: str, tell: Callable[[str, str, str], None]) -> SqliteOutbox:
    """The outbox on the disk, with the agent's pid file beside it; raises TemporaryError while there cannot be one."""
    pid = {"pid": os.getpid(), "start_ticks": process_start_ticks(os.getpid()), "boot_id": boot_id}
    try:
        lock.hold()
    except InputError as error:
        raise TemporaryError(str(error)) from error
    try:
        write_whole(Path(settings.agent_pid_file), json.dumps(pid).encode())
    except OSError as error:
        raise TemporaryError(f"{settings.agent_pid_file} cannot be written ({error.strerror})") from error
    place, bytes_max = Path(settings.state_dir) / "outbox.db", int(settings.outbox_mib * MIB)
    return SqliteOutbox(place, bytes_max=bytes_max, tell=lambda text: tell("spool_damaged", text, "error"))


def _meter(meter: Meter, clock: SystemClock) -> ModbusMeter:
    record = read_commissioning(Path(meter.commissioning)) if meter.commissioning is not None else None
    return ModbusMeter(parse_meter_url(meter.url), find_profile(meter.profile), clock=clock, commissioning=record)


async def _tell_state(agent: Agent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Any request on the agent's own socket gets its state as JSON."""
    try:
        async with asyncio.timeout(2.0):
            await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(agent.state()).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    run_program(main)
