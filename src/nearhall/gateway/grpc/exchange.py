"""One ModelInfer call and its answer, in the shape in which the data plane answers HTTP requests.

Tensors that are computed here never take REST's form. Where another server answers, hub or upstream, the call goes there as
binary v2 REST, made only then, and what comes back is read into an answer of gRPC's.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import quote

import msgspec

from nearhall.core.errors import Refusal
from nearhall.core.reasons import SENT_TO_HUB, SERVED_HERE, Reason
from nearhall.gateway.exchange import Exchange, Expired, Header
from nearhall.gateway.forward import header
from nearhall.gateway.grpc.messages import encode_response
from nearhall.gateway.plane import Call
from nearhall.gateway.queues.lanes import Done
from nearhall.ports.clock import Clock
from nearhall.wire import headers as names
from nearhall.wire.headers import parse_ask
from nearhall.wire.oip import decode_response, encode_request
from nearhall.wire.oip_tensors import InferRequest, rank_of

Metadata = Sequence[tuple[str, str | bytes]]

_OURS = "x-nearhall-"
NO_REQUEST = InferRequest(id="", inputs=(), outputs=(), binary_by_default=True, timeout_us=None, priority=None)
_BACK = frozenset({names.SERVED_BY, names.VARIANT, names.STEPPED_DOWN, names.REASON, names.SERVER_TIMING})
"""What an answer's headers say beside its tensors, sent as trailing metadata."""
_REASONS = {
    400: Reason.BAD_REQUEST,
    404: Reason.MODEL_UNKNOWN,
    413: Reason.TOO_LARGE,
    429: Reason.QUEUE_FULL,
    501: Reason.UNSUPPORTED,
    503: Reason.MODEL_NOT_READY,
    504: Reason.DEADLINE,
}
"""What the status of a server that does not speak our headers comes nearest to."""
_REFUSALS = {reason.value: reason for reason in Reason if reason not in SERVED_HERE | SENT_TO_HUB}


class InFlight(Protocol):
    """What is being answered, over whatever protocol."""

    in_flight: int


async def _nothing() -> MutableMapping[str, Any]:
    raise NotImplementedError("a call's message has come before its handler is asked")


async def _nowhere(_: MutableMapping[str, Any]) -> None:
    raise NotImplementedError("a call's answer is what its handler returns")


