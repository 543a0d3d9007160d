"""An outbox whose file cannot be made yet: the disk was full, or not there, when the agent started. Each use tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from nearhall.core.errors import TemporaryError
from nearhall.ports.outbox import Outbox


class PatientOutbox:
    """Keeps the outbox's contract; until `make` has given one, it has no name, holds nothing, and takes no record."""

    def __init__(self, make: Callable[[], Outbox]) -> None:
        """Tries once. `make` raises TemporaryError while it cannot."""
        self._make = make
        self._made: Outbox | None = None
        self._lock = threading.Lock()
        self.why = ""
        """Why there is none yet; empty once there is."""
        try:
            self._opened()
        except TemporaryError as error:
            self.why = str(error)

    @property
    def outbox_id(self) -> str:
        """Names this queue; empty until it is open."""
        return self._made.outbox_id if self._made is not None else ""

    @property
    def next_number(self) -> int:
        """The number that the next record will get, as far as is known."""
        return self._made.next_number if self._made is not None else 1

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait."""
        return self._made.spooled_bytes if self._made is not None else 0

    @property
    def dropped(self) -> int:
        """Records lost to the byte bound."""
        return self._made.dropped if self._made is not None else 0

    def append(self, record: bytes, *, keep: bytes | None = None) -> int:
        """Adds one record; raises TemporaryError while there is no file or no room."""
        return self._opened().append(record, keep=keep)

    def kept(self) -> bytes | None:
        """The last `keep`; raises TemporaryError while nobody can know."""
        return self._opened().kept()

    def pending(self, limit_bytes: int) -> Sequence[tuple[int, bytes]]:
        """The oldest records; none while there is no file."""
        return self._made.pending(limit_bytes) if self._made is not None else []

    def acknowledge(self, number: int) -> None:
        """Forgets every record up to and including `number`."""
        if self._made is not None:
            self._made.acknowledge(number)

    def close(self) -> None:
        """Closes the file, if there is one."""
        if self._made is not None:
            self._made.close()

    def _opened(self) -> Outbox:
        with self._lock:
            if self._made is None:
                self._made = self._make()
                self.why = ""
            return self._made
