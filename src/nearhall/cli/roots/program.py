"""What every program's composition root needs: settings from one JSON file, a way to stop, a line that says it serves.

Imported by the agent too, so it stays with the standard library and msgspec.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from stat import S_ISSOCK
from struct import calcsize, unpack
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from nearhall.core.errors import InputError, NearhallError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
"""Of a log that is read later."""
SOCKET_PATH_MAX = 107
"""sun_path holds 108 bytes, one for the end (unix(7))."""

Settings = TypeVar("Settings")


def read_settings(path: str, kind: type[Settings]) -> Settings:
    """The program's settings; raises InputError for a file that is none, a wrong type or an unknown key."""
    try:
        plain = msgspec.json.decode(Path(path).read_bytes())
        settings = msgspec.convert(plain, kind)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InputError(str(error), where=path) from error
    known = {field.encode_name for field in msgspec.inspect.type_info(kind).fields}  # type: ignore[union-attr]
    unknown = sorted(set(plain) - known)
    if unknown:
        raise InputError(f"{unknown[0]} is not a setting of this program", where=path)
    return settings


def listen_unix(path: Path, *, where: str) -> socket.socket:
    """A Unix socket that listens, open to its owner alone before anybody can connect.

    Raises InputError, naming the setting `where`; where another program listens, this one does not take its place.
    """
    make_way(path, where=where)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
        bound.listen()
    except OSError as error:
        bound.close()
        raise no_socket(path, where, error) from error
    finally:
        os.umask(mask)
    return bound


def make_way(path: Path, *, where: str) -> None:
    """Makes sure that a socket may be made there; raises InputError. Nothing is removed but a socket that nobody listens at."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return _check_room(path, where)
    except OSError as error:
        raise no_socket(path, where, error) from error
    if not S_ISSOCK(found.st_mode):
        raise InputError(f"{path} is there already and is no socket", where=where, right="name a path that is free")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)  # with one, a frozen program whose backlog is full is told at once (EAGAIN, unix(7))
        try:
            probe.connect(str(path))
        except BlockingIOError:
            listener = 0
        except ConnectionRefusedError:
            return _removed(path, where)
        except OSError as error:
            raise no_socket(path, where, error) from error
        else:
            listener = unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, calcsize("3i")))[0]
    who = f" (process {listener})" if listener > 0 else ""
    raise InputError(f"another program listens at {path}{who}", where=where, right="end it, or name another path")


def _check_room(path: Path, where: str) -> None:
    """Raises InputError where a new socket could not be made."""
    length, folder = len(os.fsencode(path)), path.absolute().parent
    if length > SOCKET_PATH_MAX:
        right = f"name one that is {length - SOCKET_PATH_MAX} bytes shorter"
        raise InputError(f"{path} is too long for the path of a Unix socket", where=where, right=right)
    if not folder.is_dir():
        right = "make it, or name a path in a folder of yours"
        raise InputError(f"{path} cannot be made (there is no folder {folder})", where=where, right=right)
    if not os.access(folder, os.W_OK | os.X_OK):
        right = "name a path in a folder of yours"
        raise InputError(f"{path} cannot be made (you may not write in {folder})", where=where, right=right)


def no_socket(path: Path, where: str, error: OSError) -> InputError:
    """Why there can be no socket at a path."""
    right = "name a short path in a folder of yours"
    return InputError(f"{path} cannot be made ({error.strerror or error})", where=where, right=right)


def _removed(path: Path, where: str) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise no_socket(path, where, error) from error


def say_ready(**facts: object) -> None:
    """Tells the parent, on standard output, that the program serves."""
    sys.stdout.write(f"READY {json.dumps(facts)}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Tells the person at the parent's screen one line, whichever thread calls."""
    sys.stdout.write(f"TELL {' '.join(text.split())}\n")
    sys.stdout.flush()


def stop_event(*, with_stdin: bool) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, and, if asked for, the end of standard input: a dead parent ends its children."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_stdin:

        def readable() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                stop.set()

        try:
            loop.add_reader(0, readable)
        except (OSError, PermissionError) as error:
            right = "start it with a pipe, or leave exit_with_stdin out"
            raise InputError(
                "standard input cannot be watched (it is a file or /dev/null)", where="exit_with_stdin", right=right
            ) from error
    return stop


def run_program(main: Callable[[str], Coroutine[Any, Any, None]], *, runner: Callable[[Any], Any] = asyncio.run) -> None:
    """Runs a program on the settings file named on its command line; one clear line instead of a traceback."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    if len(sys.argv) != 2:
        sys.stderr.write("give one settings file\n")
        sys.exit(EXIT_BAD_INPUT)
    try:
        runner(main(sys.argv[1]))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
    except NearhallError as error:
        sys.stderr.write(f"failed: {error}\n")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
