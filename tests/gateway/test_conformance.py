"""Unmodified clients against a real gateway: Triton's for tensors, OpenAI's for chat."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import zlib
from contextlib import asynccontextmanager

import httpcore
import numpy as np
import openai
import pytest
import uvicorn

from gateway.gateway_process import gateway
from gateway.plane_rig import rig
from gateway.small_models import add_embedder, add_model
from nearhall.cli.roots.models import cache_folder
from nearhall.cli.roots.tls_protocol import TlsProtocol
from waiting import until, until_async

# geventhttpclient warns about gevent's own use of ssl; both are the client's business.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    for name, dtype in {"floats": "FP32", "halves": "FP16", "wholes": "INT64", "flags": "BOOL", "texts": "BYTES"}.items():
        add_model(folder / "models", name, dtype)
    add_model(folder / "models", "double", doubled=True)
    (folder / "models" / "torn").mkdir()
    (folder / "models" / "torn" / "model.yaml").write_text("schema: nearhall/model/v1\nnam: torn\n")
    with gateway(folder, folder / "models") as running:
        yield running


@pytest.fixture
def triton(served):
    client_module = pytest.importorskip("tritonclient.http")
    with client_module.InferenceServerClient(served.address) as client:
        yield client_module, client


VALUES = {
    "floats": np.array([[0.5, -1.25, 3e38, 0.0]], np.float32),
    "halves": np.array([[0.5, -1.25, 6e4, 0.0]], np.float16),
    "wholes": np.array([[0, -1, 2**62, 7], [1, 2, 3, 4]], np.int64),
    "flags": np.array([[True, False, True, True]]),
    "texts": np.array([[b"plain", "Grüße".encode(), b"", b"4"]], object),
}
NAMES = {"floats": "FP32", "halves": "FP16", "wholes": "INT64", "flags": "BOOL", "texts": "BYTES"}


@pytest.mark.parametrize("model", VALUES)
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "json in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary out", "json out"])
def test_every_type_goes_through_and_back(triton, model, binary_in, binary_out):
    module, client = triton
    if model == "halves" and not (binary_in and binary_out):
        pytest.skip("FP16 has no JSON form in the protocol")
    values = VALUES[model]
    tensor = module.InferInput("x", values.shape, NAMES[model])
    tensor.set_data_from_numpy(values, binary_data=binary_in)
    result = client.infer(model, [tensor], outputs=[module.InferRequestedOutput("y", binary_data=binary_out)], request_id="r1")
    found = result.as_numpy("y")
    if model == "texts" and not binary_out:
        found = np.array([text.encode() for text in found.ravel()], object).reshape(found.shape)
    assert found.dtype == values.dtype or model == "texts"
    assert (found == values).all()
    assert result.get_response()["id"] == "r1"


def test_all_outputs_by_default_and_compression(triton):
    module, client = triton
    values = np.arange(40_000, dtype=np.float32).reshape(-1, 4)
    tensor = module.InferInput("x", values.shape, "FP32").set_data_from_numpy(values)
    for packed in ("gzip", "deflate"):
        result = client.infer("double", [tensor], request_compression_algorithm=packed, response_compression_algorithm=packed)
        assert (result.as_numpy("y") == 2 * values).all()


@pytest.mark.parametrize(
    ("asked", "coding"), [("gzip", b"gzip"), ("deflate", b"deflate"), ("gzip, deflate", None), ("br", None), (None, None)]
)
def test_an_answer_is_compressed_only_for_who_asks_for_that_alone(served, asked, coding):
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [500, 4], "data": [%s]}]}' % b",".join([b"1"] * 2000)
    headers = [] if asked is None else [("accept-encoding", asked)]
    with httpcore.ConnectionPool() as pool:
        answer = pool.request("POST", f"http://{served.address}/v2/models/double/infer", content=body, headers=headers)
        plain = answer.content
        if coding is not None:
            assert len(plain) < 1000
            plain = zlib.decompress(plain, 32 + zlib.MAX_WBITS)
        assert dict(answer.headers).get(b"content-encoding") == coding
        assert json.loads(plain)["outputs"][0]["data"] == [2] * 2000
        small = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}'
        answer = pool.request("POST", f"http://{served.address}/v2/models/double/infer", content=small, headers=headers)
        assert b"content-encoding" not in dict(answer.headers)


def test_many_at_once(triton, served):
    module, _ = triton
    values = np.ones((1, 4), np.float32)
    tensor = module.InferInput("x", values.shape, "FP32").set_data_from_numpy(values)
    with module.InferenceServerClient(served.address, concurrency=8) as client:
        waiting = [client.async_infer("double", [tensor]) for _ in range(64)]
        assert all((one.get_result().as_numpy("y") == 2).all() for one in waiting)


def test_metadata_health_and_index(triton):
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "nearhall"
    assert client.is_model_ready("double")
    assert not client.is_model_ready("torn")
    assert client.get_model_metadata("double")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert index["double"]["state"] == "READY"
    assert index["torn"]["state"] == "UNAVAILABLE"
    assert "nam" in index["torn"]["reason"]


def test_health_has_the_words_that_kserves_client_reads(served):
    with httpcore.ConnectionPool() as pool:
        for path, words in (
            ("/v2/health/live", {"live": True}),
            ("/v2/health/ready", {"ready": True}),
            ("/v2/models/double/ready", {"name": "double", "ready": True}),
        ):
            assert json.loads(pool.request("GET", f"http://{served.address}{path}").content) == words


def test_faults_reach_the_client_as_words(triton):
    module, client = triton
    utils = pytest.importorskip("tritonclient.utils")
    tensor = module.InferInput("x", (1, 3), "FP32").set_data_from_numpy(np.ones((1, 3), np.float32))
    with pytest.raises(utils.InferenceServerException, match=r"shape \[-1, 4\]"):
        client.infer("double", [tensor])
    with pytest.raises(utils.InferenceServerException, match="not known here"):
        client.infer("nothing", [tensor])
    with pytest.raises(utils.InferenceServerException, match="control socket"):
        client.unload_model("double")


@asynccontextmanager
async def listening(app):
    """The application on a real socket, by the protocol class that the gateway uses."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(app, http=TlsProtocol, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve(sockets=[bound]))
        await until_async(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await serving


def talking(url):
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)


