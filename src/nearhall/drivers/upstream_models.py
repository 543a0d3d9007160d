"""Which models another server offers: asked once when it is added, so that a wrong name is found then and not by a client."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import httpcore
import msgspec

from nearhall.core.errors import TemporaryError
from nearhall.core.tensor import BYTES, ITEM_BYTES, TensorSpec

ANSWER_S = 5.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""A list of a thousand models has some hundred kilobytes."""
MODELS_MAX = 1000
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a server says it has."""

    chats: tuple[str, ...] = ()
    """Listed at `/v1/models`."""
    tensors: tuple[str, ...] = ()
    """Listed by the v2 repository index, and not chats."""
    refused: bool = False
    """The server wants a key that it was not given, or does not list its models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A tensor model's inputs and outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def base_of(url: str) -> str:
    """The address that `/v1/...` and `/v2/...` are added to: people give it with or without the version at its end."""
    base = url.rstrip("/")
    return base[:-3].rstrip("/") if base.endswith(("/v1", "/v2")) else base


def offered(url: str, key: bytes | None) -> Offered:
    """The models of the server; raises TemporaryError when it does not answer at all."""
    base, only = base_of(url), url.rstrip("/")[-3:]
    chats: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    statuses: set[int] = set()
    if only != "/v2":
        status, answer = _ask("GET", f"{base}/v1/models", key)
        chats = _names(cast("dict[str, Any]", answer).get("data") if isinstance(answer, dict) else None, "id")
        statuses.add(status)
    if only != "/v1":
        status, answer = _ask("POST", f"{base}/v2/repository/index", key)
        tensors = tuple(name for name in _names(answer, "name") if name not in chats)
        statuses.add(status)
    return Offered(chats=chats, tensors=tensors, refused=not statuses & {200})


def described(url: str, model: str, key: bytes | None) -> Described | None:
    """Inputs and outputs as the server's v2 metadata says; None where it gives none. Raises TemporaryError."""
    status, answer = _ask("GET", f"{base_of(url)}/v2/models/{quote(model, safe='')}", key)
    if status != 200 or not isinstance(answer, dict):
        return None
    told = cast("dict[str, Any]", answer)
    try:
        return Described(inputs=_specs(told["inputs"]), outputs=_specs(told["outputs"]))
    except (KeyError, TypeError, ValueError):
        return None


def _specs(listed: Any) -> tuple[TensorSpec, ...]:
    found = tuple(TensorSpec(str(one["name"]), str(one["datatype"]), tuple(int(n) for n in one["shape"])) for one in listed)
    if any(spec.dtype not in ITEM_BYTES and spec.dtype != BYTES for spec in found):
        raise ValueError(found)
    return found


def _names(listed: Any, key: str) -> tuple[str, ...]:
    if not isinstance(listed, list):
        return ()
    entries = [cast("dict[str, Any]", entry) for entry in cast("list[Any]", listed)[:MODELS_MAX] if isinstance(entry, dict)]
    return tuple(str(entry[key]) for entry in entries if key in entry)


def _ask(method: str, url: str, key: bytes | None) -> tuple[int, Any]:
    """Status, and the answer if it is JSON (None if not); raises TemporaryError when nothing answers."""
    headers = [(b"accept", b"application/json"), (b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"authorization", b"Bearer " + key))
    limits = {"timeout": {"connect": ANSWER_S, "read": ANSWER_S, "write": ANSWER_S, "pool": ANSWER_S}}
    body = b"{}" if method == "POST" else None
    data = b""
    try:
        with (
            httpcore.ConnectionPool(ssl_context=ssl.create_default_context()) as pool,
            pool.stream(method, url, headers=headers, content=body, extensions=limits) as response,
        ):
            for part in response.iter_stream():
                data += part
                if len(data) > ANSWER_BYTES_MAX:
                    return response.status, None
            status = response.status
    except _FAULTS as error:
        raise TemporaryError(f"{url} does not answer ({type(error).__name__}: {error})") from error
    try:
        return status, msgspec.json.decode(data)
    except msgspec.DecodeError:
        return status, None
