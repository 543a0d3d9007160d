"""Chat: whole and streamed, moved before the first token, never spliced after it, cancelled with its client."""

from __future__ import annotations

import asyncio

import pytest

from gateway.plane_rig import rig
from nearhall.drivers.fallback_memory import MemoryFallback
from waiting import until_async

CHAT = {"id": "chat", "model": "parrot", "slo_ttft_ms": 500.0, "residency": "jurisdiction:DE"}


def test_whole_and_streamed_answers_say_the_same(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"], workloads=[CHAT]) as site:
            whole = await site.chat("parrot", "a b c")
            assert whole.json["choices"][0]["message"]["content"] == "a b c"
            assert whole.json["choices"][0]["finish_reason"] == "stop"
            assert whole.json["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            streamed = await site.chat(
                "parrot", "a b c", stream=True, stream_options={"include_usage": True}, max_completion_tokens=2
            )
            assert streamed.events[-1] == "[DONE]"
            texts = [e["choices"][0]["delta"].get("content", "") for e in streamed.events[:-1] if e["choices"]]
            assert "".join(texts) == "a b"
            assert streamed.events[0]["choices"][0]["delta"]["role"] == "assistant"
            assert [e["choices"][0]["finish_reason"] for e in streamed.events[:-1] if e["choices"]][-1] == "length"
            assert streamed.events[-2]["usage"]["completion_tokens"] == 2
            assert all(event["usage"] is None for event in streamed.events[:-2])
            counts = site.counted("chat")
            assert counts.answered["local"] == 2
            assert counts.paths["local"].ttft.n == 2

    asyncio.run(tell())


def test_before_the_first_token_it_moves_to_the_hub(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", chats=["parrot"], fallback=link, workloads=[CHAT]) as site:
                site.runtimes["parrot"].dies_after = 0
                moved = await site.chat("parrot", "a b", stream=True)
                assert moved.headers["x-nearhall-served-by"] == "hub"
                assert moved.reason == "hub_runtime_down"
                assert moved.events[-1] == "[DONE]"
                counts = site.counted("chat")
                assert (counts.answered, counts.failed) == ({"local": 0, "hub": 1}, 0)
                assert counts.paths["hub"].ttft.n == 1
                whole = await site.chat("parrot", "a b")
                assert whole.json["choices"][0]["message"]["content"] == "a b"

    asyncio.run(tell())


def test_a_completion_moves_to_the_hub_in_the_same_way(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", chats=["parrot"], fallback=link, workloads=[CHAT]) as site:
                ask = {"model": "parrot", "prompt": "a b", "stream": True}
                here = await site.ask("POST", "/v1/completions", ask)
                assert here.headers["x-nearhall-served-by"] == "s/n"
                site.runtimes["parrot"].dies_after = 0
                moved = await site.ask("POST", "/v1/completions", ask)
                assert (moved.reason, moved.headers["x-nearhall-served-by"]) == ("hub_runtime_down", "hub")
                texts = [event["choices"][0]["text"] for event in moved.events[:-1] if event["choices"]]
                assert ("".join(texts), moved.events[-1]) == ("a b", "[DONE]")
                assert site.counted("chat").paths["hub"].ttft.n == 1

    asyncio.run(tell())


def test_after_the_first_token_it_ends_with_an_error_and_no_done(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", chats=["parrot"], fallback=link, workloads=[CHAT]) as site:
                site.runtimes["parrot"].dies_after = 2
                broken = await site.chat("parrot", "a b c", stream=True)
                assert broken.status == 200
                assert broken.events[-1]["error"]["code"] == "runtime_failed"
                assert "[DONE]" not in broken.events
                assert link.seen == []
                assert site.counted("chat").failed == 1

    asyncio.run(tell())


def test_a_hub_that_breaks_off_ends_the_same_way(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", fallback=link, workloads=[CHAT]) as site:
                good = await site.chat("parrot", "a b c", stream=True)
                assert good.events[-1] == "[DONE]"
                link.break_after(2)
                broken = await site.chat("parrot", "a b c", stream=True)
                assert broken.events[-1]["error"]["code"] == "hub_unreachable"
                assert "[DONE]" not in broken.events
                link.cut()
                assert (await site.chat("parrot", "a b c", stream=True)).reason == "hub_unreachable"

    asyncio.run(tell())


def test_a_client_that_leaves_cancels_the_work(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"], workloads=[CHAT]) as site:
            runtime = site.runtimes["parrot"]
            runtime.gate = asyncio.Event()
            body = b'{"model":"parrot","messages":[{"role":"user","content":"a b c"}],"stream":true}'
            left, closed = asyncio.Event(), False
            sent = []

            class Transport:
                def is_closing(self):
                    return closed

                def abort(self):
                    raise AssertionError

            messages = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive():
                if messages:
                    return messages.pop()
                await left.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
            scope["extensions"] = {"nearhall": {"first_byte_s": None, "transport": Transport()}}
            asking = asyncio.create_task(site.composed.app(scope, receive, send))
            await until_async(lambda: len(sent) == 2, what="the first token is out")
            closed = True
            left.set()
            await asking
            assert runtime.cancelled == 1
            assert site.counted("chat").cancelled == 1
            runtime.gate = None
            assert (await site.chat("parrot", "again")).status == 200

    asyncio.run(tell())


def test_a_total_deadline_ends_a_stream_and_a_whole_answer(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"], workloads=[CHAT]) as site:
            site.runtimes["parrot"].gate = asyncio.Event()
            headers = {"x-nearhall-total-deadline-ms": "50"}
            whole = await site.chat("parrot", "a b", headers)
            assert (whole.status, whole.reason) == (504, "deadline")
            streamed = await site.chat("parrot", "a b", headers, stream=True)
            assert streamed.events[-1]["error"]["code"] == "deadline"
            site.runtimes["parrot"].gate = None
            assert (await site.chat("parrot", "a b", {"x-nearhall-total-deadline-ms": "5000"})).status == 200

    asyncio.run(tell())


@pytest.mark.parametrize(("residency", "own"), [("jurisdiction:DE", True), ("site", False)])
def test_a_probe_carries_the_prompt_only_where_it_may_go(tmp_path, residency, own):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            link = MemoryFallback(hub.composed.app)
            rules = [{**CHAT, "residency": residency}]
            probe = {"share": 1.0, "per_second_max": 100.0}
            async with rig(tmp_path / "site", chats=["parrot"], fallback=link, workloads=rules, probe=probe) as site:
                assert (await site.chat("parrot", "MARKER is secret")).status == 200
                await until_async(lambda: site.counted("chat").probes_total == 1)
                assert (b"MARKER" in link.seen[0][0].body) == own
                asked = hub.runtimes["parrot"].asked[-1].messages[-1].content
                assert len(asked) == len("MARKER is secret")
                assert site.counted("chat").probes[0].random_payload != own

    asyncio.run(tell())


def test_the_wrong_door_is_named(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], chats=["parrot"]) as site:
            assert "chat/completions" in (await site.infer("parrot", [1, 2, 3, 4])).json["error"]
            assert "/infer" in (await site.chat("double", "x")).json["error"]["message"]
            listed = await site.ask("GET", "/v1/models")
            assert [model["id"] for model in listed.json["data"]] == ["parrot"]
            assert (await site.ask("GET", "/v1/models/parrot")).json["id"] == "parrot"
            assert (await site.ask("GET", "/v1/models/double")).status == 404

    asyncio.run(tell())
