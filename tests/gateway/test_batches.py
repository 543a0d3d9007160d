"""Requests that run together get what each would have got alone."""

from __future__ import annotations

import asyncio
import struct

import pytest

from gateway.plane_rig import Doubler
from nearhall.core.errors import PermanentError
from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.drivers.clock import SystemClock
from nearhall.gateway.batches import joined, key_of, parted, takes_batches
from nearhall.gateway.lanes import Job, Lane
from nearhall.policy.admit import Estimate
from waiting import until_async

CLOCK = SystemClock()


def tensor(*values, name="x", columns=4):
    return Tensor(name, "FP32", (len(values) // columns, columns), memoryview(struct.pack(f"<{len(values)}f", *values)))


def numbers(found):
    return list(struct.unpack(f"<{found.count}f", found.data))


def test_only_a_free_first_dimension_everywhere_is_a_batch():
    free, fixed = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("x", "FP32", (1, 4))
    assert takes_batches([free], [free])
    assert not takes_batches([free], [fixed])
    assert not takes_batches([free, TensorSpec("s", "FP32", ())], [free])
    assert not takes_batches([TensorSpec("x", "BYTES", (-1, 1))], [free])
    assert not takes_batches([], [free])


def test_only_alike_requests_share_a_key():
    one = [tensor(1, 2, 3, 4)]
    assert key_of(one, []) == key_of([tensor(*range(8))], [])
    assert key_of(one, []) != key_of(one, ["y"])
    assert key_of(one, []) != key_of([tensor(1, 2, 3, 4, columns=2)], [])
    assert key_of([tensor(1, 2, 3, 4), tensor(*range(8), name="z")], []) is None


def test_what_is_joined_comes_apart_again():
    first, second = [tensor(1, 2, 3, 4)], [tensor(*range(8))]
    whole = joined([first, second])
    assert whole[0].shape == (3, 4)
    parts = parted(whole, [1, 2])
    assert parts is not None
    assert [numbers(part[0]) for part in parts] == [[1, 2, 3, 4], list(range(8))]
    assert parted([tensor(1, 2, 3, 4)], [1, 2]) is None


class Counting(Doubler):
    """Notes the batch of each run."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.mixes = False

    def run(self, inputs, outputs):
        self.batches.append(inputs[0].shape[0])
        found = super().run(inputs, outputs)
        if self.mixes and inputs[0].shape[0] > 1:
            return [tensor(0, 0, 0, 0, name="y")]
        return found


def job(value, rows=1, **more):
    data = tensor(*[value] * 4 * rows)
    return Job(inputs=[data], outputs=[], gone=lambda: False, arrived_s=CLOCK.monotonic(), input_bytes=16 * rows, **more)


async def behind_a_held_run(lane, runtime, jobs):
    """Queues the jobs while a run is in progress, so that all of them wait when it ends."""
    runtime.go.clear()
    running = lane.submit(job(0))
    await until_async(lambda: runtime.batches[-1:] == [1] and lane.running)
    waiting = [lane.submit(one) for one in jobs]
    runtime.go.set()
    await running
    return await asyncio.gather(*waiting, return_exceptions=True)


def with_lane(story, rows_max=4):
    async def tell():
        runtime = Counting()
        lane = Lane(
            runtime,
            sample=[tensor(1, 1, 1, 1)],
            first=Estimate(0.5),
            limit=64,
            clock=CLOCK,
            broken=lambda _: None,
            name="t",
            batch_rows_max=rows_max,
        )
        try:
            await story(lane, runtime)
        finally:
            runtime.go.set()
            await asyncio.to_thread(lane.close)

    asyncio.run(tell())


def test_the_waiting_run_together_and_each_gets_its_own():
    async def story(lane, runtime):
        found = await behind_a_held_run(lane, runtime, [job(v) for v in range(1, 7)])
        assert [numbers(done.outputs[0])[0] for done in found] == [2, 4, 6, 8, 10, 12]
        assert runtime.batches == [1, 4, 2]
        assert [done.batch for done in found] == [4] * 4 + [2] * 2
        assert lane.waiting == 0

    with_lane(story)


def test_without_a_curve_that_says_so_each_runs_alone():
    async def story(lane, runtime):
        found = await behind_a_held_run(lane, runtime, [job(v) for v in range(1, 4)])
        assert [numbers(done.outputs[0])[0] for done in found] == [2, 4, 6]
        assert runtime.batches == [1, 1, 1, 1]

    with_lane(story, rows_max=1)


def test_one_that_spoils_the_batch_is_refused_alone():
    async def story(lane, runtime):
        found = await behind_a_held_run(lane, runtime, [job(1), job(666), job(3)])
        assert numbers(found[0].outputs[0])[0] == 2
        with pytest.raises(Exception, match="cannot compute with these values"):
            raise found[1]
        assert numbers(found[2].outputs[0])[0] == 6

    with_lane(story)


def test_a_model_that_mixes_its_batch_is_not_batched_again():
    async def story(lane, runtime):
        runtime.mixes = True
        found = await behind_a_held_run(lane, runtime, [job(1), job(2)])
        assert [numbers(done.outputs[0])[0] for done in found] == [2, 4]
        assert lane.batch_rows_max == 1

    with_lane(story)


def test_a_batch_with_departed_and_late_clients_runs_for_the_rest():
    async def story(lane, runtime):
        gone = job(2)
        gone.gone = lambda: True
        late = job(3, deadline_s=CLOCK.monotonic() - 1)
        found = await behind_a_held_run(lane, runtime, [job(1), gone, late, job(4)])
        assert [type(one).__name__ for one in found] == ["Done", "ClientGoneError", "Expired", "Done"]

    with_lane(story)


def test_a_broken_runtime_is_told_to_all():
    async def story(lane, runtime):
        runtime.go.clear()
        running = lane.submit(job(0))
        await until_async(lambda: lane.running)
        waiting = [lane.submit(job(1)), lane.submit(job(2))]
        runtime.broken = True
        runtime.go.set()
        found = await asyncio.gather(running, *waiting, return_exceptions=True)
        assert {type(one).__name__ for one in found} == {"RuntimeBrokenError"}
        with pytest.raises(PermanentError):
            runtime.run([tensor(1, 1, 1, 1)], [])

    with_lane(story)
