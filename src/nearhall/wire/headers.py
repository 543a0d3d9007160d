"""nearhall's own HTTP headers: what a request may say, and how an answer accounts for its time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.residency import Residency

DEADLINE = b"x-nearhall-deadline-ms"
TOTAL_DEADLINE = b"x-nearhall-total-deadline-ms"
RESIDENCY = b"x-nearhall-residency"
PRIORITY = b"x-nearhall-priority"
WORKLOAD = b"x-nearhall-workload"
RAW_BYTES = b"x-nearhall-raw-bytes"
PROBE = b"x-nearhall-probe"
FRONT = b"x-nearhall-front"
"""Set by the front of several nodes: the node leaves it to the front to hold those back who come again at once."""
PEER = b"x-nearhall-peer"
PEER_URI = b"x-nearhall-peer-uri"
"""Between the two programs of a hub only, over a Unix socket: whose certificate the gateway has verified."""
SERVED_BY = b"x-nearhall-served-by"
VARIANT = b"x-nearhall-variant"
STEPPED_DOWN = b"x-nearhall-stepped-down"
REASON = b"x-nearhall-reason"
SERVER_TIMING = b"server-timing"
HEAD_LENGTH = b"inference-header-content-length"

PRIORITY_MAX = 9
RAW_BYTES_MAX = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class AskHeaders:
    """What a request's headers say beside its body."""

    deadline_ms: float | None = None
    """For chat: to the first token."""
    total_deadline_ms: float | None = None
    residency: Residency | None = None
    priority: int | None = None
    workload: str | None = None
    raw_bytes: int | None = None
    probe: bool = False
    head_bytes: int | None = None
    encoding: str = ""
    content_length: int | None = None


def parse_ask(headers: Iterable[tuple[bytes, bytes]]) -> AskHeaders:
    """Reads the headers (names in lower case, as ASGI gives them); raises Refusal(BAD_REQUEST) for a value that is none."""
    known: dict[bytes, bytes] = {name: value for name, value in headers if name in ASKED}
    if not known:
        return _NOTHING
    if known.keys() <= _FRAMING:
        return AskHeaders(
            head_bytes=_whole(known, HEAD_LENGTH, RAW_BYTES_MAX), content_length=_whole(known, _content_length, RAW_BYTES_MAX)
        )
    return AskHeaders(
        deadline_ms=_number(known, DEADLINE),
        total_deadline_ms=_number(known, TOTAL_DEADLINE),
        residency=_residency(known),
        priority=_whole(known, PRIORITY, PRIORITY_MAX),
        workload=known[WORKLOAD].decode("latin-1") if WORKLOAD in known else None,
        raw_bytes=_whole(known, RAW_BYTES, RAW_BYTES_MAX),
        probe=known.get(PROBE) == b"1",
        head_bytes=_whole(known, HEAD_LENGTH, RAW_BYTES_MAX),
        encoding=known.get(_content_encoding, b"").decode("latin-1").strip().lower(),
        content_length=_whole(known, _content_length, RAW_BYTES_MAX),
    )


_content_length, _content_encoding = b"content-length", b"content-encoding"
_FRAMING = frozenset({HEAD_LENGTH, _content_length})
"""What most requests of machines say, and no more."""
ASKED = _FRAMING | {_content_encoding, DEADLINE, TOTAL_DEADLINE, RESIDENCY, PRIORITY, WORKLOAD, RAW_BYTES, PROBE}
"""The headers that `parse_ask` reads."""
_NOTHING = AskHeaders()


def _number(known: Mapping[bytes, bytes], name: bytes) -> float | None:
    text = known.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value <= 0:
        message = f"header {name.decode()} is {text.decode('latin-1')!r}; a positive number of milliseconds is right"
        raise Refusal(Reason.BAD_REQUEST, message)
    return value


def _whole(known: Mapping[bytes, bytes], name: bytes, most: int) -> int | None:
    text = known.get(name)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 15 or int(text) > most:
        message = f"header {name.decode()} is {text.decode('latin-1')!r}; a whole number from 0 to {most} is right"
        raise Refusal(Reason.BAD_REQUEST, message)
    return int(text)


def _residency(known: Mapping[bytes, bytes]) -> Residency | None:
    text = known.get(RESIDENCY)
    if text is None:
        return None
    try:
        return Residency.parse(text.decode("latin-1"))
    except ValueError as error:
        raise Refusal(Reason.BAD_REQUEST, f"header {RESIDENCY.decode()}: {error}") from error


def server_timing(*, queue_ms: float, compute_ms: float, network_ms: float | None = None) -> bytes:
    """The Server-Timing header (W3C Server Timing): milliseconds in the queue, in the runtime, and on the way."""
    timing = f"queue;dur={queue_ms:.3f}, compute;dur={compute_ms:.3f}"
    return (timing if network_ms is None else f"{timing}, network;dur={network_ms:.3f}").encode()


def parse_server_timing(value: bytes) -> dict[str, float]:
    """Durations by name from a Server-Timing header; what cannot be read is left out."""
    found: dict[str, float] = {}
    for part in value.decode("latin-1").split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        for parameter in parameters:
            key, _, number = parameter.partition("=")
            try:
                duration = float(number.strip('"'))
            except ValueError:
                continue
            if key == "dur" and isfinite(duration) and duration >= 0:
                found[name] = duration
    return found
