"""A hub in the same process behind `ports.runtime.Fallback`: for tests and rehearsals, with a link that can be cut.

It calls the hub gateway's own ASGI application, so that what is tested is the real exchange, without a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

from nearhall.core.errors import TemporaryError
from nearhall.ports.runtime import ForwardRequest, ForwardResponse, LinkUse

AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]], Awaitable[None]
]


class MemoryFallback:
    """Forwards to an ASGI application. Bytes are the bodies' and headers' alone: there is no TLS to count."""

    def __init__(self, app: AsgiApp, *, one_way_s: float = 0.0) -> None:
        self._app = app
        self._one_way_s = one_way_s
        self._up = True
        self._reachable = True
        self._breaks_after: int | None = None
        self.seen: list[tuple[ForwardRequest, bool]] = []
        """Every request that crossed the link, and whether it was a probe."""

    def cut(self) -> None:
        """Nothing gets through from now on."""
        self._up = False

    def restore(self) -> None:
        """The link is back, and known to be."""
        self._up = self._reachable = True

    def break_after(self, parts: int | None) -> None:
        """Answers break off after so many parts of their body; None: they do not."""
        self._breaks_after = parts

    @property
    def reachable(self) -> bool:
        """Whether the last exchange got through."""
        return self._reachable

    @property
    def kept_warm_bytes(self) -> int:
        """There is nothing to keep warm."""
        return 0

    async def forward(self, request: ForwardRequest, *, probe: bool = False) -> ForwardResponse:
        """Calls the application; raises TemporaryError while the link is cut."""
        await asyncio.sleep(self._one_way_s)
        self._reachable = self._up
        if not self._up:
            raise TemporaryError("the link is cut")
        self.seen.append((request, probe))
        messages: asyncio.Queue[AsgiMessage | None] = asyncio.Queue()
        asked = asyncio.Event()

        async def receive() -> AsgiMessage:
            if not asked.is_set():
                asked.set()
                return {"type": "http.request", "body": request.body, "more_body": False}
            await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": request.method, "path": request.path, "headers": list(request.headers)}
        task = asyncio.ensure_future(self._app(scope, receive, messages.put))
        task.add_done_callback(lambda _: messages.put_nowait(None))
        head = await messages.get()
        if head is None:
            task.result()
            raise TemporaryError("the hub answered nothing")
        sent = sum(len(name) + len(value) + 4 for name, value in request.headers) + len(request.body)
        use = LinkUse(sent=sent, received=sum(len(name) + len(value) + 4 for name, value in head["headers"]))
        response = ForwardResponse(status=head["status"], headers=head["headers"], body=_nothing())
        response.body = self._body(response, messages, task, use)
        return response

    async def close(self) -> None:
        """Nothing is held open."""

    async def _body(
        self, response: ForwardResponse, messages: asyncio.Queue[AsgiMessage | None], task: asyncio.Future[None], use: LinkUse
    ) -> AsyncGenerator[bytes]:
        parts = 0
        try:
            await asyncio.sleep(self._one_way_s)
            while (message := await messages.get()) is not None:
                if not self._up or parts == self._breaks_after:
                    raise TemporaryError("the answer broke off")
                part: bytes = message.get("body", b"")
                parts += 1
                use.received += len(part)
                if part:
                    yield part
                if not message.get("more_body"):
                    break
        finally:
            task.cancel()
            response.link = use


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""
