"""What only another engine does goes to a node that has one: never to a node that would refuse it, though that is sooner."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress

import pytest

from gateway.front_rig import ScriptedNode, front_of, model, until_standing
from gateway.plane_rig import rig
from gateway.test_engines import ENGINE, OWN, Engine, write
from gateway.test_front import served, story
from nearhall.core.errors import TemporaryError
from nearhall.gateway.load import load_report
from nearhall.ports.runtime import ForwardRequest
from nearhall.wire.load import decode_load
from waiting import until_async

HI = [{"role": "user", "content": "hi"}]
TOOLS = {"tools": [{"type": "function", "function": {"name": "weather"}}]}
QUICK = model("llm", chat=True, own_ms=5.0, variant="cpu", tokens_max=1024)
AFAR = model("llm", chat=True, own_ms=400.0, variant="there")


def with_engine(engine=AFAR, **more):
    return model("llm", chat=True, own_ms=20.0, variant="cpu", tokens_max=1024, engine=engine, **more)


def two(second):
    return ScriptedNode("n1", QUICK), ScriptedNode("n2", second)


async def chat(front, path="/v1/chat/completions", headers=None, **more):
    said = {"prompt": "hi"} if path == "/v1/completions" else {"messages": HI}
    body = json.dumps({"model": "llm", **said, **more}).encode()
    return await front.ask("POST", path, gzip.compress(body) if headers else body, headers)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({}, "s/n1"),
        ({"max_tokens": 1024}, "s/n1"),
        ({"max_tokens": 1025}, "s/n2"),
        (TOOLS, "s/n2"),
        ({"n": 2, "path": "/v1/completions"}, "s/n2"),
        ({"n": 1, "path": "/v1/completions"}, "s/n1"),
        ({**TOOLS, "headers": {"content-encoding": "gzip"}}, "s/n2"),
        ({"messages": "wrong, as a node will say", "tools": [1]}, "s/n1"),
        ({"temperature": 7}, "s/n1"),
    ],
)
@story
async def test_it_goes_to_a_node_that_can(asked, where):
    async with front_of(*two(with_engine())) as front:
        answers = [served(await chat(front, **asked)) for _ in range(4)]
        assert answers.count(where) >= (4 if where == "s/n2" else 3), "a node that was not used yet is tried once"


@story
async def test_the_limits_of_each_node_are_its_own():
    short = model("llm", chat=True, own_ms=5.0, tokens_max=64)
    bounded = with_engine(engine=model("llm", chat=True, variant="there", tokens_max=2048))
    async with front_of(ScriptedNode("n1", short), ScriptedNode("n2", QUICK), ScriptedNode("n3", bounded)) as front:
        anywhere = {"s/n1", "s/n2", "s/n3"}
        for tokens, may in {64: anywhere, 65: {"s/n2", "s/n3"}, 1025: {"s/n3"}, 2049: anywhere}.items():
            assert {served(await chat(front, max_tokens=tokens)) for _ in range(6)} <= may


@story
async def test_nobody_is_asked_who_cannot_while_the_one_that_can_is_away():
    async with front_of(*two(with_engine())) as front:
        await front.nodes["n2"].stop()
        await until_standing(front, "n2", "away")
        answer = await chat(front, **TOOLS)
        assert (answer.status, answer.reason) == (503, "nodes_away")
        assert "only n2 could, which is away or did not answer; elsewhere: parameter 'tools'" in answer.json["error"]["message"]
        assert "retry-after" in answer.headers
        assert served(await chat(front)) == "s/n1"
        assert not [got for got in front.nodes["n1"].got if b"tools" in got.body]


@story
async def test_a_node_that_has_never_told_what_it_can_do_might_do_it():
    absent = ScriptedNode("n2", with_engine())
    async with front_of(ScriptedNode("n1", QUICK), absent) as front:
        await absent.stop()
        await until_standing(front, "n2", "away")
        front.node("n2")._books.clear()  # as after a start of the front
        answer = await chat(front, **TOOLS)
        assert (answer.status, answer.reason) == (503, "nodes_away")
        assert "no node that answers could, and others are away" in answer.json["error"]["message"]


@story
async def test_where_none_can_a_node_says_what_is_wrong():
    async with front_of(*two(QUICK)) as front:
        assert served(await chat(front, **TOOLS)) in {"s/n1", "s/n2"}


@story
async def test_an_engine_has_a_queue_and_a_state_of_its_own():
    gone = with_engine(engine=model("llm", chat=True, ready=False, variant="there"))
    async with front_of(*two(gone)) as front:
        answer = await chat(front, **TOOLS)
        assert (answer.status, answer.reason) == (503, "model_not_ready")
        front.nodes["n2"].load = ScriptedNode("n2", with_engine(AFAR, backlog_ms=9.0)).load
        await until_async(lambda: front.node("n2")._engines["llm"].load.ready, what="the engine is back")
        assert served(await chat(front, **TOOLS)) == "s/n2"
        node = front.node("n2")
        assert node.counts.expected.total >= 400.0
        assert (node.seen("llm", None, 0).own_ms, node.in_flight) == (20.0, 0)


@story
async def test_an_engine_that_stands_for_its_model_has_one_queue_with_it():
    alone = model("llm", chat=True, own_ms=400.0, variant="there", tokens_max=1024, engine=AFAR)
    async with front_of(*two(alone)) as front:
        assert not front.node("n2")._engines
        assert served(await chat(front, **TOOLS)) == "s/n2"
        front.nodes["n2"].load = ScriptedNode("n2", with_engine()).load
        await until_async(lambda: "llm" in front.node("n2")._engines, what="another stands for it")
        front.nodes["n2"].load = ScriptedNode("n2").load
        await until_async(lambda: not front.node("n2")._engines, what="the model is gone")


@story
async def test_a_gateway_tells_what_its_engines_do(tmp_path):
    write(tmp_path, "llm", OWN % "", ENGINE % ", preload: true")
    write(tmp_path, "own", OWN % "")
    server = Engine()
    async with rig(tmp_path, models=["double"], upstream=server) as site:
        model = site.composed.plane.models.find("llm")
        await until_async(lambda: model.variants["there"].ready, what="the engine is taken on")
        lines = {line.name: line for line in decode_load(load_report(site.composed.plane)).models}
        told = lines["llm"]
        assert (told.variant, told.tokens_max, told.engine.variant, told.engine.tokens_max) == ("cpu", 1024, "there", None)
        assert told.engine.ready
        assert told.engine.slots > 0
        assert (lines["own"].tokens_max, lines["own"].engine) == (1024, None)
        assert (lines["double"].tokens_max, lines["double"].engine) == (None, None)
        server.cut()
        with suppress(TemporaryError):
            await server.forward(ForwardRequest(method="GET", path="/", headers=[], body=b"", timeout_s=1.0))
        (told,) = (line for line in decode_load(load_report(site.composed.plane)).models if line.name == "llm")
        assert (told.ready, told.engine.ready) == (True, False)
    async with rig(tmp_path, upstream=Engine(), limits={"chat_tokens_max": 256}) as site:
        (told,) = (line for line in decode_load(load_report(site.composed.plane)).models if line.name == "llm")
        assert (told.tokens_max, told.engine.tokens_max) == (256, 256)
