"""A real RTSP camera for tests, where Debian's server is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"
CAMERA = Path(__file__).with_name("rtsp_camera.py")


def _can_serve_rtsp() -> bool:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0');"
    check += "from gi.repository import Gst; Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    try:
        return subprocess.run([PYTHON, "-c", check], capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


needs_server = pytest.mark.skipif(
    not _can_serve_rtsp(),
    reason="no RTSP server here; Debian has one: gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly",
)


@contextmanager
def rtsp(*arguments: str) -> Iterator[int]:
    """A camera with its port."""
    command = [PYTHON, str(CAMERA), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
