"""ModelInfer against the real data plane, without sockets: where a call is answered, how it ends, what is counted."""

from __future__ import annotations

import asyncio
import struct

import grpc
import pytest

from gateway.plane_rig import rig
from nearhall.core.errors import TemporaryError
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.calls import Calls
from nearhall.gateway.grpc.here import CallsHere
from nearhall.gateway.upstream import HELD_BYTES_MAX
from nearhall.policy.storm import IMPATIENT_S, OVER_BUDGET_S, Budget
from nearhall.ports.runtime import ForwardResponse, LinkUse
from nearhall.wire.oip import decode_request, encode_response
from waiting import until_async


class AbortedError(Exception):
    """What a real context's abort raises."""


class Context:
    """A call as grpc.aio shows it to its handler."""

    def __init__(self, metadata=(), left_s=None, peer="ipv4:127.0.0.1:5"):
        self._metadata, self._left_s, self._peer = tuple(metadata), left_s, peer
        self.code, self.said, self.trailing = None, "", {}

    def invocation_metadata(self):
        return self._metadata

    def time_remaining(self):
        return self._left_s

    def peer(self):
        return self._peer

    def set_trailing_metadata(self, pairs):
        self.trailing = dict(pairs)

    async def abort(self, code, details, trailing=()):
        self.code, self.said, self.trailing = code, details, dict(trailing)
        raise AbortedError


