"""What every test may ask for: ports that stay free, folders whose names fit a Unix socket."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nearhall.cli.pilot.free_ports import free_ports

settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
"""No deadline for one example: two shared cores stall now and then. A failure prints what repeats it."""
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Each call gives another free port below the ephemeral range, where no outgoing connection takes it meanwhile."""
    given: set[int] = set()

    def port() -> int:
        while (found := free_ports(1)[0]) in given:
            pass
        given.add(found)
        return found

    return port


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's name (108 bytes in all); pytest's own are too long."""
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
