"""What every outbox keeps to; each contract test runs against memory and SQLite. Then what only a disk can suffer."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import TemporaryError
from nearhall.drivers.outbox_memory import MemoryOutbox
from nearhall.drivers.outbox_sqlite import SqliteOutbox

PLENTY = 2**20
Box = MemoryOutbox | SqliteOutbox


def _sqlite(folder: Path, bytes_max: int = PLENTY) -> SqliteOutbox:
    return SqliteOutbox(folder / "outbox.db", bytes_max=bytes_max)


@pytest.fixture(params=["memory", "sqlite"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    made: Box = MemoryOutbox(bytes_max=100) if request.param == "memory" else _sqlite(tmp_path, bytes_max=100)
    yield made
    made.close()


def _numbers(box: Box) -> list[int]:
    return [number for number, _ in box.pending(PLENTY)]


def test_a_new_one_is_empty(box: Box):
    assert (box.next_number, box.spooled_bytes, box.dropped, box.kept()) == (1, 0, 0, None)
    assert not box.pending(PLENTY)
    assert box.outbox_id


def test_numbers_start_at_1_and_have_no_gaps(box: Box):
    assert [box.append(b"%d" % i) for i in range(5)] == [1, 2, 3, 4, 5]
    assert box.next_number == 6
    assert list(box.pending(PLENTY)) == [(i + 1, b"%d" % i) for i in range(5)]


def test_acknowledging_forgets_up_to_the_number_and_never_gives_it_again(box: Box):
    for _ in range(3):
        box.append(b"1234")
    box.acknowledge(2)
    assert (_numbers(box), box.spooled_bytes) == ([3], 4)
    box.acknowledge(2)
    box.acknowledge(3)
    assert (_numbers(box), box.spooled_bytes) == ([], 0)
    assert box.append(b"x") == 4


def test_pending_keeps_to_the_bytes_asked_for_but_gives_at_least_one(box: Box):
    for _ in range(3):
        box.append(b"x" * 30)
    assert [number for number, _ in box.pending(60)] == [1, 2]
    assert [number for number, _ in box.pending(1)] == [1]


def test_beyond_its_bound_the_oldest_go_and_are_counted(box: Box):
    for _ in range(5):
        box.append(b"x" * 30)
    assert (_numbers(box), box.dropped, box.spooled_bytes) == ([3, 4, 5], 2, 90)


def test_a_record_above_the_bound_is_kept_alone(box: Box):
    box.append(b"small")
    box.append(b"x" * 200)
    assert (_numbers(box), box.dropped) == ([2], 1)


def test_the_last_keep_counts(box: Box):
    box.append(b"a", keep=b"one")
    box.append(b"b")
    assert box.kept() == b"one"
    box.append(b"c", keep=b"two")
    assert box.kept() == b"two"


Step = tuple[str, int]
STEPS = st.lists(st.tuples(st.sampled_from(["append", "acknowledge", "open again"]), st.integers(0, 60)), max_size=25)


@given(steps=STEPS)
def test_both_tell_the_same_story_whatever_happens(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]):
    folder = tmp_path_factory.mktemp("box")
    memory, disk = MemoryOutbox(bytes_max=100), _sqlite(folder, bytes_max=100)
    name = disk.outbox_id
    try:
        for step, size in steps:
            if step == "append":
                assert memory.append(b"x" * size, keep=b"%d" % size) == disk.append(b"x" * size, keep=b"%d" % size)
            elif step == "acknowledge":
                memory.acknowledge(size)
                disk.acknowledge(size)
            else:
                disk.close()
                disk = _sqlite(folder, bytes_max=100)
            assert list(memory.pending(70)) == list(disk.pending(70))
            assert (memory.next_number, memory.spooled_bytes, memory.dropped) == (
                disk.next_number,
                disk.spooled_bytes,
                disk.dropped,
            )
            assert memory.kept() == disk.kept()
        assert disk.outbox_id == name
    finally:
        disk.close()


def test_memory_can_be_told_to_be_full():
    box = MemoryOutbox(bytes_max=PLENTY)
    box.full = True
    with pytest.raises(TemporaryError):
        box.append(b"x", keep=b"k")
    assert (box.next_number, box.kept()) == (1, None)
    box.full = False
    assert box.append(b"x") == 1


def test_a_full_disk_takes_nothing_and_half_of_nothing(tmp_path: Path):
    box = _sqlite(tmp_path)
    box.append(b"first", keep=b"one")
    database = box._db
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(TemporaryError, match="full"):
        box.append(b"x" * 100_000, keep=b"two")
    assert list(box.pending(PLENTY)) == [(1, b"first")]
    assert (box.kept(), box.next_number, box.spooled_bytes) == (b"one", 2, 5)
    database.execute("PRAGMA max_page_count = 1000000")
    assert box.append(b"x" * 100_000, keep=b"two") == 2
    box.close()
    again = _sqlite(tmp_path)
    assert (again.kept(), _numbers(again), again.next_number) == (b"two", [1, 2], 3)
    again.close()


def _spoil_first_page(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def _spoil_a_later_page(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[4096:] = b"\xa5" * (len(body) - 4096)
    path.write_bytes(body)


@pytest.mark.parametrize("spoil", [_spoil_first_page, _spoil_a_later_page])
def test_a_damaged_file_is_moved_aside_and_told(tmp_path: Path, spoil: object):
    first = _sqlite(tmp_path)
    for _ in range(50):
        first.append(b"x" * 1000)
    name = first.outbox_id
    first.close()
    spoil(tmp_path / "outbox.db")  # type: ignore[operator]
    told: list[str] = []
    second = SqliteOutbox(tmp_path / "outbox.db", bytes_max=PLENTY, tell=told.append)
    assert second.outbox_id != name
    assert second.append(b"goes on") == 1
    assert (tmp_path / "outbox.damaged").exists()
    assert len(told) == 1
    assert "damaged" in told[0]
    second.close()


def test_a_sound_file_is_not_moved(tmp_path: Path):
    first = _sqlite(tmp_path)
    first.append(b"x")
    first.close()
    told: list[str] = []
    second = SqliteOutbox(tmp_path / "outbox.db", bytes_max=PLENTY, tell=told.append)
    assert (second.outbox_id, told) == (first.outbox_id, [])
    second.close()


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path):
    with pytest.raises(TemporaryError, match="cannot be opened"):
        SqliteOutbox(tmp_path / "missing" / "outbox.db", bytes_max=PLENTY)


def test_a_closed_outbox_says_so_instead_of_breaking(tmp_path: Path):
    box = _sqlite(tmp_path)
    box.append(b"x")
    box.close()
    for call in (lambda: box.append(b"y"), lambda: box.acknowledge(1), lambda: box.pending(PLENTY)):
        with pytest.raises(TemporaryError):
            call()


def test_it_syncs_every_record_to_the_disk(tmp_path: Path):
    box = _sqlite(tmp_path)
    assert box._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert box._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    box.close()


APPEND_FOR_EVER = """
import sys
from pathlib import Path
from nearhall.drivers.outbox_sqlite import SqliteOutbox
box = SqliteOutbox(Path(sys.argv[1]), bytes_max=2**30)
while True:
    number = box.next_number
    assert box.append(b"%d" % number, keep=b"%d" % number) == number
    print(number, flush=True)
"""


def test_a_kill_9_loses_nothing_that_append_returned(tmp_path: Path):
    path = tmp_path / "outbox.db"
    command = [sys.executable, "-c", APPEND_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    box = SqliteOutbox(path, bytes_max=2**30)
    numbers = _numbers(box)
    assert numbers[: len(told)] == told == list(range(1, len(told) + 1))
    assert box.kept() == b"%d" % numbers[-1], "record and keep are one transaction"
    assert box.next_number == numbers[-1] + 1
    box.close()
    with sqlite3.connect(path) as check:
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
