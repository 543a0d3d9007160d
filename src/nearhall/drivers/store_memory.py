"""The hub's store in memory: for tests, rehearsals and hubs that need not outlive their process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import uuid4

from nearhall.ports.store import Conflict, SiteRow, Versioned
from nearhall.wire.telemetry import Record


class MemoryStore:
    """Everything in dictionaries; the same contract as the SQLite store."""

    def __init__(self) -> None:
        self.hub_id = uuid4().hex
        self._records: dict[tuple[str, str, int], Record] = {}
        self._acknowledged: dict[tuple[str, str], int] = {}
        self._documents: dict[tuple[str, str], Versioned] = {}
        self._sites: dict[str, SiteRow] = {}

    def add(self, site: str, outbox_id: str, records: Sequence[tuple[int, Record]]) -> int:
        """Stores records by number; gives how far the row is whole."""
        known = self.acknowledged(site, outbox_id)
        for number, record in sorted(records, key=lambda numbered: numbered[0]):
            if number > known:
                self._records[site, outbox_id, number] = record
                known = number
        self._acknowledged[site, outbox_id] = known
        return known

    def acknowledged(self, site: str, outbox_id: str) -> int:
        """How far the row is whole; 0 for an unknown outbox."""
        return self._acknowledged.get((site, outbox_id), 0)

    def records(self, start_s: float, end_s: float, *, site: str | None = None) -> Iterator[tuple[str, Record]]:
        """Records whose window overlaps the period, by site, then by time."""
        rows = [
            (name, record)
            for (name, _, _), record in self._records.items()
            if (site is None or name == site) and record.start_s < end_s and record.end_s > start_s
        ]
        yield from sorted(rows, key=lambda row: (row[0], row[1].start_s))

    def span(self) -> tuple[float, float] | None:
        """Start of the first record and end of the last; None without records."""
        if not self._records:
            return None
        records = self._records.values()
        return min(record.start_s for record in records), max(record.end_s for record in records)

    def forget_before(self, moment_s: float) -> int:
        """Deletes records that ended before a moment; gives how many."""
        old = [key for key, record in self._records.items() if record.end_s < moment_s]
        for key in old:
            del self._records[key]
        return len(old)

    def read(self, site: str, half: str) -> Versioned | None:
        """The half as it stands."""
        return self._documents.get((site, half))

    def write(self, site: str, half: str, document: bytes, *, expected: int | None, now_s: float) -> Versioned:
        """Replaces the half, or raises Conflict."""
        present = self._documents.get((site, half))
        version = 0 if present is None else present.version
        if expected is not None and expected != version:
            raise Conflict(f"version {version} stands, {expected} was expected")
        written = Versioned(version=version + 1, document=document, changed_s=now_s)
        self._documents[site, half] = written
        return written

    def seen(self, row: SiteRow) -> None:
        """Inserts or updates a site."""
        before = self._sites.get(row.site)
        first = row.first_seen_s if before is None else before.first_seen_s
        self._sites[row.site] = SiteRow(
            site=row.site,
            first_seen_s=first,
            last_seen_s=row.last_seen_s,
            software=row.software,
            boot_id=row.boot_id,
            about=row.about,
        )

    def sites(self) -> Sequence[SiteRow]:
        """All sites, by name."""
        return [self._sites[name] for name in sorted(self._sites)]

    def close(self) -> None:
        """Nothing is open."""
