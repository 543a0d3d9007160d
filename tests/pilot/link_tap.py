"""Somebody on the link who holds the authority's key: ends TLS on both sides and keeps everything that crosses, in the clear."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from types import TracebackType

from nearhall.drivers.authority import Bundle
from nearhall.drivers.mutual_tls import client_context

KEPT_BYTES_MAX = 64 * 1024 * 1024


class LinkTap:
    """Listens as the hub on a port of its own and passes everything on to the hub, keeping what went up."""

    def __init__(self, *, hub: Bundle, site: Bundle, to_port: int) -> None:
        self._server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(hub.ca))
        self._server_side.load_cert_chain(str(hub.cert), str(hub.key))
        self._client_side = client_context(ca=str(site.ca), cert=str(site.cert), key=str(site.key))
        self._to_port = to_port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0
        self.seen = bytearray()

    def __enter__(self) -> LinkTap:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._server_side)
            self.port = server.sockets[0].getsockname()[1]
            self._server = server
            self._ready.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to_port, ssl=self._client_side)
                try:
                    await asyncio.gather(self._copy(reader, to_writer, keep=True), self._copy(to_reader, writer, keep=False))
                finally:
                    to_writer.transport.abort()
        finally:
            writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if keep and len(self.seen) < KEPT_BYTES_MAX:
                    self.seen += data
                writer.write(data)
                await writer.drain()
            writer.close()
