"""Clients that come back at once after a refusal do not starve the worker: in a storm their next refusal is delayed."""

from __future__ import annotations

import asyncio
import time

from gateway.plane_rig import rig
from nearhall.drivers.fallback_memory import MemoryFallback
from nearhall.policy.storm import AT_ONCE_S, IMPATIENT_S, Budget
from waiting import until_async


def test_in_a_storm_the_second_refusal_on_a_connection_waits(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], limits={"queue_length": 1}) as site:
            site.runtimes["double"].go.clear()
            lane = site.composed.plane.models.find("double").served.lane
            running = asyncio.create_task(site.infer("double", [1, 1, 1, 1]))
            await until_async(lambda: lane.running)
            waiting = asyncio.create_task(site.infer("double", [1, 1, 1, 1]))
            await until_async(lambda: lane.waiting == 1)
            at_once = await site.infer("double", [1, 1, 1, 1])
            assert at_once.status == 429
            site.composed.app._budget = Budget(tokens=-1e12, at_s=0.0)
            notes = {}
            took = []
            for _ in range(100):
                begun = time.monotonic()
                at_once = begun - notes.get("refused_s", 0.0) < AT_ONCE_S / 2  # a busy machine may make the client patient
                refused = await site.infer("double", [1, 1, 1, 1], connection=notes)
                if at_once:
                    took.append(time.monotonic() - begun)
                assert (refused.status, refused.reason) == (429, "queue_full")
                if len(took) == 2:
                    break
            assert min(took) >= IMPATIENT_S * 0.9
            fresh = await site.infer("double", [1, 1, 1, 1], connection={})
            assert fresh.status == 429
            site.runtimes["double"].go.set()
            assert [(await running).status, (await waiting).status] == [200, 200]

    asyncio.run(tell())


def test_a_sites_client_cannot_pass_as_a_probe(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", models=["double"]) as hub:
            await hub.infer("double", [1, 2, 3, 4], {"x-nearhall-probe": "1"})
            assert hub.composed.plane.stats.probes_served == 1
            assert hub.composed.plane.stats.by_workload == {}
            async with rig(tmp_path / "site", models=["double"], fallback=MemoryFallback(hub.composed.app)) as site:
                await site.infer("double", [1, 2, 3, 4], {"x-nearhall-probe": "1"})
                assert site.counted("model:double").answered["local"] == 1
                assert site.composed.plane.stats.probes_served == 0

    asyncio.run(tell())
