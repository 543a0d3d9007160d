"""What our own runtimes do not do is noted for another engine; what is wrong whoever answers is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.wire.openai import MESSAGES_MAX, decode_chat
from nearhall.wire.openai_completions import decode_completion
from nearhall.wire.openai_embeddings import TEXTS_MAX, decode_embeddings
from nearhall.wire.openai_params import TokensMax, with_max_tokens

OWN = TokensMax(own=100)
BOTH = TokensMax(own=100, elsewhere=100)
HI = [{"role": "user", "content": "hi"}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}

CHATS = {
    "several choices": ({"n": 3}, "'n' is not supported"),
    "log probabilities": ({"logprobs": True, "top_logprobs": 5}, "'logprobs'"),
    "effort": ({"reasoning_effort": "high"}, "'reasoning_effort'"),
    "tools": ({"tools": [{"type": "function"}], "tool_choice": "required"}, "'tools'"),
    "a form": ({"response_format": {"type": "json_object"}}, "'response_format'"),
    "a bias": ({"logit_bias": {"5": 1}}, "'logit_bias'"),
    "an engine's own": ({"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}}, "'top_k' is not supported"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "what"}, IMAGE]}]}, "type 'image_url'"),
    "a called tool": (
        {"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "7"}]},
        "messages[1] carries tool calls",
    ),
    "a tool's answer": ({"messages": [{"role": "tool", "content": "7", "tool_call_id": "c"}]}, "role is 'tool'"),
    "an assistant without words": ({"messages": [*HI, {"role": "assistant"}]}, "messages[1].content must be"),
    "a long answer": ({"max_tokens": 5000}, "max_tokens is 5000; 1 to 100 are served"),
    "many stops": ({"stop": list("abcde")}, "at most 4"),
}


@pytest.mark.parametrize("case", CHATS.values(), ids=CHATS)
def test_a_chat_for_another_engine_is_understood_and_says_what_it_is_for(case):
    more, says = case
    request = decode_chat(json.dumps({"model": "m", "messages": HI, "stream": True} | more).encode(), tokens_max=OWN)
    assert request.beyond is not None
    assert says in request.beyond.message
    assert request.beyond.refusal().message == request.beyond.message
    assert (request.model, request.stream) == ("m", True)


def test_a_plain_chat_is_for_anybody():
    assert decode_chat(json.dumps({"model": "m", "messages": HI, "n": 1}).encode(), tokens_max=OWN).beyond is None


def test_words_beside_an_image_count():
    content = [{"type": "text", "text": "what"}, IMAGE, {"type": "text", "text": "?"}]
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    assert decode_chat(body, tokens_max=OWN).prompt_bytes == 5


WRONG = {
    "a text for a number": ({"max_tokens": "7", "n": 2}, "max_tokens"),
    "no tokens": ({"max_tokens": 0, "n": 2}, "max_tokens is 0"),
    "a role that is none": ({"messages": [{"role": 7, "content": "x"}], "n": 2}, "role is 7"),
    "a user without words": ({"messages": [{"role": "user", "content": None}], "n": 2}, "content must be"),
    "a number for content": ({"messages": [{"role": "assistant", "content": 7}], "n": 2}, "content must be"),
    "no parts": ({"messages": [{"role": "user", "content": []}], "n": 2}, "content must be"),
    "a part without a type": ({"messages": [{"role": "user", "content": [{"text": "x"}]}], "n": 2}, "content[0] must be"),
    "a part's type that is none": ({"messages": [{"role": "user", "content": [{"type": 7}]}], "n": 2}, "content[0] must be"),
    "an empty stop": ({"stop": ["a", ""], "n": 2}, "none of them empty"),
    "too hot": ({"temperature": 9, "n": 2}, "temperature is 9"),
    "too many messages": ({"messages": HI * (MESSAGES_MAX + 1), "n": 2}, "entries; 1 to"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_whoever_answers(case):
    more, says = case
    with pytest.raises(Refusal) as caught:
        decode_chat(json.dumps({"model": "m", "messages": HI} | more).encode(), tokens_max=OWN)
    assert says in caught.value.message
    assert caught.value.reason is Reason.BAD_REQUEST


def test_an_operators_limit_holds_for_engines_too():
    body = json.dumps({"model": "m", "messages": HI, "max_completion_tokens": 101}).encode()
    with pytest.raises(Refusal, match="max_completion_tokens is 101; 1 to 100"):
        decode_chat(body, tokens_max=BOTH)
    assert decode_chat(body, tokens_max=OWN).beyond is not None
    assert decode_chat(body, tokens_max=OWN).max_tokens == 101


def test_a_message_is_no_longer_than_a_line():
    body = json.dumps({"model": "m", "messages": [{"role": "x" * 10_000, "content": "hi"}]}).encode()
    beyond = decode_chat(body, tokens_max=OWN).beyond
    assert beyond is not None
    assert len(beyond.message) < 200


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2], [3]], ["a", "b"]], ids=["tokens", "lists of tokens", "two"])
def test_prompts_for_another_engine(prompt):
    request = decode_completion(json.dumps({"model": "m", "prompt": prompt}).encode(), tokens_max=OWN)
    assert request.beyond is not None
    assert request.prompt == ""
    assert decode_completion(b'{"model": "m", "prompt": "a"}', tokens_max=OWN).beyond is None
    for wrong in ([], [{}], ["a", {}], {}):
        with pytest.raises(Refusal):
            decode_completion(json.dumps({"model": "m", "prompt": wrong}).encode(), tokens_max=OWN)


@pytest.mark.parametrize(
    "more",
    [{"input": [[1, 2]]}, {"input": 3}, {"input": ["a"] * (TEXTS_MAX + 1)}, {"input": "a", "input_type": "query"}],
    ids=["tokens", "a token", "many", "an engine's own"],
)
def test_texts_for_another_engine(more):
    assert decode_embeddings(json.dumps({"model": "m"} | more).encode()).beyond is not None
    assert decode_embeddings(b'{"model": "m", "input": "a"}').beyond is None
    with pytest.raises(Refusal, match="not empty"):
        decode_embeddings(json.dumps({"model": "m", "input": ["a", ""], "input_type": "query"}).encode())


def test_only_the_bound_is_added():
    body = b'{"model": "m", "max_tokens": null, "seed": 1.50, "messages": [{"role":"user","content":"gr\\u00fcn"}]}'
    bound = with_max_tokens(body, 7)
    assert json.loads(bound) == json.loads(body) | {"max_tokens": 7}
    assert b"1.50" in bound
    assert b"gr\\u00fcn" in bound


names = st.sampled_from(["n", "tools", "stop", "max_tokens", "temperature", "top_k", "logprobs", "messages", "stream"])
values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5), st.lists)


@given(st.dictionaries(names, values))
def test_any_object_is_understood_noted_or_refused(asked):
    body = json.dumps({"model": "m", "messages": HI, "prompt": "a"} | asked).encode()
    for decode in (decode_chat, decode_completion):
        with suppress(Refusal):
            assert decode(body, tokens_max=OWN).model == "m"
