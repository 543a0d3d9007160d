"""The hub's store in one SQLite file (WAL), through SQLAlchemy Core, so that another engine is another URL.

What was acknowledged is on the disk: synchronous=FULL, one transaction a batch.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from nearhall.core.errors import InputError, TemporaryError
from nearhall.ports.store import Conflict, SiteRow, Versioned
from nearhall.wire.telemetry import Record

SCHEMA_VERSION = 1
BUSY_S = 5.0
"""How long a call waits for another process (a report) to finish; then the caller is told and tries again."""
PAGE = 500
"""Records fetched at once while reading a period: a few megabytes, and the lock is held for milliseconds."""
FORGET_ROWS = 5000
"""Deleted in one transaction, so that a batch from a site waits for a fraction of a second at most."""
MAGIC = b"SQLite format 3\0"

_tables = sa.MetaData()
_facts = sa.Table("facts", _tables, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
_records = sa.Table(
    "records",
    _tables,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("outbox_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("start_s", sa.Float, nullable=False),
    sa.Column("end_s", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("records_by_time", "site", "start_s"),
)
_outboxes = sa.Table(
    "outboxes",
    _tables,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("outbox_id", sa.Text, primary_key=True),
    sa.Column("acknowledged", sa.Integer, nullable=False),
)
_documents = sa.Table(
    "documents",
    _tables,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("half", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("changed_s", sa.Float, nullable=False),
)
_sites = sa.Table(
    "sites",
    _tables,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("first_seen_s", sa.Float, nullable=False),
    sa.Column("last_seen_s", sa.Float, nullable=False),
    sa.Column("software", sa.Text, nullable=False),
    sa.Column("boot_id", sa.Text, nullable=False),
    sa.Column("about", sa.LargeBinary, nullable=False),
)
_decoder = msgspec.json.Decoder(Record)


class SqliteStore:
    """One file, one connection, one call at a time; the caller runs it beside its event loop."""

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        """Opens or makes the file; raises TemporaryError when it cannot be opened or is of a newer schema."""
        self._lock = threading.Lock()
        self._engine = sa.create_engine(
            f"sqlite:///{path}", poolclass=StaticPool, connect_args={"timeout": busy_s, "check_same_thread": False}
        )
        listen(self._engine, "connect", _prepare)
        listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(nearhall_writes=True)
        try:
            with self._writing.begin() as connection:
                _tables.create_all(connection)
                version = int(self._fact(connection, "schema_version", str(SCHEMA_VERSION)))
                self.hub_id = self._fact(connection, "hub_id", uuid4().hex)
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise TemporaryError(f"the hub's store {path} cannot be opened: {_plain(error)}") from error
        if version > SCHEMA_VERSION:
            self._engine.dispose()
            raise TemporaryError(f"the hub's store {path} has schema {version}; this program knows {SCHEMA_VERSION}")

    @classmethod
    def open_existing(cls, path: Path) -> SqliteStore:
        """Opens a store that is there, for a report; raises InputError for a file that is none, which it leaves as it is."""
        if not _is_store(path):
            right = "the hub.db of a hub, for example pilot/state/hub/hub.db"
            raise InputError("is no store of a hub", where=str(path), right=right)
        return cls(path)

    def add(self, site: str, outbox_id: str, records: Sequence[tuple[int, Record]]) -> int:
        """Stores records by number in one transaction; gives how far the row is whole."""
        with self._transaction(writes=True) as connection:
            known = self._acknowledged(connection, site, outbox_id)
            rows: list[dict[str, object]] = []
            for number, record in sorted(records, key=lambda numbered: numbered[0]):
                if number > known:
                    body = msgspec.json.encode(record)
                    times = {"start_s": record.start_s, "end_s": record.end_s}
                    rows.append({"site": site, "outbox_id": outbox_id, "number": number, "body": body, **times})
                    known = number
            if rows:
                connection.execute(insert(_records), rows)
            row = insert(_outboxes).values(site=site, outbox_id=outbox_id, acknowledged=known)
            connection.execute(row.on_conflict_do_update(index_elements=["site", "outbox_id"], set_={"acknowledged": known}))
            return known

    def acknowledged(self, site: str, outbox_id: str) -> int:
        """How far the row is whole; 0 for an unknown outbox."""
        with self._transaction() as connection:
            return self._acknowledged(connection, site, outbox_id)

    def records(self, start_s: float, end_s: float, *, site: str | None = None) -> Iterator[tuple[str, Record]]:
        """Records whose window overlaps the period, by site, then by time."""
        key = (_records.c.site, _records.c.start_s, _records.c.outbox_id, _records.c.number)
        query = sa.select(*key, _records.c.body).where(_records.c.start_s < end_s, _records.c.end_s > start_s)
        if site is not None:
            query = query.where(_records.c.site == site)
        query = query.order_by(*key).limit(PAGE)
        # By key, not by offset: what comes in while the period is read neither shifts nor repeats a page.
        page = query
        while True:
            with self._transaction() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                yield str(row.site), _decoder.decode(row.body)
            if len(rows) < PAGE:
                return
            page = query.where(sa.tuple_(*key) > sa.tuple_(*(sa.literal(value) for value in rows[-1][:-1])))

    def span(self) -> tuple[float, float] | None:
        """Start of the first record and end of the last; None without records."""
        with self._transaction() as connection:
            first, last = connection.execute(sa.select(sa.func.min(_records.c.start_s), sa.func.max(_records.c.end_s))).one()
        return None if first is None else (float(first), float(last))

    def forget_before(self, moment_s: float) -> int:
        """Deletes records that ended before a moment; gives how many. Numbers stay acknowledged."""
        gone = 0
        while True:
            row: sa.ColumnClause[int] = sa.literal_column("rowid", sa.Integer)
            old = sa.select(row).select_from(_records).where(_records.c.end_s < moment_s)
            statement = sa.delete(_records).where(row.in_(old.limit(FORGET_ROWS)))
            with self._transaction(writes=True) as connection:
                deleted = connection.execute(statement).rowcount
            gone += deleted
            if deleted < FORGET_ROWS:
                return gone

    def read(self, site: str, half: str) -> Versioned | None:
        """The half as it stands."""
        with self._transaction() as connection:
            return self._read(connection, site, half)

    def write(self, site: str, half: str, document: bytes, *, expected: int | None, now_s: float) -> Versioned:
        """Replaces the half, or raises Conflict."""
        with self._transaction(writes=True) as connection:
            present = self._read(connection, site, half)
            version = 0 if present is None else present.version
            if expected is not None and expected != version:
                raise Conflict(f"version {version} stands, {expected} was expected")
            values = {"version": version + 1, "document": document, "changed_s": now_s}
            row = insert(_documents).values(site=site, half=half, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["site", "half"], set_=values))
            return Versioned(version=version + 1, document=document, changed_s=now_s)

    def seen(self, row: SiteRow) -> None:
        """Inserts or updates a site."""
        fresh = {"last_seen_s": row.last_seen_s, "software": row.software, "boot_id": row.boot_id, "about": row.about}
        with self._transaction(writes=True) as connection:
            statement = insert(_sites).values(site=row.site, first_seen_s=row.first_seen_s, **fresh)
            connection.execute(statement.on_conflict_do_update(index_elements=["site"], set_=fresh))

    def sites(self) -> Sequence[SiteRow]:
        """All sites, by name."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_sites).order_by(_sites.c.site)).mappings().all()
        return [SiteRow(**row) for row in rows]

    def close(self) -> None:
        """Closes the file."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Generator[Connection]:
        """One transaction, alone; the engine's faults are told as ours."""
        engine = self._writing if writes else self._engine
        try:
            with self._lock, engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise TemporaryError(
                f"the hub's store {'cannot keep this' if writes else 'does not answer'}: {_plain(error)}"
            ) from error

    @staticmethod
    def _acknowledged(connection: Connection, site: str, outbox_id: str) -> int:
        query = sa.select(_outboxes.c.acknowledged).where(_outboxes.c.site == site, _outboxes.c.outbox_id == outbox_id)
        return int(connection.execute(query).scalar() or 0)

    @staticmethod
    def _read(connection: Connection, site: str, half: str) -> Versioned | None:
        query = sa.select(_documents).where(_documents.c.site == site, _documents.c.half == half)
        row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return Versioned(version=row["version"], document=row["document"], changed_s=row["changed_s"])

    @staticmethod
    def _fact(connection: Connection, name: str, first: str) -> str:
        connection.execute(insert(_facts).values(name=name, value=first).on_conflict_do_nothing())
        return str(connection.execute(sa.select(_facts.c.value).where(_facts.c.name == name)).scalar_one())


def _prepare(connection: Any, _: object) -> None:
    """Durable on commit; transactions begin when we say so, not when the driver sees the first write."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """A writer takes its lock at once, so that it cannot find its snapshot outdated halfway."""
    writes = connection.get_execution_options().get("nearhall_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_store(path: Path) -> bool:
    """Whether a file is a hub's store, without writing a byte."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return False
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as database:
            tables = {str(row[0]) for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (OSError, sqlite3.Error):
        return False
    return set(_tables.tables) <= tables


def _plain(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
