"""Python environments of others' software, each made from a lock of exact versions, in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nearhall.cli.roots.models import cache_folder
from nearhall.core.errors import PermanentError, TemporaryError

INSTALL_S_MAX = 1800.0
"""The largest has 0.6 GB; on a slow line that takes ten minutes."""
FREE_GIB_MIN = 3.0
"""An environment, and the packages it is unpacked from."""


def environment(key: str, lock: Path, tell: Callable[[str], None]) -> Path:
    """The environment's folder, made the first time and whenever the lock is another; raises PermanentError, TemporaryError."""
    cache = cache_folder(os.environ)
    venv = cache / "peers" / key
    mark = venv / ".lock"
    if mark.exists() and mark.read_bytes() == lock.read_bytes():
        return venv
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free / 2**30
    if free < FREE_GIB_MIN:
        raise TemporaryError(f"{free:.1f} GiB are free in {cache}, {FREE_GIB_MIN:g} are needed")
    tell(f"installing {key}")
    python = str(venv / "bin" / "python")
    _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)])  # this environment's pip serves them all
    _run([sys.executable, "-m", "pip", "--python", python, "install", "-qq", "--no-deps", "-r", str(lock)])
    mark.write_bytes(lock.read_bytes())
    return venv


def site_packages(venv: Path) -> Path:
    """Where its packages lie."""
    return venv / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(f"it was not installed within {INSTALL_S_MAX:g} s") from error
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or ["no words"]
        raise PermanentError(f"it cannot be installed: {words[-1]}")
