"""Several variants of one model: which one answers, what it says of that, and that it never goes below the floor."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.plane_rig import rig, write_variants
from nearhall.drivers.clock import ManualClock
from nearhall.drivers.node_memory import FixedMemory
from nearhall.gateway.http.control import snapshot
from nearhall.gateway.models.repository import scan
from nearhall.policy.admit import Estimate, ServiceTimes
from waiting import until_async

ONE = [1, 2, 3, 4]
BOTH = {"fp32": "", "int8": ", quality: 0.97, preload: true"}
FLOOR = {"id": "cams", "model": "m", "slo_ms": 50.0, "quality_min": 0.9}
STRICT = {"id": "cams", "model": "m", "slo_ms": 50.0}


def story(coroutine):
    asyncio.run(coroutine)


def site_of(path, variants, workload, **more):
    write_variants(path, "m", variants)
    return rig(path, workloads=[workload], clock=more.pop("clock", ManualClock()), loaded=False, **more)


async def all_loaded(site, *names):
    model = site.composed.plane.models.find("m")
    await until_async(lambda: all(model.variants[name].ready for name in names), what="the variants are ready")
    return model


def takes(variant, ms):
    variant.served.lane.times = ServiceTimes(Estimate(ms))


async def asked(site, **headers):
    answer = await site.infer("m", ONE, {f"x-nearhall-{k.replace('_', '-')}": v for k, v in headers.items()})
    assert answer.status == 200, answer.body
    return answer.headers["x-nearhall-variant"], answer.headers.get("x-nearhall-stepped-down")


def events(site, kind):
    return [event.text for event in snapshot(site.composed.plane).events if event.kind == kind]


def test_the_best_variant_answers_and_only_the_default_one_is_loaded_at_start(tmp_path):
    async def tell():
        async with site_of(tmp_path, {"fp32": "", "int8": ", quality: 0.97"}, FLOOR) as site:
            model = await all_loaded(site, "fp32")
            assert not model.variants["int8"].ready
            assert await asked(site) == ("fp32", None)
            assert [state.variant for state in site.composed.plane.models.states()] == ["fp32"]

    story(tell())


def test_a_preloaded_variant_stands_by(tmp_path):
    async def tell():
        async with site_of(tmp_path, BOTH, FLOOR) as site:
            await all_loaded(site, "fp32", "int8")
            assert await asked(site) == ("fp32", None)
            assert [state.variant for state in site.composed.plane.models.states()] == ["int8", "fp32"], "what stands for it last"

    story(tell())


def test_an_overload_steps_down_within_the_floor_says_so_and_comes_back(tmp_path):
    async def tell():
        clock = ManualClock()
        async with site_of(tmp_path, BOTH, FLOOR, clock=clock) as site:
            model = await all_loaded(site, "fp32", "int8")
            takes(model.variants["fp32"], 30.0)
            takes(model.variants["int8"], 10.0)
            assert await asked(site) == ("fp32", None)
            takes(model.variants["fp32"], 30.0)
            site.runtimes["m/fp32"].go.clear()
            running = asyncio.create_task(site.infer("m", ONE))
            await until_async(lambda: model.variants["fp32"].served.lane.busy, what="fp32 is at work")
            assert await asked(site) == ("int8", "fp32")
            site.runtimes["m/fp32"].go.set()
            assert (await running).headers["x-nearhall-variant"] == "fp32"
            await until_async(lambda: not model.variants["fp32"].served.lane.busy, what="fp32 is idle")
            takes(model.variants["fp32"], 30.0)
            assert await asked(site) == ("int8", "fp32"), "it stays for a while"
            clock.pass_by(3)
            assert await asked(site) == ("fp32", None)
            assert events(site, "stepped_down") == ["workload cams steps down from fp32 to int8 of m: overload"]
            assert events(site, "stepped_up") == ["workload cams is back at fp32 of m"]
            counts = site.counted("cams")
            assert counts.variants == {"m/fp32": 3, "m/int8": 2}
            assert counts.stepped_down == {("m/fp32", "overload"): 2}
            page = (await site.ask("GET", "/metrics")).body.decode()
            assert 'nearhall_variant_requests_total{variant="m/int8",workload="cams"} 2.0' in page
            assert 'nearhall_variant_stepped_down_total{variant="m/fp32",why="overload",workload="cams"} 2.0' in page
            told = snapshot(site.composed.plane).workloads["cams"]
            assert (told.variants, told.stepped_down) == ({"m/fp32": 3, "m/int8": 2}, {"m/fp32": 2})

    story(tell())


def test_without_a_floor_nothing_steps_below_the_default(tmp_path):
    async def tell():
        async with site_of(tmp_path, BOTH, STRICT) as site:
            model = await all_loaded(site, "fp32", "int8")
            takes(model.variants["fp32"], 200.0)
            assert await asked(site) == ("fp32", None)
            unmeasured = {"id": "cams", "model": "m", "slo_ms": 50.0, "quality_min": 0.5}
            async with site_of(tmp_path / "b", {"fp32": "", "int8": ", preload: true"}, unmeasured) as other:
                model = await all_loaded(other, "fp32", "int8")
                takes(model.variants["fp32"], 200.0)
                assert await asked(other) == ("fp32", None)

    story(tell())


def test_a_deadline_shorter_than_the_best_variant_takes(tmp_path):
    async def tell():
        async with site_of(tmp_path, BOTH, FLOOR) as site:
            model = await all_loaded(site, "fp32", "int8")
            takes(model.variants["fp32"], 30.0)
            takes(model.variants["int8"], 5.0)
            assert await asked(site, deadline_ms="20") == ("int8", "fp32")
            assert await asked(site, deadline_ms="1000") == ("fp32", None)
            assert events(site, "stepped_down") == []
            assert site.counted("cams").stepped_down == {("m/fp32", "deadline"): 1}

    story(tell())


def test_what_once_took_too_long_is_tried_again(tmp_path):
    async def tell():
        clock = ManualClock()
        async with site_of(tmp_path, BOTH, FLOOR, clock=clock) as site:
            model = await all_loaded(site, "fp32", "int8")
            takes(model.variants["fp32"], 30.0)
            found = []
            for _ in range(50):
                clock.pass_by(1)
                takes(model.variants["int8"], 5.0)
                found.append((await asked(site, deadline_ms="20"))[0])
            assert found[:30] == ["int8"] * 30
            assert found[-1] == "fp32", "it was a bad moment: it takes no time at all"

    story(tell())


def test_a_power_cap_prefers_fewer_joules(tmp_path):
    async def tell():
        clock = ManualClock()
        async with site_of(tmp_path, BOTH, FLOOR, clock=clock) as site:
            model = await all_loaded(site, "fp32", "int8")
            for name, joules in (("fp32", 2.0), ("int8", 0.5)):
                model.variants[name].entry = replace(model.variants[name].entry, joules=joules)
            wish = {"step_down": 1.0, "until_s": clock.utc() + 60}
            assert await asked(site) == ("fp32", None)
            await site.cap(wish)
            assert await asked(site) == ("int8", "fp32")
            clock.pass_by(61)
            assert await asked(site) == ("fp32", None)
            assert site.counted("cams").stepped_down == {("m/fp32", "cap"): 1}
            assert events(site, "cap_ended") == ["the power cap has ended: its time is over"]

    story(tell())


def test_a_cap_or_an_overload_has_the_cheaper_variant_loaded(tmp_path):
    async def tell():
        clock = ManualClock()
        async with site_of(tmp_path, {"fp32": "", "int8": ", quality: 0.97"}, FLOOR, clock=clock) as site:
            model = await all_loaded(site, "fp32")
            for name, joules in (("fp32", 2.0), ("int8", 0.5)):
                model.variants[name].entry = replace(model.variants[name].entry, joules=joules)
            await site.cap({"step_down": 1.0})
            assert await asked(site) == ("fp32", None)
            await all_loaded(site, "int8")
            assert await asked(site) == ("int8", "fp32")

    story(tell())


def test_an_overload_has_a_variant_loaded_that_nobody_measured_to_find_out(tmp_path):
    async def tell():
        async with site_of(tmp_path, {"fp32": "", "int8": ", quality: 0.97"}, FLOOR) as site:
            model = await all_loaded(site, "fp32")
            takes(model.variants["fp32"], 200.0)
            assert await asked(site) == ("fp32", None)
            await all_loaded(site, "int8")
            takes(model.variants["fp32"], 200.0)
            takes(model.variants["int8"], 10.0)
            assert await asked(site) == ("int8", "fp32")

    story(tell())


def test_while_the_default_variant_is_gone_a_good_enough_one_answers_and_it_is_loaded_again(tmp_path):
    async def tell():
        clock = ManualClock()
        async with site_of(tmp_path, BOTH, FLOOR, clock=clock) as site:
            model = await all_loaded(site, "fp32", "int8")
            models = site.composed.plane.models
            await models._unload(model.variants["fp32"], "gone", on_demand=True)
            assert model.ready
            assert (await site.ask("GET", "/v2/models/m/ready")).status == 200
            assert await asked(site) == ("int8", "fp32")
            await all_loaded(site, "fp32")
            assert await asked(site) == ("fp32", None)
            assert site.counted("cams").stepped_down == {("m/fp32", "absent"): 1}

    story(tell())


def test_a_floor_that_no_loaded_variant_reaches_waits_for_the_one_that_does(tmp_path):
    async def tell():
        clock = ManualClock()
        floor = {"id": "cams", "model": "m", "quality_min": 0.99}
        variants = {"int8": ", quality: 0.97", "fp32": ", quality: 1.0"}
        async with site_of(tmp_path, variants, floor, clock=clock) as site:
            await all_loaded(site, "int8")
            assert await asked(site) == ("fp32", None)
        none = {"id": "cams", "model": "m", "quality_min": 0.99}
        async with site_of(tmp_path / "b", {"int8": ", quality: 0.97"}, none, clock=clock) as site:
            await all_loaded(site, "int8")
            refused = await site.infer("m", ONE)
            assert (refused.status, refused.reason) == (503, "model_not_ready")
            assert "no variant of it that could be loaded reaches the workload's quality_min, 0.99" in refused.json["error"]

    story(tell())


def test_where_nothing_may_stand_in_for_the_default_its_own_standing_is_told(tmp_path):
    async def tell():
        async with site_of(tmp_path, BOTH, STRICT) as site:
            await all_loaded(site, "fp32", "int8")
            await site.composed.plane.models.unload("m", "fp32")
            refused = await site.infer("m", ONE)
            assert (refused.status, refused.reason) == (503, "model_not_ready")
            assert "unloaded on request" in refused.json["error"]

    story(tell())


def test_one_variant_is_loaded_and_unloaded_by_name(tmp_path):
    async def tell():
        async with site_of(tmp_path, {"fp32": "", "int8": ", quality: 0.97"}, FLOOR) as site:
            model = await all_loaded(site, "fp32")
            load, unload = "/v2/repository/models/m/load", "/v2/repository/models/m/unload"
            assert (await site.ask("POST", load, {"parameters": {"variant": "int8"}})).status == 200
            assert model.variants["int8"].ready
            index = (await site.ask("POST", "/v2/repository/index", {})).json
            assert index == [
                {"name": "m", "version": "1", "state": "READY", "reason": "", "variants": {"fp32": "ready", "int8": "ready"}}
            ]
            assert (await site.ask("POST", unload, {"parameters": {"variant": "int8"}})).status == 200
            assert (model.variants["int8"].ready, model.variants["fp32"].ready) == (False, True)
            unknown = await site.ask("POST", load, {"parameters": {"variant": "fp16"}})
            assert (unknown.status, unknown.reason) == (404, "model_unknown")
            assert "it has: fp32, int8" in unknown.json["error"]
            assert (await site.ask("POST", load, {"parameters": {"variant": 7}})).status == 400

    story(tell())


def test_loading_anew_follows_the_repository(tmp_path):
    async def tell():
        async with site_of(tmp_path, BOTH, FLOOR) as site:
            model = await all_loaded(site, "fp32", "int8")
            write_variants(tmp_path, "m", {"fp32": "", "lean": ", quality: 0.95"})
            assert (await site.ask("POST", "/v2/repository/models/m/load", {})).status == 200
            assert list(model.variants) == ["fp32", "lean"]
            assert site.runtimes["m/int8"].closed
            assert site.composed.plane.models.memory.held_mib == model.variants["fp32"].held_mib

    story(tell())


def test_a_model_that_remembers_its_clients_has_one_variant(tmp_path):
    async def tell():
        write_variants(tmp_path, "m", BOTH, stateful="true")
        async with rig(tmp_path, workloads=[FLOOR]) as site:
            model = site.composed.plane.models.find("m")
            assert list(model.variants) == ["fp32"]
            assert model.default.pinned

    story(tell())


def test_a_second_variant_is_loaded_only_where_memory_allows(tmp_path):
    async def tell():
        async with site_of(tmp_path, BOTH, FLOOR, limits={"models_mib": 10}, node_memory=FixedMemory()) as site:
            model = await all_loaded(site, "fp32")
            assert "not loaded at start: needs 8 MiB" in model.variants["int8"].detail
            assert await asked(site) == ("fp32", None)

    story(tell())


def test_a_variant_whose_file_is_missing_stops_no_other(tmp_path):
    write_variants(tmp_path, "m", BOTH)
    (tmp_path / "m" / "1" / "int8" / "m.onnx").unlink()
    entry = scan(tmp_path)["m"]
    assert entry.fault == ""
    assert [each.name for each in entry.variants] == ["fp32", "int8"]
    assert "is missing" in entry.variants[1].fault
    (tmp_path / "m" / "1" / "fp32" / "m.onnx").unlink()
    assert "is missing" in scan(tmp_path)["m"].fault
