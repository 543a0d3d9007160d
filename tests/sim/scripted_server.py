"""A server that does to each request what its path says; the players' bad days."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nx-nearhall-served-by: s/n1\r\n"
EVENTS = HEAD + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"yes"}}]}\n\n'
ERROR = b'data: {"error":{"message":"the child died"}}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


ANSWERS: dict[str, bytes] = {
    "whole": HEAD + b"content-length: 2\r\n\r\nok",
    "refused": b"HTTP/1.1 503 X\r\nx-nearhall-reason: busy\r\ncontent-length: 0\r\n\r\n",
    "stream": EVENTS + chunk(ROLE) + chunk(WORD) + chunk(DONE) + chunk(b""),
    "stream-error": EVENTS + chunk(WORD) + chunk(ERROR) + chunk(b""),
    "stream-open": EVENTS + chunk(WORD) + chunk(b""),
    "large": HEAD + b"content-length: 100000\r\n\r\n" + b"x" * 100_000,
    "endless-event": EVENTS + chunk(b"data: " + b"x" * 2_000_000) + chunk(DONE) + chunk(b""),
    "huge": HEAD + b"content-length: 5000000\r\n\r\n" + b"x" * 5_000_000,
    # These end the connection.
    "half": HEAD + b"content-length: 100\r\n\r\nhalf",
    "half-stream": EVENTS + chunk(WORD),
    "garbage": b"no HTTP at all\r\n\r\n",
    "reset": b"",
    "last": HEAD + b"content-length: 2\r\n\r\nok",
    "hang": b"",
}
ENDING = frozenset({"half", "half-stream", "garbage", "reset", "last"})


class ScriptedServer:
    """Answers; notes how many of each it was asked and how many at once."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self.connections = 0
        self.closed = 0
        self.at_once = 0
        self.at_once_max = 0
        self.gate = asyncio.Event()
        """`/held` answers like `/whole` once this is set."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None] | None] = set()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.add(asyncio.current_task())
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                name, body = await _request(reader)
                self.asked[name] += 1
                self.bodies.append(body)
                self.at_once += 1
                self.at_once_max = max(self.at_once_max, self.at_once)
                try:
                    go_on = await self._answer(name, reader, writer)
                finally:
                    self.at_once -= 1
                if not go_on:
                    break
        self._writers.discard(writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.closed += 1

    async def _answer(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if name == "hang":
            await reader.read(1)
            return False
        if name == "held":
            await self.gate.wait()
        writer.write(ANSWERS.get(name, ANSWERS["whole"]))
        await writer.drain()
        return name not in ENDING

    async def end(self) -> None:
        """Resets every connection and waits for what serves them."""
        self.gate.set()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(task for task in self._serving if task is not None))


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, length = head.partition(b"content-length: ")
    body = await reader.readexactly(int(length.split(b"\r\n")[0])) if length else b""
    return head.split(b" ")[1].decode().strip("/"), body


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """One on a free port, ended at the end of the block."""
    scripted = ScriptedServer()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        await scripted.end()
