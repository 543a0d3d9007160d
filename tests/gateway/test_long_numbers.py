"""Long arrays of numbers in JSON are read by simdjson, and by msgspec where that is not installed: answers are the same."""

from __future__ import annotations

import asyncio
import sys

import pytest

from gateway.plane_rig import rig

VALUES = [0.5 + index for index in range(2000)]


@pytest.mark.parametrize("installed", [True, False])
def test_a_long_request_is_answered(tmp_path, monkeypatch, installed):
    if not installed:
        monkeypatch.setitem(sys.modules, "nearhall.drivers.json_numbers", None)

    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            taken = []
            numbers = site.composed.plane.numbers

            def read(text, dtype):
                found = numbers(text, dtype)
                taken.append(found is not None)
                return found

            site.composed.plane.numbers = read
            tensor = {"name": "x", "datatype": "FP32", "shape": [500, 4], "data": VALUES}
            answer = await site.ask("POST", "/v2/models/double/infer", {"inputs": [tensor]})
            assert answer.status == 200
            assert answer.json["outputs"][0]["data"] == [2 * value for value in VALUES]
            wrong = await site.ask("POST", "/v2/models/double/infer", {"inputs": [tensor | {"shape": [499, 4]}]})
            assert (wrong.status, "has 2000 values, but shape [499, 4] needs 1996" in wrong.json["error"]) == (400, True)
            assert taken == [installed, installed]

    asyncio.run(tell())
