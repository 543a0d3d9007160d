"""The budget for loaded models: loaded on demand, left by value, never over it, and words for what does not fit."""

from __future__ import annotations

import asyncio
import threading

from gateway.plane_rig import rig, write_model, write_variants
from gateway.test_control import ask
from nearhall.core.errors import PermanentError
from nearhall.drivers.clock import ManualClock, SystemClock
from nearhall.drivers.fallback_memory import MemoryFallback
from nearhall.drivers.node_memory import FixedMemory
from nearhall.gateway.http.control import Control, snapshot
from waiting import until_async

ONE = [1, 2, 3, 4]
EACH_MIB = 8.0
"""What a model of this rig is guessed to take: its file is empty."""
LATER_S = 60.0
"""Longer than what was loaded stays for its own sake."""


def story(coroutine):
    asyncio.run(coroutine)


def shelf(path, names, *, room_for, **more):
    """A gateway whose budget holds so many of the models at once."""
    for name in names:
        write_model(path, name)
    limits = {"models_mib": EACH_MIB * room_for + 1, **more.pop("limits", {})}
    return rig(path, loaded=False, limits=limits, clock=more.pop("clock", ManualClock()), **more)


def ready(site):
    return [model.entry.name for model in site.composed.plane.models.all() if model.ready]


def held(site):
    return site.composed.plane.models.memory.held_mib


def test_what_the_budget_holds_is_loaded_and_the_rest_says_why_not(tmp_path):
    async def tell():
        async with shelf(tmp_path, "abc", room_for=2) as site:
            assert ready(site) == ["a", "b"]
            assert held(site) == 2 * EACH_MIB
            index = (await site.ask("POST", "/v2/repository/index", {})).json
            assert [one["state"] for one in index] == ["READY", "READY", "UNAVAILABLE"]
            assert "not loaded at start: needs 8 MiB; the budget for models is 17 MiB" in index[2]["reason"]
            assert (await site.ask("GET", "/v2/health/ready")).status == 200
            page = (await site.ask("GET", "/metrics")).body.decode()
            assert "nearhall_models_budget_bytes 1.7825792e+07" in page
            assert 'nearhall_model_memory_bytes{kind="assumed",model="a",variant="cpu",version="1"} 8.388608e+06' in page
            assert 'nearhall_model_memory_bytes{kind="assumed",model="c",variant="cpu",version="1"} 0.0' in page
            assert snapshot(site.composed.plane).models_budget_mib == 17

    story(tell())


def test_a_request_has_its_model_loaded_and_the_one_worth_least_leaves(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "abc", room_for=2, clock=clock) as site:
            too_soon = await site.infer("c", ONE)
            assert (too_soon.status, too_soon.reason) == (503, "model_not_ready")
            assert "only just been loaded" in too_soon.json["error"]
            assert too_soon.headers["retry-after"] == "10"
            clock.pass_by(LATER_S)
            assert (await site.infer("a", ONE)).status == 200
            answer = await site.infer("c", ONE)
            assert (answer.status, answer.reason) == (200, "local_first")
            assert answer.json["outputs"][0]["data"] == [2, 4, 6, 8]
            assert ready(site) == ["a", "c"]
            assert site.runtimes["b"].closed
            assert held(site) == 2 * EACH_MIB
            detail = next(one.detail for one in site.composed.plane.models.states() if one.name == "b")
            assert detail == "made room for c/cpu; loads again when it is asked for"
            page = (await site.ask("GET", "/metrics")).body.decode()
            assert 'nearhall_model_evictions_total{model="b",variant="cpu",version="1"} 1.0' in page
            assert 'nearhall_model_loads_total{model="c",variant="cpu",version="1"} 1.0' in page
            events = [event.text for event in snapshot(site.composed.plane).events if event.kind == "model_left"]
            assert events == ["b/cpu left memory (8 MiB) to make room for c/cpu"]

    story(tell())


