"""Joules by model in `/metrics`: from what an agent tells, else from the machine's own counters, and never from both."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.plane_rig import rig
from gateway.test_control import ask
from nearhall.cli.roots.energy_counters import open_counters
from nearhall.core.errors import Refusal, TemporaryError
from nearhall.drivers.clock import ManualClock
from nearhall.gateway.http.control import Control
from nearhall.gateway.metering.energy import TOLD_S_MAX, EnergyBook, Joules, Labels, read_told
from nearhall.gateway.metering.stats import Answered, Stats
from nearhall.wire.energy import EnergyTold
from nearhall.wire.telemetry import OTHER, ModelState


class Desk:
    """A book, with a clock and processes that tests turn."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cpu_s = self.children_s = 0.0
        self.states: list[ModelState] = []
        self.stats = Stats(gateway_id="g", pid=1, clock=self.clock, cpu_s=lambda: self.cpu_s)
        self.book = EnergyBook(
            self.stats,
            models_of={"cams": "faces", "door": "faces", "talk": "chat"},
            states=lambda: self.states,
            cpu_s=lambda: self.cpu_s,
            children_cpu_s=lambda: self.children_s,
            clock=self.clock,
        )

    def work(self, workload: str, *, n: int = 1, busy_s: float = 0.1, cpu_s: float | None = None, batch: int = 1) -> None:
        """`n` answers, and the CPU time that they took of the gateway."""
        cpu = busy_s if cpu_s is None else cpu_s
        for _ in range(n):
            answer = Answered(path="local", latency_ms=1.0, queue_ms=0.0, service_ms=busy_s * 1e3, cpu_ms=cpu * 1e3, batch=batch)
            self.stats.answered(workload, answer)
            self.cpu_s += cpu

    def told(self, **more: float | str) -> None:
        self.book.told(EnergyTold(**({"seconds": 2.0, "it_j": 120.0, "it_kind": "simulated", "idle_w": 50.0} | more)))  # type: ignore[arg-type]

    def joules(self, model: str, share: str = "marginal") -> float | None:
        found = [sum_.joules for labels, sum_ in self.book.sums.items() if (labels.model, labels.share) == (model, share)]
        return sum(found) if found else None


def test_what_is_above_idle_goes_to_models_by_cpu_time_and_adds_up():
    desk = Desk()
    desk.told()  # the first window only sets the mark
    assert desk.book.sums == {}
    desk.work("cams", n=2)
    desk.work("door", n=1)
    desk.work("model:other", n=1)
    desk.told(site_j=300.0, site_kind="simulated", idle_kind="vendor")
    assert desk.joules("faces") == pytest.approx(15.0)
    assert desk.joules("other") == pytest.approx(5.0)
    assert desk.joules("faces", "full") == pytest.approx(225.0)
    assert desk.book.sums[Labels("faces", "marginal", "assumed", "meter")] == Joules(pytest.approx(15.0), 3)
    assert desk.book.sums[Labels("faces", "full", "simulated", "meter")] == Joules(pytest.approx(225.0), 3)


def test_one_model_alone_needs_no_assumption():
    desk = Desk()
    desk.told()
    desk.work("cams")
    desk.told(idle_kind="vendor")
    assert list(desk.book.sums) == [Labels("faces", "marginal", "simulated", "meter")]


def test_what_cannot_be_told_is_absent_and_never_nought():
    desk = Desk()
    desk.told()
    desk.work("cams")
    desk.book.told(EnergyTold(seconds=2.0, site_j=300.0))
    assert (desk.joules("faces"), desk.joules("faces", "full")) == (None, 300.0)


def test_a_model_that_did_nothing_is_not_in_the_list():
    desk = Desk()
    desk.work("talk")
    desk.told()
    desk.work("cams")
    desk.told()
    assert {labels.model for labels in desk.book.sums} == {"faces"}


def test_a_process_of_its_own_counts_for_the_model_that_runs_in_it():
    desk = Desk()
    desk.told()
    desk.work("cams", busy_s=1.0)
    desk.work("talk", busy_s=5.0, cpu_s=0.0)
    desk.cpu_s += 3.0
    desk.children_s += 3.0
    desk.told()
    assert desk.joules("chat") == pytest.approx(15.0)
    assert desk.joules("faces") == pytest.approx(5.0)


def test_requests_that_ran_together_share_the_time_of_their_run():
    desk = Desk()
    desk.states = [ModelState(name="faces", version="1", variant="v", runtime="onnxruntime", state="ready", device="cuda:0")]
    desk.told()
    desk.work("cams", n=4, busy_s=0.4, cpu_s=0.0, batch=4)
    desk.work("model:else", busy_s=0.4)
    desk.told()
    assert desk.joules("faces") == pytest.approx(desk.joules("else"))


def test_requests_of_models_that_nobody_names_are_together():
    desk = Desk()
    desk.told()
    desk.work(OTHER)
    desk.told()
    assert desk.joules("(other)") == pytest.approx(20.0)


def test_without_an_agent_the_machines_own_counters_tell_what_is_above_a_quiet_window():
    desk = Desk()
    desk.book.counted({"rapl": 50.0}, 5.0)
    desk.book.counted({"rapl": 50.0}, 5.0)  # nothing ran: 10 W is idle
    desk.work("cams", busy_s=1.0)
    desk.book.counted({"rapl": 80.0}, 5.0)
    assert desk.book.sums == {Labels("faces", "marginal", "assumed", "rapl"): Joules(pytest.approx(30.0), 1)}
    assert desk.book.counters_j == {"rapl": 180.0}


