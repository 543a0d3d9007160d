"""Tensor requests by the short way: they get what the long way gives, whatever is in them, and are counted alike."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.plane_rig import rig
from nearhall.cli.roots.gateway import service
from nearhall.core.tensor import Tensor
from nearhall.gateway.http.heads import KEPT_BYTES_MAX, KEPT_MAX, Heads
from nearhall.gateway.http.server import Server, listening
from nearhall.gateway.queues.lanes import BRIEF_RUNS
from nearhall.gateway.workloads import Workloads
from nearhall.policy.admit import Estimate, ServiceTimes
from waiting import until_async

VALUES = [1.0, 2.0, 3.0, 4.0]
PATH = "/v2/models/double/infer"


class Talk:
    """One connection to a server, spoken to in whole requests."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def say(self, body=b"", *, path=PATH, method="POST", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: h", f"content-length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)

    async def hear(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        return int(head.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ask(self, *args, **kwargs):
        self.say(*args, **kwargs)
        return await self.hear()


@asynccontextmanager
async def served(site, *, short=True):
    """Connections to a site's server, which takes requests the short way or not."""
    made = service(site.composed, site.settings)
    server = made if short else Server(site.composed.app, body_bytes_max=made.body_bytes_max)
    writers = []
    with socket.create_server(("127.0.0.1", 0)) as bound:

        async def connect():
            writers.append((pair := await asyncio.open_connection("127.0.0.1", bound.getsockname()[1]))[1])
            return Talk(*pair)

        async with listening(server, bound, drain_s=2.0):
            yield server, connect
            for writer in writers:
                writer.close()


def run(tmp_path, story, **settings):
    async def bounded():
        async with asyncio.timeout(30), rig(tmp_path, **({"models": ["double"]} | settings)) as site:
            await story(site)

    asyncio.run(bounded())


def asked(values=VALUES, **more):
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values) // 4, 4], "data": list(values)}], **more}


def binary(values=VALUES, size=None, **more):
    data = struct.pack(f"<{len(values)}f", *values)
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values) // 4, 4]}
    tensor["parameters"] = {"binary_data_size": len(data) if size is None else size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **more}).encode()
    return {"body": head + data, "inference_header_content_length": len(head)}


CASES = {
    "json": {"body": asked()},
    "binary": binary(),
    "binary, named outputs": binary(outputs=[{"name": "y", "parameters": {"binary_data": False}}]),
    "an id": {"body": asked(id="seven")},
    "a version": {"body": asked(), "path": "/v2/models/double/versions/1/infer"},
    "a version that is none": {"body": asked(), "path": "/v2/models/double/versions/9/infer"},
    "a path that is none": {"body": asked(), "path": "/v2/models/double/editions/9/infer"},
    "nobody": {"body": asked(), "path": "/v2/models/nobody/infer"},
    "no JSON": {"body": b"{"},
    "another input": {"body": {"inputs": [{"name": "z", "datatype": "FP32", "shape": [1], "data": [1]}]}},
    "another shape": {"body": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}},
    "another output": {"body": asked(outputs=[{"name": "z"}])},
    "too few bytes": binary(size=12),
    "a head that is longer than the body": {**binary(), "inference_header_content_length": 99999},
    "a deadline that is none": {"body": asked(), "x_nearhall_deadline_ms": "soon"},
    "a deadline": {"body": asked(), "x_nearhall_deadline_ms": "5000", "x_nearhall_priority": "0"},
    "a timeout and a priority": {"body": asked(parameters={"timeout": 5_000_000, "priority": 3})},
    "a workload that is none": {"body": asked(), "x_nearhall_workload": "nobody"},
    "a probe": {"body": asked(), "x_nearhall_probe": "1"},
    "an encoding that is none": {"body": asked(), "content_encoding": "rot13"},
    "values that the model does not take": {"body": asked([666, 0, 0, 0])},
    "values that the runtime refuses": {"body": asked([667, 0, 0, 0])},
    "values that JSON cannot hold": {"body": asked([3e38, 0, 0, 0])},
    "the same in binary": binary([3e38, 0, 0, 0]),
    "a large answer, compressed": {"body": asked(VALUES * 200), "accept_encoding": "gzip"},
    "a large answer": binary(VALUES * 200),
    "another method": {"body": asked(), "method": "PUT"},
    "metadata": {"path": "/v2/models/double", "method": "GET"},
}


