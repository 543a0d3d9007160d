"""Another server as a model: passed through under our admission, residency and metering."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.plane_rig import rig
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.fallback_memory import MemoryFallback
from waiting import until_async


class Upstream(MemoryFallback):
    """The other server: a gateway of this process, reached as `ports.runtime.UpstreamRuntime`."""

    @property
    def alive(self):
        return self.reachable


def write_upstream(folder, name, task):
    (folder / name).mkdir(parents=True)
    (folder / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: {task}\nlicence: x\nsource: x\n"
        "versions: {'1': {variants: {there: {runtime: upstream, file: 'http://127.0.0.1:1'}}}}\n"
        "default_version: '1'\ndefault_variant: there\n"
    )


def test_tensors_and_chats_pass_through_and_are_counted(tmp_path):
    async def tell():
        async with rig(tmp_path / "other", models=["double"], chats=["parrot"]) as other:
            server = Upstream(other.composed.app)
            write_upstream(tmp_path / "site", "double", "tensors")
            write_upstream(tmp_path / "site", "parrot", "chat")
            async with rig(tmp_path / "site", upstream=server, workloads=[{"id": "w", "model": "double"}]) as site:
                answer = await site.infer("double", [1, 2, 3, 4], {"authorization": "Bearer k", "x-nearhall-priority": "1"})
                assert answer.json["outputs"][0]["data"] == [2, 4, 6, 8]
                assert answer.headers["x-nearhall-variant"] == "there"
                assert sorted(answer.names) == sorted(set(answer.names)), (
                    "the engine, such a gateway itself, does not name itself"
                )
                sent = dict(server.seen[-1][0].headers)
                assert sent[b"authorization"] == b"Bearer k"
                assert not any(name.startswith(b"x-nearhall") for name in sent)
                assert site.counted("w").answered["local"] == 1
                streamed = await site.chat("parrot", "a b", stream=True)
                assert streamed.events[-1] == "[DONE]"
                assert site.counted("model:parrot").paths["local"].ttft.n == 1
                bad = await site.chat("parrot", "a b", stop=["", ""])
                assert bad.status == 400
                gone_on = await site.ask("POST", "/v1/completions", {"model": "parrot", "prompt": "a b", "stream": True})
                assert gone_on.events[-1] == "[DONE]"
                assert site.counted("model:parrot").paths["local"].ttft.n == 2

    asyncio.run(tell())


def test_embeddings_pass_through(tmp_path):
    async def foreign(scope, receive, send):
        asked = json.loads((await receive())["body"])
        answer = {"object": "list", "data": [{"embedding": [0.5]}], "model": asked["model"], "path": scope["path"]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode(), "more_body": False})

    async def tell():
        write_upstream(tmp_path, "minilm", "embeddings")
        async with rig(tmp_path, upstream=Upstream(foreign)) as site:
            answer = await site.ask("POST", "/v1/embeddings", {"model": "minilm", "input": "a", "dimensions": 1})
            assert (answer.status, answer.json["path"]) == (200, "/v1/embeddings")
            assert site.counted("model:minilm").answered["local"] == 1
            assert [m["id"] for m in (await site.ask("GET", "/v1/models")).json["data"]] == ["minilm"]

    asyncio.run(tell())


def test_a_server_that_is_gone_or_breaks_off(tmp_path):
    async def tell():
        async with rig(tmp_path / "other", chats=["parrot"]) as other, rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            server = Upstream(other.composed.app)
            link = MemoryFallback(hub.composed.app)
            write_upstream(tmp_path / "site", "parrot", "chat")
            async with rig(tmp_path / "site", upstream=server, fallback=link) as site:
                server.break_after(1)
                broken = await site.chat("parrot", "a b c", stream=True)
                assert broken.events[-1]["error"]["code"] == "runtime_failed"
                assert "[DONE]" not in broken.events
                server.break_after(None)
                server.cut()
                moved = await site.chat("parrot", "a b c", stream=True)
                assert (moved.status, moved.reason) == (200, "hub_runtime_down")
                assert moved.headers["x-nearhall-served-by"] == "hub"
                assert not site.composed.plane.models.find("parrot").ready
                server._up = True
                await until_async(lambda: site.composed.plane.models.find("parrot").ready, what="it is found again")
                assert (await site.chat("parrot", "a b")).reason == "local_first"

    asyncio.run(tell())


def test_an_opening_piece_that_only_names_the_role_is_no_first_token(tmp_path):
    """As many servers send it, at once; the text comes when there is some."""
    role_sent, go = asyncio.Event(), asyncio.Event()

    async def foreign(scope, receive, send):
        opening = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        text = {"choices": [{"index": 0, "delta": {"content": "yes"}}]}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: %s\n\n" % json.dumps(opening).encode(), "more_body": True})
        role_sent.set()
        await go.wait()
        for part in (b"data: %s\n\n" % json.dumps(text).encode(), b"data: [DONE]\n\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def tell():
        write_upstream(tmp_path, "parrot", "chat")
        clock = SystemClock()
        async with rig(tmp_path, upstream=Upstream(foreign)) as site:
            asked = asyncio.create_task(site.chat("parrot", "a b", stream=True))
            await role_sent.wait()
            then = clock.monotonic()
            await until_async(lambda: clock.monotonic() - then > 0.05, what="a pause before the text")
            go.set()
            assert (await asked).events[-1] == "[DONE]"
            assert site.counted("model:parrot").paths["local"].ttft.total > 50

    asyncio.run(tell())


class Engine:
    """Answers `said` with `status`."""

    def __init__(self, status=200, said=b'{"choices": []}'):
        self.status, self.said = status, said

    async def __call__(self, scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": self.said, "more_body": False})


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (503, b'{"error": {"message": "Loading model", "code": 503}}', "status 503: Loading model"),
        (503, b'{"error": "not ready"}', "status 503: not ready"),
        (502, b"<html>Bad Gateway</html>", "status 502"),
        (504, b"[" * 10_000, "status 504"),
        (503, b'["busy"]', "status 503"),
        (503, b'{"error": "\xff"}', "status 503"),
    ],
)
def test_an_engine_that_cannot_answer_now_is_told_in_its_own_words(tmp_path, status, said, words):
    async def tell():
        engine = Engine(status, said)
        write_upstream(tmp_path, "parrot", "chat")
        async with rig(tmp_path, upstream=Upstream(engine)) as site:
            away = await site.chat("parrot", "a b")
            assert (away.status, away.reason) == (503, "model_not_ready")
            assert away.json["error"]["message"].endswith(f"its server answered with {words}")
            assert away.headers["retry-after"]
            wish = await site.chat("parrot", "a b", top_k=5)
            assert wish.json["error"]["message"] == away.json["error"]["message"], "the model has no runtime of its own to name"
            engine.status, engine.said = 200, b'{"choices": []}'
            assert (await site.chat("parrot", "a b")).status == 200

    asyncio.run(tell())


def test_another_place_answers_for_an_engine_that_still_loads_its_model(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", chats=["parrot"]) as hub:
            engine = Engine(503, b'{"error": {"message": "Loading model"}}')
            write_upstream(tmp_path / "site", "parrot", "chat")
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", upstream=Upstream(engine), fallback=link) as site:
                moved = await site.chat("parrot", "a b", stream=True)
                assert (moved.status, moved.reason, moved.events[-1]) == (200, "hub_runtime_down", "[DONE]")
                engine.status, engine.said = 500, b'{"error": {"message": "that prompt"}}'
                own = await site.chat("parrot", "a b")
                assert (own.status, own.json) == (500, {"error": {"message": "that prompt"}}), "its answer to this very request"

    asyncio.run(tell())
