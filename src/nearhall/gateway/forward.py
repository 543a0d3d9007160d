"""The way to the hub: what crosses the link, what the hub is expected to take, and how its answer is accounted for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nearhall.core.errors import TemporaryError
from nearhall.core.residency import Residency
from nearhall.gateway.exchange import Exchange, Header
from nearhall.policy.admit import Estimate
from nearhall.policy.route import HubState
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import Fallback, ForwardRequest, ForwardResponse
from nearhall.wire import headers as names
from nearhall.wire.headers import parse_server_timing, server_timing

UNSEEN_MS = 1e6
"""What the hub is taken to need while it has not been seen and nobody states a deadline: never sooner than here."""
ESTIMATES_MAX = 256
ANSWER_BYTES_MAX = 256 * 1024 * 1024

_SENT = frozenset({b"content-type", b"content-encoding", names.HEAD_LENGTH, b"accept"})
"""Of the client's headers only these go on: credentials and cookies are for the site, and every byte is metered."""
_RETURNED = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"cache-control",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        names.HEAD_LENGTH,
        names.SERVED_BY,
        names.VARIANT,
        names.STEPPED_DOWN,
        names.REASON,
    }
)


class HubLink:
    """The hub's gateway, as this site sees it."""

    def __init__(self, fallback: Fallback, *, jurisdiction: str, clock: Clock, timeout_s: float) -> None:
        self.jurisdiction = jurisdiction
        self._fallback = fallback
        self._clock = clock
        self._timeout_s = timeout_s
        self._expected: dict[str, tuple[Estimate, float]] = {}
        """By model, and when it was last seen (monotonic, seconds)."""

    @property
    def kept_warm_bytes(self) -> int:
        """What health checks have put on the link so far, both ways."""
        return self._fallback.kept_warm_bytes

    @property
    def reachable(self) -> bool:
        """Whether the last exchange reached it."""
        return self._fallback.reachable

    def state(self, model: str, *, deadline_stated: bool, lost: bool) -> HubState:
        """For the routing policy; `lost` when this very request has just failed to reach it."""
        known = self._expected.get(model)
        unseen = 0.0 if deadline_stated else UNSEEN_MS
        return HubState(
            jurisdiction=self.jurisdiction,
            reachable=self.reachable and not lost,
            expected_ms=unseen if known is None else self._aged(*known).service_ms if deadline_stated else known[0].service_ms,
        )

    def learn(self, model: str, took_ms: float) -> None:
        """One more observation of what the hub takes, the way there and back included (chat: to the first token)."""
        known = self._expected.get(model)
        now = self._clock.monotonic()
        if known is not None:
            aged = self._aged(*known)
            self._expected[model] = ((aged if took_ms < aged.service_ms else known[0]).seen(took_ms), now)
        elif len(self._expected) < ESTIMATES_MAX:
            self._expected[model] = (Estimate(took_ms), now)

    def _aged(self, estimate: Estimate, seen_s: float) -> Estimate:
        """Where the alternative is a refusal, an old estimate is put to the test; it is never made to look sooner than here."""
        return estimate.aged(self._clock.monotonic() - seen_s)

    @asynccontextmanager
    async def exchange(self, request: ForwardRequest, *, probe: bool = False) -> AsyncGenerator[ForwardResponse]:
        """Sends a request; the answer's body is closed at the end whatever happens. Raises TemporaryError."""
        response = await self._fallback.forward(request, probe=probe)
        try:
            yield response
        finally:
            await close_body(response.body)

    def request(
        self,
        exchange: Exchange,
        body: bytes,
        *,
        residency: Residency,
        deadline_ms: float | None,
        total_ms: float | None,
        whole_ms: float | None,
    ) -> ForwardRequest:
        """The client's request as it goes on; deadlines are what is left of them.

        A deadline to the first token must not bound the pauses of a stream, so only `whole_ms` bounds the exchange here;
        the hub keeps the others.
        """
        kept = [(name, value) for name, value in exchange.headers if name in _SENT]
        kept.append((names.RESIDENCY, str(residency).encode()))
        if deadline_ms is not None:
            kept.append((names.DEADLINE, b"%.3f" % max(deadline_ms, 1.0)))
        if total_ms is not None:
            kept.append((names.TOTAL_DEADLINE, b"%.3f" % max(total_ms, 1.0)))
        return ForwardRequest(
            method=exchange.method,
            path=exchange.path,
            headers=kept,
            body=body,
            timeout_s=self._timeout_s if whole_ms is None else min(self._timeout_s, max(whole_ms, 1.0) / 1e3),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._fallback.close()


async def close_body(body: AsyncIterator[bytes]) -> None:
    """Closes a body that may not have been read to its end."""
    closing: Any = getattr(body, "aclose", None)
    if closing is not None:
        await closing()


async def whole_body(response: ForwardResponse) -> bytes:
    """All of an answer; raises TemporaryError when it breaks off or is larger than any answer of ours."""
    parts: list[bytes] = []
    size = 0
    async for part in response.body:
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise TemporaryError(f"the hub's answer is larger than {ANSWER_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


def link_bytes(response: ForwardResponse) -> int:
    """What the exchange put on the link, both ways; 0 until its body has ended."""
    return 0 if response.link is None else response.link.sent + response.link.received


def header(headers: Sequence[Header], name: bytes) -> bytes | None:
    """A header's value."""
    return next((value for key, value in headers if key.lower() == name), None)


def hub_times(headers: Sequence[Header]) -> tuple[float, float]:
    """The hub's own queue and compute, ms, from its Server-Timing."""
    timing = parse_server_timing(header(headers, names.SERVER_TIMING) or b"")
    return timing.get("queue", 0.0), timing.get("compute", 0.0)


def returned_headers(headers: Sequence[Header], *, reason: bytes | None, total_ms: float) -> list[Header]:
    """The headers of the hub's answer as the client gets them: the hub's times, and the way to it as network."""
    queue_ms, compute_ms = hub_times(headers)
    kept = [
        (key.lower(), value)
        for key, value in headers
        if key.lower() in _RETURNED and (reason is None or key.lower() != names.REASON)
    ]
    if reason is not None:
        kept.append((names.REASON, reason))
    network_ms = max(0.0, total_ms - queue_ms - compute_ms)
    kept.append((names.SERVER_TIMING, server_timing(queue_ms=queue_ms, compute_ms=compute_ms, network_ms=network_ms)))
    return kept