def test_openais_client_whole_and_streamed(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site, listening(site.composed.app) as url, talking(url) as client:
            assert [model.id async for model in client.models.list()] == ["parrot"]
            messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]
            whole = await client.chat.completions.create(model="parrot", messages=messages)
            assert whole.choices[0].message.content == "one two three"
            assert whole.usage.total_tokens == 10
            stream = await client.chat.completions.create(
                model="parrot",
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                max_completion_tokens=2,
            )
            chunks = [chunk async for chunk in stream]
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two"
            assert chunks[-1].usage.completion_tokens == 2
            tool = {"type": "function", "function": {"name": "f"}}
            with pytest.raises(openai.BadRequestError, match="tools"):
                await client.chat.completions.create(model="parrot", messages=messages, tools=[tool])
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="nobody", messages=messages)

    asyncio.run(tell())


def test_openais_client_completes_whole_and_streamed(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site, listening(site.composed.app) as url, talking(url) as client:
            whole = await client.completions.create(model="parrot", prompt="one two three", seed=3, top_p=0.5)
            assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
                "text_completion",
                "one two three",
                "stop",
            )
            assert whole.usage.total_tokens == 10
            assert site.runtimes["parrot"].asked[-1].prompt == "one two three"
            assert site.runtimes["parrot"].asked[-1].max_tokens == 16
            assert (await client.completions.create(model="parrot", prompt=["one two"])).choices[0].text == "one two"
            stream = await client.completions.create(
                model="parrot", prompt="one two three", stream=True, stream_options={"include_usage": True}, max_tokens=2
            )
            chunks = [chunk async for chunk in stream]
            assert "".join(c.choices[0].text for c in chunks if c.choices) == "one two"
            assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
            assert chunks[-1].usage.completion_tokens == 2
            asked = {"echo": True, "suffix": "x", "best_of": 2, "logprobs": 0, "n": 2, "prompt": ["a", "b"]}
            for name, value in asked.items():
                with pytest.raises(openai.BadRequestError, match=name) as told:
                    await client.completions.create(**{"model": "parrot", "prompt": "x", name: value})
                assert told.value.param == name
            with pytest.raises(openai.BadRequestError, match="in tokens"):
                await client.completions.create(model="parrot", prompt=[1, 2])

    asyncio.run(tell())


