"""What every command says and how it ends: a summary for people, one JSON object for programs, exit codes 0, 1, 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
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


def emit(summary: RenderableType, data: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints the summary, or with `--json` one JSON object on standard output."""
    if as_json:
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    else:
        console().print(summary)


def run(command: Callable[[], None]) -> int:
    """Runs a command; turns nearhall's errors into one clear line and an exit code. No traceback reaches a user."""
    try:
        command()
    except InputError as error:
        notes().print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_BAD_INPUT
    except NearhallError as error:
        notes().print(f"failed: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
