"""Requests that are almost right are taken or refused for the client's fault, and nothing else; bench/fuzz.py tries a million."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from nearhall.cli.roots.bench.mutations import (
    CHAT,
    TEXT,
    V2_BINARY,
    V2_JSON,
    Seeded,
    grpc_corpus,
    grpc_mutated,
    headers_mutated,
    http_mutated,
    mutated,
)
from nearhall.core.errors import Refusal
from nearhall.wire.headers import DEADLINE, HEAD_LENGTH, PRIORITY, RESIDENCY, parse_ask
from nearhall.wire.oip import decode_request, encode_response
from nearhall.wire.openai import decode_chat
from nearhall.wire.openai_params import TokensMax
from nearhall.wire.refusal import STATUS

CASES = 4000


def _infer(body: bytes, head_bytes: int | None) -> None:
    request = decode_request(body, head_bytes)
    encode_response(model="m", version="1", request=request, outputs=[replace(one, name="y") for one in request.inputs])


def _chat(body: bytes, _head_bytes: int | None) -> None:
    request = decode_chat(body, tokens_max=TokensMax(own=1024))
    if request.beyond is not None:
        raise request.beyond.refusal()


@pytest.mark.parametrize(
    ("corpus", "call"), [(V2_JSON, _infer), (V2_BINARY, _infer), (CHAT, _chat)], ids=["json", "binary", "chat"]
)
def test_a_parser_takes_or_refuses(corpus: tuple[Seeded, ...], call):
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    taken, faults = 0, []
    for _ in range(CASES):
        case = mutated(draw, corpus)
        try:
            call(case.body, case.head_bytes)
            taken += 1
        except Refusal as refusal:
            faults += [(case, refusal)] if STATUS[refusal.reason] >= 500 else []
        except Exception as error:
            raise AssertionError((seed, case)) from error
    assert faults == [], seed
    assert CASES // 20 < taken < CASES // 2, "cases must reach past the first check, and not all be valid"


@pytest.mark.parametrize("corpus", [V2_JSON, V2_BINARY, CHAT])
def test_what_they_begin_with_is_valid(corpus: tuple[Seeded, ...]):
    for one in corpus:
        head = b"".join(one.tokens)
        call = _chat if corpus is CHAT else _infer
        call(head + one.tail, len(head) if one.binary else None)


def test_what_has_no_json_form_is_asked_for_as_binary():
    case = V2_BINARY[1]
    head = b"".join(case.tokens)
    assert b"FP16" in head
    with pytest.raises(Refusal, match="FP16"):
        _infer(head.replace(b'"binary_data":true', b'"binary_data":false') + case.tail, len(head) + 1)


@pytest.mark.parametrize("key", ["timeout", "priority"])
def test_a_parameter_without_end_is_refused(key: str):
    """It took the gateway's arithmetic down: 500 for a timeout of four thousand digits."""

    def body(value: str) -> bytes:
        return b'{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]}],"parameters":{"%s":%s}}' % (
            key.encode(),
            value.encode(),
        )

    largest = (1 << 63) - 1
    request = decode_request(body(str(largest)), None)
    assert largest in {request.timeout_us, request.priority}
    for value in (str(largest + 1), "9" * 4200):
        with pytest.raises(Refusal, match=f"{key} is 9.*from 0 to {largest}") as told:
            decode_request(body(value), None)
        assert len(told.value.message) < 200


def test_headers_are_taken_or_refused():
    draw = random.Random(7)
    names = {DEADLINE: (b"10",), RESIDENCY: (b"site", b"moon"), PRIORITY: (b"3",), HEAD_LENGTH: (b"9",)}
    fates = set()
    for _ in range(CASES):
        try:
            parse_ask(headers_mutated(draw, names))
            fates.add("taken")
        except Refusal as refusal:
            fates.add(refusal.reason.value)
    assert fates == {"taken", "bad_request"}


def test_the_same_seed_gives_the_same_cases():
    first, second = (random.Random(5) for _ in range(2))
    assert [mutated(first, TEXT) for _ in range(50)] == [mutated(second, TEXT) for _ in range(50)]
    get = [b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n"]
    assert [http_mutated(first, get) for _ in range(50)] == [http_mutated(second, get) for _ in range(50)]
    assert [grpc_mutated(first, grpc_corpus()) for _ in range(50)] == [grpc_mutated(second, grpc_corpus()) for _ in range(50)]
