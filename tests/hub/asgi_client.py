"""Asks an ASGI application in process, as a server would: the caller decides the headers and who the TLS client is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

App = Callable[[Any, Any, Any], Any]


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """One caller. `certificate` is a site's name, as the TLS layer would have verified it."""

    app: App
    headers: Mapping[str, str] = field(default_factory=dict)
    certificate: str | None = None
    uris: tuple[str, ...] | None = None

    async def ask(
        self, method: str, path: str, body: bytes | dict[str, Any] = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its whole answer."""
        async with self.open(method, path, body, headers) as (answer, parts):
            async for part in parts:
                answer.body += part
        return answer

    @asynccontextmanager
    async def open(
        self, method: str, path: str, body: bytes | dict[str, Any] = b"", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """The answer's head, and its body as it comes; leaving the block is the client going away."""
        gone = asyncio.Event()
        inbox: list[bytes] = [json.dumps(body).encode() if isinstance(body, dict) else body]
        sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def receive() -> dict[str, Any]:
            if inbox:
                return {"type": "http.request", "body": inbox.pop(0), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if gone.is_set():
                raise OSError("the client has gone")
            await sent.put(message)

        async def run() -> None:
            try:
                await self.app(self._scope(method, path, {**self.headers, **(headers or {})}), receive, send)
            finally:
                await sent.put(None)

        task = asyncio.create_task(run())
        head = await sent.get()
        if head is None:
            await task
            raise AssertionError("no answer")
        answer = Answer(status=head["status"], headers={k.decode(): v.decode() for k, v in head["headers"]})

        async def parts() -> AsyncIterator[bytes]:
            while (message := await sent.get()) is not None:
                yield message.get("body", b"")
                if not message.get("more_body"):
                    return

        try:
            yield answer, parts()
        finally:
            gone.set()
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 5)

    def _scope(self, method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
        where, _, query = path.partition("?")
        extensions: dict[str, Any] = {}
        if self.certificate is not None:
            uris = (f"nearhall:site:{self.certificate}",) if self.uris is None else self.uris
            extensions["tls"] = {"client_cert_name": self.certificate, "client_cert_uris": list(uris)}
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": where,
            "raw_path": where.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
            "extensions": extensions,
        }