def without_times(answer):
    status, headers, body = answer
    return status, {name: value for name, value in headers.items() if name != "server-timing"}, body


@pytest.mark.parametrize("case", CASES)
def test_the_short_way_answers_as_the_long_one_does(case, tmp_path):
    counted = []

    async def tell(site, *, short):
        async with served(site, short=short) as (server, connect):
            talk = await connect()
            answers = [without_times(await talk.ask(**CASES[case])) for _ in range(2)]
            assert server.answering == 0
        counts = site.composed.plane.stats.by_workload
        told = {name: (each.answered, each.rejected, each.failed, each.decisions, each.variants) for name, each in counts.items()}
        assert site.composed.plane.stats.in_flight == 0
        counted.append((answers, told, site.composed.plane.stats.model("double", "1").frozen().success.count))

    run(tmp_path / "short", lambda site: tell(site, short=True))
    run(tmp_path / "long", lambda site: tell(site, short=False))
    assert counted[0] == counted[1]


def test_a_json_of_too_many_bytes_is_refused(tmp_path):
    async def tell(site):
        async with served(site) as (_, connect):
            talk = await connect()
            assert (await talk.ask(asked()))[0] == 200
            assert (await talk.ask(asked(VALUES * 300)))[0] == 413

    run(tmp_path, tell, limits={"json_mib": 0.002})


def test_those_who_come_together_are_all_answered(tmp_path):
    async def tell(site):
        site.runtimes["double"].go.clear()
        async with served(site) as (server, connect):
            talks = [await connect() for _ in range(8)]
            for number, talk in enumerate(talks):
                talk.say(asked([number, 0, 0, 0]))
                talk.say(asked([0, number, 0, 0]))
            await until_async(lambda: server.answering == 8)
            site.runtimes["double"].go.set()
            for number, talk in enumerate(talks):
                assert json.loads((await talk.hear())[2])["outputs"][0]["data"] == [2 * number, 0, 0, 0]
                assert json.loads((await talk.hear())[2])["outputs"][0]["data"] == [0, 2 * number, 0, 0]
            assert server.answering == 0
        assert site.counted("model:double").answered["local"] == 16

    run(tmp_path, tell)


def test_a_brief_model_runs_on_the_loop_only_for_who_is_alone(tmp_path):
    async def tell(site):
        lane = site.composed.plane.models.find("double").front.queue
        async with served(site) as (_, connect):
            talks = [await connect() for _ in range(2)]
            for _ in range(BRIEF_RUNS + 1):
                await talks[0].ask(asked())
            lane.times = ServiceTimes(Estimate(1.0))
            lane.times = lane.times.seen(5, 1.0)
            queued = lane._sequence
            assert (await talks[0].ask(asked()))[0] == 200
            assert lane._sequence == queued
            site.composed.plane.stats.in_flight += 1  # somebody else, over gRPC say
            assert (await talks[1].ask(asked()))[0] == 200
            assert lane._sequence == queued + 1
        assert site.composed.plane.stats.in_flight == 1

    run(tmp_path, tell)


def test_a_runtime_that_breaks_under_a_request_is_said_and_opened_anew(tmp_path):
    async def tell(site):
        async with served(site) as (server, connect):
            talk = await connect()
            assert (await talk.ask(asked()))[0] == 200
            site.runtimes["double"].broken = True
            status, headers, _ = await talk.ask(asked())
            assert (status, headers["x-nearhall-reason"]) == (503, "model_not_ready")
            assert server.answering == 0
            await until_async(lambda: site.composed.plane.models.find("double").ready, what="it is opened anew")
            assert (await talk.ask(asked()))[0] == 200

    run(tmp_path, tell)


def test_who_has_a_state_in_a_broken_runtime_is_told_that_it_broke(tmp_path):
    async def tell(site):
        async with served(site) as (_, connect):
            talk = await connect()
            site.runtimes["double"].broken = True
            status, headers, _ = await talk.ask(asked())
            assert (status, headers["x-nearhall-reason"]) == (500, "runtime_failed")
        assert site.counted("model:double").failed == 1

    run(tmp_path, tell, stateful=True)


