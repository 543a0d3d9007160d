"""One program at a time in a folder, by the kernel's own lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nearhall.core.errors import InputError, TemporaryError
from nearhall.drivers.folder_lock import FolderLock, holder_of


def _lock(folder: Path) -> FolderLock:
    return FolderLock(folder, program="agent", right="end that one")


def test_a_second_holder_is_told_who_the_first_is_and_may_come_after_it(tmp_path: Path):
    first, second = _lock(tmp_path), _lock(tmp_path)
    first.hold()
    first.hold()  # has it already
    expected = rf"^{tmp_path}: another agent runs on this folder \(process {os.getpid()}\); end that one$"
    with pytest.raises(InputError, match=expected):
        second.hold()
    first.close()
    second.hold()
    second.close()
    second.close()
    assert list(tmp_path.iterdir()) == [], "nothing lies in the folder for it"


def test_folders_beside_and_in_each_other_are_not_in_the_way(tmp_path: Path):
    (tmp_path / "n2").mkdir()
    first, second = _lock(tmp_path), _lock(tmp_path / "n2")
    first.hold()
    second.hold()
    first.close()
    second.close()


def test_a_folder_that_comes_later_or_is_another_one_by_now_is_taken_then(tmp_path: Path):
    place = tmp_path / "disk"
    lock, other = _lock(place), _lock(place)
    with pytest.raises(TemporaryError, match="disk cannot be opened"):
        lock.hold()
    place.mkdir()
    lock.hold()
    place.rename(tmp_path / "old")
    place.mkdir()
    lock.hold()
    with pytest.raises(InputError, match="another agent"):
        other.hold()
    _lock(tmp_path / "old").hold()  # was let go
    lock.close()


@pytest.mark.parametrize(
    ("line", "holder"),
    [
        ("1: FLOCK  ADVISORY  WRITE 1234 {file} 0 EOF", 1234),
        ("1: FLOCK  ADVISORY  WRITE 0 {file} 0 EOF", None),
        ("1: POSIX  ADVISORY  WRITE 1234 {file} 0 EOF", None),
        ("1: FLOCK  ADVISORY  WRITE 1234 00:00:1 0 EOF", None),
        ("1: -> FLOCK  ADVISORY  WRITE 1234 {file} 0 EOF", None),
        ("", None),
    ],
)
def test_the_holder_is_read_from_the_kernels_list(tmp_path: Path, line: str, holder: int | None):
    found = tmp_path.stat()
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    locks = tmp_path / "locks"
    locks.write_text(f"7: POSIX  ADVISORY  READ 9 00:19:3 0 EOF\n{line.format(file=file)}\n")
    assert holder_of(found, locks) == holder


def test_a_kernel_that_tells_nothing_leaves_the_holder_unknown(tmp_path: Path):
    assert holder_of(tmp_path.stat(), tmp_path / "none") is None
