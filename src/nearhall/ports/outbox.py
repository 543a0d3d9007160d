"""What a site has to say and the hub has not yet acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Outbox(Protocol):
    """A durable queue bounded in bytes. When full, the oldest records go first, and `dropped` says how many.

    Records are numbered from 1, without gaps, for the life of the outbox (`outbox_id`), through every restart.
    """

    @property
    def outbox_id(self) -> str:
        """Names this queue; a site whose disk was replaced has a new one, so that numbers never collide.

        Empty while it cannot be opened.
        """
        ...

    @property
    def next_number(self) -> int:
        """The number that the next record will get."""
        ...

    def append(self, record: bytes, *, keep: bytes | None = None) -> int:
        """Adds one record and returns its number, durably, with `keep` (what the caller must remember) in one transaction.

        Raises TemporaryError when the disk is full; nothing is half-written then.
        """
        ...

    def kept(self) -> bytes | None:
        """The last `keep`, after a restart; raises TemporaryError while it cannot be read."""
        ...

    def pending(self, limit_bytes: int) -> Sequence[tuple[int, bytes]]:
        """The oldest unacknowledged records, in order, up to `limit_bytes` in all, at least one if there is one."""
        ...

    def acknowledge(self, number: int) -> None:
        """Forgets every record up to and including `number`."""
        ...

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait for the hub."""
        ...

    @property
    def dropped(self) -> int:
        """Records lost to the byte bound since the outbox was made."""
        ...

    def close(self) -> None:
        """Lets go of the file."""
        ...
