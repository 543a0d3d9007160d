"""What every store of the hub keeps to; each test runs against memory and SQLite."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearhall.core.errors import InputError, TemporaryError
from nearhall.drivers.store_memory import MemoryStore
from nearhall.drivers.store_sqlite import PAGE, SqliteStore
from nearhall.ports.store import Conflict, SiteRow, Store
from nearhall.wire.telemetry import MeterWindow, Record, WorkloadStats


def record(start_s: float, **more: object) -> Record:
    return Record(start_s=start_s, end_s=start_s + 2.0, boot_id="b", **more)  # type: ignore[arg-type]


def seen(site: str, at_s: float, about: bytes = b"{}") -> SiteRow:
    return SiteRow(site=site, first_seen_s=at_s, last_seen_s=at_s, software="s", boot_id="b", about=about)


def sqlite_store(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "hub.db")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else sqlite_store(tmp_path)
    yield made
    made.close()


def starts(store: Store, start_s: float = 0.0, end_s: float = 1e12, site: str | None = None) -> list[tuple[str, float]]:
    return [(name, found.start_s) for name, found in store.records(start_s, end_s, site=site)]


def test_a_record_comes_back_as_it_was(store: Store):
    full = record(
        10.0,
        workloads={"video": WorkloadStats(local=3, rejected={"queue_full": 1})},
        meters={"feed": MeterWindow(virtual=True, kind="simulated", power_w=240.5, register_kwh=[1.0, 1.1])},
    )
    assert store.add("shop-01", "o", [(1, full)]) == 1
    assert list(store.records(0, 100)) == [("shop-01", full)]


def test_adding_twice_stores_once(store: Store):
    batch = [(1, record(0)), (2, record(2))]
    assert store.add("a", "o", batch) == 2
    assert store.add("a", "o", batch) == 2
    assert store.add("a", "o", [(2, record(2)), (3, record(4))]) == 3
    assert starts(store) == [("a", 0.0), ("a", 2.0), ("a", 4.0)]


@pytest.mark.parametrize(
    ("batches", "acknowledged"),
    [
        pytest.param([[]], 0, id="nothing"),
        pytest.param([[1, 2], [], [3]], 3, id="an empty batch changes nothing"),
        pytest.param([[1, 2], [7, 8]], 8, id="the site dropped 3 to 6"),
        pytest.param([[5]], 5, id="a new hub begins in the middle"),
        pytest.param([[1, 2, 3], [2]], 3, id="an old batch again"),
    ],
)
def test_how_far_the_row_is_whole(store: Store, batches: list[list[int]], acknowledged: int):
    for numbers in batches:
        store.add("a", "o", [(number, record(2.0 * number)) for number in numbers])
    assert store.acknowledged("a", "o") == acknowledged


def test_a_new_outbox_begins_anew_and_sites_do_not_mix(store: Store):
    store.add("a", "first", [(1, record(0)), (2, record(2))])
    assert store.acknowledged("a", "second") == 0
    assert store.acknowledged("b", "first") == 0
    assert store.add("a", "second", [(1, record(4))]) == 1
    assert store.add("b", "first", [(1, record(1))]) == 1
    assert starts(store) == [("a", 0.0), ("a", 2.0), ("a", 4.0), ("b", 1.0)]


def test_records_of_a_period_by_site_then_time(store: Store):
    store.add("b", "o", [(1, record(0)), (2, record(2)), (3, record(4))])
    store.add("a", "late", [(1, record(6))])
    store.add("a", "early", [(1, record(2))])
    assert starts(store) == [("a", 2.0), ("a", 6.0), ("b", 0.0), ("b", 2.0), ("b", 4.0)]
    assert starts(store, site="b") == [("b", 0.0), ("b", 2.0), ("b", 4.0)]
    # [3, 4): the window 2..4 overlaps, 4..6 begins too late, 0..2 is over.
    assert starts(store, 3.0, 4.0, site="b") == [("b", 2.0)]
    assert starts(store, 2.0, 2.0 + 1e-9, site="b") == [("b", 2.0)]


def test_what_comes_in_while_a_period_is_read_shifts_nothing(store: Store):
    store.add("b", "o", [(n, record(2.0 * n)) for n in range(1, PAGE + 10)])
    rows = store.records(0, 1e12)
    first = next(rows)
    store.add("a", "o", [(1, record(0.5))])
    got = [first, *rows]
    assert [r.start_s for name, r in got if name == "b"] == [2.0 * n for n in range(1, PAGE + 10)]


def test_the_span_is_of_all_records(store: Store):
    assert store.span() is None
    store.add("a", "o", [(1, record(10)), (2, record(12))])
    store.add("b", "o", [(1, record(4))])
    assert store.span() == (4.0, 14.0)


def test_forgotten_records_stay_acknowledged(store: Store):
    store.add("a", "o", [(n, record(2.0 * n)) for n in range(1, 6)])
    assert store.forget_before(8.0) == 2
    assert starts(store) == [("a", 6.0), ("a", 8.0), ("a", 10.0)]
    assert store.acknowledged("a", "o") == 5
    assert store.add("a", "o", [(1, record(2))]) == 5
    assert len(starts(store)) == 3
    assert store.forget_before(0.0) == 0


def test_a_document_is_replaced_whole_and_only_by_who_read_it(store: Store):
    assert store.read("a", "desired") is None
    first = store.write("a", "desired", b"1", expected=0, now_s=5.0)
    assert (first.version, first.document, first.changed_s) == (1, b"1", 5.0)
    with pytest.raises(Conflict):
        store.write("a", "desired", b"2", expected=0, now_s=6.0)
    with pytest.raises(Conflict):
        store.write("a", "desired", b"2", expected=2, now_s=6.0)
    assert store.read("a", "desired") == first
    assert store.write("a", "desired", b"2", expected=1, now_s=6.0).version == 2
    assert store.write("a", "desired", b"3", expected=None, now_s=7.0).version == 3
    assert store.read("a", "reported") is None
    assert store.read("b", "desired") is None


def test_a_site_keeps_the_day_it_was_first_seen(store: Store):
    store.seen(seen("b", 10.0))
    store.seen(seen("a", 11.0))
    store.seen(seen("b", 20.0, about=b'{"class":"micro"}'))
    assert [(row.site, row.first_seen_s, row.last_seen_s, row.about) for row in store.sites()] == [
        ("a", 11.0, 11.0, b"{}"),
        ("b", 10.0, 20.0, b'{"class":"micro"}'),
    ]


def test_closing_twice_is_no_fault(store: Store):
    store.close()
    store.close()


Step = tuple[str, str, list[int]]
_STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]), st.lists(st.integers(1, 30), max_size=6, unique=True)),
    max_size=12,
)


@pytest.mark.parametrize("make", [lambda folder: MemoryStore(), sqlite_store], ids=["memory", "sqlite"])
@given(steps=_STEPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_batches_keeps_each_number_once(
    make: Callable[[Path], Store], tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
):
    """The model: of each outbox the numbers above all that came before are kept, once, and the highest is acknowledged."""
    store = make(tmp_path_factory.mktemp("store"))
    kept: dict[tuple[str, str], list[int]] = {}
    for site, outbox, numbers in steps:
        known = kept.setdefault((site, outbox), [])
        top = max(known, default=0)
        known += [number for number in sorted(numbers) if number > top]
        got = store.add(site, outbox, [(number, record(float(number))) for number in numbers])
        assert got == max(known, default=0) == store.acknowledged(site, outbox)
    for site in ("a", "b"):
        expected = sorted(float(number) for (name, _), numbers in kept.items() if name == site for number in numbers)
        assert [start for _, start in starts(store, site=site)] == expected
    store.close()


# --- SQLite alone ---------------------------------------------------------------------------------------------------------


def test_everything_is_there_after_a_restart(tmp_path: Path):
    before = sqlite_store(tmp_path)
    before.add("a", "o", [(1, record(0)), (2, record(2))])
    before.write("a", "desired", b"{}", expected=0, now_s=1.0)
    before.seen(seen("a", 1.0))
    before.close()
    after = sqlite_store(tmp_path)
    assert after.hub_id == before.hub_id
    assert after.acknowledged("a", "o") == 2
    assert starts(after) == [("a", 0.0), ("a", 2.0)]
    assert after.read("a", "desired") is not None
    assert [row.site for row in after.sites()] == ["a"]
    after.close()


def test_a_new_file_is_a_new_hub(tmp_path: Path):
    one, other = SqliteStore(tmp_path / "one.db"), SqliteStore(tmp_path / "other.db")
    assert one.hub_id != other.hub_id
    one.close()
    other.close()


def test_commits_are_flushed_to_the_disk(tmp_path: Path):
    store = sqlite_store(tmp_path)
    with store._engine.connect() as connection:  # the promise hangs on these two, so they are looked at
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    store.close()


_WRITER = """
import json, sys
from pathlib import Path
from nearhall.drivers.store_sqlite import SqliteStore
from nearhall.wire.telemetry import Record
store = SqliteStore(Path(sys.argv[1]))
number = 0
while True:
    batch = [(number + k, Record(start_s=2.0 * (number + k), end_s=2.0 * (number + k) + 2, boot_id="b")) for k in (1, 2, 3)]
    number = store.add("a", "o", batch)
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path):
    path = tmp_path / "hub.db"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = 0
        while told < 60:
            told = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = [line for line in writer.stdout.read().splitlines() if line]
    told = int(rest[-1]) if rest else told
    after = SqliteStore(path)
    kept = after.acknowledged("a", "o")
    assert kept >= told
    assert kept % 3 == 0, "a batch is kept whole or not at all"
    assert [start for _, start in starts(after)] == [2.0 * n for n in range(1, kept + 1)]
    after.close()


