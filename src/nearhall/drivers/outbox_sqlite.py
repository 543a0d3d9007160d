"""The outbox in one SQLite file (standard library), bounded in bytes.

WAL with synchronous=FULL: a record that `append` returned is on the disk, through a power cut too; a site writes one small record
every two seconds, so the fsync costs nothing that is felt (default settings lost nearly all acknowledged messages of one
broker on power loss, which is why this is not left to a default).
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nearhall.core.errors import TemporaryError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
BUSY_S = 5.0
DAMAGED = "malformed"
"""What SQLite says of a file whose pages do not fit together, and what we say of one that fails its quick check."""


class SqliteOutbox:
    """One site's outbox. Safe to call from one thread at a time or from several."""

    def __init__(self, path: Path, *, bytes_max: int, tell: Callable[[str], None] = lambda _: None) -> None:
        """Opens or makes the file. A file that is no database is moved aside, told, and a new outbox begun."""
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        try:
            self._db = _opened(path)
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                raise TemporaryError(f"the outbox {path} cannot be opened: {error}") from error
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            tell(f"the outbox was damaged; it was moved to {aside.name} and a new one begun")
            self._db = _opened(path)
        try:
            self._outbox_id = self._fact("outbox_id", uuid.uuid4().hex.encode()).decode()
            self._dropped = int(self._fact("dropped", b"0"))
            self._bytes = int(self._db.execute("SELECT COALESCE(SUM(size), 0) FROM records").fetchone()[0])
            row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
            self._last = 0 if row is None else int(row[0])
        except sqlite3.Error as error:
            self._db.close()
            raise TemporaryError(f"the outbox {path} cannot be opened: {error}") from error

    @property
    def outbox_id(self) -> str:
        """Names this queue."""
        return self._outbox_id

    @property
    def dropped(self) -> int:
        """Records lost to the byte bound."""
        return self._dropped

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def next_number(self) -> int:
        """The number that the next record will get; never waits for the disk."""
        return self._last + 1

    def append(self, record: bytes, *, keep: bytes | None = None) -> int:
        """Adds one record durably, with `keep` in the same transaction; drops the oldest beyond the bound.

        Raises TemporaryError when the disk is full; nothing is half-written then.
        """
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    dropped, freed = self._make_room(len(record))
                    number = self._db.execute("INSERT INTO records (size, body) VALUES (?, ?)", (len(record), record)).lastrowid
                    if keep is not None:
                        self._db.execute("INSERT OR REPLACE INTO facts VALUES ('keep', ?)", (keep,))
                    if dropped:
                        value = str(self._dropped + dropped).encode()
                        self._db.execute("INSERT OR REPLACE INTO facts VALUES ('dropped', ?)", (value,))
            except sqlite3.Error as error:
                raise TemporaryError(f"the outbox cannot take a record: {error}") from error
            self._bytes += len(record) - freed
            self._dropped += dropped
            self._last = int(number or 0)
            return self._last

    def kept(self) -> bytes | None:
        """The last `keep`."""
        with self._lock:
            try:
                row = self._db.execute("SELECT value FROM facts WHERE name = 'keep'").fetchone()
            except sqlite3.Error as error:
                raise TemporaryError(f"the outbox cannot be read: {error}") from error
        return None if row is None else bytes(row[0])

    def pending(self, limit_bytes: int) -> Sequence[tuple[int, bytes]]:
        """The oldest records, in order, up to `limit_bytes`, at least one if there is one."""
        found: list[tuple[int, bytes]] = []
        size = 0
        with self._lock:
            try:
                for number, body in self._db.execute("SELECT number, body FROM records ORDER BY number"):
                    size += len(body)
                    if found and size > limit_bytes:
                        break
                    found.append((int(number), bytes(body)))
            except sqlite3.Error as error:
                raise TemporaryError(f"the outbox cannot be read: {error}") from error
        return found

    def acknowledge(self, number: int) -> None:
        """Forgets every record up to and including `number`."""
        with self._lock:
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    query = "SELECT COALESCE(SUM(size), 0) FROM records WHERE number <= ?"
                    freed = int(self._db.execute(query, (number,)).fetchone()[0])
                    self._db.execute("DELETE FROM records WHERE number <= ?", (number,))
            except sqlite3.Error as error:
                raise TemporaryError(f"the outbox cannot forget: {error}") from error
            self._bytes -= freed

    def close(self) -> None:
        """Closes the file."""
        with self._lock, suppress(sqlite3.Error):
            self._db.close()

    def _make_room(self, size: int) -> tuple[int, int]:
        """Deletes the oldest records until `size` more bytes fit; gives how many and how large they were."""
        dropped = freed = 0
        while self._bytes - freed + size > self._bytes_max:
            row = self._db.execute("SELECT number, size FROM records ORDER BY number LIMIT 1").fetchone()
            if row is None:
                break
            self._db.execute("DELETE FROM records WHERE number = ?", (row[0],))
            dropped += 1
            freed += int(row[1])
        return dropped, freed

    def _fact(self, name: str, first: bytes) -> bytes:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return bytes(row[0])
        with self._db:
            self._db.execute("INSERT INTO facts VALUES (?, ?)", (name, first))
        return first


def _damaged(error: sqlite3.Error) -> bool:
    return any(said in str(error) for said in ("not a database", DAMAGED))


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        verdict = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"{DAMAGED}: {verdict}")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database
