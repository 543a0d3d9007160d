"""What the control API does, without HTTP: greet sites, keep telemetry, hold shadows, show the live state.

Store calls block, so they run one at a time beside the event loop (`off_loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from nearhall.core.errors import TemporaryError
from nearhall.hub.about import parse_about
from nearhall.hub.doubt import checked
from nearhall.hub.live import Board
from nearhall.ports.clock import Clock
from nearhall.ports.store import SiteRow, Store, Versioned
from nearhall.wire.live import LiveState
from nearhall.wire.session import PROTOCOL, Ack, Batch, Hello, HubError, Reported, Welcome

RECALL_CHUNK = 500
"""Records held at once while the live state is built again after a restart."""
DAY_THAT_NEVER_COMES_S = 1e12
FORGET_EVERY_S = 3600.0
OffLoop = Callable[..., Coroutine[Any, Any, Any]]
RECORDS_MAX = 5000
"""In one batch: the wire's bound in bytes is reached before."""


class Hub:
    """The hub's control plane."""

    def __init__(self, *, hub_id: str, store: Store, board: Board, clock: Clock, off_loop: OffLoop) -> None:
        self._hub_id = hub_id
        self._store = store
        self._board = board
        self._clock = clock
        self._off_loop = off_loop
        self._changed: dict[str, asyncio.Event] = {}
        self._reported: dict[str, tuple[str, int]] = {}
        self._news = asyncio.Event()
        self.stopping = False
        """Set once by `stop`: whoever waits is answered, and nobody waits any more."""

    def stop(self) -> None:
        """Ends every long poll and every open page's stream, so that the program can stop at once and in order."""
        self.stopping = True
        self._news.set()
        for changed in self._changed.values():
            changed.set()

    async def recall(self, started_s: float) -> None:
        """Builds the live state from the store, after a restart."""
        for row in await self._off_loop(self._store.sites):
            self._board.introduce(row.site, parse_about(row.about), row.last_seen_s)
        rows = self._store.records(started_s, DAY_THAT_NEVER_COMES_S)  # a site's clock may run ahead of ours
        while chunk := await self._off_loop(lambda: list(islice(rows, RECALL_CHUNK))):
            for site, record in chunk:
                self._board.add(site, record, None)

    async def hello(self, site: str, hello: Hello) -> Welcome | HubError:
        """Greets a site; HubError when no version of the session is spoken by both."""
        if PROTOCOL not in hello.protocols:
            return HubError(error=f"this hub speaks version {PROTOCOL} of the session", reason="protocol", protocols=[PROTOCOL])
        now = self._clock.utc()
        about = msgspec.json.encode(hello.about)
        row = SiteRow(site=site, first_seen_s=now, last_seen_s=now, software=hello.software, boot_id=hello.boot_id, about=about)
        await self._off_loop(self._store.seen, row)
        self._board.introduce(site, parse_about(about), now)
        acknowledged = await self._off_loop(self._store.acknowledged, site, hello.outbox_id)
        desired = await self._off_loop(self._store.read, site, "desired")
        version = 0 if desired is None else desired.version
        return Welcome(protocol=PROTOCOL, hub_id=self._hub_id, acknowledged=acknowledged, desired_version=version, now_s=now)

    async def telemetry(self, site: str, batch: Batch) -> Ack:
        """Keeps a batch durably, then shows it."""
        began = self._clock.monotonic()
        now = self._clock.utc()
        numbered = [(item.number, checked(item.record, item.number, now)) for item in batch.records[:RECORDS_MAX]]
        before = await self._off_loop(self._store.acknowledged, site, batch.outbox_id)
        acknowledged = await self._off_loop(self._store.add, site, batch.outbox_id, numbered)
        for number, record in numbered:
            if before < number <= acknowledged:
                self._board.add(site, record, now)
        self._news.set()
        self._news = self._news if self.stopping else asyncio.Event()
        desired = await self._off_loop(self._store.read, site, "desired")
        took_ms = (self._clock.monotonic() - began) * 1e3
        version = 0 if desired is None else desired.version
        return Ack(acknowledged=acknowledged, desired_version=version, now_s=self._clock.utc(), took_ms=took_ms)

    async def desired(self, site: str, *, after: int, wait_s: float) -> Versioned | None:
        """The desired document once its version is above `after`; None when `wait_s` has passed."""
        deadline = self._clock.monotonic() + wait_s
        while True:
            changed = self._changed.setdefault(site, asyncio.Event())
            present: Versioned | None = await self._off_loop(self._store.read, site, "desired")
            if present is not None and present.version != after:
                return present
            left = deadline - self._clock.monotonic()
            if left <= 0 or self.stopping:
                return None
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return None

    async def wish(self, site: str, document: bytes, *, expected: int | None) -> Versioned:
        """Writes the desired half; raises Conflict when `expected` is not its version."""
        written: Versioned = await self._off_loop(
            lambda: self._store.write(site, "desired", document, expected=expected, now_s=self._clock.utc())
        )
        self._changed.pop(site, asyncio.Event()).set()
        return written

    async def reported(self, site: str, reported: Reported) -> Versioned:
        """Keeps the reported half, unless a later one of the same boot is there already."""
        present: Versioned | None = await self._off_loop(self._store.read, site, "reported")
        if present is not None:
            last = self._reported.get(site) or _order(present.document)
            if last[0] == reported.boot_id and last[1] >= reported.sequence:
                return present
        body = msgspec.json.encode(reported)
        written: Versioned = await self._off_loop(
            lambda: self._store.write(site, "reported", body, expected=None, now_s=self._clock.utc())
        )
        self._reported[site] = (reported.boot_id, reported.sequence)
        return written

    async def shadow(self, site: str, half: str) -> Versioned | None:
        """One half of a site's shadow."""
        return await self._off_loop(self._store.read, site, half)

    async def sites(self) -> list[SiteRow]:
        """All sites that have said hello."""
        return list(await self._off_loop(self._store.sites))

    async def forget(self, retention_s: float) -> None:
        """Forgets telemetry that is older than `retention_s`, now and every hour, for ever."""
        while True:
            with suppress(TemporaryError):
                await self._off_loop(self._store.forget_before, self._clock.utc() - retention_s)
            await asyncio.sleep(FORGET_EVERY_S)

    def live(self) -> LiveState:
        """The live state, whole."""
        return self._board.state(self._clock.utc())

    def live_after(self, points: dict[str, float], events: int) -> tuple[LiveState, int]:
        """What is new since `points` (by site) and `events`, and the number of events until now."""
        return self._board.state(self._clock.utc(), points_after=points, events_after=events), self._board.events_total

    async def news(self, seconds_max: float) -> None:
        """Returns when telemetry has come, or after `seconds_max`."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds_max)
        except TimeoutError:
            return


def _order(document: bytes) -> tuple[str, int]:
    """(boot, sequence) of a reported half as it lies in the store."""
    try:
        reported = msgspec.json.decode(document, type=Reported)
    except msgspec.DecodeError:
        return "", 0
    return reported.boot_id, reported.sequence