def test_a_store_of_a_newer_program_is_left_alone(tmp_path: Path):
    sqlite_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "hub.db") as database:
        database.execute("UPDATE facts SET value = '99' WHERE name = 'schema_version'")
    database.close()
    with pytest.raises(TemporaryError, match="schema 99"):
        sqlite_store(tmp_path)


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "hub.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(TemporaryError, match="cannot be opened: file is not a database"):
        sqlite_store(tmp_path)


def test_a_locked_store_is_a_passing_fault(tmp_path: Path):
    store = SqliteStore(tmp_path / "hub.db", busy_s=0.05)
    holder = sqlite3.connect(tmp_path / "hub.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TemporaryError, match="locked"):
        store.add("a", "o", [(1, record(0))])
    assert store.acknowledged("a", "o") == 0
    holder.execute("ROLLBACK")
    holder.close()
    assert store.add("a", "o", [(1, record(0))]) == 1
    store.close()


@pytest.mark.parametrize("content", [None, b"", b"text", "other"], ids=["absent", "empty", "text", "another program's"])
def test_a_report_opens_nothing_but_a_store_and_changes_nothing(tmp_path: Path, content: bytes | str | None):
    path = tmp_path / "hub.db"
    if content == "other":
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE mine (x)")
        database.close()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(InputError, match=r"is no store of a hub"):
        SqliteStore.open_existing(path)
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_report_opens_a_store_that_a_hub_holds_open(tmp_path: Path):
    hub = sqlite_store(tmp_path)
    hub.add("a", "o", [(1, record(0))])
    reader = SqliteStore.open_existing(tmp_path / "hub.db")
    assert starts(reader) == [("a", 0.0)]
    assert hub.add("a", "o", [(2, record(2))]) == 2
    assert len(starts(reader)) == 2
    reader.close()
    hub.close()


def test_a_kept_record_is_plain_json(tmp_path: Path):
    store = sqlite_store(tmp_path)
    store.add("a", "o", [(1, record(0))])
    store.close()
    database = sqlite3.connect(tmp_path / "hub.db")
    (body,) = database.execute("SELECT body FROM records").fetchone()
    database.close()
    assert json.loads(body) == {"start_s": 0, "end_s": 2.0, "boot_id": "b"}
