"""A cap in watts: held against whichever meter tells, within the floors, and told truly where it is not held."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from gateway.plane_rig import Rig, rig, write_variants
from gateway.test_control import ask
from nearhall.core.errors import TemporaryError
from nearhall.drivers.clock import ManualClock
from nearhall.gateway.http.control import Control, snapshot
from nearhall.policy.power_cap import STALE_S
from nearhall.wire.energy import EnergyTold
from waiting import until_async

FLOOR = {"id": "cams", "model": "m", "slo_ms": 50.0, "quality_min": 0.9}
JOULES = {"fp32": 2.0, "int8": 0.5}


@dataclass
class Desk:
    """A gateway with two forms of a model, and the ends at which an agent and a user hold it."""

    site: Rig
    clock: ManualClock
    drawn_w: dict[bool, float] = field(default_factory=lambda: {False: 350.0, True: 200.0})
    """With and without the lesser form."""

    @property
    def step(self) -> float:
        return self.site.composed.plane.choosing.step_down(self.clock.monotonic())

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        control = Control(self.site.composed.plane, stop=lambda: None)
        answer = await ask(control, method, path, b"" if body is None else msgspec.json.encode(body))
        assert answer.status == 200, answer.body
        return answer.json

    async def cap(self, **wish: Any) -> Any:
        return await self.control("POST", "/control/cap", wish)

    async def told(self) -> Any:
        return await self.control("GET", "/control/cap")

    async def meter(self, windows: int = 1, **more: Any) -> None:
        """Windows of the servers' meter as an agent tells of it, two seconds each."""
        for _ in range(windows):
            watts = self.drawn_w[self.step > 0.3]
            self.clock.pass_by(2.0)
            plain = {"seconds": 2.0, "it_w": watts, "it_j": 9999.0, "it_kind": "simulated", "it_position": "it"} | more
            await self.control("POST", "/control/energy", EnergyTold(**plain))

    async def asked(self) -> tuple[str, str | None]:
        answer = await self.site.infer("m", [1, 2, 3, 4])
        assert answer.status == 200, answer.body
        return answer.headers["x-nearhall-variant"], answer.headers.get("x-nearhall-stepped-down")

    async def page(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        text = (await self.site.ask("GET", "/metrics")).body.decode()
        families = text_string_to_metric_families(text)
        return {family.name: [(sample.labels, sample.value) for sample in family.samples] for family in families}

    def events(self) -> list[str]:
        return [event.kind for event in snapshot(self.site.composed.plane).events if event.kind.startswith("cap")]


@asynccontextmanager
async def desk(path: Any, *, quality_min: float | None = 0.9) -> AsyncIterator[Desk]:
    write_variants(path, "m", {"fp32": "", "int8": ", quality: 0.97, preload: true"})
    clock = ManualClock()
    workload = {**FLOOR, "quality_min": quality_min}
    async with rig(path, workloads=[workload], clock=clock, loaded=False) as site:
        model = site.composed.plane.models.find("m")
        await until_async(lambda: all(each.ready for each in model.variants.values()), what="both are ready")
        for name, joules in JOULES.items():
            model.variants[name].entry = replace(model.variants[name].entry, joules=joules)
        yield Desk(site, clock)


def story(path: Any, tell: Callable[[Desk], Any], **more: Any) -> None:
    async def run() -> None:
        async with desk(path, **more) as opened:
            await tell(opened)

    asyncio.run(run())


def test_above_the_cap_a_lesser_variant_answers_and_everything_says_why(tmp_path):
    async def tell(site: Desk) -> None:
        await site.meter()
        wide = await site.cap(watts=400)
        assert (wide["step_down"], wide["reached"], wide["metered"]["watts"]) == (0.0, True, 350.0)
        assert await site.asked() == ("fp32", None)
        tight = await site.cap(watts=300)
        assert (tight["step_down"], tight["reached"]) == (1.0, None)
        assert tight["says"].startswith(
            "above it, and stepped down, which is yet to show: 350.0 W of 300 W, by a virtual meter, simulated, of all "
        )
        assert await site.asked() == ("int8", "fp32")
        await site.meter(2)
        held = await site.told()
        assert (held["reached"], held["watts"], held["steps"]) == (True, 300.0, [0.3])
        assert held["metered"] == {
            "of": "servers",
            "watts": 200.0,
            "seconds": 2.0,
            "age_s": 0.0,
            "source": "meter",
            "kind": "simulated",
            "covers": "all servers at their inlets, whatever runs on them",
        }
        assert (await site.control("GET", "/control/stats"))["power_cap"] == held
        page = await site.page()
        assert page["nearhall_power_cap_ratio"] == [({}, 1.0)]
        assert page["nearhall_power_cap_watts"] == [({}, 300.0)]
        assert page["nearhall_power_cap_reached"] == [({}, 1.0)]
        metered = {"of": "servers", "kind": "simulated", "source": "meter"}
        assert page["nearhall_power_metered_watts"] == [(metered, 200.0)]
        assert site.events() == ["capped", "capped"]
        await site.cap(step_down=0)
        assert await site.asked() == ("fp32", None)
        assert (await site.page())["nearhall_power_cap_watts"] == []
        assert "power_cap" not in await site.control("GET", "/control/stats")

    story(tmp_path, tell)


def test_when_the_load_has_gone_the_better_variant_is_back(tmp_path):
    async def tell(site: Desk) -> None:
        await site.meter()
        await site.cap(watts=300)
        await site.meter(2)
        site.drawn_w = {False: 150.0, True: 90.0}
        await site.meter(3)
        assert site.step == 0.0
        assert await site.asked() == ("fp32", None)
        await site.meter(60)
        assert (site.step, (await site.told())["reached"]) == (0.0, True)

    story(tmp_path, tell)


def test_without_a_meter_as_much_is_saved_as_the_floors_allow_and_that_is_said(tmp_path):
    async def tell(site: Desk) -> None:
        blind = await site.cap(watts=300)
        assert (blind["step_down"], blind["metered"], blind["reached"]) == (1.0, None, None)
        assert blind["says"].startswith("no meter has told what is drawn; as much is saved as the floors of quality allow")
        assert await site.asked() == ("int8", "fp32")
        page = await site.page()
        assert (page["nearhall_power_cap_reached"], page["nearhall_power_metered_watts"]) == ([], [])
        site.drawn_w = {False: 250.0, True: 180.0}
        await site.meter(20)
        assert (await site.told())["reached"] is True
        assert site.step == 0.0, "what it shows fits under the cap"
        site.clock.pass_by(STALE_S + 1)
        assert await site.asked() == ("int8", "fp32")
        silent = await site.told()
        assert (silent["metered"], silent["reached"]) == (None, None)
        assert "no meter has told of the servers for 15 s" in silent["says"]
        assert site.events() == ["capped", "cap_blind", "cap_metered", "cap_blind"]

    story(tmp_path, tell)


def test_a_cap_out_of_reach_is_said_once_and_nobody_is_refused(tmp_path):
    async def tell(site: Desk) -> None:
        await site.meter()
        await site.cap(watts=100)
        await site.meter(20)
        told = await site.told()
        assert (told["step_down"], told["reached"]) == (1.0, False)
        assert told["says"].startswith("out of reach: 200.0 W of 100 W")
        assert (await site.page())["nearhall_power_cap_reached"] == [({}, 0.0)]
        assert await site.asked() == ("int8", "fp32")
        assert site.events() == ["capped", "cap_short"]
        site.drawn_w = {False: 90.0, True: 80.0}
        await site.meter(40)
        assert site.events() == ["capped", "cap_short", "cap_reached"]

    story(tmp_path, tell)


def test_where_no_variant_may_step_down_the_answer_says_so(tmp_path):
    async def tell(site: Desk) -> None:
        await site.meter()
        told = await site.cap(watts=300)
        assert (told["steps"], told["step_down"]) == ([], 1.0)
        assert "no variant here saves anything" in told["says"]
        assert await site.asked() == ("fp32", None)
        await site.meter(10, it_w=350.0)
        assert "and no variant to step down to" in (await site.told())["says"]

    story(tmp_path, tell, quality_min=None)


def test_a_lesser_meter_does_not_stand_in_for_the_servers_own(tmp_path):
    async def tell(site: Desk) -> None:
        energy = site.site.composed.plane.energy
        site.drawn_w = {False: 250.0, True: 180.0}
        await site.meter()
        assert (await site.cap(watts=300))["step_down"] == 0.0
        for _ in range(4):
            site.clock.pass_by(5.0)
            energy.counted({"rapl": 200.0}, 5.0)
        assert site.step == 1.0, "forty watts of processors say nothing of the servers"
        assert (await site.told())["metered"] is None
        at_the_feed = await site.cap(watts=300, of="site")
        assert at_the_feed["says"].startswith("no meter has told of the site; as much")
        own = await site.cap(watts=300, of="counters")
        assert (own["metered"]["of"], own["metered"]["kind"], own["metered"]["source"]) == ("counters", "assumed", "rapl")
        assert "fans, disks, network cards and the supplies' losses are not in it" in own["says"]
        for _ in range(4):
            site.clock.pass_by(5.0)
            energy.counted({"rapl": 200.0}, 5.0)
        assert site.step == 0.0
        await site.meter(it_w=500.0)
        assert site.step == 0.0, "it was asked to be held against the counters"

    story(tmp_path, tell)


def test_a_better_meter_takes_over_where_the_cap_names_none(tmp_path):
    async def tell(site: Desk) -> None:
        energy = site.site.composed.plane.energy
        energy.counted({"rapl": 200.0}, 5.0)
        assert (await site.cap(watts=300))["metered"]["of"] == "counters"
        await site.meter(it_w=None, it_j=None, site_w=280.0, site_kind="measured")
        at_the_feed = await site.told()
        assert (at_the_feed["metered"]["of"], at_the_feed["metered"]["kind"]) == ("site", "measured")
        assert "280.0 W of 300 W, measured, by meter, of the whole site at its feed, cooling" in at_the_feed["says"]
        assert site.step == 0.0
        await site.meter()
        assert ((await site.told())["metered"]["of"], site.step) == ("servers", 1.0)
        told = await site.cap(watts=300, of="site")
        assert told["metered"]["of"] == "site"

    story(tmp_path, tell)


def test_a_cap_that_is_renewed_keeps_its_step(tmp_path):
    async def tell(site: Desk) -> None:
        await site.meter()
        await site.cap(watts=300)
        for watts in (300, 300, 290):
            await site.meter(2)
            assert (await site.cap(watts=watts, until_s=site.clock.utc() + 60))["step_down"] == 1.0
        assert site.events() == ["capped", "capped"]
        assert (await site.cap(watts=355))["step_down"] == 1.0, "350 W would hardly fit under it"
        wider = await site.cap(watts=400)
        assert wider["step_down"] == 0.0, "350 W fit under it"
        site.clock.pass_by(90_000)
        assert (await site.told())["says"] == "no cap"
        await site.meter()
        assert site.step == 0.0
        assert site.events()[-1] == "cap_ended"

    story(tmp_path, tell)


def test_a_step_in_place_of_watts_needs_no_meter(tmp_path):
    async def tell(site: Desk) -> None:
        await site.cap(watts=300)
        step = await site.cap(step_down=0.5)
        assert (step["step_down"], step["watts"], step["metered"], step["reached"]) == (0.5, None, None, None)
        await site.meter()
        assert site.step == 0.5
        await site.cap(watts=380)
        assert site.step == 0.5, "until the meter has said whether less would do"
        await site.meter(8)
        assert site.step == 0.0

    story(tmp_path, tell)


def test_a_renewed_cap_reads_an_older_agents_energy_where_it_tells_no_power(tmp_path):
    async def tell(site: Desk) -> None:
        await site.meter(it_w=None, it_j=640.0, it_position="")
        told = await site.cap(watts=300)
        assert (told["metered"]["watts"], told["metered"]["covers"]) == (
            320.0,
            "all servers by their meter, whatever runs on them",
        )
        assert site.step == 1.0

    story(tmp_path, tell)


class Counter:
    """The port of a machine's counter: so many looks at it, each five seconds after the last, and then silence."""

    source = "rapl"

    def __init__(self, desk: Desk) -> None:
        self.left = self.silent = 0
        self._desk, self._sum_j = desk, 0.0

    def joules(self) -> float:
        if not self.left:
            self.silent += 1
            raise TemporaryError("not now")
        self.left -= 1
        self._sum_j += 5.0 * self._desk.drawn_w[self._desk.step > 0.3]
        self._desk.clock.pass_by(5.0)
        return self._sum_j

    def close(self) -> None:
        """Nothing is held."""


async def looked(site: Desk, counter: Counter, looks: int) -> None:
    """Lets the gateway count, so many times, as it does while it runs."""
    counter.left, counter.silent = looks, 0
    task = asyncio.create_task(site.site.composed.plane.energy.count([counter], every_s=0.0))
    await until_async(lambda: counter.silent > 1, what="what was counted last has been taken")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_machines_own_counters_hold_a_cap_too(tmp_path):
    async def tell(site: Desk) -> None:
        counter = Counter(site)
        await looked(site, counter, 3)
        assert (await site.cap(watts=300))["step_down"] == 1.0
        await looked(site, counter, 5)
        told = await site.told()
        assert (told["step_down"], told["reached"], told["metered"]["watts"]) == (1.0, True, 200.0)
        assert json.dumps(told).count("rapl") >= 2

    story(tmp_path, tell)


def test_counters_of_which_one_is_silent_say_nothing(tmp_path):
    async def tell(site: Desk) -> None:
        energy = site.site.composed.plane.energy
        energy.counted({"rapl": 100.0, "nvml": 1000.0}, 5.0)
        seen = energy.metered["counters"]
        assert (seen.draw.watts, seen.source) == (220.0, "rapl+nvml")
        site.clock.pass_by(5.0)
        energy.counted({"rapl": 100.0}, 5.0)
        energy.counted({"rapl": 100.0, "nvml": 2000.0}, 5.0)
        assert energy.metered["counters"] is seen, "less than is drawn, and then what two windows drew"
        energy.counted({"rapl": 150.0, "nvml": 1000.0}, 5.0)
        assert energy.metered["counters"].draw.watts == 230.0
        energy.counted({}, 5.0)
        assert energy.metered["counters"].draw.watts == 230.0

    story(tmp_path, tell)
