"""The outbox in memory: for tests and rehearsals. What it holds ends with the process; it keeps the same contract as SQLite's."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence

from nearhall.core.errors import TemporaryError


class MemoryOutbox:
    """One site's outbox. `full` set to True makes it refuse records, as a full disk does."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._records: deque[tuple[int, bytes]] = deque()
        self._outbox_id = uuid.uuid4().hex
        self._last = 0
        self._bytes = 0
        self._dropped = 0
        self._keep: bytes | None = None
        self.full = False

    @property
    def outbox_id(self) -> str:
        """Names this queue."""
        return self._outbox_id

    @property
    def next_number(self) -> int:
        """The number that the next record will get."""
        return self._last + 1

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """Records lost to the byte bound."""
        return self._dropped

    def append(self, record: bytes, *, keep: bytes | None = None) -> int:
        """Adds one record with `keep`; drops the oldest beyond the bound. Raises TemporaryError while it is `full`."""
        if self.full:
            raise TemporaryError("the outbox cannot take a record: it is full")
        while self._records and self._bytes + len(record) > self._bytes_max:
            self._bytes -= len(self._records.popleft()[1])
            self._dropped += 1
        self._last += 1
        self._records.append((self._last, record))
        self._bytes += len(record)
        if keep is not None:
            self._keep = keep
        return self._last

    def kept(self) -> bytes | None:
        """The last `keep`."""
        return self._keep

    def pending(self, limit_bytes: int) -> Sequence[tuple[int, bytes]]:
        """The oldest records, in order, up to `limit_bytes`, at least one if there is one."""
        found: list[tuple[int, bytes]] = []
        size = 0
        for number, body in self._records:
            size += len(body)
            if found and size > limit_bytes:
                break
            found.append((number, body))
        return found

    def acknowledge(self, number: int) -> None:
        """Forgets every record up to and including `number`."""
        while self._records and self._records[0][0] <= number:
            self._bytes -= len(self._records.popleft()[1])

    def close(self) -> None:
        """Nothing to close."""
