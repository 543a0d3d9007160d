"""A lane serves the most urgent first, spares work for clients that have gone, and survives whatever its runtime does."""

from __future__ import annotations

import asyncio
import struct

import pytest

from gateway.plane_rig import Doubler, rig
from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import Tensor
from nearhall.drivers.clock import SystemClock
from nearhall.gateway.exchange import ClientGoneError
from nearhall.gateway.queues.lanes import BRIEF_RUNS, Job, Lane, RuntimeBrokenError
from nearhall.policy.admit import Estimate, ServiceTimes, size_class
from waiting import until_async

CLOCK = SystemClock()


def tensor(value=1.0):
    return Tensor("x", "FP32", (1, 4), memoryview(struct.pack("<4f", *[value] * 4)))


def job(value=1.0, *, gone=lambda: False, **more):
    return Job(inputs=[tensor(value)], outputs=[], gone=gone, arrived_s=CLOCK.monotonic(), **more)


class Noting(Doubler):
    """Notes the order in which it was asked."""

    def __init__(self):
        super().__init__()
        self.order = []

    def run(self, inputs, outputs):
        self.go.wait(10)
        self.order.append(inputs[0].data.cast("f")[0])
        return super().run(inputs, outputs)


def with_lane(story):
    async def tell():
        runtime = Noting()
        broken = []
        lane = Lane(runtime, sample=[tensor()], first=Estimate(1.0), limit=8, clock=CLOCK, broken=broken.append, name="t")
        try:
            await story(lane, runtime, broken)
        finally:
            runtime.go.set()
            await asyncio.to_thread(lane.close)

    asyncio.run(tell())


def test_rank_first_then_the_earliest_deadline_then_arrival():
    async def story(lane, runtime, _):
        runtime.go.clear()
        first = lane.submit(job(0))
        await until_async(lambda: lane.running)
        waiting = [
            lane.submit(job(5)),
            lane.submit(job(4, priority=-1)),
            lane.submit(job(3, due_s=CLOCK.monotonic() + 60)),
            lane.submit(job(2, due_s=CLOCK.monotonic() + 30)),
            lane.submit(job(6)),
        ]
        assert lane.waiting == 5
        assert lane.expected_ms(float("inf"), 0, 16) >= 6.0
        assert lane.expected_ms(CLOCK.monotonic(), -1, 16) < 3.0
        runtime.go.set()
        await asyncio.gather(first, *waiting)
        assert runtime.order == [0, 4, 2, 3, 5, 6]

    with_lane(story)


def test_work_of_clients_that_have_gone_is_dropped():
    async def story(lane, runtime, _):
        runtime.go.clear()
        running = lane.submit(job(0))
        await until_async(lambda: lane.running)
        left = lane.submit(job(1, gone=lambda: True))
        stayed = lane.submit(job(2))
        runtime.go.set()
        await asyncio.gather(running, stayed)
        with pytest.raises(ClientGoneError):
            await left
        assert runtime.order == [0, 2]

    with_lane(story)


def test_a_fault_of_the_runtime_is_told_once_and_a_fault_of_the_input_is_not():
    async def story(lane, runtime, broken):
        with pytest.raises(Exception, match="cannot compute with these values"):
            await lane.submit(job(666))
        assert broken == []
        runtime.broken = True
        with pytest.raises(RuntimeBrokenError):
            await lane.submit(job(1))
        await until_async(lambda: broken == ["the session is gone"])

    with_lane(story)


def test_a_fault_of_ours_is_told_and_the_worker_stays(caplog):
    def astray():
        raise ZeroDivisionError

    async def story(lane, _runtime, broken):
        with pytest.raises(Refusal) as told:
            await lane.submit(job(1, gone=astray))
        assert told.value.reason is Reason.RUNTIME_FAILED
        assert (await lane.submit(job(3))).outputs[0].data.cast("f")[0] == 6
        assert not lane.busy
        assert broken == []

    with_lane(story)
    assert "ZeroDivisionError" in caplog.text


def test_closing_fails_what_waits_and_takes_nothing_more():
    async def story(lane, runtime, _):
        runtime.go.clear()
        running = lane.submit(job(0))
        await until_async(lambda: lane.running)
        waiting = lane.submit(job(1))
        closing = asyncio.create_task(asyncio.to_thread(lane.close))
        with pytest.raises(RuntimeBrokenError):
            await waiting
        runtime.go.set()
        await closing
        assert (await running).service_ms > 0
        assert runtime.closed
        with pytest.raises(RuntimeBrokenError):
            await lane.submit(job(2))

    with_lane(story)


def test_times_add_up_and_the_estimate_follows():
    async def story(lane, runtime, _):
        done = await lane.submit(job(1))
        assert done.queue_ms >= 0
        assert done.service_ms > 0
        assert done.cpu_ms >= 0
        assert lane.estimate != Estimate(1.0)
        assert runtime.order == [1]

    with_lane(story)


