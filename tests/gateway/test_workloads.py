"""Workloads and the models that they name."""

from __future__ import annotations

import asyncio

from gateway.plane_rig import rig
from nearhall.gateway.http.control import snapshot
from nearhall.gateway.settings import Workload


def test_a_workload_of_a_model_that_is_not_here_is_told_of(tmp_path):
    async def tell():
        named = [Workload(id="cams", model="doubles", slo_ms=10.0), Workload(id="doors", model="double", slo_ms=10.0)]
        async with rig(tmp_path, models=["double"], workloads=named) as site:
            told = [event.text for event in snapshot(site.composed.plane).events if event.level == "warning"]
            assert len(told) == 1
            assert told[0].startswith("workload cams names model 'doubles', which is not in ")

    asyncio.run(tell())
