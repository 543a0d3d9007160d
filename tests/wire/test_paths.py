"""Paths and methods: what there is, what is told of the rest, and that both protocols' clients can read it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.wire.paths import READ, WORK, methods_at, model_and_version, not_there, wrong_method
from nearhall.wire.refusal import refusal_response

PATHS = {
    "/healthz": READ,
    "/v2": READ,
    "/v2/": READ,
    "/v2/health/ready": READ,
    "/metrics": READ,
    "/v1/models": READ,
    "/v1/models/llm": READ,
    "/v1/models/who/llm": READ,
    "/v1/chat/completions": WORK,
    "/v1/embeddings": WORK,
    "/v2/models/stats": READ,
    "/v2/models/m": READ,
    "/v2/models/m/ready": READ,
    "/v2/models/m/infer": WORK,
    "/v2/models/m/versions/1": READ,
    "/v2/models/m/versions/1/config": READ,
    "/v2/models/m/versions/1/infer": WORK,
    "/v2/repository/index": WORK,
    "/v2/repository/models/m/load": WORK,
    "/v2/repository/models/m/unload": WORK,
    "": (),
    "/": (),
    "/v3": (),
    "/v1/models/x/../..": READ,
    "/v1/nothing": (),
    "/v2/models": (),
    "/v2/models/": (),
    "/v2/models//infer": (),
    "/v2/models/m/generate": (),
    "/v2/models/m/a/b/infer": (),
    "/v2/repository/models/load": (),
    "/v2/repository/models/m/forget": (),
    "/v2/repository/m/load": (),
    "/control/cap": (),
}


@pytest.mark.parametrize(("path", "methods"), PATHS.items())
def test_a_path_has_its_methods(path, methods):
    assert methods_at(path) == methods


def test_a_wrong_method_is_told_the_right_ones():
    refusal = not_there("GET", "/v2/models/m/infer")
    assert refusal.message == "/v2/models/m/infer is asked with POST, not with GET"
    status, headers, body = refusal_response(refusal, "/v2/models/m/infer")
    assert (status, dict(headers)[b"allow"], dict(headers)[b"x-nearhall-reason"]) == (405, b"POST", b"method_not_allowed")
    assert json.loads(body) == {"error": refusal.message}
    status, headers, body = refusal_response(not_there("DELETE", "/v1/models/llm"), "/v1/models/llm")
    assert (status, dict(headers)[b"allow"]) == (405, b"GET, HEAD")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert wrong_method("X" * 99, "/" + "p" * 999, WORK).message.count("p" * 128) == 0


def test_a_path_that_there_is_not():
    status, headers, body = refusal_response(not_there("POST", "/v1/responses"), "/v1/responses")
    assert (status, b"allow" in dict(headers)) == (404, False)
    assert json.loads(body)["error"]["code"] == "path_unknown"
    assert not_there("GET", "/nothing").message == "there is no /nothing here; see /v2, /v1/models and /metrics"
    assert "--control-socket PATH" in not_there("POST", "/control/drain").message
    assert not_there("POST", "/v2/models/m/infer/").reason is Reason.PATH_UNKNOWN, "with the right method it is the path"


def test_a_model_and_its_version():
    assert model_and_version("faces") == ("faces", None)
    assert model_and_version("faces/versions/2") == ("faces", "2")
    for wrong in ("faces/2", "faces/versions", "faces/versions/", "faces/versions/1/2"):
        with pytest.raises(Refusal, match="path_unknown"):
            model_and_version(wrong)


@given(st.text(alphabet="/v12modelsinfrx", max_size=40), st.sampled_from(["GET", "POST", "DELETE"]))
def test_nothing_is_told_to_come_back_with_the_method_that_it_has(path, method):
    refusal = not_there(method, path)
    assert refusal.reason in {Reason.PATH_UNKNOWN, Reason.METHOD_NOT_ALLOWED}
    assert method not in refusal.allow
    assert (refusal.reason is Reason.METHOD_NOT_ALLOWED) == bool(refusal.allow)
