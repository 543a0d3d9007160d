"""Which models another server offers: asked once when it is added, so that a wrong name is found then and not by a client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
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
_WANTS_KEY = frozenset({401, 403})
_SLOW = 499
"""Where a missing answer stands among statuses: before a server's fault, after a client's."""
_FAULTS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a server says it has."""

    chats: tuple[str, ...] = ()
    """Listed at `/v1/models`."""
    tensors: tuple[str, ...] = ()
    """Listed by the v2 repository index, and not chats."""
    refused: bool = False
    """The server wants a key that it was not given."""
    silent: str = ""
    """What it said instead of a list; empty where it gave one. It may serve its models all the same: `transformers serve` without
    a cache of its hub answers 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A tensor model's inputs and outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def base_of(url: str) -> str:
    """The address that `/v1/...` and `/v2/...` are added to: people give it with or without the version at its end."""
    base = url.rstrip("/")
    return base[:-3].rstrip("/") if base.endswith(("/v1", "/v2")) else base


def offered(url: str, key: bytes | None, *, answer_s: float = ANSWER_S) -> Offered:
    """The models of the server; raises TemporaryError when it cannot be reached at all."""
    base, only = base_of(url), url.rstrip("/")[-3:]
    chats: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    statuses: dict[str, int] = {}
    if only != "/v2":
        status, answer = _ask("GET", f"{base}/v1/models", key, answer_s)
        chats = _names(cast("dict[str, Any]", answer).get("data") if isinstance(answer, dict) else None, "id")
        statuses["GET /v1/models"] = status
    if only != "/v1":
        status, answer = _ask("POST", f"{base}/v2/repository/index", key, answer_s)
        tensors = tuple(name for name in _names(answer, "name") if name not in chats)
        statuses["POST /v2/repository/index"] = status
    listed = 200 in statuses.values()
    refused = not listed and any(status in _WANTS_KEY for status in statuses.values())
    return Offered(chats=chats, tensors=tensors, refused=refused, silent="" if listed else _said(statuses, answer_s))


def _said(statuses: Mapping[str, int], answer_s: float) -> str:
    """What came instead of a list, in words; a server's fault says more than a path that it does not have."""
    asked, status = max(statuses.items(), key=lambda each: each[1] or _SLOW)
    return f"no answer to {asked} in {answer_s:g} s" if status == 0 else f"status {status} to {asked}"


def described(url: str, model: str, key: bytes | None) -> Described | None:
    """Inputs and outputs as the server's v2 metadata says; None where it gives none. Raises TemporaryError."""
    status, answer = _ask("GET", f"{base_of(url)}/v2/models/{quote(model, safe='')}", key, ANSWER_S)
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


def _ask(method: str, url: str, key: bytes | None, answer_s: float) -> tuple[int, Any]:
    """Status (0: none in time), and the answer if it is JSON (None if not); raises TemporaryError when nobody is there."""
    headers = [(b"accept", b"application/json"), (b"content-type", b"application/json")]
    if key is not None:
        headers.append((b"authorization", b"Bearer " + key))
    limits = {"timeout": {"connect": answer_s, "read": answer_s, "write": answer_s, "pool": answer_s}}
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
    except httpcore.ReadTimeout:
        return 0, None
    except _FAULTS as error:
        raise TemporaryError(f"{url} does not answer ({type(error).__name__}: {error})") from error
    try:
        return status, msgspec.json.decode(data)
    except msgspec.DecodeError:
        return status, None
