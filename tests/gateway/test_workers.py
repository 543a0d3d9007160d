"""Of several threads one is spare: it computes in what others leave, and somebody else does its work where that is too little."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from gateway.plane_rig import Doubler, rig
from gateway.test_lanes import job, tensor
from nearhall.gateway.exchange import Expired
from nearhall.gateway.queues.lanes import Lane
from nearhall.policy.admit import Estimate
from nearhall.policy.cores import GIVING_WAY_MS_MAX
from waiting import until_async

TOO_LONG_S = 1.0
"""For a run of a millisecond."""
pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the system has no SCHED_IDLE")


def gives_way() -> bool:
    return os.sched_getscheduler(threading.get_native_id()) == os.SCHED_IDLE


class TwoWays(Doubler):
    """Held separately in threads that give way and in others; notes what it was asked by whom."""

    def __init__(self):
        super().__init__()
        self.let = {True: threading.Event(), False: threading.Event()}
        self.asked = {True: [], False: []}

    def run(self, inputs, outputs):
        self.asked[gives_way()].append(inputs[0].data.cast("f")[0])
        assert self.let[gives_way()].wait(10)
        return super().run(inputs, outputs)


class Crowded:
    crowded = False


class ByHand:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s

    def utc(self):
        return self.now_s


def with_lane(story, *, first_ms=1.0, sample=9.0, spare=lambda: True, workers=2):
    async def tell():
        runtime, loop, clock = TwoWays(), Crowded(), ByHand()
        lane = Lane(
            runtime,
            sample=None if sample is None else [tensor(sample)],
            first=Estimate(first_ms),
            limit=8,
            clock=clock,
            broken=lambda _: None,
            name="t",
            workers_max=workers,
            loop=loop,
            spare=spare,
        )
        try:
            async with asyncio.timeout(20):
                await story(lane, runtime, clock, loop)
        finally:
            for let in runtime.let.values():
                let.set()
            await asyncio.to_thread(lane.close)

    asyncio.run(tell())


async def both_at_work(lane, runtime):
    """One run in either thread."""
    first = lane.submit(job(1))
    await until_async(lambda: runtime.asked[False])
    second = lane.submit(job(2))
    await until_async(lambda: runtime.asked[True])
    return first, second


async def stuck(lane, runtime, clock):
    """The spare thread's run does not come to its end, and the other thread has made it again."""
    first, second = await both_at_work(lane, runtime)
    runtime.let[False].set()
    await first
    clock.now_s += TOO_LONG_S
    assert (await second).outputs[0].data.cast("f")[0] == 4
    assert runtime.asked == {True: [2], False: [1, 2]}


def test_the_first_thread_is_an_ordinary_one_and_the_last_gives_way():
    async def story(lane, runtime, clock, _):
        first, second = await both_at_work(lane, runtime)
        assert lane.running == 2
        third = lane.submit(job(3))
        for let in runtime.let.values():
            let.set()
        await asyncio.gather(first, second, third)
        assert {*runtime.asked[False], *runtime.asked[True]} == {1, 2, 3}

    with_lane(story)


@pytest.mark.parametrize(
    "how",
    [
        {"first_ms": GIVING_WAY_MS_MAX * 1.1},
        {"spare": lambda: False},
    ],
    ids=["it takes long", "something else takes what is left"],
)
def test_where_it_would_wait_long_all_are_ordinary(how):
    async def story(lane, runtime, clock, _):
        both = [lane.submit(job(1)), lane.submit(job(2))]
        await until_async(lambda: len(runtime.asked[False]) == 2)
        runtime.let[False].set()
        await asyncio.gather(*both)
        assert runtime.asked[True] == []

    with_lane(story, **how)


def test_while_the_loop_is_crowded_one_run_goes_on_and_an_ordinary_thread_makes_it():
    async def story(lane, runtime, _, loop):
        first, second = await both_at_work(lane, runtime)
        loop.crowded = True
        third = lane.submit(job(3))
        runtime.let[True].set()
        await second
        assert lane.waiting == 1
        runtime.let[False].set()
        await asyncio.gather(first, third)
        assert runtime.asked == {True: [2], False: [1, 3]}

    with_lane(story)


def test_a_run_that_gets_no_core_is_made_again_and_told_once():
    async def story(lane, runtime, clock, _):
        told = []
        first = lane.submit(job(1))
        await until_async(lambda: runtime.asked[False])
        lane.hand(job(2), told.append)
        await until_async(lambda: runtime.asked[True])
        runtime.let[False].set()
        await first
        clock.now_s += TOO_LONG_S
        await until_async(lambda: told)
        runtime.let[True].set()
        await until_async(lambda: not lane.running)
        await lane.submit(job(3))
        assert [outcome.outputs[0].data.cast("f")[0] for outcome in told] == [4]
        assert lane.times.longest_ms <= 1.0, "what it took says nothing of others"
        assert runtime.asked == {True: [2], False: [1, 2, 3]}

    with_lane(story)


def test_while_a_run_gets_no_core_others_are_made_by_ordinary_threads():
    async def story(lane, runtime, clock, _):
        await stuck(lane, runtime, clock)
        runtime.let[False].clear()
        both = [lane.submit(job(3)), lane.submit(job(4))]
        await until_async(lambda: len(runtime.asked[False]) == 4)
        runtime.let[False].set()
        await asyncio.gather(*both)
        assert runtime.asked[True] == [2]

    with_lane(story)


def test_a_run_that_is_too_late_for_its_deadline_is_not_made_again():
    async def story(lane, runtime, clock, _):
        first = lane.submit(job(1))
        await until_async(lambda: runtime.asked[False])
        second = lane.submit(job(2, deadline_s=clock.now_s + TOO_LONG_S / 2))
        await until_async(lambda: runtime.asked[True])
        clock.now_s += TOO_LONG_S
        runtime.let[False].set()
        await first
        with pytest.raises(Expired):
            await second
        assert runtime.asked == {True: [2], False: [1]}

    with_lane(story)


@pytest.mark.parametrize("sample", [9.0, None])
def test_once_it_got_no_core_it_is_tried_later_and_on_the_sample(sample):
    async def story(lane, runtime, clock, _):
        await stuck(lane, runtime, clock)
        runtime.let[True].set()
        await until_async(lambda: not lane.running)
        runtime.let[False].clear()
        held = [lane.submit(job(value)) for value in (3, 4)]
        await until_async(lambda: len(runtime.asked[False]) == 4)
        assert runtime.asked[True] == [2]
        runtime.let[False].set()
        await asyncio.gather(*held)
        await until_async(lambda: not lane.running)
        clock.now_s += 60
        runtime.let[False].clear()
        held = [lane.submit(job(value)) for value in (5, 6)]
        await until_async(lambda: runtime.asked[True][1:])
        runtime.let[False].set()
        await asyncio.gather(*held)
        assert runtime.asked[True][1] in ({5, 6} if sample is None else {sample})

    with_lane(story, sample=sample)


def test_a_stateful_models_run_is_never_made_again(tmp_path):
    async def tell(*, stateful):
        async with rig(tmp_path / str(stateful), models=["m"], stateful=stateful) as site:
            lane = site.composed.plane.models.find("m").default.served.lane
            return lane._workers._with_spare()

    assert not asyncio.run(tell(stateful=True))
    assert asyncio.run(tell(stateful=False))
