"""What completions and embeddings refuse, beside what they take."""

from __future__ import annotations

import json

import pytest

from nearhall.core.errors import Refusal
from nearhall.wire.openai import decode_chat
from nearhall.wire.openai_completions import decode_completion
from nearhall.wire.openai_embeddings import TEXTS_MAX, decode_embeddings
from nearhall.wire.openai_params import TokensMax

MOST = TokensMax(own=100)


def body(**fields):
    return json.dumps({"model": "m", **fields}).encode()


def served_here(request):
    """The request, if our own runtimes can answer it."""
    if request.beyond is not None:
        raise request.beyond.refusal()
    return request


PROMPTS = {
    "tokens": ([1, 2], "in tokens"),
    "two": (["a", "b"], "a list of 2"),
    "none": ([], "a list of 0"),
    "a number": (7, "must be a text"),
    "empty": ("", "prompt is empty"),
}


@pytest.mark.parametrize("case", PROMPTS.values(), ids=PROMPTS)
def test_prompts(case):
    prompt, says = case
    with pytest.raises(Refusal, match=says):
        served_here(decode_completion(body(prompt=prompt), tokens_max=MOST))
    assert decode_completion(body(prompt=["go on"]), tokens_max=MOST).prompt == "go on"


TEXTS = {
    "none": ([], "0 texts"),
    "too many": (["a"] * (TEXTS_MAX + 1), "texts; 1 to"),
    "tokens": ([[1, 2]], "in tokens"),
    "token": (3, "in tokens"),
    "empty": (["a", ""], r"input\[1\]"),
    "an object": ([{}], r"input\[0\]"),
}


@pytest.mark.parametrize("case", TEXTS.values(), ids=TEXTS)
def test_texts(case):
    texts, says = case
    with pytest.raises(Refusal, match=says):
        served_here(decode_embeddings(body(input=texts)))
    assert decode_embeddings(body(input="a")).texts == ("a",)
    assert decode_embeddings(body(input=["a", "b"])).texts == ("a", "b")


def test_a_seed_has_64_bits():
    ask = {"messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(Refusal, match="64 bits"):
        decode_chat(body(**ask, seed=2**63), tokens_max=MOST)
    assert decode_chat(body(**ask, seed=-(2**63)), tokens_max=MOST).seed == -(2**63)
