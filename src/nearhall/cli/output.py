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
from typing import Any

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


def run(command: Callable[[], None]) -> int:
    """Runs a command; turns nearhall's errors into one clear line and an exit code. No traceback reaches a user."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # closed by who started us: nobody reads
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the end of the program)
    try:
        command()
        sys.stdout.flush()
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
        # Files are written by our own writers, which say what failed; what is left is a screen or pipe.
        if error.errno != errno.EPIPE:  # somebody who reads the first lines only has seen enough
            notes().print(f"failed: standard output cannot be written ({error.strerror})", style="red", markup=False)
        _discard_output()
        return EXIT_FAILED
    return 0


def _discard_output() -> None:
    """What is held back for a reader who has gone goes nowhere: the interpreter would stumble over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
