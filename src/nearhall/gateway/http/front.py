"""The hub's one origin: what sites say to the control API comes in at the gateway and is handed on, with the name of who said it.

The two planes still fail apart: without the control plane this answers 503 at once and the gateway serves on, and the telemetry
of a site waits in its outbox for either.
"""

from __future__ import annotations

from nearhall.core.errors import Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.body import received
from nearhall.gateway.exchange import Exchange, Header
from nearhall.gateway.forward import close_body
from nearhall.ports.control_plane import ControlPlane
from nearhall.ports.runtime import ForwardRequest
from nearhall.wire.headers import PEER, PEER_URI
from nearhall.wire.session import BODY_BYTES_MAX, WAIT_S_MAX

PREFIX = "/api/v1/"
ANSWER_S = WAIT_S_MAX + 10.0
"""A long poll at its longest, and time to write the answer."""
RETRY_AFTER_MS = 1000


class Front:
    """Hands on."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    async def answer(self, exchange: Exchange) -> None:
        """Answers one request with what the control plane says; raises Refusal(RESTARTING) while there is none."""
        body = await received(exchange, BODY_BYTES_MAX)
        path: str = exchange.scope.get("raw_path", exchange.path.encode()).decode("latin-1")
        query: bytes = exchange.scope.get("query_string", b"")
        request = ForwardRequest(
            method=exchange.method,
            path=f"{path}?{query.decode('latin-1')}" if query else path,
            headers=[*(header for header in exchange.headers if header[0] not in {PEER, PEER_URI}), *_peer(exchange)],
            body=body,
            timeout_s=ANSWER_S,
        )
        try:
            response = await self._control.forward(request)
            try:
                await exchange.head(response.status, response.headers)
                async for part in response.body:
                    await exchange.part(part)
                await exchange.part(b"", more=False)
            finally:
                await close_body(response.body)
        except TemporaryError as error:
            raise Refusal(Reason.RESTARTING, str(error), retry_after_ms=RETRY_AFTER_MS) from error

    async def close(self) -> None:
        """Closes all connections."""
        await self._control.close()


def _peer(exchange: Exchange) -> list[Header]:
    """Who is asking, by the certificate that TLS has verified."""
    tls = exchange.scope.get("extensions", {}).get("tls", {})
    name: str | None = tls.get("client_cert_name")
    if name is None:
        return []
    uris: list[str] = list(tls.get("client_cert_uris", ()))
    return [(PEER, name.encode("latin-1", "replace")), *((PEER_URI, uri.encode("latin-1", "replace")) for uri in uris)]
