"""Any v2 or OpenAI server behind `ports.runtime.UpstreamRuntime`: requests pass through as they are, over httpcore."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import suppress

import httpcore

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.fallback_https import HOP_BY_HOP
from nearhall.ports.runtime import ForwardRequest, ForwardResponse, ModelFile

CONNECT_S = 5.0
CONNECTIONS = 64
IDLE_S = 60.0
KNOWN_OPTIONS = frozenset({"api_key_file"})
"""`api_key_file`: a file whose first line is sent as the bearer token; the key itself never stands in model.yaml."""
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError, OSError)


class HttpUpstream:
    """One server, by its base address (`http://host:8000`, `https://host/openai`)."""

    def __init__(self, file: ModelFile) -> None:
        """Nothing is connected yet; raises PermanentError for a key file that cannot be read."""
        self._base = file.path.rstrip("/")
        self._alive = True
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(), max_connections=CONNECTIONS, keepalive_expiry=IDLE_S, retries=0
        )
        self._key: bytes | None = None
        if "api_key_file" in file.options:
            try:
                with open(file.options["api_key_file"], "rb") as key:  # noqa: PTH123 (a name from a document)
                    self._key = key.readline().strip()
            except OSError as error:
                raise PermanentError(f"api_key_file {file.options['api_key_file']} cannot be read ({error.strerror})") from error

    @property
    def alive(self) -> bool:
        """Whether the last request reached it; True before the first, so that somebody tries."""
        return self._alive

    async def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Sends the request on; raises TemporaryError when the server cannot be reached or breaks off before its head."""
        headers = [(name, value) for name, value in request.headers if name.lower() not in HOP_BY_HOP]
        if self._key is not None:
            headers = [*((n, v) for n, v in headers if n.lower() != b"authorization"), (b"authorization", b"Bearer " + self._key)]
        timeout = {"connect": min(CONNECT_S, request.timeout_s), "read": request.timeout_s, "write": request.timeout_s}
        stream = self._pool.stream(
            request.method,
            f"{self._base}{request.path}",
            headers=headers,
            content=request.body,
            extensions={"timeout": {**timeout, "pool": request.timeout_s}},
        )
        try:
            response = await stream.__aenter__()
        except _FAULTS as error:
            self._alive = not isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout)
            raise TemporaryError(f"{self._base} does not answer: {type(error).__name__} {error}".strip()) from error
        self._alive = True
        kept = [(name.lower(), value) for name, value in response.headers if name.lower() not in HOP_BY_HOP]
        return ForwardResponse(status=response.status, headers=kept, body=_body(response, stream, self._base))

    async def close(self) -> None:
        """Closes its connections."""
        await self._pool.aclose()


async def _body(response: httpcore.Response, stream: object, base: str) -> AsyncGenerator[bytes]:
    try:
        async for part in response.aiter_stream():
            yield part
    except _FAULTS as error:
        raise TemporaryError(f"{base} broke off: {type(error).__name__}") from error
    finally:
        with suppress(*_FAULTS):
            await stream.__aexit__(None, None, None)  # type: ignore[attr-defined]