def message(values=(1.0, 2.0, 3.0, 4.0), *, model="double", version="", **parameters):
    asked = pb.ModelInferRequest(model_name=model, model_version=version, id="9")
    asked.inputs.add(name="x", datatype="FP32", shape=[len(values) // 4, 4])
    asked.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
    for key, value in parameters.items():
        asked.parameters[key].int64_param = value
    return asked.SerializeToString()


async def answered(calls, data, context):
    found = pb.ModelInferResponse.FromString(await calls.infer(data, context))
    return list(struct.unpack(f"<{len(found.raw_output_contents[0]) // 4}f", found.raw_output_contents[0])), found


async def refused(calls, data, context):
    with pytest.raises(AbortedError):
        await calls.infer(data, context)
    return context.code, context.trailing.get("x-nearhall-reason"), context.said


class Hub:
    """A hub that triples, refuses, breaks off, or says what cannot be read."""

    kept_warm_bytes = 0

    def __init__(self, *, does="answers"):
        self.reachable = True
        self.does = does
        self.asked = []

    async def forward(self, request, *, probe=False):
        self.asked.append((request, probe))
        headers = dict(request.headers)
        found = decode_request(request.body, int(headers[b"inference-header-content-length"]))
        (given,) = found.inputs
        status, more = 200, []
        if self.does == "answers":
            values = [3 * v for v in given.data.cast("f").tolist()]
            given = type(given)("y", "FP32", given.shape, memoryview(struct.pack(f"<{len(values)}f", *values)))
            body, head = encode_response(model="double", version="4", request=found, outputs=[given])
            more = [
                (b"inference-header-content-length", b"%d" % head),
                (b"x-nearhall-served-by", b"hub"),
                (b"x-nearhall-variant", b"gr\xfcn"),
            ]
        elif self.does == "refuses":
            status, body = 429, b'{"error": "the queue is full"}'
            more = [(b"x-nearhall-reason", b"queue_full"), (b"retry-after-ms", b"70")]
        elif self.does == "is late":
            status, body = 504, b'{"error": "the deadline passed in the queue"}'
            more = [(b"x-nearhall-reason", b"deadline"), (b"x-should-retry", b"false")]
        elif self.does == "is foreign":
            status, body = 404, b"<html>"
        elif self.does == "breaks off":
            raise TemporaryError("the link is down")
        else:
            body = b"nonsense"

        async def parts():
            yield body

        return ForwardResponse(status=status, headers=more, body=parts(), link=LinkUse(sent=10, received=20))

    async def close(self):
        pass


def run(story, folder, **more):
    async def tell():
        async with rig(folder, **more) as site:
            await story(site, Calls(CallsHere(site.composed.plane)))

    asyncio.run(tell())


def test_a_call_is_answered_here_and_says_by_whom_and_why(tmp_path):
    async def story(site, calls):
        context = Context([("x-nearhall-workload", "cams"), ("user-agent", "t")], left_s=1.0)
        values, found = await answered(calls, message(), context)
        assert values == [2.0, 4.0, 6.0, 8.0]
        assert (found.model_name, found.model_version, found.id) == ("double", "1", "9")
        assert context.trailing["x-nearhall-served-by"] == "s/n"
        assert context.trailing["x-nearhall-reason"] == "local_first"
        assert context.trailing["server-timing"].startswith("queue;dur=")
        counted = site.counted("cams")
        assert counted.answered == {"local": 1, "hub": 0}
        assert site.composed.plane.stats.model("double", "1").frozen().success.count == 1
        assert site.composed.plane.stats.in_flight == 0

    run(story, tmp_path, models=["double"], workloads=[{"id": "cams", "model": "double"}])


def test_refusals_have_a_status_and_a_reason(tmp_path):
    async def story(site, calls):
        await answered(calls, message(version="1"), Context())
        cases = {
            grpc.StatusCode.NOT_FOUND: ("model_unknown", message(model="none"), Context()),
            grpc.StatusCode.UNIMPLEMENTED: ("unsupported", message(sequence_id=1), Context()),
            grpc.StatusCode.INVALID_ARGUMENT: ("bad_request", message([1.0] * 4, model="double") + b"\x3a\x00", Context()),
            grpc.StatusCode.UNAVAILABLE: ("deadline", message(), Context(left_s=1e-6)),
        }
        for code, (reason, data, context) in cases.items():
            assert (await refused(calls, data, context))[:2] == (code, reason)
            assert context.trailing["x-nearhall-served-by"] == "s/n"
        assert (await refused(calls, message(model="parrot"), Context()))[2].startswith("model 'parrot' is a language model")
        assert (await refused(calls, message(version="2"), Context()))[0] is grpc.StatusCode.NOT_FOUND
        bad = Context([("x-nearhall-priority", "x")])
        assert (await refused(calls, message(), bad))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert (await refused(calls, b"\xff", Context()))[0] is grpc.StatusCode.INVALID_ARGUMENT
        counted = site.counted("model:double")
        assert counted.rejected == {"unsupported": 1, "bad_request": 1, "deadline": 1, "model_unknown": 1}
        assert site.composed.plane.stats.model("double", "1").frozen().fail.count == 1

    run(story, tmp_path, models=["double"], chats=["parrot"])


def test_the_earliest_deadline_counts(tmp_path):
    async def story(site, calls):
        generous = {"metadata": [("x-nearhall-deadline-ms", "5000")], "left_s": 5.0}
        await answered(calls, message(timeout=5_000_000), Context(**generous))
        for data, context in (
            (message(timeout=1), Context(**generous)),
            (message(timeout=5_000_000), Context(metadata=[("x-nearhall-deadline-ms", "0.01")], left_s=5.0)),
            (message(timeout=5_000_000), Context(metadata=[("x-nearhall-deadline-ms", "5000")], left_s=1e-6)),
        ):
            assert (await refused(calls, data, context))[:2] == (grpc.StatusCode.UNAVAILABLE, "deadline")
            assert int(context.trailing["retry-after-ms"]) >= 1

    run(story, tmp_path, models=["double"])


async def held(site, calls):
    """The lane of a model whose every worker is at a call, and those calls."""
    site.runtimes["double"].go.clear()
    lane = site.composed.plane.models.find("double").served.lane
    running = [asyncio.create_task(answered(calls, message(), Context())) for _ in range(lane.workers_max)]
    await until_async(lambda: lane.running == lane.workers_max and not lane.waiting, what="every worker is at work")
    return lane, running


def test_work_that_ran_out_of_time_in_the_queue_exceeded_its_deadline(tmp_path):
    async def story(site, calls):
        lane, running = await held(site, calls)
        clock, context = site.composed.plane.clock, Context(left_s=0.2)
        passes_s = clock.monotonic() + 0.2
        late = asyncio.create_task(refused(calls, message(), context))
        await until_async(lambda: lane.waiting == 1 and clock.monotonic() > passes_s, what="one waits past its deadline")
        site.runtimes["double"].go.set()
        await asyncio.gather(*running)
        assert (await late)[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline")
        assert context.trailing["x-should-retry"] == "false"

    run(story, tmp_path, models=["double"])


def test_a_cancelled_call_frees_its_place(tmp_path):
    async def story(site, calls):
        runtime = site.runtimes["double"]
        await answered(calls, message(), Context())
        ran = runtime.runs
        lane, running = await held(site, calls)
        given_up = asyncio.create_task(calls.infer(message(), Context()))
        late = asyncio.create_task(calls.infer(message(), passed := Context(left_s=60.0)))
        await until_async(lambda: lane.waiting == 2, what="two wait")
        passed._left_s = 0.0  # gRPC ends a call at its deadline as it does one that was cancelled
        for task in (given_up, late):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        runtime.go.set()
        await asyncio.gather(*running)
        await answered(calls, message(), Context())
        assert runtime.runs == ran + len(running) + 1, "what was cancelled has not run"
        assert site.counted("model:double").cancelled == 1
        assert site.counted("model:double").rejected == {"deadline": 1}
        assert site.composed.plane.stats.in_flight == 0

    run(story, tmp_path, models=["double"])


@pytest.mark.parametrize(("priority", "header", "rank"), [(1, None, 0), (0, None, 5), (1, "9", 9), (9, None, 8), (77, None, 9)])
def test_v2_priority_is_the_rank_in_the_queue_and_our_header_wins(tmp_path, priority, header, rank):
    async def story(site, calls):
        lane, tasks = await held(site, calls)
        tasks.append(asyncio.create_task(answered(calls, message(), Context())))
        metadata = [] if header is None else [("x-nearhall-priority", header)]
        tasks.append(asyncio.create_task(answered(calls, message(priority=priority), Context(metadata))))
        await until_async(lambda: lane.waiting == 2, what="two wait")
        assert [job.priority for _, job in lane._waiting] == sorted([5, rank])
        site.runtimes["double"].go.set()
        await asyncio.gather(*tasks)

    run(story, tmp_path, models=["double"], workloads=[{"id": "w", "model": "double", "priority": 5}])


def test_the_hub_answers_what_is_not_here(tmp_path):
    hub = Hub()

    async def story(site, calls):
        context = Context([("x-nearhall-residency", "jurisdiction:DE"), ("authorization", "secret")], left_s=5.0)
        values, found = await answered(calls, message(model="far/../away", version="4"), context)
        assert values == [3.0, 6.0, 9.0, 12.0]
        assert (found.model_version, found.id) == ("4", "9")
        assert (context.trailing["x-nearhall-served-by"], context.trailing["x-nearhall-reason"]) == ("hub", "hub_model_absent")
        assert context.trailing["x-nearhall-variant"] == "gr?n"
        request, probe = hub.asked[-1]
        assert request.path == "/v2/models/far%2F..%2Faway/versions/4/infer"
        assert not probe
        sent = dict(request.headers)
        assert b"authorization" not in sent
        assert 0 < float(sent[b"x-nearhall-deadline-ms"]) <= 5000
        counted = site.counted("model:far/../away")
        assert counted.answered == {"local": 0, "hub": 1}
        assert counted.sent_bytes == 30

    run(story, tmp_path, models=["double"], fallback=hub)


def test_what_the_hub_refuses_is_refused_and_counted_once(tmp_path):
    async def story(site, calls):
        hub = site.hub
        expected = {
            "refuses": (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full", "the queue is full"),
            "is late": (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline", "the deadline passed in the queue"),
            "is foreign": (grpc.StatusCode.NOT_FOUND, "model_unknown", "the server behind this one answered with status 404"),
            "is mad": (grpc.StatusCode.INTERNAL, "runtime_failed", None),
            "breaks off": (grpc.StatusCode.UNAVAILABLE, "hub_unreachable", None),
        }
        for does, (code, reason, says) in expected.items():
            hub.does = does
            context = Context()
            found = await refused(calls, message(model="away"), context)
            assert found[:2] == (code, reason)
            assert says is None or says == found[2]
        counted = site.counted("model:away")
        assert counted.rejected == {"queue_full": 1, "deadline": 1, "hub_unreachable": 1}
        assert counted.failed == 1, "an answer without a reason is a fault"

    hub = Hub()

    async def tell():
        async with rig(tmp_path, models=["double"], fallback=hub) as site:
            site.hub = hub
            await story(site, Calls(CallsHere(site.composed.plane)))

    asyncio.run(tell())


def test_a_probe_repeats_the_call_in_the_protocol_of_gateways(tmp_path):
    hub = Hub()

    async def story(site, calls):
        await answered(calls, message(), Context([("x-nearhall-probe", "1")]))
        assert site.counted("model:double").answered["local"] == 1, "a client that claims to be a gateway is counted all the same"
        await until_async(lambda: bool(hub.asked), what="a probe")
        request, probe = hub.asked[0]
        assert probe
        assert request.path == "/v2/models/double/infer"

    run(story, tmp_path, models=["double"], fallback=hub, probe={"share": 1.0, "per_second_max": 100.0})


class Elsewhere:
    """A v2 server behind the gateway that answers in JSON."""

    alive = True

    def __init__(self):
        self.body = b'{"model_name": "theirs", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [7]}]}'
        self.status = 200
        self.breaks = False
        self.padding = b""

    async def forward(self, request):
        self.request = request

        async def parts():
            yield self.body[:10] + self.padding
            if self.breaks:
                raise TemporaryError("gone")
            yield self.body[10:]

        return ForwardResponse(status=self.status, headers=[(b"content-type", b"application/json")], body=parts(), link=None)

    async def close(self):
        pass


def test_a_server_behind_the_gateway_answers_grpc_too(tmp_path):
    place = tmp_path / "models" / "far"
    place.mkdir(parents=True)
    (place / "model.yaml").write_text(
        "schema: nearhall/model/v1\nname: far\ntask: tensors\nlicence: x\nsource: x\n"
        "versions: {'1': {variants: {v: {runtime: upstream, file: 'http://127.0.0.1:9'}}}}\n"
        "default_version: '1'\ndefault_variant: v\n"
    )
    server = Elsewhere()

    async def story(site, calls):
        context = Context()
        values, found = await answered(calls, message(model="far"), context)
        assert values == [7.0]
        assert found.model_name == "theirs"
        assert context.trailing["x-nearhall-variant"] == "v"
        assert site.composed.plane.stats.model("far", "1").frozen().success.count == 1
        server.status, server.body = 400, b'{"error": "no such input"}'
        assert await refused(calls, message(model="far"), Context()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "bad_request",
            "no such input",
        )
        server.status, server.breaks = 200, True
        code, reason, says = await refused(calls, message(model="far"), Context())
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "model_not_ready"), "nothing was sent: it may be asked again"
        assert says.startswith("model 'far' broke off under this request, and no other place may answer: ")
        server.padding = b" " * HELD_BYTES_MAX
        code, _, says = await refused(calls, message(model="far"), Context())
        assert (code, says) == (grpc.StatusCode.INTERNAL, "the answer broke off")

    run(story, tmp_path / "models", upstream=server)


def test_a_fault_of_ours_is_told_without_a_traceback(tmp_path, caplog):
    async def story(site, calls):
        plane = site.composed.plane
        plane.workloads = None
        code, reason, says = await refused(calls, message(), Context())
        assert (code, reason) == (grpc.StatusCode.INTERNAL, "runtime_failed")
        assert says == "the gateway failed; its log says why"
        assert "Traceback" in caplog.text

    run(story, tmp_path, models=["double"])


def test_in_a_storm_a_client_that_comes_back_at_once_waits(tmp_path):
    async def story(site, calls):
        clock = site.composed.plane.clock

        async def waited_s(peer):
            begun_s = clock.monotonic()
            await refused(calls, message(), Context(left_s=1e-6, peer=peer))
            return clock.monotonic() - begun_s

        assert min([await waited_s("a") for _ in range(4)]) < OVER_BUDGET_S
        calls._by._budget = Budget(tokens=-1e12, at_s=0.0)
        assert max([await waited_s("a") for _ in range(4)]) >= IMPATIENT_S
        strangers = [await waited_s(peer) for peer in "bcdb"]  # only the last client is remembered: no more may be connected
        assert min(strangers) >= OVER_BUDGET_S
        assert min(strangers[-1], await waited_s("c"), await waited_s("a")) < IMPATIENT_S
        assert max([await waited_s("a") for _ in range(4)]) >= IMPATIENT_S

    run(story, tmp_path, models=["double"], limits={"connections": 1})
