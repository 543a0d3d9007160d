"""One workload's HTTP client and timer: keep-alive connections to the gateway, every answer counted, none silently lost."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import httpcore

from nearhall.ports.clock import Clock
from nearhall.sim.players.seen import Seen
from nearhall.sim.players.stamps import StampedBackend, stamps_of
from nearhall.sim.players.work import Answer, Request
from nearhall.wire.chat_events import ChatReader

ANSWER_S = 60.0
"""Without a byte for so long an answer is given up; a user has long left."""
CONNECTIONS_MAX = 64
"""Of one workload: as many as it may have requests under way."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""More than any model here answers; a faulty server cannot fill this process."""
_GET = {"connect": 2.0, "read": 5.0, "write": 2.0, "pool": 5.0}
_ASK = {"connect": 5.0, "read": ANSWER_S, "write": ANSWER_S, "pool": ANSWER_S}
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)

_log = logging.getLogger(__name__)


class TooLargeError(Exception):
    """An answer went on beyond the limit."""


class GatewayClient:
    """Sends the requests of one workload and times them from outside. Nothing is shared with another workload's client."""

    def __init__(self, origin: str, clock: Clock, *, answer_bytes_max: int = ANSWER_BYTES_MAX) -> None:
        self._origin = origin.rstrip("/")
        self._answer_bytes_max = answer_bytes_max
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            network_backend=StampedBackend(clock),
        )

    async def warm(self) -> bool:
        """Opens a connection with a cheap question that is not counted; whether the gateway is ready."""
        status, _ = await self.get("/v2/health/ready")
        return status == 200

    async def ask(self, request: Request, seen: Seen, *, intended_s: float) -> Answer | None:
        """Sends a request and counts what became of it, once; None when no whole answer came."""
        seen.sent += 1
        try:
            answer = await self._exchange(request)
        except asyncio.CancelledError:
            seen.unanswered += 1
            raise
        except Exception as error:  # whatever it is, it is counted and named: a check that loses errors is none
            seen.broken += 1
            if seen.error(f"ask {type(error).__name__}"):
                _log.warning("%s broke: %s %s", request.path, type(error).__name__, error)
            return None
        seen.count(answer, intended_s=intended_s)
        return answer

    async def get(self, path: str) -> tuple[int, bytes]:
        """One GET; status 0 when nobody answers."""
        with suppress(*_FAULTS):
            response = await self._pool.request("GET", f"{self._origin}{path}", extensions={"timeout": _GET})
            return response.status, response.content
        return 0, b""

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()

    async def _exchange(self, request: Request) -> Answer:
        """Raises httpcore's errors, TooLargeError and EventTooLargeError; the connection is closed then."""
        chat = ChatReader() if request.streamed else None
        spoke_s: float | None = None
        parts: list[bytes] = []
        size = 0
        async with self._pool.stream(
            "POST",
            f"{self._origin}{request.path}",
            headers=list(request.headers),
            content=request.body,
            extensions={"timeout": _ASK},
        ) as response:
            stamps = stamps_of(response)
            async for part in response.aiter_stream():
                size += len(part)
                if size > self._answer_bytes_max:
                    raise TooLargeError(f"more than {self._answer_bytes_max} bytes")
                if chat is not None and response.status == 200 and chat.feed(part):
                    spoke_s = stamps.got_s
                parts.append(part)
            asked_s, got_s = stamps.asked_s, stamps.got_s
        return Answer(
            status=response.status,
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers},
            body=b"".join(parts),
            asked_s=asked_s,
            got_s=got_s,
            first_token_s=None if spoke_s is None else spoke_s - asked_s,
            cut_short=None if chat is None else chat.cut_short,
        )
