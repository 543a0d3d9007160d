"""Cameras for tests: films, one that speaks HTTP, and a real RTSP server where Debian's is installed."""

from __future__ import annotations

import http.server
import io
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
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


def film(target: Any, frames: int, *, rate: int = 10, kind: str = "mp4", codec: str = "mpeg4") -> None:
    """Noise, 64 x 48, which no codec makes small."""
    draw = np.random.default_rng(1)
    with av.open(target, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            picture = draw.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def as_stream(frames: int) -> bytes:
    """A camera's pictures at ten a second, as they come over the network."""
    buffer = io.BytesIO()
    film(buffer, frames, kind="mpegts", codec="mpeg2video")
    return buffer.getvalue()


class WebCamera:
    """A camera that speaks HTTP: each connection gets what the test puts into its queue; None ends it."""

    def __init__(self) -> None:
        self.connections: queue.SimpleQueue[queue.SimpleQueue[bytes | None]] = queue.SimpleQueue()
        self.asked = 0
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.asked += 1
                try:
                    parts = camera.connections.get(timeout=20)
                except queue.Empty:
                    return
                self.send_response(200)
                self.send_header("content-type", "video/mp2t")
                self.end_headers()
                while (part := parts.get()) is not None:
                    try:
                        self.wfile.write(part)
                    except OSError:
                        return

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server.server_port}/live.ts"

    def sends(self, *parts: bytes | None) -> queue.SimpleQueue[bytes | None]:
        """What the next connection gets; more may be put later."""
        made: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for part in parts:
            made.put(part)
        self.connections.put(made)
        return made


@contextmanager
def web_camera() -> Iterator[WebCamera]:
    """A camera that serves."""
    made = WebCamera()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()
