"""Another engine behind the gateway may do what our own runtimes do not, and another variant answers when it is gone."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.plane_rig import rig
from gateway.test_conformance import listening, talking
from nearhall.drivers.fallback_memory import MemoryFallback
from waiting import until_async

ENGINE = "there: {runtime: upstream, file: 'http://127.0.0.1:1'%s}"
OWN = "cpu: {runtime: genai, file: m.gguf%s}"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
HI = [{"role": "user", "content": "one two three"}]


class Engine(MemoryFallback):
    """A server as `ports.runtime.UpstreamRuntime`: says each choice in two pieces, or calls the first tool that it is given."""

    def __init__(self, *, one_way_s: float = 0.0) -> None:
        super().__init__(self._answer, one_way_s=one_way_s)
        self.bodies: list[bytes] = []

    @property
    def alive(self):
        return self.reachable

    async def _answer(self, scope, receive, send):
        self.bodies.append((await receive())["body"])
        asked = json.loads(self.bodies[-1])
        streamed = asked.get("stream")
        kind = b"text/event-stream" if streamed else b"application/json"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        pieces = self._events(asked) if streamed else [json.dumps(self._whole(asked)).encode()]
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _said(self, asked):
        if asked.get("tools"):
            call = {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"role": "assistant", "content": "from afar"}

    def _whole(self, asked):
        logprobs = {"content": [{"token": "from", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
        choices = [
            {"index": at, "message": self._said(asked), "logprobs": logprobs if asked.get("logprobs") else None, **_STOP}
            for at in range(asked.get("n") or 1)
        ]
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": choices,
            "usage": _USAGE,
        }

    def _events(self, asked):
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": asked["model"]}
        for at in range(asked.get("n") or 1):
            yield _event({**head, "choices": [{"index": at, "delta": {"role": "assistant", "content": ""}}]})
        for at in range(asked.get("n") or 1):
            yield _event({**head, "choices": [{"index": at, "delta": self._said(asked)}]})
            yield _event({**head, "choices": [{"index": at, "delta": {}, **_STOP}]})
        yield _event({**head, "choices": [], "usage": _USAGE})
        yield b"data: [DONE]\r\n\r\n"


_STOP = {"finish_reason": "stop"}
_USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def _event(said):
    return b"data: %s\r\n\r\n" % json.dumps(said).encode()


def write(folder, name, *variants, task="chat"):
    (folder / name / "1" / "cpu").mkdir(parents=True)
    (folder / name / "1" / "cpu" / "m.gguf").write_bytes(b"")
    (folder / name / "model.yaml").write_text(
        f"schema: nearhall/model/v1\nname: {name}\ntask: {task}\nlicence: x\nsource: x\n"
        f"versions: {{'1': {{variants: {{{', '.join(variants)}}}}}}}\n"
        f"default_version: '1'\ndefault_variant: {variants[0].partition(':')[0]}\n"
    )


def engines(**by_variant):
    """Opens each upstream variant as the engine of its name."""
    return lambda opener: lambda file: by_variant[file.variant] if file.runtime == "upstream" else opener(file)


async def ready(site, *variants):
    model = next(iter(site.composed.plane.models.all()))
    await until_async(lambda: all(model.variants[name].ready for name in variants), what="the variants are ready")
    return model


def test_openais_client_gets_tools_log_probabilities_and_several_choices_of_an_engine(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "far", ENGINE % "")
        async with (
            rig(tmp_path, upstream=engine) as site,
            listening(site.composed.app) as url,
            talking(url) as client,
        ):
            called = await client.chat.completions.create(model="far", messages=HI, tools=TOOLS, tool_choice="required")
            assert called.choices[0].message.tool_calls[0].function.name == "weather"
            answered = [*HI, called.choices[0].message, {"role": "tool", "tool_call_id": "c", "content": "rain"}]
            whole = await client.chat.completions.create(
                model="far", messages=answered, n=2, logprobs=True, top_logprobs=1, max_completion_tokens=50_000
            )
            assert [choice.index for choice in whole.choices] == [0, 1]
            assert whole.choices[1].logprobs.content[0].logprob == -0.5
            assert json.loads(engine.bodies[-1])["max_completion_tokens"] == 50_000
            stream = await client.chat.completions.create(
                model="far", messages=HI, n=3, stream=True, stream_options={"include_usage": True}, extra_body={"top_k": 5}
            )
            chunks = [chunk async for chunk in stream]
            said = {choice.index: choice.delta.content for c in chunks for choice in c.choices if choice.delta.content}
            assert said == {0: "from afar", 1: "from afar", 2: "from afar"}
            assert chunks[-1].usage.completion_tokens == 4
            assert json.loads(engine.bodies[-1])["top_k"] == 5
            streamed = await client.chat.completions.create(model="far", messages=HI, tools=TOOLS, stream=True)
            assert [c.choices[0].delta.tool_calls for c in [c async for c in streamed] if c.choices][1][0].id == "c"
            counted = site.counted("model:far")
            assert (counted.answered["local"], counted.paths["local"].ttft.n) == (4, 4)

    asyncio.run(tell())


def test_a_request_goes_on_as_it_came(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "far", ENGINE % "")
        async with rig(tmp_path, upstream=engine) as site:
            body = b'{ "model":"far", "n": 1.0e0, "seed": 7,"messages":[{"role":"critic","content":"gr\\u00fcn"}], "x":{}}'
            assert (await site.ask("POST", "/v1/chat/completions", body)).status == 200
            assert engine.bodies == [body]
            wrong = await site.chat("far", "a", max_tokens="many", tools=TOOLS)
            assert (wrong.status, wrong.reason) == (400, "bad_request")
            assert len(engine.bodies) == 1

    asyncio.run(tell())


def test_what_only_an_engine_does_goes_to_its_variant_alone(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "both", OWN % "", ENGINE % "")
        async with rig(tmp_path, around=engines(there=engine)) as site:
            await ready(site, "cpu")
            assert (await site.chat("both", "a b")).headers["x-nearhall-variant"] == "cpu"
            far = await site.chat("both", "a b", tools=TOOLS)
            assert (far.status, far.headers["x-nearhall-variant"]) == (200, "there")
            assert "x-nearhall-stepped-down" not in far.headers
            assert (await site.chat("both", "a b", max_tokens=5000)).headers["x-nearhall-variant"] == "there"
            assert (await site.chat("both", "a b", max_tokens=500)).headers["x-nearhall-variant"] == "cpu"
            engine.cut()
            away = await site.chat("both", "a b", tools=TOOLS)
            assert (away.status, away.reason) == (503, "model_not_ready")
            assert "only another engine could (variant there)" in away.json["error"]["message"]
            assert "'tools'" in away.json["error"]["message"]
            assert (await site.chat("both", "a b")).headers["x-nearhall-variant"] == "cpu"

    asyncio.run(tell())


def test_a_model_without_an_engine_refuses_it_as_ever_and_one_that_is_not_here_goes_to_the_hub(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path / "hub", "far", ENGINE % "")
        async with rig(tmp_path / "hub", node="hub", upstream=engine, chats=["parrot"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", fallback=link, chats=["own"]) as site:
                refused = await site.chat("own", "a", tools=TOOLS)
                assert (refused.status, refused.reason) == (400, "unsupported")
                assert "parameter 'tools'" in refused.json["error"]["message"]
                assert link.seen == []
                passed = await site.chat("far", "a", tools=TOOLS, stream=True)
                assert (passed.status, passed.reason) == (200, "hub_model_absent")
                assert b'"tool_calls": [{"index": 0, "id": "c"' in passed.body
                assert passed.body.endswith(b"data: [DONE]\r\n\r\n")
                there = await site.chat("parrot", "a", tools=TOOLS)
                assert (there.status, there.reason) == (400, "unsupported")

    asyncio.run(tell())


def test_an_engine_that_is_gone_is_left_to_the_hub_with_what_only_an_engine_does(tmp_path):
    async def tell():
        engine, at_hub = Engine(), Engine()
        write(tmp_path / "hub", "both", ENGINE % "")
        write(tmp_path / "site", "both", OWN % "", ENGINE % ", preload: true")
        async with rig(tmp_path / "hub", node="hub", upstream=at_hub) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", fallback=link, around=engines(there=engine)) as site:
                await ready(site, "cpu", "there")
                engine.cut()
                moved = await site.chat("both", "a", n=2)
                assert (moved.status, moved.reason) == (200, "hub_runtime_down")
                assert len(moved.json["choices"]) == 2
                assert (await site.chat("both", "a")).headers["x-nearhall-variant"] == "cpu"

    asyncio.run(tell())


def test_a_floor_that_a_workload_states_holds_for_engines(tmp_path):
    async def tell():
        write(tmp_path / "a", "both", OWN % "", ENGINE % ", preload: true")
        write(tmp_path / "b", "both", OWN % "", ENGINE % ", preload: true, quality: 0.9")
        floor = [{"id": "w", "model": "both", "quality_min": 0.8}]
        for folder, status, told in (("a", 503, "quality_min, 0.8"), ("b", 200, "only another engine could (variant there)")):
            engine = Engine()
            async with rig(tmp_path / folder, around=engines(there=engine), workloads=floor) as site:
                await ready(site, "cpu", "there")
                assert (await site.chat("both", "a", tools=TOOLS)).status == status
                engine.cut()
                away = await site.chat("both", "a", tools=TOOLS)
                assert (away.status, told in away.json["error"]["message"]) == (503, True)

    asyncio.run(tell())


STANDBY = (ENGINE % "", OWN % ", quality: 0.99, preload: true")
FLOOR = [{"id": "w", "model": "both", "quality_min": 0.9}]


@pytest.mark.parametrize("streamed", [True, False])
def test_another_variant_answers_the_request_that_finds_an_engine_gone(tmp_path, streamed):
    async def tell():
        engine = Engine()
        write(tmp_path, "both", *STANDBY)
        async with rig(tmp_path, around=engines(there=engine), workloads=FLOOR) as site:
            await ready(site, "cpu", "there")
            assert (await site.chat("both", "a b", stream=streamed)).headers["x-nearhall-variant"] == "there"
            engine.break_after(0)
            for gone in (lambda: None, engine.cut):
                gone()
                moved = await site.chat("both", "a b", stream=streamed)
                assert (moved.status, moved.headers["x-nearhall-variant"], moved.reason) == (200, "cpu", "local_first")
                assert moved.headers["x-nearhall-stepped-down"] == "there"
                assert moved.body.count(b"a b" if not streamed else b'"a"') == 1
            assert len(engine.bodies) == 2
            assert site.counted("w").failed == 0

    asyncio.run(tell())


def test_a_standby_that_is_not_loaded_is_loaded_when_its_engine_is_gone(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "both", ENGINE % "", OWN % ", quality: 0.99")
        async with rig(tmp_path, around=engines(there=engine), workloads=FLOOR) as site:
            model = await ready(site, "there")
            assert (await site.chat("both", "a b")).headers["x-nearhall-variant"] == "there"
            assert not model.variants["cpu"].ready
            engine.cut()
            assert (await site.chat("both", "a b")).headers["x-nearhall-variant"] == "cpu"

    asyncio.run(tell())


def test_after_the_first_token_a_broken_stream_ends_and_is_not_begun_again(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "both", *STANDBY)
        async with rig(tmp_path, around=engines(there=engine), workloads=FLOOR) as site:
            await ready(site, "cpu", "there")
            engine.break_after(1)
            opened = await site.chat("both", "a b", stream=True)
            assert opened.headers["x-nearhall-variant"] == "cpu", "an opening that names the role is no token"
            engine.break_after(2)
            broken = await site.chat("both", "a b", stream=True)
            assert broken.headers["x-nearhall-variant"] == "there"
            assert b'"code":"runtime_failed"' in broken.body
            assert b"[DONE]" not in broken.body
            assert site.counted("w").failed == 1

    asyncio.run(tell())


def test_a_request_is_given_to_two_variants_at_most_and_then_to_the_hub(tmp_path):
    async def tell():
        first, second = Engine(), Engine()
        there, also = (ENGINE % "", (ENGINE % ", quality: 0.98, preload: true").replace("there", "also"))
        write(tmp_path / "site", "both", there, also, OWN % ", quality: 0.97, preload: true")
        async with rig(tmp_path / "hub", node="hub", chats=["both"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", around=engines(there=first, also=second), workloads=FLOOR, fallback=link) as site:
                await ready(site, "cpu", "there", "also")
                for engine in (first, second):
                    engine.break_after(0)
                moved = await site.chat("both", "a b")
                assert (moved.status, moved.reason) == (200, "hub_runtime_down")
                assert (len(first.bodies), len(second.bodies), len(site.runtimes["both"].asked)) == (1, 1, 2), (
                    "asked at its warm-up alone"
                )
                link.cut()
                refused = await site.chat("both", "a b")
                assert (refused.status, refused.reason) == (503, "hub_unreachable")

    asyncio.run(tell())


def test_a_large_answer_begins_before_it_is_whole(tmp_path):
    async def foreign(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b" " * 40_000, "more_body": True})

    class Large(Engine):
        def __init__(self):
            super().__init__()
            self._app = foreign

    async def tell():
        engine = Large()
        write(tmp_path, "both", *STANDBY)
        async with rig(tmp_path, around=engines(there=engine), workloads=FLOOR) as site:
            await ready(site, "cpu", "there")
            engine.break_after(1)
            assert (await site.chat("both", "a b")).headers["x-nearhall-variant"] == "cpu"
            engine.break_after(2)
            broken = await site.chat("both", "a b")
            assert (broken.headers["x-nearhall-variant"], broken.complete) == ("there", False)

    asyncio.run(tell())


def test_tensors_too_go_to_another_variant(tmp_path):
    async def tell():
        async with rig(tmp_path / "other", models=["m"]) as other:
            server = Engine()
            server._app = other.composed.app
            own = "cpu: {runtime: onnxruntime, file: m.gguf, quality: 0.99, preload: true}"
            for name, stateful in (("a", ""), ("b", "stateful: true\n")):
                write(tmp_path / name, "m", ENGINE % "", own, task="tensors")
                file = tmp_path / name / "m" / "model.yaml"
                file.write_text(file.read_text() + stateful)
                server.restore()
                async with rig(
                    tmp_path / name, around=engines(there=server), workloads=[{"id": "w", "model": "m", "quality_min": 0.9}]
                ) as site:
                    await ready(site, "there", *([] if stateful else ["cpu"]))
                    assert (await site.infer("m", [1, 2, 3, 4])).headers["x-nearhall-variant"] == "there"
                    server.cut()
                    moved = await site.infer("m", [1, 2, 3, 4])
                    if stateful:
                        assert (moved.status, moved.reason) == (500, "runtime_failed")
                    else:
                        assert (moved.status, moved.headers["x-nearhall-variant"]) == (200, "cpu")
                        assert moved.json["outputs"][0]["data"] == [2, 4, 6, 8]

    asyncio.run(tell())


def test_a_limit_of_tokens_that_an_operator_sets_holds_for_engines(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "far", ENGINE % "")
        async with rig(tmp_path, upstream=engine, limits={"chat_tokens_max": 100}) as site:
            refused = await site.chat("far", "a", max_tokens=101)
            assert (refused.status, refused.reason) == (400, "bad_request")
            assert "max_tokens is 101; 1 to 100" in refused.json["error"]["message"]
            assert (await site.chat("far", "a", max_completion_tokens=100)).status == 200
            assert "max_tokens" not in json.loads(engine.bodies[-1])
            assert (await site.chat("far", "a", n=2)).status == 200
            assert json.loads(engine.bodies[-1])["max_tokens"] == 100
            await site.ask("POST", "/v1/completions", {"model": "far", "prompt": "a"})
            assert json.loads(engine.bodies[-1])["max_tokens"] == 16
        async with rig(tmp_path, upstream=engine) as site:
            assert (await site.chat("far", "a")).status == 200
            assert "max_tokens" not in json.loads(engine.bodies[-1])

    asyncio.run(tell())


def test_embeddings_of_an_engine_take_tokens_and_what_it_knows(tmp_path):
    async def tell():
        engine = Engine()
        write(tmp_path, "vectors", ENGINE % "", task="embeddings")
        async with rig(tmp_path, upstream=engine) as site:
            asked = {"model": "vectors", "input": [[1, 2]], "input_type": "query"}
            assert (await site.ask("POST", "/v1/embeddings", asked)).status == 200
            assert json.loads(engine.bodies[-1]) == asked

    asyncio.run(tell())
