"""The front of several nodes: what goes where, what moves, what is never done twice, and that nobody waits past a deadline."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import socket
import time
from collections import Counter
from contextlib import suppress

import pytest

from gateway.front_rig import ScriptedNode, front_of, model, until_standing
from nearhall.gateway.body import MIB
from nearhall.gateway.http.server import Server, listening
from nearhall.gateway.nodes.settings import FrontLimits
from nearhall.gateway.nodes.telling import TELL_S
from nearhall.policy.storm import Budget
from nearhall.wire.load import NodeLoad
from waiting import until_async

LLM = model("llm", chat=True, own_ms=50.0, hold_ms=500.0)


def story(tell):
    """An asynchronous test as pytest runs it."""

    @functools.wraps(tell)
    def told(**given):
        asyncio.run(tell(**given))

    return told


def two(*models, second=None):
    return ScriptedNode("n1", *models), ScriptedNode("n2", *(models if second is None else second))


async def timed(asking):
    begun = time.monotonic()
    answer = await asking
    return answer, (time.monotonic() - begun) * 1e3


def served(answer) -> str:
    return answer.headers.get("x-nearhall-served-by", "")


@story
async def test_requests_are_spread_evenly_and_pass_as_they_are():
    async with front_of(*two(model())) as rig:
        answers = [await rig.infer(body=b"{\x00raw", x_thing="kept", x_nearhall_peer="forged") for _ in range(40)]
        assert Counter(map(served, answers)) == {"s/n1": 20, "s/n2": 20}
        got = rig.nodes["n1"].got[0]
        assert got.body == b"{\x00raw"
        assert got.headers["x-thing"] == "kept"
        assert got.headers["x-nearhall-front"] == "1"
        assert "x-nearhall-peer" not in got.headers
        assert "x-nearhall-deadline-ms" not in got.headers, "the front's own limit is not the client's"
        assert answers[0].headers["x-nearhall-reason"] == "local_first"


@story
async def test_the_deadline_goes_on_less_the_time_gone():
    async with front_of(*two(model())) as rig:
        await rig.infer(x_nearhall_deadline_ms="500")
        await rig.infer(body=b'{"inputs": [], "parameters": {"timeout": 300000}}', x_nearhall_deadline_ms="500")
        await rig.infer(body=b'{"inputs": [], "parameters": {"timeout": "x"}}')
        handed = [float(got.headers.get("x-nearhall-deadline-ms", "0")) for node in rig.nodes.values() for got in node.got]
        first, second, none = sorted(handed, reverse=True)
        assert 400 < first < 500
        assert 200 < second < 300
        assert none == 0


@story
async def test_the_idle_node_is_chosen_and_own_work_is_counted():
    busy = model(backlog_ms=500.0, free=0)
    async with front_of(*two(model(), second=[busy])) as rig:
        assert {served(await rig.infer()) for _ in range(10)} == {"s/n1"}
        rig.nodes["n1"].does = rig.nodes["n2"].does = "holds"
        rig.nodes["n1"].load = NodeLoad(node="s/n1", models=[model(own_ms=100.0)])
        rig.nodes["n2"].load = NodeLoad(node="s/n2", models=[model(own_ms=100.0)])
        await until_async(lambda: all((n.model("m") or busy).own_ms == 100 for n in rig.fleet.nodes), what="new reports")
        before = len(rig.nodes["n1"].got)
        asking = [asyncio.create_task(rig.infer(x_nearhall_deadline_ms="300")) for _ in range(10)]
        await until_async(lambda: len(rig.nodes["n1"].got) - before + len(rig.nodes["n2"].got) >= 10, what="all sent")
        assert 4 <= len(rig.nodes["n2"].got) <= 6, "one may have been taken for silent on a busy machine"
        assert {answer.status for answer in await asyncio.gather(*asking)} == {504}
        assert rig.node("n1").in_flight == rig.node("n2").in_flight == 0


@pytest.mark.parametrize("does", ["drops", "refuses"])
@story
async def test_what_a_node_drops_or_refuses_another_one_answers(does):
    async with front_of(*two(model())) as rig:
        rig.nodes["n1"].does = does
        assert {served(await rig.infer()) for _ in range(6)} == {"s/n2"}
        assert rig.node("n1").counts.moved >= 1


@story
async def test_a_fault_is_not_carried_from_node_to_node():
    async with front_of(*two(model())) as rig:
        for node in rig.nodes.values():
            node.does, node.reason = "refuses", "runtime_failed"
        assert (await rig.infer()).headers["x-nearhall-reason"] == "runtime_failed"
        assert sum(len(node.got) for node in rig.nodes.values()) == 1


@story
async def test_a_refusal_of_all_is_passed_on():
    async with front_of(*two(model())) as rig:
        for node in rig.nodes.values():
            node.does = "refuses"
        answer = await rig.infer()
        assert (answer.status, answer.headers["x-nearhall-reason"], answer.headers["retry-after"]) == (503, "queue_full", "1")
        assert [len(node.got) for node in rig.nodes.values()] == [1, 1]


@story
async def test_a_request_at_a_frozen_node_is_answered_by_another_one_in_time():
    async with front_of(*two(model())) as rig:
        rig.nodes["n1"].frozen.clear()
        answers = await asyncio.gather(*(timed(rig.infer(x_nearhall_deadline_ms="150")) for _ in range(8)))
        assert {(answer.status, served(answer)) for answer, _ in answers} == {(200, "s/n2")}
        assert max(took for _, took in answers) < 150
        await until_standing(rig, "n1", "away")
        assert {served(await rig.infer()) for _ in range(4)} == {"s/n2"}
        rig.nodes["n1"].frozen.set()
        await until_standing(rig, "n1", "trial", "up")
        assert {served(await rig.infer()) for _ in range(4)} == {"s/n1", "s/n2"}
        await until_standing(rig, "n1", "up")


@story
async def test_a_node_that_works_long_on_a_request_is_not_taken_for_a_silent_one():
    async with front_of(*two(model())) as rig:
        for node in rig.nodes.values():
            node.does = "holds"
        answer, _ = await timed(rig.infer(x_nearhall_deadline_ms="400"))
        assert answer.status == 504
        assert sum(len(node.got) for node in rig.nodes.values()) == 1, "it answers for its load, so it lives"


@story
async def test_nobody_waits_past_a_deadline_where_all_are_frozen():
    async with front_of(*two(model(), LLM)) as rig:
        for node in rig.nodes.values():
            node.frozen.clear()
        asks = [rig.infer(x_nearhall_deadline_ms=f"{ms}") for ms in (20, 60, 120)]
        answers = await asyncio.gather(*map(timed, asks))
        for (answer, took), deadline_ms in zip(answers, (20, 60, 120), strict=True):
            assert answer.status == 504
            assert answer.reason == "deadline"
            assert took < deadline_ms + 15
        for name in rig.nodes:
            await until_standing(rig, name, "away")
        answer, took = await timed(rig.infer(x_nearhall_deadline_ms="500"))
        assert (answer.status, answer.reason, answer.headers["retry-after"]) == (503, "nodes_away", "1")
        assert took < 100


@story
async def test_the_fronts_own_limit_holds_where_no_deadline_is_stated():
    async with front_of(ScriptedNode("n1", model()), limits=FrontLimits(deadline_ms=80.0)) as rig:
        rig.nodes["n1"].does = "holds"
        answer, took = await timed(rig.infer())
        assert (answer.status, answer.reason) == (504, "deadline")
        assert "own limit" in answer.json["error"]
        assert took < 200
        await until_async(lambda: rig.nodes["n1"].gone == 1, what="the node sees that nobody waits")


@story
async def test_a_dead_node_is_left_at_once_and_used_again_when_it_is_back():
    async with front_of(*two(model())) as rig:
        await rig.nodes["n1"].stop()
        answers = await asyncio.gather(*(timed(rig.infer(x_nearhall_deadline_ms="200")) for _ in range(6)))
        assert {(answer.status, served(answer)) for answer, _ in answers} == {(200, "s/n2")}
        assert rig.node("n1").standing.value == "away"
        await rig.nodes["n1"].start()
        await until_standing(rig, "n1", "trial", "up")
        assert {served(await rig.infer()) for _ in range(4)} == {"s/n1", "s/n2"}


@story
async def test_all_dead_is_503_and_says_when_to_come_again():
    async with front_of(*two(model())) as rig:
        for node in rig.nodes.values():
            await node.stop()
        for name in rig.nodes:
            await until_standing(rig, name, "away")
        answer = await rig.infer()
        assert (answer.status, answer.reason) == (503, "nodes_away")
        assert answer.headers["retry-after"] == "1"
        assert served(answer) == "s/front"
        ready = await rig.ask("GET", "/v2/health/ready")
        assert (ready.status, ready.reason) == (503, "nodes_away")


@story
async def test_what_may_not_be_repeated_is_not():
    async with front_of(*two(model(stateful=True))) as rig:
        assert {served(await rig.infer()) for _ in range(4)} == {"s/n1"}
        rig.nodes["n1"].does = "drops"
        answer = await rig.infer()
        assert (answer.status, answer.reason, answer.headers["x-should-retry"]) == (503, "nodes_away", "false")
        assert rig.nodes["n2"].got == []
    async with front_of(*two(model())) as rig:
        for node in rig.nodes.values():
            node.does = "drops"
        assert (await rig.infer(body=b'{"parameters": {"sequence_id": 7}, "inputs": []}')).reason == "nodes_away"
        assert sum(len(node.got) for node in rig.nodes.values()) == 1


@story
async def test_a_stream_passes_as_it_comes_and_is_never_begun_anew():
    async with front_of(*two(LLM)) as rig:
        for node in rig.nodes.values():
            node.does = "streams"
        asking = asyncio.create_task(rig.chat())
        await until_async(lambda: any(node.got for node in rig.nodes.values()), what="a node has it")
        speaker = next(node for node in rig.nodes.values() if node.got)
        for piece in (b'data: {"n": 1}\n\n', b"data: [DONE]\n\n", None):
            speaker.pieces.put_nowait(piece)
        answer = await asking
        assert answer.events == [{"n": 1}, "[DONE]"]
        assert served(answer) == f"s/{speaker.name}"
        for node in rig.nodes.values():
            node.does = "breaks"
            node.pieces = asyncio.Queue()
            for n in (1, 2):
                node.pieces.put_nowait(b'data: {"n": %d}\n\n' % n)
        answer = await rig.chat()
        assert answer.events[:2] == [{"n": 1}, {"n": 2}]
        assert answer.events[2]["error"]["code"] == "nodes_away"
        assert len(answer.events) == 3
        assert sum(len(node.got) for node in rig.nodes.values()) == 2
        counts = [rig.node(name).counts for name in rig.nodes]
        assert [sum(each) for each in zip(*((c.sent, c.answered, c.lost) for c in counts), strict=True)] == [2, 1, 1]
        assert sum(c.finished.n for c in counts) == rig.relay.stats.latency.n == 1


@story
async def test_a_stream_whose_node_freezes_or_is_too_slow_ends_with_an_error():
    async with front_of(*two(LLM), limits=FrontLimits(quiet_s=0.2)) as rig:
        for node in rig.nodes.values():
            node.does = "streams"
            node.pieces.put_nowait(b"data: 1\n\n")
        quiet, took = await timed(rig.chat())
        assert (quiet.events[0], quiet.events[1]["error"]["code"]) == (1, "nodes_away")
        assert 200 < took < 600
    async with front_of(*two(LLM)) as rig:
        for node in rig.nodes.values():
            node.does = "streams"
            node.pieces.put_nowait(b"data: 1\n\n")
        late, took = await timed(rig.chat(x_nearhall_total_deadline_ms="250"))
        assert "error" in late.events[1]
        assert 200 < took < 500
        for node in rig.nodes.values():
            node.pieces.put_nowait(b"data: 1\n\n")
        asking = asyncio.create_task(timed(rig.chat()))
        await until_async(lambda: len([node for node in rig.nodes.values() if node.got]) == 2, what="a node has it")
        for node in rig.nodes.values():
            node.frozen.clear()
        frozen, took = await asking
        assert "does not answer" in frozen.events[-1]["error"]["message"]
        assert took < 3000


@story
async def test_a_client_that_leaves_a_stream_ends_it():
    async with front_of(*two(LLM)) as rig:
        for node in rig.nodes.values():
            node.does = "streams"
            node.pieces.put_nowait(b"data: 1\n\n")
        asking = asyncio.create_task(rig.chat())
        await until_async(lambda: rig.node("n1").in_flight + rig.node("n2").in_flight == 1, what="it is under way")
        await until_async(lambda: all(node.pieces.empty() for node in rig.nodes.values() if node.got), what="it speaks")
        rig.client_leaves()
        with suppress(IndexError):  # its head may not have been sent yet
            assert not (await asking).complete
        assert rig.node("n1").in_flight == rig.node("n2").in_flight == 0


@story
async def test_where_both_of_two_refuse_after_one_was_silent_the_refusal_is_passed_on():
    async with front_of(*two(model())) as rig:
        first, second = rig.nodes.values()
        first.does, second.does = "holds", "refuses"
        rig.node("n1").last_turn, rig.node("n2").last_turn = 0, 1
        first.frozen.clear()
        asking = asyncio.create_task(timed(rig.infer(x_nearhall_deadline_ms="400")))
        await until_async(lambda: second.got, what="the second was asked too")
        answer, took = await asking
        assert answer.status == 504, "the first one might still have answered"
        assert took < 450


@story
async def test_a_chat_moves_before_its_first_token_and_is_at_one_node_at_a_time():
    async with front_of(*two(LLM)) as rig:
        first, second = rig.nodes.values()
        first.frozen.clear()
        first.does, second.does = "holds", "streams"
        second.load = NodeLoad(node="s/n2", models=[model("llm", chat=True, backlog_ms=30_000.0, free=0)])
        await until_async(lambda: (rig.node("n2").model("llm") or LLM).backlog_ms > 0, what="its report")
        for piece in (b"data: [DONE]\n\n", None):
            second.pieces.put_nowait(piece)
        answer = await rig.chat()
        assert (served(answer), answer.events) == ("s/n2", ["[DONE]"])
        assert rig.node("n1").counts.moved <= 1
        assert len(second.got) == 1


@story
async def test_a_chats_deadline_is_to_its_first_token():
    async with front_of(*two(LLM)) as rig:
        for node in rig.nodes.values():
            node.does = "holds"
        answer, took = await timed(rig.chat(x_nearhall_deadline_ms="100"))
        assert (answer.status, answer.reason) == (504, "deadline")
        assert answer.json["error"]["code"] == "deadline"
        assert took < 200
        whole, took = await timed(rig.chat(stream=False, x_nearhall_deadline_ms="50", x_nearhall_total_deadline_ms="200"))
        assert whole.status == 504
        assert 150 < took < 300
        handed = [got.headers for node in rig.nodes.values() for got in node.got][-1]
        assert float(handed["x-nearhall-total-deadline-ms"]) < 200


@story
async def test_a_request_at_a_frozen_node_goes_to_another_one_when_that_is_back():
    async with front_of(*two(model())) as rig:
        first, second = rig.nodes.values()
        await second.stop()
        await until_standing(rig, "n2", "away")
        first.frozen.clear()
        asking = asyncio.create_task(rig.infer())
        await until_standing(rig, "n1", "away")
        await second.start()
        async with asyncio.timeout(10):  # a third of the front's own limit
            assert served(await asking) == "s/n2"
        assert rig.node("n1").in_flight == 0


@story
async def test_of_three_nodes_two_freeze_and_the_third_one_answers():
    async with front_of(*two(model()), ScriptedNode("n3", model())) as rig:
        rig.nodes["n3"].load = NodeLoad(node="s/n3", models=[model(backlog_ms=5000.0, free=0)])
        await until_async(lambda: (rig.node("n3").model("m") or LLM).backlog_ms > 0, what="n3 is busy")
        rig.nodes["n1"].frozen.clear()
        rig.nodes["n2"].frozen.clear()
        asking = asyncio.create_task(rig.infer())
        for name in ("n1", "n2"):
            await until_standing(rig, name, "away")
        async with asyncio.timeout(10):
            assert served(await asking) == "s/n3"
        assert [node.in_flight for node in rig.fleet.nodes] == [0, 0, 0]


@story
async def test_a_chat_at_a_frozen_node_moves_when_another_one_is_back():
    async with front_of(*two(LLM)) as rig:
        first, second = rig.nodes.values()
        await second.stop()
        await until_standing(rig, "n2", "away")
        first.frozen.clear()
        second.does = "streams"
        for piece in (b"data: [DONE]\n\n", None):
            second.pieces.put_nowait(piece)
        asking = asyncio.create_task(rig.chat())
        await until_standing(rig, "n1", "away")
        await second.start()
        async with asyncio.timeout(10):
            assert served(await asking) == "s/n2"


@story
async def test_an_answer_that_nobody_wants_holds_no_connection():
    """Two nodes are asked, and both begin to answer piece by piece."""
    async with front_of(*two(model())) as rig:
        first, second = rig.nodes.values()
        for node in (first, second):
            node.does = "streams"
            node.frozen.clear()
        asking = asyncio.create_task(rig.infer())
        await until_async(lambda: rig.node("n1").in_flight and rig.node("n2").in_flight, what="both were asked")
        for node in (first, second):
            node.frozen.set()
            node.pieces.put_nowait(b"x" * 1000)
        await until_async(lambda: rig.node("n1").in_flight + rig.node("n2").in_flight == 1, what="one of them is heard")
        heard, other = (first, second) if rig.node("n1").in_flight else (second, first)
        heard.pieces.put_nowait(None)
        assert (await asking).status == 200
        await until_async(lambda: other.pieces.put_nowait(b"x") or other.gone, what="the other one sees that nobody listens")


@story
async def test_a_body_over_the_limit_is_refused_by_its_head_and_never_passed_on_in_part():
    async with front_of(ScriptedNode("n1", model()), limits=FrontLimits(body_mib=0.001)) as rig:
        server = Server(rig.app, body_bytes_max=int(0.001 * MIB))
        with socket.create_server(("127.0.0.1", 0)) as bound:
            async with listening(server, bound, drain_s=1.0):
                for more, body in ((b"expect: 100-continue\r\n", b""), (b"", bytes(3000))):
                    status, said = await _posted(bound.getsockname()[1], 3000, more, body)
                    assert (status, b"over the limit" in said) == (413, True)
                assert rig.nodes["n1"].got == []
                status, said = await _posted(bound.getsockname()[1], 1000, b"", bytes(1000))
                assert (status, said) == (200, b"n1")


async def _posted(port: int, length: int, more: bytes, body: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: h\r\n%bcontent-length: %d\r\n\r\n" % (more, length)
    writer.write(head + body)
    async with asyncio.timeout(10):
        answered = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(answered.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        said = await reader.readexactly(size)
    writer.transport.abort()
    return int(answered.split()[1]), said


@story
async def test_what_is_asked_of_silent_nodes_in_turn_is_bounded_for_all_of_them():
    async with front_of(*(ScriptedNode(f"n{i}", model()) for i in range(8))) as rig:
        for node in rig.nodes.values():
            node.does = "holds"
        answer, took = await timed(rig.ask("GET", "/v2/models/m"))
        assert (answer.status, answer.reason) == (503, "nodes_away")
        assert took < 8 * 1000 * TELL_S / 2


@story
async def test_a_client_that_leaves_takes_its_work_along():
    async with front_of(*two(model())) as rig:
        for node in rig.nodes.values():
            node.does = "holds"
        asking = asyncio.create_task(rig.infer())
        await until_async(lambda: any(node.got for node in rig.nodes.values()), what="a node has it")
        rig.client_leaves()
        with pytest.raises(IndexError):  # nothing was sent: nobody listens
            await asking
        await until_async(lambda: sum(node.gone for node in rig.nodes.values()) >= 1, what="the node sees it")
        assert rig.node("n1").in_flight == rig.node("n2").in_flight == 0


@story
async def test_a_node_that_is_being_stopped_gets_nothing_more():
    async with front_of(*two(model())) as rig:
        rig.nodes["n1"].does, rig.nodes["n1"].reason = "refuses", "draining"
        assert {served(await rig.infer()) for _ in range(4)} == {"s/n2"}
        assert len(rig.nodes["n1"].got) == 1
        rig.nodes["n1"].load = NodeLoad(node="s/n1", draining=True, models=[model()])
        await rig.nodes["n2"].stop()
        await until_standing(rig, "n2", "away")
        await until_async(lambda: rig.node("n1").load.draining, what="its report")
        answer = await rig.infer()
        assert (answer.status, answer.reason) == (503, "draining")


@story
async def test_a_node_that_tells_no_load_is_named_with_what_to_do():
    node = ScriptedNode("n1")
    async with front_of(node) as rig:
        node.load = {"not": "a report"}
        await until_standing(rig, "n1", "away")
        assert "cannot be read" in rig.node("n1").detail


ASLEEP = model("asleep", ready=False, state="unloaded", loadable=True, backlog_ms=300.0)
UNKNOWN = [
    ("POST", "/v2/models/none/infer", b"{}", 404, "model_unknown"),
    ("POST", "/v2/models/m/versions/9/infer", b"{}", 404, "model_unknown"),
    ("POST", "/v2/models/m/versions/1/infer", b"{}", 200, "local_first"),
    ("POST", "/v2/models/cold/infer", b"{}", 503, "model_not_ready"),
    ("POST", "/v2/models/asleep/infer", b"{}", 200, "local_first"),
    ("POST", "/v1/chat/completions", b'{"model": "none"}', 404, "model_unknown"),
    ("POST", "/v1/chat/completions", b"[]", 400, "bad_request"),
    ("POST", "/v2/repository/models/m/load", b"", 400, "unsupported"),
    ("POST", "/v2/nothing", b"", 404, "path_unknown"),
    ("POST", "/v1/nothing", b"{}", 404, "path_unknown"),
    ("GET", "/nothing", b"", 404, "path_unknown"),
    ("DELETE", "/v2", b"", 405, "method_not_allowed"),
    ("GET", "/v2/models/m/infer", b"", 405, "method_not_allowed"),
    ("POST", "/v1/models", b"", 405, "method_not_allowed"),
    ("GET", "/v2/models/none", b"", 404, "model_unknown"),
    ("GET", "/v2/models/cold/ready", b"", 503, "model_not_ready"),
    ("GET", "/v2/models/m/stats", b"", 400, "unsupported"),
    ("GET", "/v1/models/none", b"", 404, "model_unknown"),
    ("POST", "/v2/models/m/a/b/infer", b"{}", 404, "path_unknown"),
    ("POST", "/v2/repository/m/load", b"", 404, "path_unknown"),
    ("POST", "/v2/repository/index", b"[", 400, "bad_request"),
    ("GET", "/v2/systemsharedmemory/status", b"", 501, "unsupported"),
    ("POST", "/v2/cudasharedmemory/region/r/register", b"{}", 501, "unsupported"),
    ("GET", "/v2/models/m/trace/setting", b"", 501, "unsupported"),
    ("GET", "/v2/logging", b"", 501, "unsupported"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "reason"), UNKNOWN)
@story
async def test_what_is_wrong_is_said(method, path, body, status, reason):
    async with front_of(*two(model(), model("cold", ready=False, state="failed"), ASLEEP)) as rig:
        answer = await rig.ask(method, path, body)
        assert (answer.status, answer.reason) == (status, reason)
        assert answer.status == 200 or "error" in answer.json


@pytest.mark.parametrize("version", ["9", "{9}"])
@story
async def test_a_version_that_no_node_has_is_named(version):
    async with front_of(*two(model())) as rig:
        answer = await rig.ask("POST", f"/v2/models/m/versions/{version}/infer", b"{}")
        assert answer.json["error"] == f"no node serves version '{version}' of model 'm'"


@story
async def test_all_nodes_together_are_told_of():
    async with front_of(*two(model(), LLM, second=[model("m", ready=False, state="failed"), model("other")])) as rig:
        index = {row["name"]: row for row in (await rig.ask("POST", "/v2/repository/index")).json}
        assert {name: row["state"] for name, row in index.items()} == {"llm": "READY", "m": "READY", "other": "READY"}
        assert index["m"]["reason"] == "ready at n1, of n1, n2"
        chats = (await rig.ask("GET", "/v1/models")).json["data"]
        assert [row["id"] for row in chats] == ["llm"]
        assert (await rig.ask("GET", "/v1/models/llm")).json["id"] == "llm"
        assert (await rig.ask("GET", "/v2")).json["name"] == "nearhall"
        assert (await rig.ask("GET", "/v2")).json["extensions"] == [
            "binary_tensor_data",
            "model_configuration",
            "schedule_policy",
        ]
        for path, said in (("/healthz", "live"), ("/v2/health/live", "live"), ("/v2/health/ready", "ready")):
            answer = await rig.ask("GET", path)
            assert (answer.status, answer.json) == (200, {said: True})
        told = await rig.ask("GET", "/v2/models/other")
        assert (told.status, told.body) == (200, b"n2")
        page = (await rig.ask("GET", "/metrics")).body.decode()
        assert 'nearhall_front_node_state{node="n1",state="up"} 1.0' in page
        assert 'nearhall_front_node_sent_total{node="n1"} 0.0' in page


@story
async def test_a_front_that_is_being_stopped_takes_nothing_more():
    async with front_of(*two(model())) as rig:
        rig.relay.draining = True
        assert (await rig.infer()).reason == "draining"
        assert (await rig.ask("GET", "/v2/health/ready")).reason == "draining"


@story
async def test_in_a_storm_who_comes_again_at_once_is_held_back_but_not_past_the_deadline():
    async with front_of(ScriptedNode("n1", model())) as rig:
        rig.nodes["n1"].does = "refuses"
        rig.relay._budget = Budget(tokens=-1e12, at_s=0.0)
        _, first = await timed(rig.infer(x_nearhall_deadline_ms="1000"))
        _, again = await timed(rig.infer(x_nearhall_deadline_ms="1000"))
        _, short = await timed(rig.infer(x_nearhall_deadline_ms="20"))
        assert first < 45 < again
        assert short < 40


@story
async def test_what_bodies_hold_together_is_bounded():
    async with front_of(ScriptedNode("n1", model()), limits=FrontLimits(held_mib=0.001, deadline_ms=2000.0)) as rig:
        assert (await rig.infer(body=bytes(2000))).reason == "queue_full"
        assert (await rig.infer(body=bytes(1000))).status == 200, "what was refused holds nothing"


def _compressed(body: dict) -> bytes:
    return gzip.compress(json.dumps(body).encode())


@story
async def test_a_compressed_body_names_its_model_and_passes_as_it_came():
    async with front_of(*two(LLM)) as rig:
        body = _compressed({"model": "llm", "stream": False})
        answer = await rig.ask("POST", "/v1/chat/completions", body, {"content-encoding": "gzip"})
        assert answer.status == 200
        assert next(got for node in rig.nodes.values() for got in node.got).body == body
        assert (await rig.ask("POST", "/v1/chat/completions", body, {"content-encoding": "br"})).reason == "unsupported"
