"""The hub's control API on its Unix socket behind `ports.control_plane`. Its mode (0600) says who may speak for sites."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

import httpcore

from nearhall.core.errors import TemporaryError
from nearhall.drivers.fallback_https import HOP_BY_HOP
from nearhall.ports.runtime import ForwardRequest, ForwardResponse

CONNECT_S = 2.0
CONNECTIONS = 1024
"""As many as the gateway has itself: every site holds one for its long poll."""
IDLE_S = 60.0
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)


class ControlSocket:
    """One control plane of this machine."""

    def __init__(self, path: str) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            uds=path, max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE_S
        )

    async def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Hands a request on; raises TemporaryError when the control plane does not answer."""
        seconds = request.timeout_s
        timeout = {"connect": CONNECT_S, "read": seconds, "write": seconds, "pool": CONNECT_S}
        headers = [(b"host", b"hub"), *((name, value) for name, value in request.headers if name.lower() not in HOP_BY_HOP)]
        stream = self._pool.stream(
            request.method, f"http://hub{request.path}", headers=headers, content=request.body, extensions={"timeout": timeout}
        )
        try:
            response = await stream.__aenter__()
        except _FAULTS as error:
            raise TemporaryError(f"the hub's control plane does not answer ({type(error).__name__})") from error
        kept = [(name.lower(), value) for name, value in response.headers if name.lower() not in HOP_BY_HOP - {b"content-length"}]
        return ForwardResponse(status=response.status, headers=kept, body=_body(response, stream))

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()


async def _body(response: httpcore.Response, stream: object) -> AsyncGenerator[bytes]:
    try:
        async for part in response.aiter_stream():
            yield part
    except _FAULTS as error:
        raise TemporaryError(f"the hub's control plane broke off ({type(error).__name__})") from error
    finally:
        with suppress(*_FAULTS):
            await stream.__aexit__(None, None, None)  # type: ignore[attr-defined]
