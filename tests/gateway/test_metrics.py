"""The metrics page: every name in the one table, and numbers that agree with the counters."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from gateway.plane_rig import rig
from nearhall.drivers.fallback_memory import MemoryFallback
from nearhall.gateway.http.control import snapshot
from nearhall.gateway.metering.metrics import METRICS


def test_every_metric_is_in_the_table_and_the_table_in_the_page(tmp_path):
    async def tell():
        async with rig(tmp_path / "hub", node="hub", models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", models=["double"], fallback=link) as site:
                for _ in range(3):
                    await site.infer("double", [1, 2, 3, 4])
                await site.infer("double", [1, 2, 3, 666])
                page = await site.ask("GET", "/metrics")
                assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
                found = {family.name: family for family in text_string_to_metric_families(page.body.decode())}
                assert set(found) == set(METRICS)
                assert {name: family.documentation for name, family in found.items()} == METRICS
                latency = {
                    s.labels.get("le"): s.value for s in found["nearhall_latency_seconds"].samples if s.name.endswith("_bucket")
                }
                assert latency["+Inf"] == 3
                assert list(latency.values()) == sorted(latency.values())
                requests = {s.labels["path"]: s.value for s in found["nearhall_requests"].samples if s.name.endswith("_total")}
                assert requests == {"local": 3, "hub": 0}
                assert [s.value for s in found["nearhall_model_ready"].samples] == [1]
                stats = snapshot(site.composed.plane)
                counts = stats.workloads["model:double"]
                assert (counts.local, counts.rejected, counts.decisions) == (3, {"bad_request": 1}, {"local_first": 4})
                assert stats.hub_reachable is True
                assert [event.kind for event in stats.events] == ["gateway_started", "model_ready"]

    asyncio.run(tell())


def test_names_from_clients_are_bounded(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            for index in range(200):
                assert (await site.infer(f"m{index}", [1, 2, 3, 4])).status == 404
            workloads = site.composed.plane.stats.by_workload
            assert len(workloads) <= 65
            assert workloads["model:(other)"].rejected == {"model_unknown": 200 - 64}

    asyncio.run(tell())


def test_a_language_model_tells_of_its_tokens(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site:
            warm_up = site.composed.plane.models.find("parrot").served.slots.use
            await site.chat("parrot", "a b c")
            page = (await site.ask("GET", "/metrics")).body.decode()
            found = {
                family.name.removeprefix("nearhall_language_"): family.samples[0]
                for family in text_string_to_metric_families(page)
                if family.name.startswith("nearhall_language_")
            }
            assert {sample.labels["model"] for sample in found.values()} == {"parrot"}
            values = {name: sample.value for name, sample in found.items()}
            assert (values["running"], values["waiting"]) == (0, 0)
            assert (values["kv_tokens"], values["kv_tokens_budget"]) == (8, 10_000)
            assert (values["prompt_tokens"], values["generated_tokens"]) == (7, 3)
            assert values["steps"] == warm_up.steps + 3
            assert values["step_seconds"] > 0

    asyncio.run(tell())
