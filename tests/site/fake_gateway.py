"""A gateway of a few lines, for tests of the agent: python fake_gateway.py PORT PID_FILE CONTROL_SOCKET [MODE]

It shares the port, writes its pid file, answers every request with 200 and counts it; GET /control/stats tells the count.
MODE `deaf` writes no pid file; MODE `crash` ends at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from uuid import uuid4

GATEWAY_ID = uuid4().hex
answered = 0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global answered  # noqa: PLW0603
    await reader.readuntil(b"\r\n\r\n")
    answered += 1
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    path = head.split(b" ")[1]
    stats = {
        "gateway_id": GATEWAY_ID,
        "pid": os.getpid(),
        "started_s": 1.0,
        "at_s": 2.0,
        "workloads": {"video": {"local": answered}},
        "models": [{"name": "faces", "version": "1", "variant": "fp32", "runtime": "openvino", "state": "ready"}],
    }
    body = json.dumps(stats).encode() if path == b"/control/stats" else b"{}"
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


async def main(port: int, pid_file: Path, control_socket: str, mode: str) -> None:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    Path(control_socket).unlink(missing_ok=True)  # noqa: ASYNC240 (once, at the start)
    await asyncio.start_unix_server(control, control_socket)
    await asyncio.start_server(serve, sock=bound)
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # noqa: ASYNC240
    if mode != "deaf":
        fresh = pid_file.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": os.getpid(), "start_ticks": ticks, "gateway_id": GATEWAY_ID, "port": port}))
        fresh.replace(pid_file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    mode = sys.argv[4] if len(sys.argv) > 4 else ""
    if mode == "crash":
        sys.exit(3)
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], mode))
