"""What the hub remembers. Two implementations ship: SQLite (WAL) and memory; both pass the same contract tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nearhall.wire.telemetry import Record


class Conflict(Exception):  # noqa: N818 (an expected outcome: the caller reads again and retries)
    """The document's version is not the one the caller expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """A whole document and its version; versions start at 1 and grow by one."""

    version: int
    document: bytes
    changed_s: float


class TelemetryStore(Protocol):
    """Telemetry of all sites."""

    def add(self, site: str, outbox_id: str, records: Sequence[tuple[int, Record]]) -> int:
        """Stores records by number; one that is already there is passed over. Durable on return.

        Returns the highest number such that every record up to it is stored or was dropped by the site.
        """
        ...

    def acknowledged(self, site: str, outbox_id: str) -> int:
        """The number `add` would return for no records; 0 for an unknown outbox."""
        ...

    def records(self, start_s: float, end_s: float, *, site: str | None = None) -> Iterator[tuple[str, Record]]:
        """(site, record) for records whose window overlaps [start_s, end_s), by site, then by time."""
        ...

    def span(self) -> tuple[float, float] | None:
        """Start of the first record and end of the last; None without records."""
        ...

    def forget_before(self, moment_s: float) -> int:
        """Deletes records that ended before a moment and gives how many; their numbers stay acknowledged."""
        ...


class ShadowStore(Protocol):
    """The two halves of each site's shadow document: `desired` (the hub's) and `reported` (the site's)."""

    def read(self, site: str, half: str) -> Versioned | None:
        """The half as it stands."""
        ...

    def write(self, site: str, half: str, document: bytes, *, expected: int | None, now_s: float) -> Versioned:
        """Replaces the half. `expected` is the version the caller read (0: none yet), None to overwrite; raises Conflict."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRow:
    """A site that has said hello."""

    site: str
    first_seen_s: float
    last_seen_s: float
    software: str
    boot_id: str
    about: bytes
    """The site's self-description (JSON): class, jurisdiction, workloads, meters, host, link."""


class RegistryStore(Protocol):
    """Which sites exist."""

    def seen(self, row: SiteRow) -> None:
        """Inserts or updates a site; `first_seen_s` is kept."""
        ...

    def sites(self) -> Sequence[SiteRow]:
        """All sites, by name."""
        ...


class Store(TelemetryStore, ShadowStore, RegistryStore, Protocol):
    """Everything the hub remembers."""

    def close(self) -> None:
        """Closes files; safe to call twice."""
        ...
