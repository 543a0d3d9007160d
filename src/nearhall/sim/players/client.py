"""The players' HTTP client and timer: keep-alive connections to the gateway, every answer counted, none silently lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpcore

from nearhall.core.histogram import Histogram
from nearhall.ports.clock import Clock
from nearhall.sim.players.work import Answer, Request

ANSWER_S = 60.0
CONNECTIONS_MAX = 64
ANSWER_BYTES_MAX = 64 * 1024 * 1024


@dataclass(slots=True)
class Seen:
    """What one workload's user saw."""

    sent: int = 0
    answered: int = 0
    """Status 200 with the whole body."""
    broken: int = 0
    """Connections that were refused, reset or timed out before the whole answer."""
    dropped: int = 0
    """Arrivals that were not sent because too many answers were outstanding."""
    idle: int = 0
    """Arrivals without a new picture to send."""
    by_status: dict[str, int] = field(default_factory=dict[str, int])
    by_reason: dict[str, int] = field(default_factory=dict[str, int])
    by_place: dict[str, int] = field(default_factory=dict[str, int])
    took: Histogram = field(default_factory=Histogram)
    """Milliseconds from the sending of the request to the last byte of the answer."""
    from_intended: Histogram = field(default_factory=Histogram)
    """Milliseconds from the intended arrival."""
    first_token: Histogram = field(default_factory=Histogram)

    def plain(self) -> dict[str, object]:
        """As the closing report has it."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "broken": self.broken,
            "dropped": self.dropped,
            "idle": self.idle,
            "by_status": self.by_status,
            "by_reason": self.by_reason,
            "by_place": self.by_place,
            "p50_ms": self.took.reported(0.5),
            "p99_ms": self.took.reported(0.99),
            "from_intended_p50_ms": self.from_intended.reported(0.5),
            "from_intended_p99_ms": self.from_intended.reported(0.99),
            "first_token_p50_ms": self.first_token.reported(0.5),
        }


class GatewayClient:
    """Sends requests and times them from outside."""

    def __init__(self, origin: str, clock: Clock) -> None:
        self._origin = origin.rstrip("/")
        self._clock = clock
        self._pool = httpcore.AsyncConnectionPool(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)

    async def ask(self, request: Request, seen: Seen, *, intended_s: float) -> Answer | None:
        """Sends a request and counts what came; None when no whole answer came."""
        seen.sent += 1
        began = self._clock.monotonic()
        first: float | None = None
        parts: list[bytes] = []
        try:
            async with self._pool.stream(
                "POST",
                f"{self._origin}{request.path}",
                headers=list(request.headers),
                content=request.body,
                extensions={"timeout": {"connect": 5.0, "read": ANSWER_S, "write": ANSWER_S, "pool": ANSWER_S}},
            ) as response:
                async for part in response.aiter_stream():
                    if first is None and request.streamed and b'"content":"' in part:
                        first = self._clock.monotonic() - began
                    parts.append(part)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError):
            seen.broken += 1
            return None
        ended = self._clock.monotonic()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        answer = Answer(status=response.status, headers=headers, body=b"".join(parts), first_token_s=first)
        self._count(answer, seen, took_ms=(ended - began) * 1e3, from_intended_ms=(ended - intended_s) * 1e3)
        return answer

    async def get(self, path: str) -> tuple[int, bytes]:
        """One GET; status 0 when nobody answers."""
        timeout = {"connect": 2.0, "read": 5.0, "write": 2.0, "pool": 5.0}
        try:
            response = await self._pool.request("GET", f"{self._origin}{path}", extensions={"timeout": timeout})
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError):
            return 0, b""
        return response.status, response.content

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()

    @staticmethod
    def _count(answer: Answer, seen: Seen, *, took_ms: float, from_intended_ms: float) -> None:
        _one(seen.by_status, str(answer.status))
        _one(seen.by_reason, answer.headers.get("x-nearhall-reason", "none"))
        if answer.status != 200:
            return
        seen.answered += 1
        _one(seen.by_place, answer.headers.get("x-nearhall-served-by", "unknown"))
        seen.took.add(took_ms)
        seen.from_intended.add(from_intended_ms)
        if answer.first_token_s is not None:
            seen.first_token.add(answer.first_token_s * 1e3)


def _one(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def totals(seen: Sequence[Seen]) -> dict[str, int]:
    """Sums over workloads."""
    return {name: sum(getattr(one, name) for one in seen) for name in ("sent", "answered", "broken", "dropped")}
