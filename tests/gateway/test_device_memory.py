"""Each device's own budget for models: charged by limit, then as the driver counts, left by value, never passed.

No device is here: the card is a counter that the runtimes of these tests take from and give back to.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

from gateway.plane_rig import rig, write_variants
from gateway.test_control import ask
from gateway.test_model_memory import LATER_S, ONE, ready
from nearhall.core.errors import PermanentError
from nearhall.drivers.clock import ManualClock
from nearhall.drivers.device_memory import FixedDevices
from nearhall.gateway.http.control import Control, snapshot

CONTEXT_MIB = 500.0


def story(coroutine):
    asyncio.run(coroutine)


class Card:
    """Opens runtimes that take memory of a device: CUDA's context with the first, and what `takes` says, by model."""

    def __init__(self, *total_mib, takes=None, **more):
        self.devices = FixedDevices(*total_mib, **more)
        self.takes = takes or {}
        self.context = set()
        self.opened = []
        """(model, device, gpu_memory_mib) of each."""

    def __call__(self, opener):
        def opening(file):
            wish = file.options.get("device", "cpu")
            self.opened.append((file.model, wish, file.options.get("gpu_memory_mib")))
            runtime = opener(file)
            if wish == "cpu" or not self.devices.total:
                return runtime
            name = "cuda:0" if wish in {"auto", "cuda"} else wish
            mib = self.takes.get(file.model, 100.0)
            context = 0.0 if name in self.context else CONTEXT_MIB
            self.context.add(name)
            if mib + context > self.devices.look()[name].free_mib:
                raise PermanentError(f"{file.model} ran out of memory on {name}")
            self.devices.ours[name] += mib + context
            runtime.device = "cuda:T4"
            close = runtime.close

            def closing():
                close()
                self.devices.ours[name] -= mib

            runtime.close = closing
            return runtime

        return opening


@asynccontextmanager
async def site_with(path, card, models, clock=None, **more):
    """A gateway with these models, each with its options, on a card."""
    for name, options in models.items():
        write_variants(path, name, {"gpu": f", options: {json.dumps(options)}"})
    async with rig(path, loaded=False, clock=clock or ManualClock(), device_memory=card.devices, around=card, **more) as site:
        yield site


def states(site):
    return {state.name: state for state in site.composed.plane.models.states()}


def told(site, kind):
    return [event.text for event in snapshot(site.composed.plane).events if event.kind == kind]


def demanded(mib):
    return {"device": "cuda", "gpu_memory_mib": str(mib)}


def test_a_model_is_charged_with_its_limit_and_then_with_what_the_driver_counts(tmp_path):
    async def tell():
        card = Card(16384, takes={"a": 700.0, "b": 900.0})
        async with site_with(tmp_path, card, {"a": demanded(4096), "b": demanded(4096), "c": {}}) as site:
            assert ready(site) == ["a", "b", "c"]
            a, b, c = (states(site)[name] for name in "abc")
            assert (a.device_id, a.device_held_mib, a.device_held_kind) == ("cuda:0", 700.0 + CONTEXT_MIB, "measured")
            assert (b.device_id, b.device_held_mib, b.device_held_kind) == ("cuda:0", 900.0, "measured")
            assert (c.device_id, c.device_held_mib, c.device_held_kind) == ("", 0.0, "")
            assert min(a.held_mib, b.held_mib, c.held_mib) > 0, "main memory is counted as well"
            assert snapshot(site.composed.plane).device_budgets_mib == {"cuda:0": 16384 - 1024}
            page = (await site.ask("GET", "/metrics")).body.decode()
            assert f'nearhall_models_device_budget_bytes{{device="cuda:0"}} {(16384 - 1024) * 2**20:.10g}'[:60] in page
            labels = 'device="cuda:0",kind="measured",model="b",variant="gpu",version="1"'
            assert f"nearhall_model_device_memory_bytes{{{labels}}} 9.437184e+08" in page
            assert 'nearhall_model_device_memory_bytes{device="",' not in page

    story(tell())


