"""v2 inference over HTTP: read the request, have it answered, write the tensors as JSON or binary."""

from __future__ import annotations

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import NO_BODY, read_body
from nearhall.gateway.exchange import Exchange, Header
from nearhall.gateway.lanes import Done
from nearhall.gateway.pack import packed, wanted
from nearhall.gateway.plane import Call, Lost, Plane, decide, queue_of, refused
from nearhall.gateway.tensors import answer
from nearhall.policy.route import Refuse
from nearhall.wire import headers as names
from nearhall.wire.oip import decode_request, encode_response

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")


def hopeless(plane: Plane, exchange: Exchange, name: str, version: str | None, input_bytes: int) -> None:
    """Raises the Refusal that a request would get, where its head alone already says so; counted like any other."""
    if exchange.ask.deadline_ms is None:
        return
    model = plane.models.find(name, version)
    queue = None if model is None else queue_of(model)
    if model is None or queue is None or not queue.waiting:
        return
    rules = plane.workloads.rules(exchange.ask, name)
    exchange.workload = rules.workload
    call = Call(plane, exchange, rules, name, model, NO_BODY, input_bytes)
    decision = decide(call, Lost())
    if isinstance(decision, Refuse):
        raise refused(call, decision)


async def infer(plane: Plane, exchange: Exchange, name: str, version: str | None) -> None:
    """Answers POST /v2/models/{name}[/versions/{version}]/infer; raises Refusal or ClientGoneError."""
    rules = plane.workloads.rules(exchange.ask, name)
    exchange.workload = rules.workload
    model = plane.models.find(name, version)
    if model is not None and model.entry.chat:
        raise Refusal(Reason.UNSUPPORTED, f"model {name!r} is a language model; {model.door}")
    body = await read_body(exchange, plane.limits)
    request = decode_request(body.plain, exchange.ask.head_bytes)
    call = Call(plane, exchange, rules, name, model, body)

    async def give(done: Done, headers: list[Header]) -> None:
        served = "" if call.model is None else call.model.entry.version
        encoded, head_bytes = encode_response(model=name, version=served, request=request, outputs=done.outputs)
        if head_bytes is None:
            headers.append(_JSON)
        else:
            headers += [_BINARY, (names.HEAD_LENGTH, b"%d" % head_bytes)]
        if (coding := wanted(exchange.headers, len(encoded))) is not None:
            encoded = await packed(encoded, coding)
            headers.append((b"content-encoding", coding))
        await exchange.reply(200, headers, encoded)

    await answer(call, request, give)