def test_a_broken_completion_has_an_error_and_no_end(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site:
            site.runtimes["parrot"].dies_after = 1
            body = {"model": "parrot", "prompt": "one two three", "stream": True}
            broken = await site.ask("POST", "/v1/completions", body)
            assert broken.events[0]["choices"][0]["text"] == "one"
            assert broken.events[-1]["error"]["code"] == "runtime_failed"
            assert "[DONE]" not in broken.events

    asyncio.run(tell())


def test_openais_client_embeds(tmp_path):
    add_embedder(tmp_path / "models", "words")
    with (
        gateway(tmp_path, tmp_path / "models") as running,
        openai.OpenAI(base_url=f"http://{running.address}/v1", api_key="none", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["words"]
        texts = ["fan failed", "failed fan fan", "fine weather"]
        by_base64 = client.embeddings.create(model="words", input=texts)
        plain = client.embeddings.create(model="words", input=texts, encoding_format="float")
        vectors = np.array([one.embedding for one in by_base64.data])
        assert vectors == pytest.approx(np.array([one.embedding for one in plain.data]))
        assert [one.index for one in by_base64.data] == [0, 1, 2]
        assert vectors @ vectors[0] == pytest.approx([1, 0.949, 0], abs=1e-3)
        assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (7, 7)
        one = client.embeddings.create(model="words", input="fan", dimensions=8)
        assert len(one.data[0].embedding) == 8
        with pytest.raises(openai.BadRequestError, match="vectors of 8"):
            client.embeddings.create(model="words", input="fan", dimensions=4)
        with pytest.raises(openai.BadRequestError, match="17 tokens"):
            client.embeddings.create(model="words", input="fan " * 17)
        with pytest.raises(openai.BadRequestError, match="in tokens"):
            client.embeddings.create(model="words", input=[1, 2, 3])
        with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
            client.completions.create(model="words", prompt="fan")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="nothing", input="fan")


def test_openais_client_hears_of_a_broken_stream(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site, listening(site.composed.app) as url:
            site.runtimes["parrot"].dies_after = 1
            async with talking(url) as client:
                messages = [{"role": "user", "content": "one two three"}]
                stream = await client.chat.completions.create(model="parrot", messages=messages, stream=True)
                said = []

                async def listen():
                    async for chunk in stream:
                        said.append(chunk.choices[0].delta.content)  # noqa: PERF401 (what came before the error counts)

                with pytest.raises(openai.APIError, match="broke off"):
                    await listen()
                assert said == ["one"]

    asyncio.run(tell())


def test_leaving_a_stream_cancels_it(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site, listening(site.composed.app) as url:
            runtime = site.runtimes["parrot"]
            runtime.gate = asyncio.Event()
            async with talking(url) as client:
                messages = [{"role": "user", "content": "one two three"}]
                stream = await client.chat.completions.create(model="parrot", messages=messages, stream=True)
                await anext(aiter(stream))
                await stream.close()
                await until_async(lambda: runtime.cancelled == 1, what="the work is cancelled")

    asyncio.run(tell())


def test_the_default_chat_model_answers_openais_client(tmp_path):
    models = cache_folder(dict(os.environ)) / "models"
    if not (models / "smollm2" / "model.yaml").is_file():
        pytest.skip("the chat model is not in the cache; `nearhall models fetch` brings it")
    pytest.importorskip("openvino_genai")
    pytest.importorskip("nearhall.drivers.genai")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "smollm2").symlink_to(models / "smollm2")
    with gateway(tmp_path, tmp_path / "models") as running:
        states = lambda: {model["name"]: model["state"] for model in running.stats()["models"]}  # noqa: E731
        until(lambda: states()["smollm2"] == "ready", 50, what="the chat model is loaded")
        with openai.OpenAI(base_url=f"http://{running.address}/v1", api_key="none") as client:
            answer = client.chat.completions.create(
                model="smollm2", messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=16
            )
            assert "Paris" in (answer.choices[0].message.content or "")