def test_pinned_models_are_loaded_first_and_stay(tmp_path):
    async def tell():
        clock = ManualClock()
        write_variants(tmp_path, "z", {"cpu": ""}, pinned="true")
        async with shelf(tmp_path, "ab", room_for=2, clock=clock, pinned=["b"]) as site:
            assert ready(site) == ["b", "z"]
            clock.pass_by(LATER_S)
            refused = await site.infer("a", ONE)
            assert (refused.status, refused.reason) == (503, "model_not_ready")
            assert "of which pinned models hold 16 MiB" in refused.json["error"]
            assert refused.headers["x-should-retry"] == "false"
            assert ready(site) == ["b", "z"]

    story(tell())


def test_a_pinned_model_that_does_not_fit_is_told_of(tmp_path):
    async def tell():
        async with shelf(tmp_path, "a", room_for=0, pinned=["a", "typo"]) as site:
            assert ready(site) == []
            events = [event.text for event in snapshot(site.composed.plane).events if event.kind == "model_failed"]
            assert events[0] == "pinned names model 'typo', which is not in the repository"
            assert "pinned model a does not fit: needs 8 MiB" in events[1]
            assert (await site.infer("a", ONE)).headers["x-should-retry"] == "false"

    story(tell())


def test_a_model_at_work_never_leaves(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "ab", room_for=1, clock=clock) as site:
            clock.pass_by(LATER_S)
            site.runtimes["a"].go.clear()
            running = asyncio.create_task(site.infer("a", ONE))
            await until_async(lambda: site.composed.plane.models.find("a").default.busy, what="it runs")
            refused = await site.infer("b", ONE)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            site.runtimes["a"].go.set()
            assert (await running).status == 200
            await until_async(lambda: not site.composed.plane.models.find("a").default.busy, what="it is idle")
            clock.pass_by(1)
            assert (await site.infer("b", ONE)).status == 200
            assert ready(site) == ["b"]

    story(tell())


def test_the_gateway_stays_ready_while_a_model_is_loaded_for_a_request(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "ab", room_for=1, clock=clock) as site:
            clock.pass_by(LATER_S)
            models = site.composed.plane.models
            assert models.want(models.find("b"), models.find("b").default) > 0
            assert (await site.ask("GET", "/v2/health/ready")).status == 200
            loading = await site.ask("GET", "/v2/models/b/ready")
            assert (loading.status, loading.reason) == (503, "model_not_ready")
            await until_async(lambda: ready(site) == ["b"], what="b is loaded")

    story(tell())


def test_the_hub_answers_meanwhile_where_it_may(tmp_path):
    async def tell():
        clock = ManualClock()
        async with rig(tmp_path / "hub", node="hub", models=["a", "b"]) as hub:
            link = MemoryFallback(hub.composed.app)
            async with shelf(tmp_path / "site", "ab", room_for=1, clock=clock, fallback=link) as site:
                clock.pass_by(LATER_S)
                answer = await site.infer("b", ONE)
                assert (answer.status, answer.reason) == (200, "hub_runtime_down")
                assert answer.headers["x-nearhall-served-by"] == "hub"
                await until_async(lambda: ready(site) == ["b"], what="b is loaded")
                assert (await site.infer("b", ONE)).headers["x-nearhall-served-by"] == "s/n"
                clock.pass_by(LATER_S)
                held_here = await site.infer("a", ONE, {"x-nearhall-residency": "site"})
                assert (held_here.status, held_here.headers["x-nearhall-served-by"]) == (200, "s/n")

    story(tell())


def test_a_deadline_that_loading_passes_is_refused_and_the_model_loads_all_the_same(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "ab", room_for=1, clock=clock) as site:
            clock.pass_by(LATER_S)
            refused = await site.infer("b", ONE, {"x-nearhall-deadline-ms": "20"})
            assert (refused.status, refused.reason, refused.headers["retry-after"]) == (503, "model_not_ready", "1")
            await until_async(lambda: ready(site) == ["b"], what="b is loaded")
            assert (await site.infer("b", ONE, {"x-nearhall-deadline-ms": "20"})).status == 200

    story(tell())


def test_who_waits_for_a_load_that_fails_hears_why(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "ab", room_for=1, clock=clock) as site:
            clock.pass_by(LATER_S)
            site.composed.plane.models._opener = _refusing
            refused = await site.infer("b", ONE)
            assert (refused.status, refused.reason) == (503, "model_not_ready")
            assert "no such engine" in refused.json["error"]
            assert held(site) == 0
            again = await site.infer("b", ONE)
            assert "no such engine" in again.json["error"]

    story(tell())


