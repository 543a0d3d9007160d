"""Where requests go, and what that costs: local first, the hub where it may, refusals with their reason; all of it counted."""

from __future__ import annotations

import asyncio

import pytest

from gateway.plane_rig import rig
from nearhall.drivers.fallback_memory import MemoryFallback
from nearhall.policy.admit import Estimate, ServiceTimes
from waiting import until_async

VIDEO = {"id": "video", "model": "double", "slo_ms": 1000.0, "residency": "site"}
OPEN = {"id": "open", "model": "double", "slo_ms": 1000.0}
CHAT = {"id": "chat", "model": "parrot", "slo_ttft_ms": 500.0, "residency": "jurisdiction:DE"}


def story(coroutine):
    asyncio.run(coroutine)


def hub_rig(path, **more):
    return rig(path / "hub", node="hub", **more)


def test_a_model_that_is_here_answers_here(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], workloads=[VIDEO]) as site:
            answer = await site.infer("double", [1, 2, 3, 4], {"x-nearhall-raw-bytes": "100"})
            assert answer.status == 200
            assert answer.json["outputs"][0]["data"] == [2, 4, 6, 8]
            assert answer.reason == "local_first"
            assert answer.headers["x-nearhall-served-by"] == "s/n"
            assert answer.headers["x-nearhall-variant"] == "cpu"
            assert "compute;dur=" in answer.headers["server-timing"]
            counts = site.counted("video")
            assert (counts.answered, counts.raw_bytes, counts.raw_known) == ({"local": 1, "hub": 0}, 100, 1)
            paths = counts.paths["local"]
            assert paths.latency.total == pytest.approx(paths.queue.total + paths.service.total + paths.network.total)

    story(tell())


def test_an_absent_model_is_answered_by_the_hub(tmp_path):
    async def tell():
        async with hub_rig(tmp_path, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app, one_way_s=0.005)
            async with rig(tmp_path / "site", fallback=link) as site:
                answer = await site.infer("double", [1, 2, 3, 4], {"authorization": "Bearer x", "x-nearhall-deadline-ms": "900"})
                assert answer.status == 200
                assert answer.json["outputs"][0]["data"] == [2, 4, 6, 8]
                assert answer.headers["x-nearhall-served-by"] == "hub"
                assert answer.reason == "hub_model_absent"
                counts = site.counted("model:double")
                assert counts.answered == {"local": 0, "hub": 1}
                assert counts.sent_bytes > 64
                assert counts.paths["hub"].network.total >= 9
                headers = dict(link.seen[0][0].headers)
                assert b"authorization" not in headers
                assert 0 < float(headers[b"x-nearhall-deadline-ms"]) < 900
                unknown = await site.infer("nothing", [1, 2, 3, 4])
                assert (unknown.status, unknown.reason) == (404, "model_unknown")
                link.cut()
                assert (await site.infer("double", [1, 2, 3, 4])).reason == "hub_unreachable"
                again = await site.infer("double", [1, 2, 3, 4])
                assert (again.status, again.reason, again.headers["retry-after"]) == (503, "hub_unreachable", "1")
                link.restore()
                assert (await site.infer("double", [1, 2, 3, 4])).status == 200

    story(tell())


