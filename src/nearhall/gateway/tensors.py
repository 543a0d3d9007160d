"""One tensor request, whatever it came by: place it, run it here or let the hub answer, and account for the time.

HTTP and gRPC share this. What is theirs is how a request is read and how an answer is written: `give` writes what was computed
here; an answer from elsewhere is a v2 REST answer and goes to the exchange's own `reply`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from nearhall.core.errors import Refusal, TemporaryError
from nearhall.core.reasons import Reason
from nearhall.gateway.exchange import Expired, Header
from nearhall.gateway.forward import header, hub_times, link_bytes, returned_headers, whole_body
from nearhall.gateway.lanes import Done, Job, RuntimeBrokenError, bytes_of
from nearhall.gateway.plane import Call, Lost, counted, loaded, place
from nearhall.gateway.probes import TensorAsk
from nearhall.gateway.stats import Answered
from nearhall.gateway.upstream import pass_through
from nearhall.gateway.variants import Tensors, Upstream
from nearhall.policy.route import AwaitModel, ForwardToHub, ServeLocal
from nearhall.wire import headers as names
from nearhall.wire.headers import server_timing
from nearhall.wire.oip_tensors import InferRequest, check_inputs, check_outputs, rank_of

Give = Callable[[Done, list[Header]], Awaitable[None]]
"""Writes an answer that was computed here, with the headers that say by whom, why, and in what time."""


async def answer(call: Call, request: InferRequest, give: Give) -> None:
    """Answers one request; raises Refusal, or ClientGoneError when nobody waits for it any more."""
    if request.timeout_us:
        call.rules = call.rules.within(request.timeout_us / 1e3)
    if call.exchange.ask.priority is None and (rank := rank_of(request.priority)) is not None:
        call.rules = replace(call.rules, priority=rank)
    call.input_bytes = bytes_of(request.inputs)
    try:
        await _answer(call, request, give)
    except Refusal:
        if call.model is not None:
            counted(call).failed(call.spent_ms())
        raise


async def _answer(call: Call, request: InferRequest, give: Give) -> None:
    lost = Lost()
    while True:
        decision = place(call, lost)
        if isinstance(decision, ServeLocal) and call.model is not None:
            try:
                return await _here(call, request, decision.reason, give)
            except RuntimeBrokenError as error:
                lost.runtime = True
                if call.model.entry.stateful:
                    raise Refusal(Reason.RUNTIME_FAILED, f"the runtime of model {call.name!r} broke: {error}") from error
        elif isinstance(decision, ForwardToHub):
            try:
                return await _at_hub(call, decision.reason)
            except TemporaryError:
                lost.hub = True
        elif isinstance(decision, AwaitModel):
            await loaded(call, decision)


async def _here(call: Call, request: InferRequest, reason: Reason, give: Give) -> None:
    served = None if call.variant is None else call.variant.served
    if isinstance(served, Upstream):
        return await pass_through(call, served, reason)
    if not isinstance(served, Tensors):
        raise RuntimeBrokenError("the model has just been unloaded")
    check_inputs(request.inputs, served.inputs, call.name)
    check_outputs(request.outputs, served.outputs, call.name)
    job = Job(
        inputs=request.inputs,
        outputs=[wanted.name for wanted in request.outputs],
        gone=call.exchange.gone,
        arrived_s=call.plane.clock.monotonic() - call.waited_s,
        due_s=call.due_s,
        deadline_s=call.deadline_s,
        priority=call.rules.priority,
        input_bytes=call.input_bytes,
    )
    lane = served.lane
    done = (
        lane.run_at_once(job)
        if lane.quick(job, alone=call.exchange.alone and call.plane.stats.in_flight == 1)
        else await lane.submit(job)
    )
    await give(done, _headers(call, reason, done))
    await call.exchange.until_sent()
    _account(call, done, request)
    return None


def _headers(call: Call, reason: Reason, done: Done) -> list[Header]:
    network_ms = max(0.0, call.spent_ms() - done.queue_ms - done.service_ms)
    return [
        (names.SERVED_BY, call.plane.node),
        *call.variant_headers(),
        (names.REASON, reason.value.encode()),
        (names.SERVER_TIMING, server_timing(queue_ms=done.queue_ms, compute_ms=done.service_ms, network_ms=network_ms)),
    ]


def _account(call: Call, done: Done, request: InferRequest) -> None:
    latency_ms = call.spent_ms()
    counted(call).answered(
        latency_ms=latency_ms,
        queue_ms=done.queue_ms,
        compute_ms=done.service_ms,
        at_s=call.plane.clock.utc(),
        together=done.batch,
    )
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
            cpu_ms=done.cpu_ms * _threads(call),
            batch=done.batch,
            raw_bytes=call.exchange.ask.raw_bytes,
        ),
    )
    if call.plane.hub is not None:
        call.plane.probes.consider(call.exchange, call.rules, latency_ms, TensorAsk(call.name, request, call.body.plain))


def _threads(call: Call) -> int:
    """Threads that a run is spread over; the lane's own, whose CPU time is counted, is one of them and does its part."""
    return 1 if call.variant is None else call.variant.entry.file.threads


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
                body = await whole_body(response)
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
    await call.exchange.reply(response.status, headers, body)
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
