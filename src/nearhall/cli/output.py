"""What every command says and how it ends: a summary for people, one JSON object for programs, exit codes 0, 1, 2."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType

from nearhall.core.errors import InputError, NearhallError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def console() -> Console:
    """Where people read: standard error when a program reads standard output is not our guess to make, so standard output."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def notes() -> Console:
    """Where progress and warnings go: standard error, so that `--json` leaves exactly one object on standard output."""
    return Console(stderr=True, highlight=False)


def wide_console() -> Console:
    """For tables that a program reads: as wide as a row takes, so that each stays one line."""
    return Console(highlight=False, width=WIDE)


WIDE = 1000


def emit(summary: RenderableType, data: Mapping[str, Any], *, as_json: bool, screen: Console | None = None) -> None:
    """Prints the summary on `screen`, or standard output; with `--json` one JSON object on standard output."""
    if as_json:
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    else:
        (screen or console()).print(summary)


@contextmanager
def libraries_aside() -> Generator[None]:
    """What a library in C writes to standard output by itself goes to standard error, past Python's own streams.

    Seen with HiGHS 1.16, whose solver names a function of its own there; that would break `--json`.
    """
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except OSError:  # standard output is closed: there is nothing to keep clean
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C holds back belongs there too
        os.dup2(kept, 1)
        os.close(kept)


class _Watched:
    """Standard output, with the error that it had: one of a file that has no name cannot be told from it otherwise."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """As the stream's; an error is kept."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """As the stream's; an error is kept."""
        try:
            self._stream.flush()
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run(command: Callable[[], None]) -> int:
    """Runs a command; turns nearhall's errors into one clear line and an exit code. No traceback reaches a user."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by who started us: nobody reads
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the end of the program)
    stream = sys.stdout
    watched = _Watched(stream)
    sys.stdout = cast("TextIO", watched)
    try:
        command()
        watched.flush()
    except InputError as error:
        notes().print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_BAD_INPUT
    except NearhallError as error:
        notes().print(f"failed: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_FAILED
    except KeyboardInterrupt:
        notes().print("stopped", style="red", markup=False)
        return EXIT_INTERRUPTED
    except OSError as error:
        code, line = _told(error, of_output=error is watched.error)
        if line:
            notes().print(line, style="red", markup=False, soft_wrap=True)
        _discard_output()
        return code
    finally:
        sys.stdout = stream
    return 0


RIGHTS: dict[int, str] = {
    errno.ENOENT: "name one that exists",
    errno.ENOTDIR: "a part of the path is a file: name a folder",
    errno.EISDIR: "name a file",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
"""What would be right, by what the system says of a file or folder."""


def _told(error: OSError, *, of_output: bool) -> tuple[int, str]:
    """Exit code and line of an error that nobody has translated: of standard output, or of a file that it names."""
    said = error.strerror or str(error)
    if error.filename is not None:
        right = RIGHTS.get(error.errno or 0, "name one that you may use, or change its rights")
        return EXIT_BAD_INPUT, f"error: {os.fsdecode(error.filename)} cannot be used ({said}); {right}"
    if error.errno == errno.EPIPE:  # somebody who reads the first lines only has seen enough
        return EXIT_FAILED, ""
    return EXIT_FAILED, f"failed: standard output cannot be written ({said})" if of_output else f"failed: {said}"


@contextmanager
def writing(folder: Path, *, where: str = "", right: str) -> Generator[None]:
    """Within it files are written into the folder: what the system refuses is an InputError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG):
            raise
        raise InputError(f"{folder} cannot be written ({error.strerror})", where=where, right=right) from error


def _discard_output() -> None:
    """What is held back for a reader who has gone goes nowhere: the interpreter would stumble over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
