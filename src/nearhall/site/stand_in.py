"""Stands in for a dead gateway on the service port: every request gets 503 `restarting` at once.

The socket is bound beforehand (SO_REUSEPORT, beside the gateway's) and only listens while no gateway lives: taking over is one
system call.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from nearhall.core.errors import Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.wire.refusal import refusal_response

RETRY_AFTER_MS = 1000
"""Small models are ready again within seconds."""
HEAD_BYTES_MAX = 16_384
HEAD_SECONDS_MAX = 5.0
LINGER_SECONDS_MAX = 2.0
"""For what a client still sends: closing with its body unread would reset the connection, and the answer with it."""
READ_BYTES = 65_536
CONNECTIONS_MAX = 512
BACKLOG = 512


class StandIn:
    """Listens on `host:port` while it is asked to."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        counted_under: Callable[[bytes], str | None] = lambda _: None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """`counted_under` names the workload of a request by its head; None for one that asks for no inference."""
        self._host = host
        self._port = port
        self._connections_max = connections_max
        self._server: asyncio.Server | None = None
        self._bound: socket.socket | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._counted_under = counted_under
        self._refused: Counter[str] = Counter()
        self.answered = 0
        """Requests refused since the agent started."""

    def refused(self) -> dict[str, int]:
        """Requests refused since the last call, by workload."""
        counted, self._refused = self._refused, Counter()
        return dict(counted)

    def prepare(self) -> None:
        """Binds without listening; raises TemporaryError when the port belongs to somebody else."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((self._host, self._port))
        except OSError as error:
            bound.close()
            raise TemporaryError(f"port {self._port} on {self._host} is taken ({error.strerror})") from error
        bound.setblocking(False)
        self._bound = bound

    @property
    def listening(self) -> bool:
        """Whether it answers now."""
        return self._server is not None

    async def listen(self) -> None:
        """Starts to answer."""
        if self._server is not None:
            return
        if self._bound is None:
            self.prepare()
        bound, self._bound = self._bound, None
        self._server = await asyncio.start_server(self._refuse, sock=bound, backlog=BACKLOG, limit=HEAD_BYTES_MAX)

    async def withdraw(self) -> None:
        """Stops to answer: the gateway is back. Connections already accepted are still answered."""
        server, self._server = self._server, None
        if server is None:
            return
        await asyncio.sleep(0)  # accept what waits in the queue already
        server.close()
        with suppress(TemporaryError):
            self.prepare()

    async def close(self) -> None:
        """Gives the port back and lets go of whoever is still connected."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        bound, self._bound = self._bound, None
        if bound is not None:
            bound.close()
        for writer in self._open:
            writer.transport.abort()
        async with asyncio.timeout(LINGER_SECONDS_MAX):
            while self._open:  # noqa: ASYNC110 (each ends within a turn or two of the loop)
                await asyncio.sleep(0)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._connections_max:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(HEAD_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode("latin-1") if head.count(b" ", 0, 4096) >= 2 else "/"
            refusal = Refusal(Reason.RESTARTING, "the gateway of this site is starting; try again", retry_after_ms=RETRY_AFTER_MS)
            status, headers, body = refusal_response(refusal, path)
            lines = [
                b"HTTP/1.1 %d Service Unavailable" % status,
                *(name + b": " + value for name, value in headers),
                b"connection: close",
            ]
            writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            self.answered += 1
            workload = self._counted_under(head)
            if workload is not None:
                self._refused[workload] += 1
            async with asyncio.timeout(LINGER_SECONDS_MAX):
                await writer.drain()
                writer.write_eof()
                while await reader.read(READ_BYTES):
                    pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that says nothing, too much, or leaves gets no answer
        finally:
            self._open.discard(writer)
            writer.close()