def test_what_the_driver_counts_beyond_the_charges_is_taken_off_the_budget(tmp_path):
    """CUDA's own stays when the model has left that brought it; a run may take more than its model was charged with."""

    async def tell():
        card = Card(16384, takes={"a": 700.0, "b": 400.0, "c": 400.0})
        clock = ManualClock()
        own = {name: demanded(1000) for name in "abc"}
        async with site_with(tmp_path, card, own, clock, limits={"models_gpu_mib": 2700}) as site:
            models = site.composed.plane.models
            assert ready(site) == ["a", "b", "c"]
            assert snapshot(site.composed.plane).device_beyond_mib == {"cuda:0": 0.0}
            await models.unload("c")
            clock.pass_by(LATER_S)
            card.devices.ours["cuda:0"] += 950.0  # by runs
            await models.load("c")
            assert "c" in ready(site)
            assert len(ready(site)) == 2, "of 2,700 MiB 950 are held by no model"
            for name in ready(site):
                await models.unload(name)
            assert snapshot(site.composed.plane).device_beyond_mib == {"cuda:0": 950.0 + CONTEXT_MIB}
            page = (await site.ask("GET", "/metrics")).body.decode()
            assert f'nearhall_models_device_beyond_bytes{{device="cuda:0"}} {1450 * 2**20:.8g}' in page

    story(tell())


def test_a_driver_that_does_not_tell_whose_memory_it_is_leaves_the_limit(tmp_path):
    async def tell():
        card = Card(16384, tells_ours=False)
        async with site_with(tmp_path, card, {"a": demanded(4096), "b": demanded(2048)}) as site:
            found = {name: (each.device_held_mib, each.device_held_kind) for name, each in states(site).items()}
            assert found == {"a": (4096.0, "assumed"), "b": (2048.0, "assumed")}

    story(tell())


def test_who_is_worth_least_on_the_device_leaves_it_and_models_elsewhere_stay(tmp_path):
    async def tell():
        clock = ManualClock()
        card = Card(4096, 4096, tells_ours=False)
        models = {"a": demanded(1500), "b": demanded(1500), "c": demanded(1500), "d": {"device": "cuda:1"}, "e": {}}
        async with site_with(tmp_path, card, models, clock) as site:
            assert ready(site) == ["a", "b", "d", "e"]
            why = (
                "not loaded at start: needs 1500 MiB of cuda:0; the budget for models there is 3072 MiB, and what else is loaded"
            )
            assert states(site)["c"].detail.startswith(why)
            assert ("d", "cuda:1", "3072") in card.opened, "who says no limit gets what the device has"
            soon = await site.infer("c", ONE)
            assert (soon.status, soon.reason) == (503, "model_not_ready")
            assert "needs 1500 MiB of cuda:0" in soon.json["error"]
            clock.pass_by(LATER_S)
            assert (await site.infer("a", ONE)).status == 200
            assert (await site.infer("c", ONE)).status == 200
            assert ready(site) == ["a", "c", "d", "e"]
            assert told(site, "model_left") == ["b/gpu left memory (8 MiB and 1500 MiB of cuda:0) to make room for c/gpu"]

    story(tell())


def test_pinned_models_stay_on_the_device_and_what_never_fits_says_so_with_figures(tmp_path):
    async def tell():
        clock = ManualClock()
        card = Card(4096, tells_ours=False)
        async with site_with(tmp_path, card, {"a": demanded(1500), "z": demanded(2000)}, clock, pinned=["z"]) as site:
            assert ready(site) == ["z"]
            clock.pass_by(LATER_S)
            refused = await site.infer("a", ONE)
            assert (refused.status, refused.headers["x-should-retry"]) == (503, "false")
            figures = "needs 1500 MiB of cuda:0; the budget for models there is 3072 MiB, of which pinned models hold 2000 MiB"
            assert f"{figures}; options.gpu_memory_mib says how much it may take" in refused.json["error"]
            assert ready(site) == ["z"]

    story(tell())


def test_a_pinned_model_that_no_device_holds_is_told_of(tmp_path):
    async def tell():
        async with site_with(tmp_path, Card(4096), {"a": demanded(4000)}, pinned=["a"]) as site:
            assert ready(site) == []
            said = "pinned model a does not fit: needs 4000 MiB of cuda:0; the budget for models there is 3072 MiB"
            assert told(site, "model_failed")[0].startswith(said)

    story(tell())


