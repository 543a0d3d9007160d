"""The site's side of the wire session, sans-I/O: what to send next, and what an answer means.

One exchange at a time: `next` gives the request, `answered` or `lost` takes its end. Records stay in the outbox until the hub's
own number says that they are durable there, so a lost answer costs a repeat and never a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from nearhall.wire.session import BATCH_BYTES_MAX, PROTOCOL, Ack, Hello, HubError, Welcome

EXCHANGE_S = 10.0
"""For one exchange. On a cut link the connection stalls; a stalled exchange that the link's return revives needs no retry."""


class _RawNumbered(msgspec.Struct, frozen=True):
    number: int
    record: msgspec.Raw


class _RawBatch(msgspec.Struct, frozen=True):
    """`session.Batch` with records as they lie in the outbox, so that nothing is decoded and encoded again."""

    outbox_id: str
    first_kept: int
    records: list[_RawNumbered]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request to the control API."""

    method: str
    path: str
    body: bytes
    timeout_s: float
    last_number: int = 0
    """The last record in it; 0 for none."""
    made: int = 0
    """Records made so far, as a hello says them."""
    edition: int = 0
    """Which of the site's self-descriptions a hello carries."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Everything up to `number` is durable at the hub."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HubClock:
    """The hub's clock when it answered, and how long the answer took it."""

    now_s: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class DesiredVersion:
    """The version of the desired document at the hub."""

    version: int


@dataclass(frozen=True, slots=True)
class Complaint:
    """The hub does not take what was sent; a person should read this."""

    text: str


Effect = Acknowledged | HubClock | DesiredVersion | Complaint


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteIdentity:
    """Who is speaking."""

    site: str
    software: str
    boot_id: str
    outbox_id: str
    about: dict[str, Any]


class SiteSession:
    """The state between exchanges: whether the hub has greeted us, and how far it has our records."""

    def __init__(self, identity: SiteIdentity) -> None:
        self._identity = identity
        self._hub_id: str | None = None
        self._edition = 0
        self._told = 0
        """The edition of the self-description that the hub has."""

    def introduce(self, about: dict[str, Any]) -> bool:
        """What the site says of itself from now on; when it is news (True) the next exchange is a hello."""
        if about == self._identity.about:
            return False
        self._identity = replace(self._identity, about=about)
        self._edition += 1
        return True

    def rename(self, outbox_id: str) -> None:
        """The outbox that records come from; another one than before is the hub's to know first."""
        if outbox_id != self._identity.outbox_id:
            self._identity = replace(self._identity, outbox_id=outbox_id)
            self._hub_id = None

    @property
    def greeted(self) -> bool:
        """Whether the hub has answered our hello."""
        return self._hub_id is not None

    def next(self, pending: Sequence[tuple[int, bytes]], *, next_number: int) -> Outgoing | None:
        """The next request, given the oldest pending records; None when there is nothing to say."""
        if self._hub_id is None or self._told != self._edition:
            return self._hello(pending, next_number)
        records: list[_RawNumbered] = []
        size = 0
        for number, body in pending:
            size += len(body)
            if records and size > BATCH_BYTES_MAX:
                break
            records.append(_RawNumbered(number, msgspec.Raw(body)))
        if not records:
            return None
        batch = _RawBatch(outbox_id=self._identity.outbox_id, first_kept=records[0].number, records=records)
        return Outgoing(
            method="POST",
            path=f"/api/v1/sites/{self._identity.site}/telemetry",
            body=msgspec.json.encode(batch),
            timeout_s=EXCHANGE_S,
            last_number=records[-1].number,
        )

    def answered(self, sent: Outgoing, status: int, body: bytes) -> Sequence[Effect]:
        """What an answer means. Whatever is not understood is a complaint, and the next exchange is a hello."""
        try:
            if status == 200 and sent.last_number == 0:
                return self._welcomed(sent, msgspec.json.decode(body, type=Welcome))
            if status == 200:
                return self._taken(sent, msgspec.json.decode(body, type=Ack))
        except msgspec.DecodeError as error:
            self._hub_id = None
            return [Complaint(f"the hub's answer is not understood: {error}")]
        self._hub_id = None
        return [Complaint(f"the hub refused with {status}: {_said(body)}")]

    def lost(self) -> None:
        """The exchange did not end: what was sent may or may not have arrived. Nothing is forgotten."""

    def _hello(self, pending: Sequence[tuple[int, bytes]], next_number: int) -> Outgoing:
        identity = self._identity
        hello = Hello(
            protocols=[PROTOCOL],
            software=identity.software,
            boot_id=identity.boot_id,
            outbox_id=identity.outbox_id,
            next_number=next_number,
            oldest_pending=pending[0][0] if pending else next_number,
            about=identity.about,
        )
        path = f"/api/v1/sites/{identity.site}/hello"
        return Outgoing(
            method="POST",
            path=path,
            body=msgspec.json.encode(hello),
            timeout_s=EXCHANGE_S,
            made=next_number - 1,
            edition=self._edition,
        )

    def _welcomed(self, sent: Outgoing, welcome: Welcome) -> Sequence[Effect]:
        if welcome.protocol != PROTOCOL:
            return [Complaint(f"the hub wants to speak version {welcome.protocol} of the session; this site speaks {PROTOCOL}")]
        if welcome.acknowledged > sent.made:
            # An old copy of the disk was put back: the hub would take new records for those that it has.
            return [
                Complaint(
                    f"the hub has {welcome.acknowledged} records of this outbox, which made {sent.made}: it is an old copy; "
                    "move outbox.db away"
                )
            ]
        self._hub_id = welcome.hub_id
        self._told = sent.edition
        clock = HubClock(now_s=welcome.now_s, took_ms=0.0)
        return [*self._forget(welcome.acknowledged), clock, DesiredVersion(welcome.desired_version)]

    def _taken(self, sent: Outgoing, ack: Ack) -> Sequence[Effect]:
        clock = HubClock(now_s=ack.now_s, took_ms=ack.took_ms)
        if ack.acknowledged > sent.last_number:
            self._hub_id = None
            return [Complaint(f"the hub acknowledges record {ack.acknowledged}, which it was not sent")]
        return [*self._forget(ack.acknowledged), clock, DesiredVersion(ack.desired_version)]

    @staticmethod
    def _forget(number: int) -> Sequence[Effect]:
        return [Acknowledged(number)] if number > 0 else []


def _said(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=HubError).error
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace")
