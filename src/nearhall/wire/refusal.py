"""A refusal as an HTTP response: status, headers and a body in the shape the client's protocol expects."""

from __future__ import annotations

from math import ceil

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason

Header = tuple[bytes, bytes]

STATUS: dict[Reason, int] = {
    Reason.RESTARTING: 503,
    Reason.DRAINING: 503,
    Reason.DEADLINE: 503,
    Reason.QUEUE_FULL: 429,
    Reason.RESIDENCY: 503,
    Reason.NODES_AWAY: 503,
    Reason.HUB_UNREACHABLE: 503,
    Reason.MODEL_UNKNOWN: 404,
    Reason.MODEL_NOT_READY: 503,
    Reason.PATH_UNKNOWN: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.BAD_REQUEST: 400,
    Reason.UNSUPPORTED: 400,
    Reason.TOO_LARGE: 413,
    Reason.RUNTIME_FAILED: 500,
}
"""DESIGN's refusals: 429, 503, 504; a request that was admitted and then ran out of time is 504 (`expired`)."""

_OPENAI_TYPE = {**dict.fromkeys((400, 404, 405, 413), "invalid_request_error"), 429: "rate_limit_error"}


def refusal_response(refusal: Refusal, path: str, *, expired: bool = False) -> tuple[int, list[Header], bytes]:
    """Status, headers and body for a refusal of a request to `path`.

    Paths under `/v1/` get OpenAI's error object, all others `{"error": "..."}` (Open Inference Protocol v2).
    `expired` marks work that was admitted and then missed its deadline (504).
    """
    status = 504 if expired else STATUS[refusal.reason]
    message = refusal.message
    if path.startswith("/v1/"):
        error = {
            "message": message,
            "type": _OPENAI_TYPE.get(status, "server_error"),
            "param": refusal.parameter,
            "code": refusal.reason.value,
        }
        body = msgspec.json.encode({"error": error})
    else:
        body = msgspec.json.encode({"error": message})
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-nearhall-reason", refusal.reason.value.encode()),
    ]
    if refusal.allow:
        headers.append((b"allow", ", ".join(refusal.allow).encode()))
    if refusal.retry_after_ms is None:
        headers.append((b"x-should-retry", b"false"))
    else:
        headers.append((b"retry-after", str(max(1, ceil(refusal.retry_after_ms / 1000))).encode()))
        headers.append((b"retry-after-ms", str(refusal.retry_after_ms).encode()))
    return status, headers, body
