"""v2 inference over HTTP: read the request, have it answered, write the tensors as JSON or binary."""

from __future__ import annotations

from collections.abc import Sequence

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import NO_BODY, read_body
from nearhall.gateway.exchange import Exchange, Header
from nearhall.gateway.http.heads import Head
from nearhall.gateway.http.pack import packed, wanted
from nearhall.gateway.models.model import Model
from nearhall.gateway.plane import Call, Lost, Plane, decide, queue_of, refused
from nearhall.gateway.queues.lanes import Done
from nearhall.gateway.tensors import Give, answer
from nearhall.policy.route import Refuse
from nearhall.wire import headers as names
from nearhall.wire.oip import decode_request, encode_response
from nearhall.wire.oip_tensors import InferRequest

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")


def hopeless(plane: Plane, exchange: Exchange, head: Head, input_bytes: int) -> None:
    """Raises the Refusal that a request would get, where its head alone already says so; counted like any other."""
    model = plane.models.find(head.name, head.version)
    queue = None if model is None else queue_of(model)
    if model is None or queue is None or not queue.waiting:
        return
    call = Call(plane, exchange, head.rules, head.name, model, NO_BODY, input_bytes)
    decision = decide(call, Lost())
    if isinstance(decision, Refuse):
        raise refused(call, decision)


async def infer(plane: Plane, exchange: Exchange, name: str, version: str | None) -> None:
    """Answers POST /v2/models/{name}[/versions/{version}]/infer; raises Refusal or ClientGoneError."""
    rules = plane.workloads.rules(exchange.ask, name)
    exchange.workload = rules.workload
    model = tensors_of(plane, name, version)
    body = await read_body(exchange, plane.limits)
    request = decode_request(body.plain, exchange.ask.head_bytes, plane.numbers)
    call = Call(plane, exchange, rules, name, model, body)
    await answer(call, request, giver(call, request))


def tensors_of(plane: Plane, name: str, version: str | None) -> Model | None:
    """The model, None if it is not here; raises Refusal for one that takes no tensors, and for a version that is not served."""
    model = plane.models.find(name, version)
    if model is not None and model.entry.chat:
        raise Refusal(Reason.UNSUPPORTED, f"model {name!r} is a language model; {model.door}")
    return model


def giver(call: Call, request: InferRequest) -> Give:
    """Writes the answer to a request."""

    async def give(done: Done, headers: list[Header]) -> None:
        encoded, more = written(call, request, done)
        headers += more
        if (coding := wanted(call.exchange.headers, len(encoded))) is not None:
            encoded = await packed(encoded, coding)
            headers.append((b"content-encoding", coding))
        await call.exchange.reply(200, headers, encoded)

    return give


def written(call: Call, request: InferRequest, done: Done) -> tuple[bytes, Sequence[Header]]:
    """An answer's body, and the headers that say how to read it; raises Refusal for values that JSON cannot hold."""
    served = "" if call.model is None else call.model.entry.version
    encoded, head_bytes = encode_response(model=call.name, version=served, request=request, outputs=done.outputs)
    return encoded, (_JSON,) if head_bytes is None else (_BINARY, (names.HEAD_LENGTH, b"%d" % head_bytes))
