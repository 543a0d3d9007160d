"""Acts the wire session out: sends what the outbox holds, forgets what the hub has, fetches what the hub wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import msgspec

from nearhall.core.errors import TemporaryError
from nearhall.policy.backoff import retry_wait_s
from nearhall.ports.clock import Clock
from nearhall.ports.outbox import Outbox
from nearhall.ports.uplink import Uplink, UplinkReply
from nearhall.wire.session import BATCH_BYTES_MAX, WAIT_S_MAX, Desired, Reported
from nearhall.wire.shadow import DesiredSite, parse_desired
from nearhall.wire.site_session import Acknowledged, Complaint, DesiredVersion, HubClock, Outgoing, SiteSession
from nearhall.wire.telemetry import LinkWindow

LONG_POLL_S = 25.0
"""Under the 30 s that the wire allows, so that the hub's answer comes before the wire's own end."""
ROUND_TRIPS_KEPT = 64
COMPLAINT_S = 5.0
"""Before a hub that refuses is asked again."""
IDLE_S = 5.0

Tell = Callable[[str, str, str], None]
Blocking = Callable[..., Coroutine[Any, Any, Any]]


class Sync:
    """One site's conversation with the hub."""

    def __init__(
        self,
        *,
        site: str,
        session: SiteSession,
        outbox: Outbox,
        uplink: Uplink,
        clock: Clock,
        draw: Random,
        tell: Tell,
        off_loop: Blocking,
    ) -> None:
        self._site = site
        self._session = session
        self._outbox = outbox
        self._uplink = uplink
        self._clock = clock
        self._draw = draw
        self._tell = tell
        self._off_loop = off_loop
        self._fresh = asyncio.Event()
        self._up: bool | None = None
        self._sent = 0
        self._received = 0
        self._round_trips: list[tuple[float, float]] = []
        """(round trip ms, clock error ms) of the latest exchanges."""
        self._link_rtt_s: float | None = None
        self._complained = ""
        self._desired_version = 0

    def record_added(self) -> None:
        """Something is in the outbox: send it now."""
        self._fresh.set()

    def introduce(self, about: dict[str, Any]) -> None:
        """What the site says of itself from now on; the hub is told at once if it is news."""
        if self._session.introduce(about):
            self._fresh.set()

    def window(self) -> tuple[LinkWindow, float | None]:
        """What the link carried since the last call, and the clock error by the exchange with the shortest round trip."""
        trips, sent, received = self._round_trips, self._sent, self._received
        self._sent = self._received = 0
        best = min(trips, default=None)
        middle = sorted(trip for trip, _ in trips)[len(trips) // 2] if trips else None
        link = LinkWindow(
            sent_bytes=sent,
            received_bytes=received,
            rtt_ms=middle,
            kernel_rtt_ms=None if self._link_rtt_s is None else self._link_rtt_s * 1e3,
            up=self._up is not False,
            spooled_bytes=self._outbox.spooled_bytes,
            dropped=self._outbox.dropped,
        )
        return link, None if best is None else best[1]

    async def run(self) -> None:
        """Sends records for ever."""
        wait = 0.0
        while True:
            self._fresh.clear()
            if not self._outbox.outbox_id:  # it could not be opened yet: there is nothing to send, and no name to greet with
                await self._until_fresh()
                continue
            self._session.rename(self._outbox.outbox_id)
            pending = await self._pending()
            outgoing = self._session.next(pending, next_number=self._outbox.next_number)
            if outgoing is None:
                await self._until_fresh()
                continue
            try:
                reply = await self._exchange(outgoing)
            except TemporaryError as error:
                self._session.lost()
                self._lost(str(error))
                wait = retry_wait_s(wait, self._draw.random())
                await asyncio.sleep(wait)
                continue
            wait = 0.0
            await self._take(outgoing, reply)

    async def follow_desired(self, apply: Callable[[int, DesiredSite | None, str], Coroutine[Any, Any, None]]) -> None:
        """Long-polls the desired document and hands each version to `apply` (None and why, if it is not understood)."""
        wait = 0.0
        while True:
            path = f"/api/v1/sites/{self._site}/desired?after={self._desired_version}&wait_s={LONG_POLL_S:.0f}"
            try:
                reply = await self._uplink.exchange("GET", path, b"", timeout_s=WAIT_S_MAX)
                self._count(reply)
            except TemporaryError:
                wait = retry_wait_s(wait, self._draw.random())
                await asyncio.sleep(wait)
                continue
            wait = 0.0
            if reply.status == 200:
                await self._desired(reply.body, apply)
            elif reply.status != 304:
                await asyncio.sleep(COMPLAINT_S)

    async def report(self, reported: Reported) -> bool:
        """Sends the reported half; False when the hub could not be reached."""
        try:
            reply = await self._uplink.exchange(
                "PUT", f"/api/v1/sites/{self._site}/reported", msgspec.json.encode(reported), timeout_s=10.0
            )
        except TemporaryError:
            return False
        self._count(reply)
        return reply.status == 200

    async def _pending(self) -> Sequence[tuple[int, bytes]]:
        """The oldest records; none while the disk cannot be read, which the next look may change."""
        try:
            return await self._off_loop(self._outbox.pending, BATCH_BYTES_MAX)
        except TemporaryError as error:
            self._complain(str(error))
            return []

    async def _until_fresh(self) -> None:
        # Not `wait_for`: in Python 3.11 it loses a cancellation that comes with the event, and the stop would wait for ever.
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._fresh.wait()

    async def _exchange(self, outgoing: Outgoing) -> UplinkReply:
        reply = await self._uplink.exchange(outgoing.method, outgoing.path, outgoing.body, timeout_s=outgoing.timeout_s)
        self._count(reply)
        if self._up is False:
            self._tell("link_back", "the hub answers again", "info")
        self._up = True
        return reply

    async def _take(self, outgoing: Outgoing, reply: UplinkReply) -> None:
        now = self._clock.utc()
        for effect in self._session.answered(outgoing, reply.status, reply.body):
            match effect:
                case Acknowledged(number):
                    await self._forget(number)
                case HubClock(now_s=hub_s, took_ms=took_ms):
                    trip_ms = max(0.0, reply.took_s * 1e3 - took_ms)
                    error_ms = (now - reply.took_s / 2 - hub_s) * 1e3 + took_ms / 2
                    self._round_trips = [*self._round_trips[-ROUND_TRIPS_KEPT:], (trip_ms, error_ms)]
                case Complaint(text):
                    self._complain(text)
                    await asyncio.sleep(COMPLAINT_S)
                case DesiredVersion(version):
                    # A hub with a new store counts from the start again; what it wants now must not be taken for old.
                    if version < self._desired_version:
                        self._desired_version = 0

    async def _forget(self, number: int) -> None:
        """What the hub has; while the disk is full the records stay, are sent again and are passed over by the hub."""
        try:
            await self._off_loop(self._outbox.acknowledge, number)
        except TemporaryError as error:
            self._complain(str(error))
            await asyncio.sleep(COMPLAINT_S)

    def _complain(self, text: str) -> None:
        if text != self._complained:
            self._tell("hub_refuses" if text.startswith("the hub") else "spool_full", text, "error")
        self._complained = text

    async def _desired(self, body: bytes, apply: Callable[[int, DesiredSite | None, str], Coroutine[Any, Any, None]]) -> None:
        try:
            desired = msgspec.json.decode(body, type=Desired)
        except msgspec.DecodeError as error:
            self._tell("desired_refused", f"the desired document cannot be read: {error}", "warning")
            await asyncio.sleep(COMPLAINT_S)
            return
        if desired.version == self._desired_version:
            await asyncio.sleep(COMPLAINT_S)  # a hub that answers with what we have would make this a busy loop
            return
        self._desired_version = desired.version
        try:
            wanted: DesiredSite | None = parse_desired(desired.document)
            why = ""
        except ValueError as error:
            wanted, why = None, str(error)
        await apply(desired.version, wanted, why)

    def _count(self, reply: UplinkReply) -> None:
        self._sent += reply.sent_bytes
        self._received += reply.received_bytes
        self._link_rtt_s = reply.link_rtt_s

    def _lost(self, why: str) -> None:
        if self._up is not False:
            self._tell("link_lost", f"the hub cannot be reached ({why}); telemetry is kept here", "warning")
        self._up = False
