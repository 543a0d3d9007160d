"""The agent's windows in virtual time: a full disk, a clock that is set, a gateway that does not answer, a hub that refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import async_solipsism
import msgspec
import pytest

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.clock import ManualClock
from nearhall.drivers.outbox_memory import MemoryOutbox
from nearhall.drivers.outbox_patient import PatientOutbox
from nearhall.ports.uplink import UplinkReply
from nearhall.site.agent import HELD_MAX, Agent, Parts, recalled_desired
from nearhall.site.meters import MeterRoom
from nearhall.site.results import Results
from nearhall.site.settings import Settings
from nearhall.site.supervisor import GatewayProcess, Supervisor
from nearhall.site.sync import COMPLAINT_S, Sync
from nearhall.wire.energy import EnergyTold
from nearhall.wire.session import Ack, Batch, Desired, Reported, Welcome
from nearhall.wire.site_session import SiteIdentity, SiteSession
from nearhall.wire.telemetry import Event, GatewayStats, ModelState, Record, WorkloadStats

WINDOW_S = 2.0


class LoopClock(ManualClock):
    """The virtual loop's time, and a calendar that can be set."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def utc(self) -> float:
        return super().utc() + self.monotonic()


class SteadyGateway(Supervisor):
    """A gateway that is simply there."""

    def __init__(self) -> None:
        self.gateway = GatewayProcess(pid=1, gateway_id="g")
        self.stopped = False
        self.refusals: dict[str, int] = {}

    def refused(self) -> dict[str, int]:
        told, self.refusals = self.refusals, {}
        return told

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop_gateway(self, seconds_max: float) -> None:
        self.stopped = seconds_max > 0