def test_until_there_was_a_quiet_window_the_idle_power_cannot_be_told():
    desk = Desk()
    desk.book.counted({"rapl": 50.0}, 5.0)
    desk.work("cams", busy_s=1.0)
    desk.book.counted({"rapl": 80.0}, 5.0)
    assert desk.book.sums == {}


def test_an_accelerators_counter_is_shared_by_the_models_on_it():
    desk = Desk()
    desk.states = [ModelState(name="faces", version="1", variant="v", runtime="onnxruntime", state="ready", device="cuda:0")]
    desk.book.counted({"nvml": 300.0}, 5.0)
    desk.book.counted({"nvml": 300.0}, 5.0)
    desk.work("cams", busy_s=1.0)
    desk.work("talk", busy_s=1.0)
    desk.book.counted({"nvml": 500.0}, 5.0)
    assert desk.joules("faces") == pytest.approx(200.0)
    assert desk.joules("chat") == 0.0


def test_counters_are_not_used_while_an_agent_tells_and_are_when_it_is_away():
    desk = Desk()
    desk.told()
    desk.work("cams")
    desk.book.counted({"rapl": 50.0}, 5.0)
    desk.told()
    assert desk.joules("faces") == pytest.approx(20.0)
    desk.clock.pass_by(TOLD_S_MAX + 1)
    desk.work("cams")  # between the agent's last window and the counters' first: of neither
    desk.book.counted({"rapl": 50.0}, 5.0)
    desk.book.counted({"rapl": 50.0}, 5.0)
    desk.work("cams", busy_s=1.0)
    desk.book.counted({"rapl": 57.0}, 5.0)
    assert desk.joules("faces") == pytest.approx(27.0)
    assert {labels.source for labels in desk.book.sums} == {"meter", "rapl"}


class Counter:
    source = "rapl"

    def __init__(self) -> None:
        self.reads = 0
        self.closed = False

    def joules(self) -> float:
        self.reads += 1
        if self.reads == 2:
            raise TemporaryError("not now")
        return 10.0 * self.reads

    def close(self) -> None:
        self.closed = True


def test_counters_are_read_again_and_again_and_one_that_fails_once_is_forgiven():
    desk, counter = Desk(), Counter()

    async def tell() -> None:
        task = asyncio.create_task(desk.book.count([counter], every_s=0.0))
        async with asyncio.timeout(5):
            while counter.reads < 4:  # noqa: ASYNC110 (the counter is read in a thread)
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(tell())
    assert desk.book.counters_j["rapl"] >= 20.0


def test_this_machines_counters_can_be_read_or_are_left_out():
    counters = open_counters()
    assert all(counter.joules() >= 0 for counter in counters)
    for counter in counters:
        counter.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no window of meters"),
        (b"[]", "no window of meters"),
        (b'{"seconds": "two"}', "no window of meters"),
        (b'{"seconds": 0}', "seconds is 0; right would be more than 0"),
        (b'{"seconds": 1e9}', "at most 3600"),
        (b'{"seconds": 2, "it_j": -1}', "it_j is -1; right would be 0 to"),
        (b'{"seconds": 2, "site_j": 1e12}', "site_j is 1e"),
        (b'{"seconds": 2, "it_w": -5}', "it_w is -5"),
        (b'{"seconds": 2, "site_w": 1e12}', "site_w is 1e"),
        (b'{"seconds": 2, "it_kind": "guessed"}', "it_kind is 'guessed'; known: assumed, measured"),
    ],
)
def test_a_window_that_cannot_be_is_refused_in_words(body: bytes, says: str):
    with pytest.raises(Refusal, match=says):
        read_told(body)


def test_a_window_that_can_be_is_read():
    sent = EnergyTold(seconds=2.0, it_j=100.0, it_kind="measured", idle_w=40.0, site_j=150.0, site_kind="measured")
    assert read_told(msgspec.json.encode(sent)) == sent


def test_the_agent_tells_over_the_control_socket_and_the_page_shows_it(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"], control_socket=str(tmp_path / "ctl")) as site:
            control = Control(site.composed.plane, stop=lambda: None)
            window = msgspec.json.encode(
                EnergyTold(seconds=2.0, it_j=120.0, it_kind="simulated", idle_w=50.0, idle_kind="vendor")
            )
            assert (await ask(control, "POST", "/control/energy", window)).status == 200
            await site.infer("double", [1, 2, 3, 4])
            assert (await ask(control, "POST", "/control/energy", window)).status == 200
            assert (await ask(control, "POST", "/control/energy", b"{}")).status == 400
            page = (await site.ask("GET", "/metrics")).body.decode()
            found = {family.name: family for family in text_string_to_metric_families(page)}
            (sample,) = [s for s in found["nearhall_energy_joules"].samples if s.name.endswith("_total")]
            assert sample.labels == {"model": "double", "share": "marginal", "kind": "simulated", "source": "meter"}
            assert sample.value == pytest.approx(20.0)
            assert [s.value for s in found["nearhall_energy_joules_per_request"].samples] == [pytest.approx(20.0)]

    asyncio.run(tell())
