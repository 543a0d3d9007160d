"""A server that does nothing but wait: python bare_server.py BYTES WORK_MS ANSWER_BYTES

It reads BYTES, keeps busy for WORK_MS, answers ANSWER_BYTES, and times itself from its first read to its last write, as the
gateway does. What a client sees beyond that is the machine's: copying, and waking processes up. Prints its port, and for each
number on standard input the milliseconds of as many requests, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from queue import SimpleQueue

times: SimpleQueue[float] = SimpleQueue()


def answer(connection: socket.socket, size: int, work_s: float, reply: bytes) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while piece := connection.recv(262_144):
        begun = time.perf_counter()
        left = size - len(piece)
        while left > 0:
            left -= len(connection.recv(262_144))
        until = time.perf_counter() + work_s
        while time.perf_counter() < until:
            pass
        connection.sendall(reply)
        times.put((time.perf_counter() - begun) * 1e3)


def main(size: int, work_ms: float, answer_bytes: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        given = (connection, size, work_ms / 1e3, bytes(answer_bytes))
        threading.Thread(target=answer, args=given, daemon=True).start()
        for line in sys.stdin:
            print(json.dumps([times.get() for _ in range(int(line))]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