def test_what_only_wishes_for_the_device_goes_to_the_cpu_with_a_note(tmp_path):
    async def tell():
        card = Card(4096, tells_ours=False)
        wish = {"device": "auto", "gpu_memory_mib": "2000"}
        async with site_with(tmp_path, card, {"a": wish, "b": wish}) as site:
            assert ready(site) == ["a", "b"]
            assert [(each.device, each.device_id) for each in states(site).values()] == [("cuda:T4", "cuda:0"), ("cpu", "")]
            assert [(model, device) for model, device, _ in card.opened] == [("a", "auto"), ("b", "cpu")]
            (note,) = told(site, "device")
            assert note.startswith("model b, variant gpu runs on the CPU: on the device it needs 2000 MiB of cuda:0; the budget")
            answer = await site.infer("b", ONE)
            assert answer.json["outputs"][0]["data"] == [2, 4, 6, 8]

    story(tell())


def test_neither_on_the_device_nor_in_main_memory_is_one_line(tmp_path):
    async def tell():
        card = Card(4096, tells_ours=False)
        wish = {"device": "auto", "gpu_memory_mib": "6000"}
        async with site_with(tmp_path, card, {"a": wish}, limits={"models_mib": 5}) as site:
            assert ready(site) == []
            assert "needs 8 MiB; the budget for models is 5 MiB" in states(site)["a"].detail
            refused = await site.infer("a", ONE)
            assert "needs 6000 MiB of cuda:0" in refused.json["error"]
            assert "on the CPU it needs 8 MiB; the budget for models is 5 MiB" in refused.json["error"]

    story(tell())


def test_where_main_memory_is_what_lacks_the_cpu_is_no_way_out(tmp_path):
    async def tell():
        wish = {"device": "auto", "gpu_memory_mib": "1000"}
        async with site_with(tmp_path, Card(4096), {"a": wish}, limits={"models_mib": 5}) as site:
            said = (await site.infer("a", ONE)).json["error"]
            assert said.endswith(": needs 8 MiB; the budget for models is 5 MiB")

    story(tell())


def test_the_settings_say_what_models_may_take_of_each_device(tmp_path):
    async def tell():
        limits = {"models_gpu_mib": 2000}
        card = Card(8192, tells_ours=False)
        async with site_with(tmp_path / "counted", card, {"a": demanded(1200), "b": demanded(1200)}, limits=limits) as site:
            assert ready(site) == ["a"]
            assert snapshot(site.composed.plane).device_budgets_mib == {"cuda:0": 2000}
        silent = Card(8192)
        silent.devices.gone = True  # a device whose memory nobody counts: the limits alone hold
        async with site_with(tmp_path / "silent", silent, {"a": demanded(1200)}, limits=limits) as site:
            assert states(site)["a"].detail == ""

    story(tell())


def test_a_machine_without_devices_counts_none(tmp_path):
    async def tell():
        card = Card()
        async with site_with(tmp_path, card, {"a": {"device": "auto"}, "b": {}}) as site:
            assert ready(site) == ["a", "b"]
            assert card.opened == [("a", "auto", None), ("b", "cpu", None)]
            assert [each.device_id for each in states(site).values()] == ["", ""]

    story(tell())


def test_what_others_hold_of_a_device_is_never_promised(tmp_path):
    async def tell():
        clock = ManualClock()
        card = Card(8192, tells_ours=False)
        card.devices.others["cuda:0"] = 2000.0
        async with site_with(tmp_path, card, {"a": demanded(1000), "b": demanded(3000)}, clock) as site:
            models = site.composed.plane.models
            assert snapshot(site.composed.plane).device_budgets_mib == {"cuda:0": 8192 - 2000 - 1024}
            assert ready(site) == ["a", "b"]
            await models.unload("b")
            card.devices.others["cuda:0"] = 5000.0  # a program that came later
            clock.pass_by(LATER_S)
            models.find("a").default.pinned = True
            models.memory.refresh()
            refused = await site.ask("POST", "/v2/repository/models/b/load", {})
            assert refused.status == 400
            assert "needs 3000 MiB of cuda:0" in refused.json["error"]
            assert "MiB of cuda:0's memory are free" in refused.json["error"]
            assert ready(site) == ["a"]

    story(tell())


def test_a_device_that_runs_short_gets_memory_back(tmp_path):
    async def tell():
        clock = ManualClock()
        card = Card(8192)
        async with site_with(tmp_path, card, {"a": demanded(1000), "b": demanded(1000), "c": {}}, clock) as site:
            models = site.composed.plane.models
            await models.relieve()
            assert ready(site) == ["a", "b", "c"]
            clock.pass_by(1)
            assert (await site.infer("b", ONE)).status == 200
            card.devices.others["cuda:0"] = card.devices.look()["cuda:0"].free_mib - 200
            models.memory.refresh()
            await models.relieve()
            assert ready(site) == ["b", "c"], "who was not used goes, and nobody that is elsewhere"
            assert told(site, "model_left") == ["a/gpu left memory (600 MiB): cuda:0 is short of 56 MiB"]

    story(tell())


