"""gRPC messages that are almost right are taken or refused for the client's fault; bench/fuzz.py tries a million."""

from __future__ import annotations

import random
from dataclasses import replace

from nearhall.cli.roots.bench.mutations import grpc_corpus, grpc_mutated
from nearhall.core.errors import Refusal
from nearhall.gateway.grpc import messages
from nearhall.wire.refusal import STATUS

CASES = 4000


def _infer(message: bytes) -> None:
    request = messages.request_of(*messages.read(message))
    outputs = [replace(one, name="y") for one in request.inputs]
    messages.encode_response(model="m", version="1", request=request, outputs=outputs)


def test_what_they_begin_with_is_valid():
    for message in grpc_corpus():
        _infer(message)


def test_the_reader_takes_or_refuses():
    seed = random.randrange(1 << 30)
    draw, corpus = random.Random(seed), grpc_corpus()
    taken, faults = 0, []
    for _ in range(CASES):
        message = grpc_mutated(draw, corpus)
        try:
            _infer(message)
            taken += 1
        except Refusal as refusal:
            faults += [(message, refusal)] if STATUS[refusal.reason] >= 500 else []
        except Exception as error:
            raise AssertionError((seed, message)) from error
    assert faults == [], seed
    assert 0 < taken < CASES // 2
