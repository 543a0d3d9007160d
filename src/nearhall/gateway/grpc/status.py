"""A refusal as gRPC says it: a status code, words, and the same facts as REST's headers in the trailing metadata."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.wire import headers as names

Metadata = tuple[tuple[str, str], ...]

CODES: Mapping[Reason, grpc.StatusCode] = {
    Reason.RESTARTING: grpc.StatusCode.UNAVAILABLE,
    Reason.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Reason.DEADLINE: grpc.StatusCode.UNAVAILABLE,
    Reason.QUEUE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.RESIDENCY: grpc.StatusCode.UNAVAILABLE,
    Reason.NODES_AWAY: grpc.StatusCode.UNAVAILABLE,
    Reason.HUB_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.MODEL_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    Reason.MODEL_NOT_READY: grpc.StatusCode.UNAVAILABLE,
    Reason.PATH_UNKNOWN: grpc.StatusCode.UNIMPLEMENTED,
    Reason.METHOD_NOT_ALLOWED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.RUNTIME_FAILED: grpc.StatusCode.INTERNAL,
}
"""DEADLINE: refused at arrival; work that was admitted and then ran out of time is DEADLINE_EXCEEDED. TOO_LARGE is what gRPC
itself answers to a message over its limit."""


def code_of(refusal: Refusal, *, expired: bool) -> grpc.StatusCode:
    """The status; `expired` marks work that was admitted and then missed its deadline."""
    return grpc.StatusCode.DEADLINE_EXCEEDED if expired else CODES[refusal.reason]


def trailers(refusal: Refusal) -> Metadata:
    """Why, and when a retry may succeed."""
    why = (names.REASON.decode(), refusal.reason.value)
    if refusal.retry_after_ms is None:
        return why, ("x-should-retry", "false")
    return why, ("retry-after-ms", str(refusal.retry_after_ms))