def test_a_model_that_takes_more_than_it_was_to_take_goes_again_where_there_is_no_room(tmp_path):
    async def tell():
        card = Card(4096, takes={"b": 2500.0})
        async with site_with(tmp_path, card, {"a": demanded(1000), "b": demanded(1000)}, pinned=["a"]) as site:
            assert ready(site) == ["a"]
            took = "it took 8 MiB and 2500 MiB of cuda:0, where 8 MiB and 1000 MiB of cuda:0 were expected: needs 2500 MiB"
            assert took in states(site)["b"].detail
            assert card.devices.ours["cuda:0"] == 100 + CONTEXT_MIB, "what it took is free again"

    story(tell())


def test_a_runtime_that_ends_up_on_the_cpu_holds_nothing_of_the_device(tmp_path):
    async def tell():
        card = Card(8192)
        card.devices.total = {}
        counted = FixedDevices(8192)
        write_variants(tmp_path, "a", {"gpu": ', options: {device: auto, gpu_memory_mib: "1000"}'})

        def around(opener):
            def opening(file):
                runtime = opener(file)
                runtime.device, runtime.note = "cpu", "runs on the CPU: cuda:0 cannot be used"
                return runtime

            return opening

        async with rig(tmp_path, device_memory=counted, around=around) as site:
            assert (states(site)["a"].device_id, states(site)["a"].device_held_mib) == ("", 0.0)
            assert told(site, "device") == ["model a runs on the CPU: cuda:0 cannot be used"]

    story(tell())


def test_a_reload_stays_on_the_device_where_both_do_not_fit_beside_each_other(tmp_path):
    async def tell():
        card = Card(4096, tells_ours=False)
        async with site_with(
            tmp_path, card, {"a": {"device": "auto", "gpu_memory_mib": "2000"}}, control_socket=str(tmp_path / "ctl")
        ) as site:
            control = Control(site.composed.plane, stop=lambda: None)
            for _ in range(2):
                assert (await ask(control, "POST", "/v2/repository/models/a/load", b"")).status == 200
                assert (states(site)["a"].device_id, states(site)["a"].device_held_mib) == ("cuda:0", 2000.0)
            assert site.composed.plane.models.memory.device_held_mib("cuda:0") == 2000.0
            assert (await ask(control, "POST", "/v2/repository/models/a/unload", b"")).status == 200
            assert site.composed.plane.models.memory.device_held_mib("cuda:0") == 0.0

    story(tell())


def test_a_reload_beside_the_old_one_sends_nobody_away(tmp_path):
    async def tell():
        card = Card(8192, takes={"a": 2500.0, "b": 1500.0})
        models = {"a": demanded(2500), "b": demanded(1500)}
        async with site_with(tmp_path, card, models) as site:
            await site.composed.plane.models.load("a")
            assert ready(site) == ["a", "b"]
            assert told(site, "model_left") == []
            assert card.devices.ours["cuda:0"] == 2500 + 1500 + CONTEXT_MIB
            found = {name: each.device_held_mib for name, each in states(site).items()}
            assert found == {"a": 2500.0, "b": 1500.0}

    story(tell())


def test_any_turn_of_wishes_never_runs_a_card_out_of_memory(tmp_path):
    """Forty turns among five models that do not fit together: each is answered or told when to come back; no load fails."""

    async def tell():
        clock = ManualClock()
        takes = {"a": 1500.0, "b": 900.0, "c": 2500.0, "d": 300.0, "e": 1200.0}
        card = Card(5120, takes=takes)
        models = {name: demanded(int(mib) + 100) for name, mib in takes.items()}
        async with site_with(tmp_path, card, models, clock) as site:
            budget = snapshot(site.composed.plane).device_budgets_mib["cuda:0"]
            for turn in range(40):
                clock.pass_by(LATER_S)
                answer = await site.infer("abcde"[turn * 3 % 5], ONE)
                assert answer.status == 200, answer.json
                assert site.composed.plane.models.memory.device_held_mib("cuda:0") <= budget
                assert card.devices.look()["cuda:0"].free_mib > 0
            assert told(site, "model_failed") == []
            assert sum(each.evictions for each in states(site).values()) > 5

    story(tell())