class Gate:
    """An opener that waits until it is let go."""

    def __init__(self, opener):
        self._opener = opener
        self.go = threading.Event()

    def __call__(self, file):
        self.go.wait(10)
        return self._opener(file)


async def gated(site):
    """From now on models wait at a gate before they are loaded."""
    models = site.composed.plane.models
    models._opener = gate = Gate(models._opener)
    return models, gate


def test_who_waits_longer_than_was_thought_is_told(tmp_path):
    async def tell():
        async with shelf(tmp_path, "a", room_for=1, clock=SystemClock(), limits={"load_wait_s": 0.25}) as site:
            models, gate = await gated(site)
            await models._unload(models.find("a").default, "gone", on_demand=True)
            models.find("a").default.load_s = 0.01
            late = await site.infer("a", ONE)
            assert (late.status, late.reason) == (503, "model_not_ready")
            assert "is still being loaded" in late.json["error"]
            models.find("a").default.loading_until_s = 0.0
            expired = await site.infer("a", ONE, {"x-nearhall-deadline-ms": "50"})
            assert (expired.status, expired.reason) == (504, "deadline")
            waiting = asyncio.create_task(site.infer("a", ONE))
            await until_async(lambda: models.find("a").default.waiters, what="it waits")
            gate.go.set()
            assert (await waiting).status == 200

    story(tell())


def test_no_more_wait_for_a_load_than_the_queue_holds(tmp_path):
    async def tell():
        limits = {"queue_length": 1}
        async with shelf(tmp_path, "a", room_for=1, limits=limits) as site:
            models, gate = await gated(site)
            await models._unload(models.find("a").default, "gone", on_demand=True)
            first = asyncio.create_task(site.infer("a", ONE))
            await until_async(lambda: models.find("a").default.waiters, what="it waits")
            refused = await site.infer("a", ONE)
            assert (refused.status, refused.reason) == (429, "queue_full")
            gate.go.set()
            assert (await first).status == 200

    story(tell())


def test_a_load_that_somebody_unloads_meanwhile_is_off(tmp_path):
    async def tell():
        async with shelf(tmp_path, "a", room_for=1) as site:
            models, gate = await gated(site)
            model = models.find("a")
            await models._unload(model.default, "gone", on_demand=True)
            async with models._lock("a"):
                waiting = asyncio.create_task(site.infer("a", ONE))
                await until_async(lambda: model.default.waiters, what="it waits")
                await models._unload(model.default, "unloaded on request", on_demand=False)
            gate.go.set()
            refused = await waiting
            assert (refused.status, refused.reason) == (503, "model_not_ready")
            assert "unloaded on request" in refused.json["error"]
            assert (ready(site), held(site)) == ([], 0)

    story(tell())


def _refusing(file):
    raise PermanentError("no such engine")


def test_an_operator_loads_and_unloads_within_the_budget(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "ab", room_for=1, clock=clock, control_socket=str(tmp_path / "ctl")) as site:
            control = Control(site.composed.plane, stop=lambda: None)
            assert ready(site) == ["a"]
            assert (await _post(control, "/v2/repository/models/b/load")).status == 200
            assert ready(site) == ["b"]
            assert (await _post(control, "/v2/repository/models/b/unload")).status == 200
            assert (ready(site), held(site)) == ([], 0)
            clock.pass_by(LATER_S)
            gone = await site.infer("b", ONE)
            assert (gone.status, gone.reason) == (503, "model_not_ready")
            assert "unloaded on request" in gone.json["error"]
            assert (await _post(control, "/v2/repository/models/b/load")).status == 200
            assert (await _post(control, "/v2/repository/models/b/load")).status == 200
            assert (ready(site), held(site)) == (["b"], EACH_MIB)
            assert (await site.infer("b", ONE)).status == 200

    story(tell())


async def _post(control, path, body=b""):
    return await ask(control, "POST", path, body)


