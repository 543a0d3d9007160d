"""The way from a site's agent to the hub's control API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkReply:
    """What the hub answered, and what the exchange cost the link."""

    status: int
    body: bytes
    sent_bytes: int
    """On the wire, TLS included, as the kernel counted them."""
    received_bytes: int
    took_s: float
    link_rtt_s: float | None = None
    """Of the link alone, as the kernel knows it."""


class Uplink(Protocol):
    """One origin; the site always dials out."""

    async def exchange(self, method: str, path: str, body: bytes, *, timeout_s: float) -> UplinkReply:
        """One request and its answer; raises TemporaryError when the hub cannot be reached in time."""
        ...

    async def close(self) -> None:
        """Closes its connections."""
        ...
