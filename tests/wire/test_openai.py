"""OpenAI's chat, the part that is served: parsed with its limits, refused by name beyond them, never anything else raised."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.wire.openai import decode_chat
from nearhall.wire.openai_completions import decode_completion
from nearhall.wire.openai_embeddings import decode_embeddings
from nearhall.wire.openai_params import TokensMax
from nearhall.wire.refusal import refusal_response

MOST = TokensMax(own=100)
GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def decode(**more):
    return served_here(decode_chat(json.dumps(GOOD | more).encode(), tokens_max=MOST))


def served_here(request):
    """The request, if our own runtimes can answer it."""
    if request.beyond is not None:
        raise request.beyond.refusal()
    return request


def test_defaults_and_everything_that_can_be_asked():
    plain = decode()
    assert (plain.stream, plain.include_usage, plain.stop, plain.max_tokens) == (False, False, (), 100)
    assert (plain.temperature, plain.top_p, plain.seed) == (0.0, 1.0, None)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    full = decode(
        messages=[{"role": "developer", "content": "x"}, {"role": "user", "content": parts}],
        stream=True,
        stream_options={"include_usage": True},
        stop="END",
        max_tokens=5,
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=3,
    )
    assert [(turn.role, turn.content) for turn in full.messages] == [("system", "x"), ("user", "ab")]
    assert (full.stream, full.include_usage, full.stop, full.max_tokens) == (True, True, ("END",), 7)
    assert (full.temperature, full.top_p, full.seed) == (0.5, 0.9, 3)
    assert decode(stop=["a", "b"], max_tokens=5).stop == ("a", "b")
    assert not decode(stream_options={"include_usage": True}).include_usage


@pytest.mark.parametrize("name", ["n", "logprobs", "tools", "response_format", "store", "frequency_penalty", "tool_choice"])
def test_neutral_values_pass_and_others_are_refused_by_name(name):
    neutral = {"n": 1, "tools": [], "response_format": {"type": "text"}, "frequency_penalty": 0.0, "tool_choice": "none"}
    decode(**{name: neutral.get(name, False)})
    decode(**{name: None})
    with pytest.raises(Refusal, match=f"'{name}'") as caught:
        decode(**{name: 5})
    assert caught.value.reason is Reason.UNSUPPORTED
    assert decode(metadata={"a": "b"}, user="u").model == "m"


def test_true_is_not_one():
    with pytest.raises(Refusal, match="'n'"):
        decode(n=True)


WRONG = {
    "not JSON": (b"{", "not a JSON object"),
    "a list": (b"[]", "not a JSON object"),
    "no model": (b'{"messages":[]}', "model"),
    "no messages": (json.dumps(GOOD | {"messages": []}).encode(), "messages has 0"),
    "a role": (json.dumps(GOOD | {"messages": [{"role": "king", "content": "x"}]}).encode(), "'king'"),
    "no content": (json.dumps(GOOD | {"messages": [{"role": "user"}]}).encode(), "messages[0].content must be"),
    "calls": (json.dumps(GOOD | {"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}).encode(), "tool calls"),
    "a part": (json.dumps(GOOD | {"messages": [{"role": "user", "content": ["x"]}]}).encode(), "content[0] must be"),
    "a part's text": (json.dumps(GOOD | {"messages": [{"role": "user", "content": [{"type": "text"}]}]}).encode(), "must be"),
    "an image": (
        json.dumps(GOOD | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}).encode(),
        "only 'text'",
    ),
    "a slip": (json.dumps(GOOD | {"temprature": 1}).encode(), "did you mean 'temperature'"),
    "a stranger": (json.dumps(GOOD | {"zzzzzz": 1}).encode(), "known: "),
    "an empty stop": (json.dumps(GOOD | {"stop": [""]}).encode(), "none of them empty"),
    "no tokens": (json.dumps(GOOD | {"max_tokens": 0}).encode(), "max_tokens is 0"),
    "a text for a number": (json.dumps(GOOD | {"seed": "x"}).encode(), "seed"),
    "below zero": (json.dumps(GOOD | {"top_p": -1}).encode(), "top_p is -1"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_mistakes_are_told(case):
    body, says = case
    with pytest.raises(Refusal) as caught:
        served_here(decode_chat(body, tokens_max=MOST))
    assert says in caught.value.message


BLAMED = {
    "a role": ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    "a content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "a part": ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    "a slip": ({"temprature": 1}, "temprature"),
    "no neutral value": ({"n": 2}, "n"),
    "a text for a number": ({"seed": "x"}, "seed"),
    "deep inside": ({"stream_options": {"include_usage": 3}}, "stream_options.include_usage"),
    "too much": ({"max_tokens": 0}, "max_tokens"),
    "nothing that has a name": ([], None),
}


@pytest.mark.parametrize("case", BLAMED.values(), ids=BLAMED)
def test_the_parameter_is_named_as_openai_names_it(case):
    wrong, parameter = case
    body = json.dumps(GOOD | wrong if isinstance(wrong, dict) else wrong).encode()
    with pytest.raises(Refusal) as caught:
        served_here(decode_chat(body, tokens_max=MOST))
    assert caught.value.parameter == parameter
    assert json.loads(refusal_response(caught.value, "/v1/chat/completions")[2])["error"]["param"] == parameter


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)
fields = st.sampled_from(["model", "prompt", "input", "seed", "stop", "max_tokens", "dimensions", "top_p", "stream_options"])


@given(st.binary(max_size=200) | values.map(json.dumps).map(str.encode))
def test_nothing_but_a_refusal_comes_of_any_bytes(body):
    for read in (lambda: decode_completion(body, tokens_max=MOST), lambda: decode_embeddings(body)):
        with pytest.raises(Refusal):
            read()


@given(st.dictionaries(fields, values))
def test_an_object_is_understood_or_refused(given_object):
    body = json.dumps(given_object).encode()
    for read in (lambda: decode_completion(body, tokens_max=MOST), lambda: decode_embeddings(body)):
        with suppress(Refusal):
            read()
