"""Bodies are bounded while they come in and while they are inflated."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plane_rig import rig
from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.body import MIB, inflate


def raw_deflate(data):
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "x-gzip": gzip.compress}


@given(st.binary(max_size=5000), st.sampled_from(sorted(PACK)))
def test_what_was_packed_comes_out(data, encoding):
    assert inflate(PACK[encoding](data), encoding, 10_000) == data


def test_raw_deflate_is_taken_too():
    assert inflate(raw_deflate(b"hello" * 100), "deflate", 10_000) == b"hello" * 100


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_rubbish_is_refused_and_nothing_else_is_raised(data, encoding):
    with suppress(Refusal):
        inflate(data, encoding, 10_000)


def test_a_bomb_is_refused_in_bounded_memory():
    bomb = zlib.compress(bytes(512 * MIB // 8), 9)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            inflate(bomb, "deflate", 4 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()
    assert caught.value.reason is Reason.TOO_LARGE


GOOD = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
BAD = {
    "cut short": (gzip.compress(GOOD)[:-9], "gzip", 400, "bad_request"),
    "not gzip": (GOOD, "gzip", 400, "bad_request"),
    "unknown encoding": (GOOD, "br", 400, "unsupported"),
    "a bomb": (gzip.compress(bytes(3 * MIB)), "gzip", 413, "too_large"),
    "too large": (bytes(2 * MIB), "identity", 413, "too_large"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_bodies_beside_a_good_one(tmp_path, case):
    body, encoding, status, reason = case

    async def tell():
        async with rig(tmp_path, models=["double"], limits={"body_mib": 1.0, "inflated_mib": 2.0}) as site:
            path = "/v2/models/double/infer"
            answer = await site.ask("POST", path, body, {"content-encoding": encoding})
            assert (answer.status, answer.reason) == (status, reason)
            assert answer.headers["x-should-retry"] == "false"
            good = await site.ask("POST", path, gzip.compress(GOOD), {"content-encoding": "gzip"})
            assert good.json["outputs"][0]["data"] == [2, 4, 6, 8]

    asyncio.run(tell())


def test_a_stated_length_over_the_limit_is_refused_unread(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], limits={"body_mib": 1.0}) as site:
            answer = await site.ask("POST", "/v2/models/double/infer", b"", {"content-length": str(10 * MIB)})
            assert (answer.status, answer.reason) == (413, "too_large")
            says = "the body of 10485760 bytes is over the limit of 1 MiB; send less at a time"
            assert answer.json == {"error": says}
            big = await site.ask("POST", "/v2/models/double/infer", b"", {"content-length": "12x"})
            assert big.status == 400

    asyncio.run(tell())


def test_large_json_is_sent_to_the_binary_form(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], limits={"json_mib": 0.001}) as site:
            answer = await site.infer("double", [0.5] * 4000)
            assert answer.status == 413
            assert "binary" in answer.json["error"]
            assert (await site.infer("double", [0.5] * 4)).status == 200

    asyncio.run(tell())
