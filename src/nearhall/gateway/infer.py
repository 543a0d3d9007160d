"""v2 inference: decode, place, run or forward, encode, and account for the time."""

from __future__ import annotations

from nearhall.core.errors import Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.body import read_body
from nearhall.gateway.exchange import Exchange, Expired
from nearhall.gateway.forward import header, hub_times, link_bytes, returned_headers, whole_body
from nearhall.gateway.lanes import Done, Job, RuntimeBrokenError
from nearhall.gateway.models import Model, Tensors, Upstream
from nearhall.gateway.plane import Call, Lost, Plane, place
from nearhall.gateway.probes import TensorAsk
from nearhall.gateway.stats import Answered
from nearhall.gateway.upstream import pass_through
from nearhall.policy.route import ForwardToHub, ServeLocal
from nearhall.wire import headers as names
from nearhall.wire.headers import server_timing
from nearhall.wire.oip import InferRequest, check_inputs, check_outputs, decode_request, encode_response

_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")


async def infer(plane: Plane, exchange: Exchange, name: str, version: str | None) -> None:
    """Answers POST /v2/models/{name}[/versions/{version}]/infer; raises Refusal or ClientGoneError."""
    rules = plane.workloads.rules(exchange.ask, name)
    exchange.workload = rules.workload
    model = plane.models.find(name, version)
    if model is not None and model.entry.chat:
        raise Refusal(Reason.UNSUPPORTED, f"model {name!r} is a language model; ask it at /v1/chat/completions")
    body = await read_body(exchange, plane.limits)
    request = decode_request(body.plain, exchange.ask.head_bytes)
    if request.timeout_us:
        rules = rules.within(request.timeout_us / 1e3)
    call = Call(plane, exchange, rules, name, model, body)
    lost = Lost()
    while True:
        decision = place(call, lost)
        if isinstance(decision, ServeLocal) and model is not None:
            try:
                return await _here(call, model, request, decision.reason)
            except RuntimeBrokenError as error:
                lost.runtime = True
                if model.entry.stateful:
                    raise Refusal(Reason.RUNTIME_FAILED, f"the runtime of model {name!r} broke: {error}") from error
        elif isinstance(decision, ForwardToHub):
            try:
                return await _at_hub(call, decision.reason)
            except TemporaryError:
                lost.hub = True


async def _here(call: Call, model: Model, request: InferRequest, reason: Reason) -> None:
    exchange, served = call.exchange, model.served
    if isinstance(served, Upstream):
        return await pass_through(call, model, served, reason)
    if not isinstance(served, Tensors):
        raise RuntimeBrokenError("the model has just been unloaded")
    check_inputs(request.inputs, served.inputs, call.name)
    check_outputs(request.outputs, served.outputs, call.name)
    job = Job(
        inputs=request.inputs,
        outputs=[wanted.name for wanted in request.outputs],
        gone=exchange.gone,
        arrived_s=call.plane.clock.monotonic(),
        due_s=call.due_s,
        deadline_s=call.deadline_s,
        priority=call.rules.priority,
    )
    done = await served.lane.submit(job)
    encoded, head_bytes = encode_response(model=call.name, version=model.entry.version, request=request, outputs=done.outputs)
    headers = _headers(call, model, reason, done)
    if head_bytes is None:
        headers.append(_JSON)
    else:
        headers += [_BINARY, (names.HEAD_LENGTH, b"%d" % head_bytes)]
    await exchange.reply(200, headers, encoded)
    await exchange.until_sent()
    _account(call, done, request)
    return None


def _headers(call: Call, model: Model, reason: Reason, done: Done) -> list[tuple[bytes, bytes]]:
    network_ms = max(0.0, call.spent_ms() - done.queue_ms - done.service_ms)
    return [
        (names.SERVED_BY, call.plane.node),
        (names.VARIANT, model.entry.variant.encode()),
        (names.REASON, reason.value.encode()),
        (names.SERVER_TIMING, server_timing(queue_ms=done.queue_ms, compute_ms=done.service_ms, network_ms=network_ms)),
    ]


def _account(call: Call, done: Done, request: InferRequest) -> None:
    latency_ms = call.spent_ms()
    if call.exchange.ask.probe:
        return
    call.plane.stats.answered(
        call.rules.workload,
        Answered(
            path="local",
            latency_ms=latency_ms,
            queue_ms=done.queue_ms,
            service_ms=done.service_ms,
            target_ms=call.rules.target_ms,
            cpu_ms=done.cpu_ms,
            raw_bytes=call.exchange.ask.raw_bytes,
        ),
    )
    call.plane.probes.consider(call.exchange, call.rules, latency_ms, TensorAsk(call.name, request, call.body.plain))


async def _at_hub(call: Call, reason: Reason) -> None:
    """Lets the hub answer; its answer is read whole before anything is sent, so that a lost link can still be made good."""
    plane, hub = call.plane, call.plane.hub
    if hub is None:
        raise TemporaryError("there is no hub")
    left_ms, residency = call.left_ms, call.rules.residency
    ask = hub.request(call.exchange, call.body.raw, residency=residency, deadline_ms=left_ms, total_ms=None, whole_ms=left_ms)
    begun = plane.clock.monotonic()
    counts = plane.stats.of(call.rules.workload)
    try:
        async with hub.exchange(ask) as response:
            try:
                answer = await whole_body(response)
            finally:
                counts.sent_bytes += link_bytes(response)
    except (TemporaryError, TimeoutError) as error:
        left = call.left_ms
        if left is not None and left <= 0:
            raise Expired(Reason.DEADLINE, "the deadline passed on the way to the hub", retry_after_ms=None) from error
        raise TemporaryError(str(error)) from error
    took_ms = (plane.clock.monotonic() - begun) * 1e3
    good = response.status == 200
    sent_reason = reason.value.encode() if good else None
    headers = returned_headers(response.headers, reason=sent_reason, total_ms=call.spent_ms())
    await call.exchange.reply(response.status, headers, answer)
    await call.exchange.until_sent()
    if not good:
        plane.stats.refused(call.rules.workload, reason_of(header(response.headers, names.REASON)))
        return
    hub.learn(call.name, took_ms)
    queue_ms, service_ms = hub_times(response.headers)
    plane.stats.answered(
        call.rules.workload,
        Answered(
            path="hub",
            latency_ms=call.spent_ms(),
            queue_ms=queue_ms,
            service_ms=service_ms,
            target_ms=call.rules.target_ms,
            raw_bytes=call.exchange.ask.raw_bytes,
        ),
    )


def reason_of(value: bytes | None) -> Reason:
    """The reason that the hub gave for refusing; an answer without one is a fault."""
    try:
        return Reason((value or b"").decode("latin-1"))
    except ValueError:
        return Reason.RUNTIME_FAILED