def test_a_full_queue_and_a_value_that_json_cannot_hold_are_refused(tmp_path):
    class Endless:
        def run(self, inputs, outputs):
            return [Tensor("y", "FP32", (1, 4), memoryview(struct.pack("<4f", math.inf, 0, 0, 0)))]

        def close(self):
            pass

    async def tell(site):
        lane = site.composed.plane.models.find("double").front.queue
        async with served(site) as (server, connect):
            talks = [await connect() for _ in range(3)]
            site.runtimes["double"].go.clear()
            for talk in talks[:2]:
                talk.say(asked())
                await until_async(lambda: lane.running == 1)
            await until_async(lambda: lane.waiting == 1)
            assert (await talks[2].ask(asked()))[0] == 429
            site.runtimes["double"].go.set()
            for talk in talks[:2]:
                assert (await talk.hear())[0] == 200
            lane._runtime = Endless()
            assert (await talks[0].ask(**binary()))[0] == 200
            status, _, body = await talks[0].ask(asked())
            assert (status, "not finite" in json.loads(body)["error"]) == (400, True)
            assert server.answering == 0
        assert site.composed.plane.stats.model("double", "1").frozen().fail.count == 2

    run(tmp_path, tell, limits={"queue_length": 1})


def test_who_has_gone_is_not_answered_and_counted(tmp_path):
    async def tell(site):
        site.runtimes["double"].go.clear()
        async with served(site) as (server, connect):
            first, second = await connect(), await connect()
            first.say(asked())
            second.say(asked())
            await until_async(lambda: server.answering == 2)
            second.writer.close()
            await until_async(lambda: len(server.connections) == 1)
            site.runtimes["double"].go.set()
            assert (await first.hear())[0] == 200
            await until_async(lambda: server.answering == 0)
        counts = site.counted("model:double")
        assert (counts.answered["local"], counts.cancelled) == (1, 1)

    run(tmp_path, tell)


def test_an_answer_is_accounted_for_when_its_client_has_read_it(tmp_path):
    class Floods:
        def run(self, inputs, outputs):
            data = bytes(16_000_000)
            return [Tensor("y", "FP32", (1_000_000, 4), memoryview(data))]

        def close(self):
            pass

    async def tell(site):
        lane = site.composed.plane.models.find("double").front.queue
        lane._runtime = Floods()
        async with served(site) as (server, connect):
            talk = await connect()
            talk.say(**binary())
            await talk.reader.readuntil(b"\r\n\r\n")
            await until_async(lambda: server.answering == 1)
            assert site.counted("model:double").answered["local"] == 0
            size = 0
            while site.counted("model:double").answered["local"] == 0:
                size += len(await talk.reader.read(1 << 20))
            assert size > 1_000_000
            await until_async(lambda: server.answering == 0)

    run(tmp_path, tell)


def test_too_many_connections_are_told_so(tmp_path):
    async def tell(site):
        async with served(site) as (_, connect):
            talks = [await connect() for _ in range(3)]
            assert (await talks[0].ask(asked()))[0] == 429
            talks[2].writer.close()
            with suppress(ConnectionError):
                await talks[2].writer.wait_closed()
            status = 429
            while status == 429:
                status = (await talks[0].ask(asked()))[0]
            assert status == 200

    run(tmp_path, tell, limits={"connections": 2})


def head(*headers, path=PATH):
    return {"type": "http", "method": "POST", "path": path, "headers": list(headers)}


def test_heads_are_kept_within_bounds():
    heads = Heads(Workloads([]))
    usual = heads.read(head((b"content-length", b"10")))
    assert heads.read(head((b"content-length", b"11"), (b"user-agent", b"me"))) is usual
    assert heads.read(head((b"x-nearhall-priority", b"1"))) is not usual
    long = head(path="/v2/models/" + "m" * KEPT_BYTES_MAX + "/infer")
    assert heads.read(long) is not heads.read(long)
    for number in range(KEPT_MAX):
        heads.read(head((b"x-nearhall-raw-bytes", b"%d" % number)))
    assert len(heads._kept) <= KEPT_MAX
    assert heads.read(head((b"x-nearhall-priority", b"first"))) is None
    assert heads.read(head((b"x-nearhall-front", b"1"))).from_front
    assert heads.read(head(path="/v2/other/infer")) is None