class CallExchange(Exchange):
    """A ModelInfer call being answered; for whoever answers elsewhere it is its own body in REST's form."""

    __slots__ = ("_came", "_gone", "_parts", "_rest", "_stats", "_status", "back", "request")

    def __init__(self, stats: InFlight, clock: Clock, notes: dict[str, float] | None = None) -> None:
        """`notes`: of the client, as an HTTP connection has them."""
        super().__init__({"type": "http", "method": "POST", "path": "", "headers": ()}, _nothing, _nowhere, clock)
        self._connection = {} if notes is None else notes
        self.request = NO_REQUEST
        """What is asked for; nothing until the message is understood."""
        self.back: bytes | None = None
        """The answer's message, once it was computed here."""
        self._stats = stats
        self._rest: tuple[bytes, int] | None = None
        self._came: Sequence[Header] = ()
        self._parts: list[bytes] = []
        self._status = 0
        self._gone = False

    def ask_for(self, model: str, version: str, metadata: Metadata) -> None:
        """Notes which model is asked for, and how; raises Refusal(BAD_REQUEST) for metadata of ours that is none.

        `version` is empty for the one that is served.
        """
        versions = f"/versions/{quote(version, safe='')}" if version else ""
        self.path = f"/v2/models/{quote(model, safe='')}{versions}/infer"
        ours = [(k.encode(), v.encode() if isinstance(v, str) else v) for k, v in metadata if k.startswith(_OURS)]
        if ours:
            self.scope["headers"] = ours
            self.ask = parse_ask(ours)

    def rank(self) -> None:
        """Says v2's `parameters.priority`, which the REST form leaves out, in our header; one that is there comes first."""
        rank = rank_of(self.request.priority)
        if self.ask.priority is None and rank is not None:
            self.scope["headers"] = [*self.scope["headers"], (names.PRIORITY, b"%d" % rank)]
            self.ask = replace(self.ask, priority=rank)

    @property
    def notes(self) -> dict[str, float]:
        """What is to be remembered of the client."""
        return self._connection

    @property
    def rest(self) -> tuple[bytes, int]:
        """The call as binary v2 REST, made when somebody asks for it: its body, and the length of its JSON head."""
        if self._rest is None:
            self._rest = encode_request(self.request)
        return self._rest

    @property
    def raw(self) -> bytes:
        """That body."""
        return self.rest[0]

    @property
    def plain(self) -> bytes:
        """The same: it is not compressed."""
        return self.rest[0]

    @property
    def headers(self) -> Sequence[Header]:
        """As the call's REST form has them."""
        kind = (b"content-type", b"application/octet-stream")
        return [kind, (names.HEAD_LENGTH, b"%d" % self.rest[1]), *self.scope["headers"]]

    @property
    def alone(self) -> bool:
        """Whether no other request is being answered, over whatever protocol."""
        return self._stats.in_flight == 1

    def gone(self) -> bool:
        """Whether the call was cancelled; safe to ask from any thread."""
        return self._gone

    def leave(self) -> None:
        """Notes that the client has cancelled, or its deadline has passed."""
        self._gone = True

    def abort(self) -> None:
        """An answer that cannot end is not whole: `answered` will say so."""
        self._status = 0

    async def head(self, status: int, headers: Sequence[Header]) -> None:
        """Keeps another server's status and headers."""
        self.started, self._status, self._came = True, status, list(headers)

    async def part(self, body: bytes, *, more: bool = True) -> None:
        """Keeps a piece of another server's body."""
        self.ended = not more
        self._parts.append(body)

    async def until_sent(self) -> None:
        """Nothing to wait for: the message leaves when the handler returns it."""

    async def give(self, call: Call, done: Done, headers: list[Header]) -> None:
        """Makes the answer of what was computed here."""
        version = "" if call.model is None else call.model.entry.version
        self._came = headers
        self.back = encode_response(model=call.name, version=version, request=self.request, outputs=done.outputs)

    def answered(self) -> bytes:
        """The answer's message, wherever it was made; raises Refusal where another server refused or broke off."""
        if self.back is not None:
            return self.back
        body = b"".join(self._parts)
        if not self._status or not self.ended:
            raise Refusal(Reason.RUNTIME_FAILED, "the answer broke off")
        if self._status != 200:
            raise refusal_of(self._status, self._came, body)
        length = header(self._came, names.HEAD_LENGTH)
        name, version, outputs = decode_response(body, int(length) if length is not None and length.isdigit() else None)
        return encode_response(model=name, version=version, request=self.request, outputs=outputs)

    def trailing(self) -> tuple[tuple[str, str], ...]:
        """By whom, why and in what time, as metadata."""
        return tuple((k.decode(), plain_text(v)) for k, v in self._came if k in _BACK)

    @property
    def served_by(self) -> bytes | None:
        """The server elsewhere that answered or refused; None if it was nobody, or does not say."""
        return header(self._came, names.SERVED_BY)


def refusal_of(status: int, headers: Sequence[Header], body: bytes) -> Refusal:
    """What another server's refusal says, in REST's form."""
    try:
        said = str(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        said = f"the server behind this one answered with status {status}"
    named = (header(headers, names.REASON) or b"").decode("latin-1")
    reason = _REFUSALS.get(named) or _REASONS.get(status, Reason.RUNTIME_FAILED)
    after = header(headers, b"retry-after-ms")
    kind = Expired if status == 504 else Refusal
    return kind(reason, said, retry_after_ms=int(after) if after is not None and after.isdigit() else None)


def plain_text(value: bytes) -> str:
    """A header's value as metadata may hold it: ASCII."""
    return value.decode("latin-1").encode("ascii", "replace").decode()
