"""One program at a time in a folder: the kernel's own lock on the folder itself (flock(2)).

On the folder and on no file in it, since a full disk takes no new file. The kernel lets go when the process ends, however it
ends: nothing is left behind, and a child does not inherit it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from nearhall.core.errors import InputError, TemporaryError

LOCKS = Path("/proc/locks")


class FolderLock:
    """Holds a folder from `hold` to `close`."""

    def __init__(self, folder: Path, *, program: str, right: str) -> None:
        """`program` is what there may be one of (`agent`); `right` is what a person should do who starts a second one."""
        self._folder = folder
        self._program = program
        self._right = right
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Takes it, or has it already; raises InputError that names who holds it, TemporaryError where there is no such folder.

        A disk may be mounted there later: then it is another folder, and is taken anew. A file system that locks nothing (some
        network ones) is let be: what would be refused for it is a site that has always run there.
        """
        try:
            opened = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise TemporaryError(f"{self._folder} cannot be opened ({error.strerror})") from error
        if self._descriptor is not None and os.path.sameopenfile(opened, self._descriptor):
            os.close(opened)
            return
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = holder_of(os.fstat(opened))
            os.close(opened)
            who = f"another {self._program} runs on this folder" + ("" if holder is None else f" (process {holder})")
            raise InputError(who, where=str(self._folder), right=self._right) from error
        except OSError:
            pass
        self.close()
        self._descriptor = opened

    def close(self) -> None:
        """Lets it go; safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def holder_of(found: os.stat_result, locks: Path = LOCKS) -> int | None:
    """The process that holds the lock (proc(5), /proc/locks); None where the kernel does not tell."""
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = [line.split() for line in locks.read_text().splitlines()]
    except OSError:
        return None
    pids = [line[4] for line in lines if line[1:2] == ["FLOCK"] and line[5:6] == [file]]
    return next((int(pid) for pid in pids if pid.isdigit() and pid != "0"), None)