def test_what_takes_next_to_nothing_runs_at_once():
    async def story(lane, runtime, broken):
        one = job(1, input_bytes=16)
        assert not lane.quick(one, alone=False)
        for _ in range(BRIEF_RUNS):
            await lane.submit(job(1, input_bytes=16))
        lane.times = ServiceTimes(Estimate(0.01), {size_class(16): Estimate(0.01)})
        lane._brief_runs = BRIEF_RUNS
        assert lane.quick(one, alone=False)
        assert lane.run_at_once(one).queue_ms >= 0
        lane.times = ServiceTimes(Estimate(1.0), {size_class(16): Estimate(1.0)})
        assert lane.quick(one, alone=True)
        assert not lane.quick(one, alone=False)
        lane.times = ServiceTimes(Estimate(9.0), {size_class(16): Estimate(9.0)})
        assert not lane.quick(one, alone=True)
        lane.times = ServiceTimes(Estimate(0.01), {size_class(16): Estimate(0.01)})
        assert not lane.quick(job(1, input_bytes=1 << 20), alone=True)
        with pytest.raises(ClientGoneError):
            lane.run_at_once(job(1, gone=lambda: True))
        runtime.go.clear()
        running = lane.submit(job(0))
        await until_async(lambda: lane.running)
        assert not lane.quick(one, alone=False)
        assert lane.backlog_ms() >= 0
        runtime.go.set()
        await running

    with_lane(story)


class Clock(SystemClock):
    """A monotonic clock that a test moves."""

    def __init__(self):
        self.ahead_s = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead_s


def test_what_the_reckoning_missed_is_learnt_within_bounds_and_forgotten():
    async def story():
        clock = Clock()
        lane = Lane(Noting(), sample=[tensor()], first=Estimate(1.0), limit=8, clock=clock, broken=lambda _: None, name="t")
        try:
            assert lane.missed_ms() == 0.0
            lane.missed_by(-5.0)
            assert lane.missed_ms() == 0.0
            for _ in range(100):
                lane.missed_by(4.0)
            assert lane.missed_ms() == pytest.approx(4.0, rel=0.01)
            clock.ahead_s = 10.0
            assert lane.missed_ms() < 0.01
            lane.missed_by(1e9)
            assert lane.missed_ms() <= 10.1
        finally:
            await asyncio.to_thread(lane.close)

    asyncio.run(story())


def test_requests_that_may_wait_are_refused_while_answers_come_later_than_foreseen(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            assert (await site.infer("double", [1, 2, 3, 4], {"x-nearhall-deadline-ms": "20"})).status == 200
            lane = site.composed.plane.models.find("double").front.queue
            for _ in range(100):
                lane.missed_by(50.0)
            late = {"x-nearhall-deadline-ms": "20"}
            assert (await site.infer("double", [1, 2, 3, 4], late)).status == 503
            assert (await site.infer("double", [1, 2, 3, 4], {**late, "x-nearhall-priority": "0"})).status == 200
            assert (await site.infer("double", [1, 2, 3, 4], {"x-nearhall-deadline-ms": "2000"})).status == 200

    asyncio.run(tell())


def test_others_give_way_while_the_first_rank_is_strained(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            usual, first = {"x-nearhall-deadline-ms": "100"}, {"x-nearhall-deadline-ms": "100", "x-nearhall-priority": "0"}
            lane = site.composed.plane.models.find("double").front.queue
            assert (await site.infer("double", [1, 2, 3, 4], usual)).status == 200
            assert (await site.infer("double", [1, 2, 3, 4], first)).status == 200
            assert lane.strain() < 0.25
            for _ in range(100):
                lane.strained(9.0)
            assert 1.0 < lane.strain() <= 1.5
            assert (await site.infer("double", [1, 2, 3, 4], usual)).status == 503
            assert (await site.infer("double", [1, 2, 3, 4])).status == 200
            assert (await site.infer("double", [1, 2, 3, 4], first)).status == 200

    asyncio.run(tell())


def test_a_refusal_of_the_first_rank_strains_it(tmp_path):
    async def tell():
        async with rig(tmp_path, models=["double"]) as site:
            lane = site.composed.plane.models.find("double").front.queue
            lane.times = ServiceTimes(Estimate(500.0))
            hurried = {"x-nearhall-deadline-ms": "20"}
            assert (await site.infer("double", [1, 2, 3, 4], hurried)).status == 503
            assert lane.strain() == 0.0
            assert (await site.infer("double", [1, 2, 3, 4], {**hurried, "x-nearhall-priority": "0"})).status == 503
            assert lane.strain() > 0.1

    asyncio.run(tell())