class Counters:
    """The gateway's control: ten requests for each look."""

    def __init__(self) -> None:
        self.looks = 0
        self.answers = True
        self.loaded = {"faces": "ready"}
        self.refuses: Exception | None = None
        self.gateway_id = "g"
        self.told: list[EnergyTold] = []

    async def stats(self) -> GatewayStats:
        if not self.answers:
            raise TemporaryError("does not answer")
        self.looks += 1
        models = [ModelState(name=n, version="1", variant="v", runtime="r", state=s) for n, s in self.loaded.items()]
        workloads = {"video": WorkloadStats(local=10 * self.looks)}
        return GatewayStats(gateway_id=self.gateway_id, pid=1, started_s=0.0, at_s=0.0, workloads=workloads, models=models)

    async def tell_energy(self, told: EnergyTold) -> None:
        self.told.append(told)

    async def set_model(self, model: str, wanted: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.loaded[model] = {"loaded": "ready", "unloaded": "unloaded"}[wanted]


class NoCpu:
    def seconds(self) -> float:
        return 0.0


class Hub:
    """The hub behind `ports.uplink`, with a link of 40 ms and answers that can be made bad."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.records: dict[int, Record] = {}
        self.status = 200
        self.away = False
        self.calls: list[str] = []
        self.wish = Desired(version=0, document={})
        self.reported: list[Reported] = []
        self.forgetful = False

    async def exchange(self, method: str, path: str, body: bytes, *, timeout_s: float) -> UplinkReply:
        self.calls.append(f"{method} {path}")
        await asyncio.sleep(0.04)
        if self.away:
            raise TemporaryError("the link is cut")
        status, said = (self.status, b"{}") if self.status != 200 else await self._answer(method, path, body, timeout_s)
        return UplinkReply(status=status, body=said, sent_bytes=len(body) + 100, received_bytes=len(said) + 100, took_s=0.04)

    async def _answer(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        now = self.clock.utc() - 0.02
        if method == "GET":
            after = int(path.partition("after=")[2].partition("&")[0])
            if self.wish.version <= after and not self.forgetful:
                await asyncio.sleep(timeout_s - 5)
                return 304, b""
            return 200, msgspec.json.encode(self.wish)
        if method == "PUT":
            self.reported.append(msgspec.json.decode(body, type=Reported))
        elif path.endswith("/hello"):
            welcome = Welcome(
                protocol=1, hub_id="h", acknowledged=len(self.records), desired_version=self.wish.version, now_s=now
            )
            return 200, msgspec.json.encode(welcome)
        else:
            for item in msgspec.json.decode(body, type=Batch).records:
                self.records[item.number] = item.record
        return 200, msgspec.json.encode(Ack(acknowledged=len(self.records), desired_version=self.wish.version, now_s=now))

    async def close(self) -> None:
        """Nothing to close."""


class World:
    """One site in virtual time."""

    def __init__(self, *, joined: bool, room: bool = True) -> None:
        self.clock = LoopClock()
        self.events: list[Event] = []
        self.room = room
        self.disk = MemoryOutbox(bytes_max=2**24)
        self.outbox = PatientOutbox(self._made)
        self.control = Counters()
        self.supervisor = SteadyGateway()
        self.hub = Hub(self.clock)
        self.sync = self._sync() if joined else None
        self.stop = asyncio.Event()

    def tell(self, kind: str, text: str, level: str = "info") -> None:
        self.events.append(Event(at_s=self.clock.utc(), kind=kind, text=text, level=level))

    def _made(self) -> MemoryOutbox:
        if not self.room:
            raise TemporaryError("the outbox cannot be opened: disk is full")
        return self.disk

    def _sync(self) -> Sync:
        identity = SiteIdentity(site="a", software="s", boot_id="b", outbox_id=self.outbox.outbox_id, about={})
        return Sync(
            site="a",
            session=SiteSession(identity),
            outbox=self.outbox,
            uplink=self.hub,
            clock=self.clock,
            draw=Random(1),
            tell=self.tell,
            off_loop=at_once,
        )

    def agent(self) -> Agent:
        settings = Settings(
            site="a",
            site_class="micro",
            jurisdiction="DE",
            port=1,
            state_dir="",
            models_dir="",
            gateway_command=[],
            gateway_pid_file="",
            gateway_control_socket="",
            agent_pid_file="",
            agent_socket="",
            results_socket="",
            window_s=WINDOW_S,
        )
        parts = Parts(
            clock=self.clock,
            supervisor=self.supervisor,
            control=self.control,
            meters=MeterRoom({}, poll_s=1.0, clock=self.clock, tell=self.tell),
            results=Deaf(),
            outbox=self.outbox,
            sync=self.sync,
            cpu=NoCpu(),
            off_loop=at_once,
        )
        return Agent(settings, parts, boot_id="b", software="s", events=self.events)

    def records(self) -> list[Record]:
        """All of them, wherever they are."""
        waiting = {number: msgspec.json.decode(body, type=Record) for number, body in self.outbox.pending(2**24)}
        return [record for _, record in sorted((self.hub.records | waiting).items())]

    def kinds(self) -> list[str]:
        return [event.kind for record in self.records() for event in record.events]

    def counted(self) -> int:
        return sum(record.workloads["video"].local for record in self.records() if "video" in record.workloads)


class Deaf(Results):
    """Results without a socket: the virtual loop has none."""

    async def listen(self, path: Path) -> None:
        """Hears nothing."""


async def at_once(call: Callable[..., Any], *arguments: Any) -> Any:
    return call(*arguments)


def play(story: Callable[[World], Coroutine[Any, Any, None]], *, joined: bool = False, room: bool = True) -> World:
    """Runs an agent through a story, then stops it cleanly."""

    async def whole() -> World:
        world = World(joined=joined, room=room)
        running = asyncio.create_task(world.agent().run(world.stop, lambda: None))
        await story(world)
        world.stop.set()
        await asyncio.wait_for(running, 60)
        return world

    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        return runner.run(whole())


def windows(count: float) -> Coroutine[Any, Any, None]:
    return asyncio.sleep(count * WINDOW_S)


def test_every_window_is_one_record_and_the_last_is_cut_at_the_stop():
    async def story(_: World) -> None:
        await windows(3.5)

    world = play(story)
    records = world.records()
    assert len(records) == 4
    assert all(a.end_s == b.start_s for a, b in pairwise(records))
    assert world.counted() == 10 * world.control.looks
    assert world.supervisor.stopped


def test_what_the_stand_in_refused_is_in_the_record_once():
    async def story(world: World) -> None:
        await windows(1.5)
        world.supervisor.refusals = {"video": 3, "chat": 2}
        await windows(2)

    found = [record.workloads for record in play(story).records()]
    assert sum(workloads["video"].rejected.get("restarting", 0) for workloads in found) == 3
    assert sum(workloads["chat"].rejected.get("restarting", 0) for workloads in found if "chat" in workloads) == 2


def test_a_full_disk_costs_no_count_and_is_told_once_each_way():
    async def story(world: World) -> None:
        await windows(1.5)
        world.disk.full = True
        await windows(5)
        assert world.outbox.next_number == 2
        world.disk.full = False
        await windows(2)

    world = play(story)
    assert world.counted() == 10 * world.control.looks
    assert [kind for kind in world.kinds() if kind.startswith("spool")] == ["spool_full", "spool_back"]
    starts = [record.start_s for record in world.records()]
    assert starts == sorted(starts)


def test_a_disk_that_is_full_at_the_start_costs_no_count_and_the_hub_hears_of_it_when_there_is_room():
    async def story(world: World) -> None:
        await windows(5)
        assert not world.hub.records
        world.room = True
        await windows(4)

    world = play(story, joined=True, room=False)
    assert world.counted() == 10 * world.control.looks
    assert [kind for kind in world.kinds() if kind.startswith("spool")] == ["spool_full", "spool_back"]
    first, *others = world.records()
    assert first.end_s - first.start_s >= 5 * WINDOW_S
    assert others


def test_what_is_held_for_a_full_disk_is_bounded():
    async def story(world: World) -> None:
        world.disk.full = True
        await windows(HELD_MAX + 50)
        world.disk.full = False
        await windows(1)

    assert HELD_MAX <= len(play(story).records()) <= HELD_MAX + 3


def test_a_clock_that_is_set_back_makes_an_event_and_no_negative_window():
    async def story(world: World) -> None:
        await windows(1.5)
        world.clock.set_utc(ManualClock().utc() - 3600)
        await windows(2)

    world = play(story)
    assert world.kinds().count("clock_step") == 1
    assert all(0 <= record.end_s - record.start_s <= WINDOW_S + 0.001 for record in world.records())
    assert any(event.text.startswith("the clock was set by -3600") for record in world.records() for event in record.events)


def test_a_gateway_that_does_not_answer_for_a_while_is_counted_later():
    async def story(world: World) -> None:
        await windows(1.5)
        world.control.answers = False
        await windows(3)
        world.control.answers = True
        await windows(1)

    world = play(story)
    assert world.counted() == 10 * world.control.looks
    assert [record.gateway_up for record in world.records()].count(False) == 3


def test_telemetry_reaches_the_hub_with_the_links_bytes_and_times():
    async def story(_: World) -> None:
        await windows(5.5)

    world = play(story, joined=True)
    assert len(world.hub.records) >= 5
    last = world.hub.records[5]
    assert last.link.sent_bytes > 0
    assert last.link.rtt_ms is not None
    assert abs(last.link.rtt_ms - 40.0) < 1.0
    assert last.clock_error_ms is not None
    assert abs(last.clock_error_ms) < 1.0


def test_a_cut_link_is_told_the_outbox_drains_within_two_seconds_and_nothing_is_lost():
    async def story(world: World) -> None:
        await windows(3.5)
        world.hub.away = True
        await windows(20)
        assert len(world.outbox.pending(2**24)) >= 19
        world.hub.away = False
        await asyncio.sleep(2.0)
        assert len(world.outbox.pending(2**24)) <= 1
        await windows(2)

    world = play(story, joined=True)
    assert {"link_lost", "link_back"} <= set(world.kinds())
    assert world.counted() == 10 * world.control.looks
    assert max(record.link.spooled_bytes for record in world.records()) > 0


def test_a_hub_that_refuses_is_not_hammered_and_gets_all_later():
    async def story(world: World) -> None:
        await windows(1.5)
        world.hub.status = 503
        before = len(world.hub.calls)
        await asyncio.sleep(100.0)
        asked = [call for call in world.hub.calls[before:] if "PUT" not in call]
        assert len(asked) <= 2 * (100 / COMPLAINT_S + 2)
        world.hub.status = 200
        await windows(6)

    world = play(story, joined=True)
    assert world.kinds().count("hub_refuses") == 1
    assert world.counted() == 10 * world.control.looks


def test_a_hub_that_answers_the_long_poll_with_what_is_known_is_no_busy_loop():
    async def story(world: World) -> None:
        world.hub.wish = Desired(version=1, document={"schema": "nearhall/desired/v1"})
        world.hub.forgetful = True
        await asyncio.sleep(100.0)
        assert sum(call.startswith("GET") for call in world.hub.calls) <= 100 / COMPLAINT_S + 2

    play(story, joined=True)


def test_what_the_hub_wants_is_done_reported_and_taken_anew_from_a_hub_with_a_new_store():
    async def story(world: World) -> None:
        await windows(1.5)
        world.hub.wish = Desired(version=7, document={"schema": "nearhall/desired/v1", "models": {"faces": "unloaded"}})
        await asyncio.sleep(60)
        assert world.control.loaded == {"faces": "unloaded"}
        assert world.hub.reported[-1].document["desired_version"] == 7
        assert world.hub.reported[-1].document["models"] == {"faces": "unloaded"}
        world.hub.wish = Desired(version=1, document={"schema": "nearhall/desired/v1", "models": {"faces": "loaded"}})
        await asyncio.sleep(90)
        assert world.control.loaded == {"faces": "ready"}
        assert world.hub.reported[-1].document["desired_version"] == 1

    world = play(story, joined=True)
    sequences = [report.sequence for report in world.hub.reported]
    assert sequences == list(range(1, len(sequences) + 1)), "one a change, none repeated"


def test_what_the_hub_wanted_holds_for_a_new_gateway_without_a_link():
    async def story(world: World) -> None:
        await windows(1.5)
        world.hub.wish = Desired(version=7, document={"schema": "nearhall/desired/v1", "models": {"faces": "unloaded"}})
        await asyncio.sleep(60)
        assert world.control.loaded == {"faces": "unloaded"}
        world.hub.away = True
        world.control.gateway_id, world.control.loaded = "another", {"faces": "ready"}
        await windows(2)
        assert world.control.loaded == {"faces": "unloaded"}

    play(story, joined=True)


@pytest.mark.parametrize("kept", [None, b"", b"[]", b'{"schema": "nearhall/other/v1"}'])
def test_a_desired_document_that_cannot_be_recalled_is_none(kept: bytes | None):
    assert recalled_desired(kept) is None
    assert recalled_desired(b'{"models": {"faces": "unloaded"}}') is not None


def test_what_cannot_be_done_is_reported_in_words():
    async def story(world: World) -> None:
        await windows(1.5)
        world.control.refuses = PermanentError("there is no such model")
        world.hub.wish = Desired(version=1, document={"schema": "nearhall/desired/v1", "models": {"ghost": "loaded"}})
        await asyncio.sleep(60)
        assert world.hub.reported[-1].document["problems"] == ["ghost could not be loaded: there is no such model"]

    world = play(story, joined=True)
    assert world.kinds().count("desired_refused") == 1
