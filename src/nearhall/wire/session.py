"""The messages between a site's agent and the hub's control API, version 1.

The site always dials out (HTTPS, mTLS); the hub knows the site by its certificate. All bodies are JSON, gzip both ways
(`content-encoding: gzip`), at most `BODY_BYTES_MAX` inflated.

    POST /api/v1/sites/{site}/hello       Hello  -> Welcome      409 when no common protocol (HubError says which it speaks)
    POST /api/v1/sites/{site}/telemetry   Batch  -> Ack          safe to repeat: a record's number is its identity
    GET  /api/v1/sites/{site}/desired?after=V&wait_s=S  -> 200 Desired, or 304 when S seconds passed (long poll, S <= 30)
    PUT  /api/v1/sites/{site}/reported    Reported -> Ack        an older (boot, sequence) is answered but not stored

A site of several servers has a session for each: that of its first node is `{site}` alone, the others' are `{site}.{node}`, under
the same certificate. Neither a site's nor a node's id has a dot.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nearhall.wire.telemetry import Record

PROTOCOL = 1
BODY_BYTES_MAX = 8 * 1024 * 1024
"""A batch is cut at a quarter of this by the site; the rest is head room for one oversized record."""
BATCH_BYTES_MAX = 2 * 1024 * 1024
WAIT_S_MAX = 30.0
"""Below the idle time-out of common middle boxes (60 s)."""


def session_of(site: str, node: str, *, first: bool) -> str:
    """The name under which a node of a site speaks with the hub."""
    return site if first else f"{site}.{node}"


def site_of(session: str) -> str:
    """The site that a session belongs to."""
    return session.partition(".")[0]


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is there. Sent at the start, and again whenever the hub answers 401, 404 or 409."""

    protocols: list[int]
    software: str
    boot_id: str
    """New at every start of the agent."""
    outbox_id: str
    next_number: int
    """The number that the next record will get; records below the oldest pending one were acknowledged or dropped."""
    oldest_pending: int
    about: dict[str, Any] = {}
    """What the site says of itself: class, jurisdiction, nodes[], host, link, workloads[], meters[] (see `hub.about`)."""


class Welcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """The hub's answer: where to go on."""

    protocol: int
    hub_id: str
    """New when the hub's store is new: the site then starts over from its oldest pending record."""
    acknowledged: int
    desired_version: int
    now_s: float
    """The hub's clock, for `clock_error_ms`."""


class Numbered(msgspec.Struct, frozen=True):
    """One record and its number in the outbox."""

    number: int
    record: Record


class Batch(msgspec.Struct, frozen=True):
    """Records in order. The site may have dropped some before `records[0]`; `first_kept` says from where it still has all."""

    outbox_id: str
    first_kept: int
    records: list[Numbered]


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything up to `acknowledged` is durable at the hub."""

    acknowledged: int
    desired_version: int
    now_s: float
    took_ms: float = 0.0
    """The hub's own time, to be taken off the round trip."""


class Desired(msgspec.Struct, frozen=True):
    """The whole desired half of the shadow, never a patch."""

    version: int
    document: dict[str, Any]


class Reported(msgspec.Struct, frozen=True):
    """The whole reported half. (boot_id, sequence) orders reports of one boot; a new boot always wins."""

    boot_id: str
    sequence: int
    document: dict[str, Any]


class HubError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every 4xx and 5xx of the control API."""

    error: str
    reason: str = ""
    protocols: list[int] = []
