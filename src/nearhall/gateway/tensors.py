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
from nearhall.gateway.metering.stats import Answered
from nearhall.gateway.models.variants import Tensors, Upstream
from nearhall.gateway.plane import Call, Lost, counted, loaded, place
from nearhall.gateway.probes import TensorAsk
from nearhall.gateway.queues.lanes import Done, Job, Lane, RuntimeBrokenError, bytes_of
from nearhall.gateway.upstream import pass_through
from nearhall.policy.route import AwaitModel, ForwardToHub, ServeLocal
from nearhall.wire import headers as names
from nearhall.wire.headers import server_timing
from nearhall.wire.oip_tensors import InferRequest, check_inputs, check_outputs, rank_of

Give = Callable[[Done, list[Header]], Awaitable[None]]
"""Writes an answer that was computed here, with the headers that say by whom, why, and in what time."""


async def answer(call: Call, request: InferRequest, give: Give) -> None:
    """Answers one request; raises Refusal, or ClientGoneError when nobody waits for it any more."""
    understood(call, request)
    await answered(call, request, give, Lost())


def understood(call: Call, request: InferRequest) -> None:
    """Notes what the request itself says of its deadline, its rank and its size."""
    if request.timeout_us:
        call.rules = call.rules.within(request.timeout_us / 1e3)
    if call.exchange.ask.priority is None and (rank := rank_of(request.priority)) is not None:
        call.rules = replace(call.rules, priority=rank)
    call.input_bytes = bytes_of(request.inputs)


async def answered(call: Call, request: InferRequest, give: Give, lost: Lost) -> None:
    """Answers what is `understood`, wherever that may be; raises as `answer` does."""
    try:
        await _answered(call, request, give, lost)
    except Refusal:
        failed(call)
        raise


def failed(call: Call) -> None:
    """Counts a request that got no answer."""
    if call.model is not None:
        counted(call).failed(call.spent_ms())


async def _answered(call: Call, request: InferRequest, give: Give, lost: Lost) -> None:
    while True:
        decision = place(call, lost)
        if isinstance(decision, ServeLocal) and call.model is not None:
            try:
                return await _here(call, request, decision.reason, give)
            except RuntimeBrokenError as error:
                broken(call, lost, error)
        elif isinstance(decision, ForwardToHub):
            try:
                return await _at_hub(call, decision.reason)
            except TemporaryError:
                lost.hub = True
        elif isinstance(decision, AwaitModel):
            await loaded(call, decision)


def broken(call: Call, lost: Lost, error: RuntimeBrokenError) -> None:
    """Notes that the model's runtime broke under this request; raises Refusal where nobody else could answer in its place."""
    if call.variant is not None:
        lost.variants.append(call.variant)
    call.broke = str(error)
    if call.model is not None and call.model.entry.stateful:
        raise Refusal(Reason.RUNTIME_FAILED, f"the runtime of model {call.name!r} broke: {error}") from error


async def _here(call: Call, request: InferRequest, reason: Reason, give: Give) -> None:
    served = None if call.variant is None else call.variant.served
    if isinstance(served, Upstream):
        return await pass_through(call, served, reason)
    if not isinstance(served, Tensors):
        raise RuntimeBrokenError("the model has just been unloaded")
    job = job_of(call, request, served)
    done = run_at_once(call, job, served) if quick(call, job, served) else await served.lane.submit(job)
    return await told(call, request, done, reason, give)


def job_of(call: Call, request: InferRequest, served: Tensors) -> Job:
    """What the lane is given; raises Refusal where the tensors do not fit the model."""
    if request.form is None or request.form not in served.fitting:
        check_inputs(request.inputs, served.inputs, call.name)
        check_outputs(request.outputs, served.outputs, call.name)
        if request.form is not None:
            served.fits(request.form)
    return Job(
        inputs=request.inputs,
        outputs=[wanted.name for wanted in request.outputs],
        gone=call.exchange.gone,
        arrived_s=call.plane.clock.monotonic() - call.waited_s,
        due_s=call.due_s,
        deadline_s=call.deadline_s,
        priority=call.rules.priority,
        input_bytes=call.input_bytes,
    )


def quick(call: Call, job: Job, served: Tensors) -> bool:
    """Whether the job runs here and now, on the event loop."""
    return served.lane.quick(job, alone=call.exchange.alone and call.plane.stats.in_flight == 1)


def run_at_once(call: Call, job: Job, served: Tensors) -> Done:
    """Runs it on the event loop."""
    done = served.lane.run_at_once(job)
    call.plane.loop.computed(done.service_ms)
    return done


async def told(call: Call, request: InferRequest, done: Done, reason: Reason, give: Give) -> None:
    """Writes the answer and accounts for it once it has left."""
    learn(call)
    await give(done, said(call, reason, done))
    await call.exchange.until_sent()
    account(call, done, request)


def learn(call: Call) -> None:
    """Tells the lane how far off its reckoning was, and how near the first rank's answers come to their deadlines."""
    queue = None if call.variant is None else call.variant.queue
    if not call.foreseen_ms or not isinstance(queue, Lane):
        return
    if call.rules.priority:
        queue.missed_by(call.spent_ms() - call.foreseen_ms)
    elif call.rules.deadline_ms is not None:
        queue.strained(call.spent_ms() / call.rules.deadline_ms)


def said(call: Call, reason: Reason, done: Done) -> list[Header]:
    """The headers of an answer that was computed here: by whom, why, and in what time."""
    network_ms = max(0.0, call.spent_ms() - done.queue_ms - done.service_ms)
    return [
        (names.SERVED_BY, call.plane.node),
        *call.variant_headers(),
        (names.REASON, reason.value.encode()),
        (names.SERVER_TIMING, server_timing(queue_ms=done.queue_ms, compute_ms=done.service_ms, network_ms=network_ms)),
    ]


def account(call: Call, done: Done, request: InferRequest) -> None:
    """Counts an answer that has been given."""
    plane, probe = call.plane, call.exchange.ask.probe
    latency_ms = call.spent_ms()
    answer = Answered(
        path="local",
        latency_ms=latency_ms,
        queue_ms=done.queue_ms,
        service_ms=done.service_ms,
        target_ms=call.rules.target_ms,
        cpu_ms=done.cpu_ms * _threads(call),
        batch=done.batch,
        raw_bytes=call.exchange.ask.raw_bytes,
    )
    plane.stats.ran("" if probe else call.rules.workload, answer, counted(call), plane.clock.utc())
    if plane.hub is not None and not probe:
        plane.probes.consider(call.exchange, call.rules, latency_ms, TensorAsk(call.name, request, call.body.plain))


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