@pytest.mark.parametrize(
    ("residency", "status", "reason"),
    [
        ("any", 200, "hub_model_absent"),
        ("jurisdiction:DE", 200, "hub_model_absent"),
        ("jurisdiction:FR", 503, "residency"),
        ("site", 503, "residency"),
    ],
)
def test_data_stays_where_it_has_to(tmp_path, residency, status, reason):
    async def tell():
        async with hub_rig(tmp_path, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", fallback=link) as site:
                answer = await site.infer("double", [1, 2, 3, 4], {"x-nearhall-residency": residency})
                assert (answer.status, answer.reason) == (status, reason)
                assert len(link.seen) == (status == 200)

    story(tell())


def test_a_header_tightens_the_residency_and_never_loosens_it(tmp_path):
    async def tell():
        async with hub_rig(tmp_path, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            workload = {"id": "cams", "model": "double", "residency": "site"}
            async with rig(tmp_path / "site", fallback=link, workloads=[workload]) as site:
                answer = await site.infer("double", [1, 2, 3, 4], {"x-nearhall-residency": "any"})
                assert answer.reason == "residency"
                assert link.seen == []

    story(tell())


def test_a_full_queue_overflows_to_the_hub_or_is_refused(tmp_path):
    async def tell():
        async with hub_rig(tmp_path, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(
                tmp_path / "site", models=["double"], fallback=link, limits={"queue_length": 1}, workloads=[OPEN]
            ) as site:
                slow = site.runtimes["double"]
                slow.go.clear()
                running = asyncio.create_task(site.infer("double", [1, 1, 1, 1]))
                lane = site.composed.plane.models.find("double").served.lane
                await until_async(lambda: lane.running)
                waiting = asyncio.create_task(site.infer("double", [1, 1, 1, 1]))
                await until_async(lambda: lane.waiting == 1)
                overflow = await site.infer("double", [1, 1, 1, 1])
                assert (overflow.status, overflow.reason) == (200, "hub_deadline")
                refused = await site.infer("double", [1, 1, 1, 1], {"x-nearhall-residency": "site"})
                assert (refused.status, refused.reason) == (429, "queue_full")
                assert int(refused.headers["retry-after-ms"]) >= 50
                slow.go.set()
                assert [(await running).status, (await waiting).status] == [200, 200]
                assert site.counted("open").rejected == {"queue_full": 1}

    story(tell())


def test_a_stated_deadline_that_no_place_meets_is_refused(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            lane = site.composed.plane.models.find("double").served.lane
            lane.times = ServiceTimes(Estimate(50.0))
            hopeless = await site.infer("double", [1, 2, 3, 4], {"x-nearhall-deadline-ms": "20"})
            assert (hopeless.status, hopeless.reason) == (503, "deadline")
            assert (await site.infer("double", [1, 2, 3, 4], {"x-nearhall-deadline-ms": "5000"})).status == 200
            body = {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
                "parameters": {"timeout": 20_000},
            }
            assert (await site.ask("POST", "/v2/models/double/infer", body)).reason == "deadline"

    story(tell())


def test_a_deadline_that_passes_in_the_queue_is_504(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            slow = site.runtimes["double"]
            slow.go.clear()
            running = asyncio.create_task(site.infer("double", [1, 1, 1, 1]))
            lane = site.composed.plane.models.find("double").served.lane
            await until_async(lambda: lane.running)
            late = asyncio.create_task(site.infer("double", [1, 1, 1, 1], {"x-nearhall-deadline-ms": "60"}))
            await until_async(lambda: lane.waiting == 1)
            await asyncio.sleep(0.08)
            slow.go.set()
            answer = await late
            assert (answer.status, answer.reason) == (504, "deadline")
            assert (await running).status == 200

    story(tell())


def test_a_broken_runtime_moves_to_the_hub_and_is_opened_anew(tmp_path):
    async def tell():
        async with hub_rig(tmp_path, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", models=["double"], fallback=link) as site:
                first = site.runtimes["double"]
                first.broken = True
                moved = await site.infer("double", [1, 2, 3, 4])
                assert (moved.status, moved.reason) == (200, "hub_runtime_down")
                await until_async(lambda: site.runtimes["double"] is not first, what="the runtime is opened anew")
                model = site.composed.plane.models.find("double")
                await until_async(lambda: model.ready)
                assert first.closed
                assert (await site.infer("double", [1, 2, 3, 4])).reason == "local_first"
                assert site.counted("model:double").failed == 0

    story(tell())


def test_a_stateful_model_is_never_asked_twice(tmp_path):
    async def tell():
        async with hub_rig(tmp_path, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with rig(tmp_path / "site", models=["double"], fallback=link, stateful=True) as site:
                site.runtimes["double"].broken = True
                answer = await site.infer("double", [1, 2, 3, 4])
                assert (answer.status, answer.reason) == (500, "runtime_failed")
                assert link.seen == []
                assert site.counted("model:double").failed == 1

    story(tell())


def test_values_that_the_model_chokes_on_are_the_clients_fault(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            for value in (666, 667):
                answer = await site.infer("double", [1, 2, 3, value])
                assert (answer.status, answer.reason) == (400, "bad_request")
            assert (await site.infer("double", [1, 2, 3, 4])).status == 200
            assert site.composed.plane.models.find("double").ready

    story(tell())


def test_unload_and_load_while_requests_go_on(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            assert (await site.ask("POST", "/v2/repository/models/double/unload", {})).status == 200
            gone = await site.infer("double", [1, 2, 3, 4])
            assert (gone.status, gone.reason) == (503, "model_not_ready")
            assert (await site.ask("GET", "/v2/models/double/ready")).status == 503
            index = await site.ask("POST", "/v2/repository/index", {})
            assert index.json == [{"name": "double", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded on request"}]
            assert (await site.ask("POST", "/v2/repository/models/double/load", {})).status == 200
            assert (await site.infer("double", [1, 2, 3, 4])).status == 200
            for name in ("nothing", "..", "a/b"):
                assert (await site.ask("POST", f"/v2/repository/models/{name}/load", {})).status == 404

    story(tell())


def test_a_stopping_gateway_says_so(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            site.composed.plane.draining = True
            answer = await site.infer("double", [1, 2, 3, 4])
            assert (answer.status, answer.reason) == (503, "draining")
            assert (await site.ask("GET", "/v2/health/ready")).status == 503
            assert (await site.ask("GET", "/v2/health/live")).status == 200

    story(tell())


def test_probes_repeat_what_may_leave_and_nothing_of_what_may_not(tmp_path):
    marker = 123456.0

    async def tell(residency, workload):
        async with hub_rig(tmp_path / workload, models=["double"]) as hub:
            link = MemoryFallback(hub.composed.app)
            rules = [{"id": workload, "model": "double", "residency": residency}]
            async with rig(
                tmp_path / workload / "site",
                models=["double"],
                fallback=link,
                workloads=rules,
                probe={"share": 1.0, "per_second_max": 100.0},
            ) as site:
                assert (await site.infer("double", [marker] * 8)).status == 200
                await until_async(lambda: site.counted(workload).probes_total == 1, what="the probe is counted")
                request, probe = link.seen[0]
                assert probe
                assert dict(request.headers)[b"x-nearhall-probe"] == b"1"
                pair = site.counted(workload).probes[0]
                assert pair.hub_ms > 0
                assert site.counted(workload).probe_bytes > 0
                assert site.counted(workload).answered == {"local": 1, "hub": 0}
                assert hub.composed.plane.stats.probes_served == 1
                assert (
                    hub.composed.plane.stats.by_workload.get("model:double") is None
                    or hub.counted("model:double").answered["local"] == 0
                )
                return b"123456" in request.body, pair.random_payload

    assert asyncio.run(tell("any", "open")) == (True, False)
    assert asyncio.run(tell("site", "closed")) == (False, True)


def test_an_estimate_that_refuses_everybody_is_put_to_the_test(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            lane = site.composed.plane.models.find("double").served.lane
            lane.times = ServiceTimes(Estimate(25.0))
            headers = {"x-nearhall-deadline-ms": "20"}
            assert (await site.infer("double", [1, 2, 3, 4], headers)).reason == "deadline"
            async with asyncio.timeout(10):
                while (await site.infer("double", [1, 2, 3, 4], headers)).status != 200:
                    pass
            assert lane.estimate.service_ms < 25.0

    story(tell())
