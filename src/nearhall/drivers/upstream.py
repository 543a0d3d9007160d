"""Any v2 or OpenAI server behind `ports.runtime.UpstreamRuntime`: requests pass through as they are, over httpcore."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpcore
import msgspec

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.fallback_https import HOP_BY_HOP
from nearhall.drivers.upstream_models import base_of
from nearhall.ports.runtime import ForwardRequest, ForwardResponse, ModelFile

CONNECT_S = 5.0
CONNECTIONS = 64
IDLE_S = 60.0
_MODELS = "/v2/models/"
_NOT_YET = frozenset({502, 503, 504})
"""Of an engine that loads its model, and of a proxy that does not reach the one behind it."""
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, ssl.SSLError, OSError)


class HttpUpstream:
    """One server, by its base address (`http://host:8000`, `https://host/openai`)."""

    def __init__(self, file: ModelFile) -> None:
        """Nothing is connected yet; raises PermanentError for a key file that cannot be read."""
        self._base = base_of(file.path)
        self._ours = file.model
        self._theirs = file.options.get("model", file.model)
        self._alive = True
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(), max_connections=CONNECTIONS, keepalive_expiry=IDLE_S, retries=0
        )
        key_file = file.options.get("api_key_file")
        self._key = None if key_file is None else read_key(Path(key_file))

    @property
    def alive(self) -> bool:
        """Whether the last request reached it; True before the first, so that somebody tries."""
        return self._alive

    async def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Sends the request on; raises TemporaryError when the server cannot be reached or breaks off before its head."""
        headers = [(name, value) for name, value in request.headers if name.lower() not in HOP_BY_HOP]
        if self._key is not None:
            headers = [*((n, v) for n, v in headers if n.lower() != b"authorization"), (b"authorization", b"Bearer " + self._key)]
        path, body = self._named_as_there(request.path, request.body)
        timeout = {"connect": min(CONNECT_S, request.timeout_s), "read": request.timeout_s, "write": request.timeout_s}
        stream = self._pool.stream(
            request.method,
            f"{self._base}{path}",
            headers=headers,
            content=body,
            extensions={"timeout": {**timeout, "pool": request.timeout_s}},
        )
        try:
            response = await stream.__aenter__()
        except _FAULTS as error:
            self._alive = not isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout)
            raise TemporaryError(f"{self._base} does not answer: {type(error).__name__} {error}".strip()) from error
        # Who was there and says so is full, perhaps: it stays alive.
        self._alive = self._alive or response.status not in _NOT_YET
        kept = [(name.lower(), value) for name, value in response.headers if name.lower() not in HOP_BY_HOP]
        return ForwardResponse(status=response.status, headers=kept, body=_body(response, stream, self._base))

    async def close(self) -> None:
        """Closes its connections."""
        await self._pool.aclose()

    def _named_as_there(self, path: str, body: bytes) -> tuple[str, bytes]:
        """Path and body with the model's name at that server; a version is ours alone and left out."""
        if path.startswith(_MODELS):
            _, *rest = path.removeprefix(_MODELS).split("/")
            rest = rest[2:] if rest[:1] == ["versions"] else rest
            return "/".join([f"{_MODELS}{quote(self._theirs, safe='')}", *rest]), body
        if self._theirs == self._ours or not path.startswith("/v1/") or not body:
            return path, body
        asked = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return path, msgspec.json.encode({**asked, "model": self._theirs})


def read_key(path: Path) -> bytes:
    """The first line of a key file; raises PermanentError when there is none."""
    try:
        with path.open("rb") as file:
            key = file.readline(4096).strip()
    except OSError as error:
        raise PermanentError(f"api_key_file {path} cannot be read ({error.strerror})") from error
    if not key:
        raise PermanentError(f"api_key_file {path} has an empty first line; write the key there")
    return key


async def _body(response: httpcore.Response, stream: object, base: str) -> AsyncGenerator[bytes]:
    try:
        async for part in response.aiter_stream():
            yield part
    except _FAULTS as error:
        raise TemporaryError(f"{base} broke off: {type(error).__name__}") from error
    finally:
        with suppress(*_FAULTS):
            await stream.__aexit__(None, None, None)  # type: ignore[attr-defined]
