"""What a client does wrong gets a 4xx with its reason, beside a good request; never a traceback, never a 5xx."""

from __future__ import annotations

import asyncio

import pytest

from gateway.plane_rig import rig


def v2(**changes):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


V2 = {
    "no JSON": (b"{", "is not an inference request"),
    "no inputs": ({}, "missing required field `inputs`"),
    "empty inputs": ({"inputs": []}, "has 0 inputs"),
    "unknown input": (v2(name="q"), "has no input 'q'"),
    "wrong type": (v2(datatype="INT32"), "is FP32, but the request sends INT32"),
    "unknown type": (v2(datatype="FLOAT"), "has datatype 'FLOAT'"),
    "wrong shape": (v2(shape=[4]), "has shape [-1, 4]"),
    "shape and data apart": (v2(shape=[2, 4]), "needs 8"),
    "negative": (v2(shape=[-1, 4]), "has shape [-1, 4]"),
    "text for numbers": (v2(data=["a", "b", "c", "d"]), "is not a list of FP32 values"),
    "too large for its type": (v2(data=[1e39, 2, 3, 4]), "a value that FP32 cannot"),
    "twice": ({"inputs": v2()["inputs"] * 2}, "is given twice"),
    "no data": (v2(data=None), "neither data nor binary_data_size"),
    "half precision as text": (v2(datatype="FP16"), "no JSON form"),
    "unknown output": (v2() | {"outputs": [{"name": "z"}]}, "has no output 'z'"),
    "unknown parameter": (v2() | {"parameters": {"beams": 3}}, "the parameter 'beams'"),
    "a sequence": (v2() | {"parameters": {"sequence_id": 3}}, "the parameter 'sequence_id'"),
}


@pytest.mark.parametrize("case", V2.values(), ids=V2)
def test_v2_requests(tmp_path, case):
    body, says = case

    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            bad = await site.ask("POST", "/v2/models/double/infer", body)
            assert bad.status == 400
            assert says in bad.json["error"]
            assert bad.reason in {"bad_request", "unsupported"}
            assert (await site.ask("POST", "/v2/models/double/infer", v2())).status == 200
            assert site.counted("model:double").failed == 0

    asyncio.run(tell())


CHAT = {
    "no messages": ({}, "missing required field `messages`"),
    "tools": ({"tools": [{"type": "function"}]}, "'tools'"),
    "two answers": ({"n": 2}, "'n'"),
    "logprobs": ({"logprobs": True}, "'logprobs'"),
    "json mode": ({"response_format": {"type": "json_object"}}, "'response_format'"),
    "a slip": ({"max_token": 4}, "did you mean 'max_tokens'"),
    "hot": ({"temperature": 9}, "temperature is 9"),
    "long": ({"max_tokens": 10**6}, "max_tokens is 1000000"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "is of type 'image_url'",
    ),
    "a tool's message": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "five stops": ({"stop": ["a", "b", "c", "d", "e"]}, "at most 4"),
}


@pytest.mark.parametrize("case", CHAT.values(), ids=CHAT)
def test_chat_requests(tmp_path, case):
    more, says = case

    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site:
            good = {"model": "parrot", "messages": [{"role": "user", "content": "hi"}]}
            body = {"model": "parrot"} if not more else good | more
            bad = await site.ask("POST", "/v1/chat/completions", body)
            assert bad.status == 400
            assert says in bad.json["error"]["message"]
            assert bad.json["error"]["type"] == "invalid_request_error"
            neutral = {"n": 1, "logprobs": False, "tools": None, "response_format": {"type": "text"}, "user": "me"}
            assert (await site.ask("POST", "/v1/chat/completions", good | neutral)).status == 200

    asyncio.run(tell())


OTHERS = {
    "unknown model": ("POST", "/v2/models/none/infer", v2(), {}, 404, "model_unknown"),
    "unknown version": ("POST", "/v2/models/double/versions/9/infer", v2(), {}, 404, "model_unknown"),
    "unknown chat": (
        "POST",
        "/v1/chat/completions",
        {"model": "x", "messages": [{"role": "user", "content": "x"}]},
        {},
        404,
        "model_unknown",
    ),
    "unknown path": ("GET", "/nothing", b"", {}, 404, "path_unknown"),
    "unknown path of work": ("POST", "/v1/responses", {}, {}, 404, "path_unknown"),
    "odd path": ("POST", "/v2/models/double/x/1/infer", v2(), {}, 404, "path_unknown"),
    "odd path of the repository": ("POST", "/v2/repository/double/load", b"", {}, 404, "path_unknown"),
    "control elsewhere": ("GET", "/control/cap", b"", {}, 404, "path_unknown"),
    "wrong method": ("DELETE", "/v2/models/double", b"", {}, 405, "method_not_allowed"),
    "metadata by work": ("POST", "/v2/models/double", b"", {}, 405, "method_not_allowed"),
    "inference by reading": ("GET", "/v2/models/double/infer", b"", {}, 405, "method_not_allowed"),
    "bad deadline": ("POST", "/v2/models/double/infer", v2(), {"x-nearhall-deadline-ms": "soon"}, 400, "bad_request"),
    "bad residency": ("POST", "/v2/models/double/infer", v2(), {"x-nearhall-residency": "mars"}, 400, "bad_request"),
    "unknown workload": ("POST", "/v2/models/double/infer", v2(), {"x-nearhall-workload": "mars"}, 400, "bad_request"),
    "bad head length": (
        "POST",
        "/v2/models/double/infer",
        v2(),
        {"inference-header-content-length": "99999"},
        400,
        "bad_request",
    ),
    "metadata of none": ("GET", "/v2/models/none", b"", {}, 404, "model_unknown"),
    "index with rubbish": ("POST", "/v2/repository/index", b"[", {}, 400, "bad_request"),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_requests(tmp_path, case):
    method, path, body, headers, status, reason = case

    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            answer = await site.ask(method, path, body, headers)
            assert (answer.status, answer.reason) == (status, reason)
            assert (await site.ask("POST", "/v2/models/double/versions/1/infer", v2())).status == 200

    asyncio.run(tell())
