"""A node's load report, as a front reads it."""

from __future__ import annotations

import msgspec
import pytest

from nearhall.core.errors import TemporaryError
from nearhall.wire.load import REPORT_BYTES_MAX, ModelLoad, NodeLoad, decode_load


def test_what_is_written_is_read():
    load = NodeLoad(node="s/n1", in_flight=2, models=[ModelLoad(name="m", ready=True, own_by_size_ms={9: 1.5, 12: 4.0})])
    read = decode_load(msgspec.json.encode(load))
    assert (read.node, read.in_flight, read.draining) == ("s/n1", 2, False)
    assert read.models[0].own_by_size_ms == {9: 1.5, 12: 4.0}


def test_a_later_version_may_say_more():
    assert decode_load(b'{"node": "s/n1", "models": [{"name": "m", "colour": "red"}], "more": 1}').models[0].name == "m"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"node": 1}', b'{"node": "\xff"}', b"[" * 100_000])
def test_what_is_no_report_is_said(body):
    with pytest.raises(TemporaryError, match="cannot be read"):
        decode_load(body)


def test_a_report_is_small():
    with pytest.raises(TemporaryError, match="are allowed"):
        decode_load(b" " * (REPORT_BYTES_MAX + 1))
