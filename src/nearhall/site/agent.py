"""The agent: its tasks and what passes between them. Every window it cuts one record of everything the site knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.ports.clock import Clock
from nearhall.ports.cpu import CpuUse
from nearhall.ports.gateway_control import GatewayControl
from nearhall.ports.outbox import Outbox
from nearhall.site.counting import Window, added, recalled, remembered, with_refused
from nearhall.site.energy import told_of
from nearhall.site.introduction import introduced
from nearhall.site.meters import MeterRoom
from nearhall.site.results import Results
from nearhall.site.settings import Settings
from nearhall.site.supervisor import Supervisor
from nearhall.site.sync import Sync
from nearhall.wire.session import Reported
from nearhall.wire.shadow import DesiredSite, ReportedSite, difference, parse_desired
from nearhall.wire.telemetry import Event, GatewayStats, LinkWindow, MeterWindow, ModelState, Record

CLOCK_STEP_S = 1.0
"""More than this between the two clocks' ideas of a window is a step of the calendar, not drift."""
EVENTS_KEPT = 1000
HELD_MAX = 600
"""Records held in memory while the disk is full: 20 minutes at two seconds each."""
REPORT_SECONDS = 30.0

OffLoop = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the composition root built."""

    clock: Clock
    supervisor: Supervisor
    control: GatewayControl
    meters: MeterRoom
    results: Results
    outbox: Outbox
    sync: Sync | None
    cpu: CpuUse
    off_loop: OffLoop
    """Runs a blocking call (the outbox's fsync) beside the loop."""
    desired: bytes | None = None
    """The last desired document, as `keep_desired` kept it."""
    keep_desired: Callable[[bytes], None] = lambda _: None
    """Writes it whole: what the hub wanted holds through restarts and without a link (the site is autonomous)."""


class Agent:
    """One site's agent."""

    def __init__(self, settings: Settings, parts: Parts, *, boot_id: str, software: str, events: list[Event]) -> None:
        self._settings = settings
        self._parts = parts
        self._boot_id = boot_id
        self._software = software
        self._events = events
        """Filled by every part's `tell`; emptied by each record."""
        self._before: GatewayStats | None = None
        self._recalled = False
        """Whether the outbox was open once: it knows what has been counted, and no record may be cut before."""
        self._models: list[ModelState] = []
        self._held: list[tuple[bytes, bytes | None]] = []
        self._disk_full = False
        self._reported = ReportedSite(software=software)
        self._delivered: ReportedSite | None = None
        """The report that the hub has."""
        self._sequence = 0
        self._desired: DesiredSite | None = recalled_desired(parts.desired)
        self._wished_gateway = ""
        """The gateway that has been told what is desired."""
        self._cpu_before = 0.0

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Runs until `stop`, then cuts a last record and, if so set, stops the gateway."""
        self._tell("agent_started", f"the agent of {self._settings.site} started")
        await self._parts.results.listen(Path(self._settings.results_socket))
        tasks = [asyncio.create_task(self._parts.supervisor.run()), asyncio.create_task(self._parts.meters.run())]
        if self._parts.sync is not None:
            tasks.append(asyncio.create_task(self._parts.sync.run()))
            tasks.append(asyncio.create_task(self._parts.sync.follow_desired(self._wish)))
            tasks.append(asyncio.create_task(self._report_now_and_then()))
        cutting = asyncio.create_task(self._cut_records(stop))
        ready()
        try:
            await asyncio.wait({cutting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in (cutting, *tasks):
                if task.done():
                    task.result()
            # `cutting` ends once `stop` is set, with the last record in the outbox; only then may the counters go.
            if self._settings.stop_gateway:
                await self._parts.supervisor.stop_gateway(self._settings.stop_seconds_max)
        finally:
            for task in (cutting, *tasks):
                task.cancel()
            await asyncio.gather(cutting, *tasks, return_exceptions=True)
            self._parts.results.close()

    def state(self) -> Mapping[str, Any]:
        """How the agent is, for `nearhall doctor` and a person at the site."""
        gateway = self._parts.supervisor.gateway
        return {
            "site": self._settings.site,
            "boot_id": self._boot_id,
            "software": self._software,
            "gateway_pid": None if gateway is None else gateway.pid,
            "spooled_bytes": self._parts.outbox.spooled_bytes,
            "dropped": self._parts.outbox.dropped,
            "held": len(self._held),
        }

    def _tell(self, kind: str, text: str, level: str = "info") -> None:
        self._events.append(Event(at_s=self._parts.clock.utc(), kind=kind, text=text, level=level))
        del self._events[:-EVENTS_KEPT]

    async def _cut_records(self, stop: asyncio.Event) -> None:
        clock = self._parts.clock
        start_mono, start_utc = clock.monotonic(), clock.utc()
        looked_mono = start_mono
        last = False
        while not last:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._settings.window_s - (clock.monotonic() - looked_mono))):
                    await stop.wait()
            last = stop.is_set()  # looked at before the cut: what happens during it belongs to one more record
            looked_mono = clock.monotonic()
            if not await self._recall():
                continue  # the window goes on: counters and registers are cumulative, so it will lose nothing
            now_mono, now_utc = clock.monotonic(), clock.utc()
            lasted = now_mono - start_mono
            step = (now_utc - start_utc) - lasted
            if abs(step) > CLOCK_STEP_S:
                self._tell("clock_step", f"the clock was set by {step:+.1f} s; this window is dated by the new time", "warning")
            await self._cut(now_utc - lasted, now_utc, lasted)
            start_mono = looked_mono = now_mono
            start_utc = now_utc

    async def _cut(self, start_s: float, end_s: float, lasted_s: float) -> None:
        """One record: what the gateway counted, the instruments said, the applications found and the link carried."""
        parts = self._parts
        stats = await self._stats()
        window = added(stats, self._before) if stats is not None else Window({}, [], 0.0)
        if stats is not None:
            self._before, self._models = stats, stats.models
            await self._tell_new_gateway(stats)
        if parts.sync is not None:
            parts.sync.introduce(introduced(self._settings.about, parts.meters.identities()))
        link, clock_error = parts.sync.window() if parts.sync is not None else (LinkWindow(), None)
        # Health checks of the hub are control traffic, though the gateway sends them.
        link = msgspec.structs.replace(link, sent_bytes=link.sent_bytes + window.kept_warm_bytes)
        cpu = parts.cpu.seconds()
        cpu_share = max(0.0, cpu - self._cpu_before) / lasted_s if lasted_s > 0 else 0.0
        self._cpu_before = cpu
        meters = parts.meters.window()
        if stats is not None:
            await self._tell_energy(meters)
        events, self._events[:] = [*self._events, *window.events], []
        record = Record(
            start_s=start_s,
            end_s=end_s,
            boot_id=self._boot_id,
            gateway_id=stats.gateway_id if stats is not None else "",
            gateway_up=stats is not None,
            workloads=with_refused(window.workloads, parts.supervisor.refused()),
            models=self._models,
            meters=meters,
            outcomes=parts.results.window(),
            events=sorted(events, key=lambda event: event.at_s),
            link=link,
            clock_error_ms=clock_error,
            cpu_share=cpu_share,
            children_cpu_s=window.children_cpu_s,
            counters_j=window.counters_j,
        )
        await self._keep(msgspec.json.encode(record), remembered(stats) if stats is not None else None)

    async def _tell_energy(self, meters: Mapping[str, MeterWindow]) -> None:
        """Lets the gateway's `/metrics` share out what the meters saw; a gateway that does not take it goes on without."""
        told = told_of(meters, self._settings.meters, self._settings.about)
        if told is not None:
            with suppress(TemporaryError, PermanentError):
                await self._parts.control.tell_energy(told)

    async def _recall(self) -> bool:
        """What was counted before this agent started; False while the outbox cannot be opened, which is told once."""
        if self._recalled:
            return True
        try:
            self._before = recalled(await self._parts.off_loop(self._parts.outbox.kept))
        except TemporaryError as error:
            if not self._disk_full:
                self._tell("spool_full", f"{error}; no telemetry is cut until it can be, serving goes on", "error")
            self._disk_full = True
            return False
        self._recalled = True
        return True

    async def _stats(self) -> GatewayStats | None:
        if self._parts.supervisor.gateway is None:
            return None
        with suppress(TemporaryError):
            return await self._parts.control.stats()
        return None

    async def _keep(self, record: bytes, keep: bytes | None) -> None:
        """Into the outbox; while the disk is full, into memory, oldest out first."""
        self._held.append((record, keep))
        while self._held:
            body, kept = self._held[0]
            try:
                await self._parts.off_loop(self._append, body, kept)
            except TemporaryError as error:
                if not self._disk_full:
                    self._tell("spool_full", f"{error}; telemetry is held in memory, serving goes on", "error")
                self._disk_full = True
                del self._held[:-HELD_MAX]
                return
            self._held.pop(0)
            if self._disk_full and not self._held:
                self._disk_full = False
                self._tell("spool_back", "the outbox takes records again", "info")
        if self._parts.sync is not None:
            self._parts.sync.record_added()

    def _append(self, body: bytes, kept: bytes | None) -> int:
        return self._parts.outbox.append(body, keep=kept)

    async def _wish(self, version: int, desired: DesiredSite | None, why: str) -> None:
        """Does what a new desired document asks for, and reports."""
        problems = [why] if desired is None else []
        if desired is not None:
            self._desired = desired
            with suppress(OSError):  # a full disk: it is done all the same, and asked of the hub again after a restart
                await self._parts.off_loop(self._parts.keep_desired, msgspec.json.encode(desired))
            problems = await self._set_models(desired)
        for problem in problems:
            self._tell("desired_refused", problem, "warning")
        self._reported = msgspec.structs.replace(self._reported, desired_version=version, problems=problems)
        await self._report()

    async def _set_models(self, desired: DesiredSite) -> list[str]:
        """Loads and unloads what differs; gives what could not be done, in words."""
        problems: list[str] = []
        states = {model.name: model.state for model in self._models}
        for model, wanted in difference(desired, ReportedSite(models=states)).items():
            try:
                await self._parts.control.set_model(model, wanted)
                self._tell("desired", f"{model} is {wanted}, as the hub wants")
            except (TemporaryError, PermanentError) as error:
                problems.append(f"{model} could not be {wanted}: {error}")
        return problems

    async def _tell_new_gateway(self, stats: GatewayStats) -> None:
        """A gateway that has just started knows its repository alone; what the hub wanted of the one before holds for it too."""
        if stats.gateway_id != self._wished_gateway:
            self._wished_gateway = stats.gateway_id
            if self._desired is not None:
                for problem in await self._set_models(self._desired):
                    self._tell("desired_refused", problem, "warning")

    async def _report_now_and_then(self) -> None:
        while True:
            await self._report()
            await asyncio.sleep(REPORT_SECONDS)

    async def _report(self) -> None:
        if self._parts.sync is None:
            return
        states = {model.name: model.state for model in self._models}
        up = self._parts.supervisor.gateway is not None
        fresh = msgspec.structs.replace(self._reported, models=states, gateway_up=up)
        if fresh == self._delivered:
            return
        self._sequence += 1
        document = json.loads(msgspec.json.encode(fresh))
        if await self._parts.sync.report(Reported(boot_id=self._boot_id, sequence=self._sequence, document=document)):
            self._delivered = fresh


def recalled_desired(kept: bytes | None) -> DesiredSite | None:
    """The desired document as it was kept; None where there is none or it cannot be read."""
    if kept is None:
        return None
    with suppress(ValueError, msgspec.DecodeError):
        return parse_desired(msgspec.json.decode(kept))
    return None