def test_an_operator_is_told_why_there_is_no_room(tmp_path):
    async def tell():
        async with shelf(tmp_path, "ab", room_for=1, pinned=["a"]) as site:
            refused = await site.ask("POST", "/v2/repository/models/b/load", {})
            assert refused.status == 400
            assert "of which pinned models hold 8 MiB" in refused.json["error"]
            assert ready(site) == ["a"]

    story(tell())


def test_never_more_than_the_machine_has_left(tmp_path):
    async def tell():
        memory, clock = FixedMemory(free_mib=64 + 1.5 * EACH_MIB), ManualClock()
        async with shelf(tmp_path, "ab", room_for=9, clock=clock, node_memory=memory) as site:
            assert ready(site) == ["a"]
            memory.free = 64 + 1.0
            clock.pass_by(LATER_S)
            assert (await site.infer("b", ONE)).status == 200
            assert ready(site) == ["b"], "a has made room"
            site.composed.plane.models.find("b").default.pinned = True
            refused = await site.infer("a", ONE)
            assert refused.headers["retry-after"] == "60"
            assert "1 MiB of memory are free on this machine" in refused.json["error"]

    story(tell())


def test_a_machine_that_runs_short_gets_memory_back(tmp_path):
    async def tell():
        memory, clock = FixedMemory(), ManualClock()
        write_model(tmp_path, "s", stateful=True)
        async with shelf(tmp_path, "abc", room_for=9, clock=clock, node_memory=memory, pinned=["a"]) as site:
            models = site.composed.plane.models
            await models.relieve()
            assert ready(site) == ["a", "b", "c", "s"]
            assert (await site.infer("b", ONE)).status == 200
            clock.pass_by(1)
            assert (await site.infer("c", ONE)).status == 200
            memory.free = 30.0
            await models.relieve()
            assert ready(site) == ["a", "c", "s"], "the least recently used is enough"
            memory.free = 0.0
            await models.relieve()
            assert ready(site) == ["a", "s"], "neither a pinned one nor one that remembers its clients"
            events = [event.text for event in snapshot(site.composed.plane).events if event.kind == "model_left"]
            assert events[0] == "b/cpu left memory (8 MiB): the machine is short of 2 MiB"
            memory.free = 4096.0
            assert (await site.infer("c", ONE)).status == 200

    story(tell())


def test_what_a_model_was_seen_to_take_counts_and_one_that_takes_too_much_goes_again(tmp_path):
    class Growing(FixedMemory):
        grows = 0.0

        def resident_mib(self, pid=None):
            self.resident += self.grows
            return self.resident

    async def tell():
        memory, clock = Growing(), ManualClock()
        for name in "abc":
            write_model(tmp_path, name)
            (tmp_path / name / "1" / "cpu" / "m.onnx").write_bytes(bytes(1 << 20))
        async with rig(tmp_path, loaded=False, limits={"models_mib": 40}, clock=clock, node_memory=memory) as site:
            models = site.composed.plane.models
            assert len(ready(site)) == 3
            await models.unload("b")
            memory.grows = 20.0
            await models.load("b")
            b = models.find("b").default
            assert (b.held_mib, b.held_kind.value) == (20.0, "measured")
            await models._unload(b, "gone", on_demand=True)
            assert (b.held_mib, b.memory_mib, b.memory_kind.value) == (0.0, 20.0, "measured"), "it is known from now on"
            memory.grows = 60.0
            refused = await site.ask("POST", "/v2/repository/models/c/load", {})
            assert refused.status == 400
            assert "it took 60 MiB, where 10 MiB were expected" in refused.json["error"]
            c = models.find("c").default
            assert (c.state.value, c.on_demand, c.memory_mib) == ("unloaded", True, 60.0), "it is not broken, but too large"
            assert "c" not in ready(site)
            assert held(site) <= 40

    story(tell())


def test_two_models_that_take_turns_do_not_thrash(tmp_path):
    async def tell():
        clock = ManualClock()
        async with shelf(tmp_path, "ab", room_for=1, clock=clock) as site:
            for turn in range(200):
                clock.pass_by(0.25)
                await site.infer("ab"[turn % 2], ONE)
            loads = sum(state.loads for state in site.composed.plane.models.states())
            assert 3 <= loads <= 7

    story(tell())
