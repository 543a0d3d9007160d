"""Requests that run together get what each would have got alone."""

from __future__ import annotations

import asyncio
import struct
import threading

import pytest

from gateway.plane_rig import Doubler
from gateway.small_models import text_model, word_tokenizer
from nearhall.cli.roots.gateway import open_runtime
from nearhall.core.errors import PermanentError
from nearhall.core.tensor import Tensor, TensorSpec
from nearhall.drivers.clock import ManualClock, SystemClock
from nearhall.gateway.models.opening import Cores, opened
from nearhall.gateway.queues.batches import joined, key_of, parted, takes_batches
from nearhall.gateway.queues.lanes import Job, Lane
from nearhall.policy.admit import Estimate
from nearhall.policy.batching import Shapes
from nearhall.ports.runtime import ModelFile
from nearhall.wire.oip_tensors import pack_rows
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
    assert takes_batches([TensorSpec("x", "BYTES", (-1,))], [free])
    assert not takes_batches([free], [TensorSpec("x", "BYTES", (-1,))])
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


def texts(*rows):
    return Tensor("text", "BYTES", (len(rows),), memoryview(pack_rows(rows)), rows)


def test_texts_share_a_run_where_they_are_short_and_about_as_long():
    short, longer, long = texts(b"fan failed"), texts(b"x" * 100), texts(b"x" * 200)
    assert key_of([short], []) == key_of([texts(b"x" * 63, b"")], []) is not None
    assert key_of([short], []) != key_of([longer], [])
    assert key_of([longer], []) == key_of([texts(b"fan", b"x" * 127)], []) != key_of([long], [])
    assert key_of([texts(b"x" * 256)], []) is None
    assert key_of([texts()], []) is None, "what is empty cannot be taken apart"
    (whole,) = joined([[short], [texts(b"fine", b"")]])
    assert (whole.shape, whole.rows) == ((3,), (b"fan failed", b"fine", b""))
    assert bytes(whole.data) == pack_rows(whole.rows)


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


def with_lane(story, rows_max=4, shapes=None):
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
            shapes=shapes,
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


DEAR = Shapes(run_ms={1: 1.0, 2: 1.1, 4: 1.2}, change_ms=50.0)


def test_where_a_change_of_shape_is_dear_runs_are_padded_to_the_shape_they_had():
    async def story(lane, runtime):
        found = await behind_a_held_run(lane, runtime, [job(v) for v in range(1, 4)])
        found += [await lane.submit(job(5)), await lane.submit(job(6, rows=2))]
        assert [numbers(done.outputs[0])[0] for done in found] == [2, 4, 6, 10, 12]
        assert [done.outputs[0].shape for done in found] == [(1, 4)] * 4 + [(2, 4)]
        assert runtime.batches == [1, 4, 4, 4]

    with_lane(story, shapes=DEAR)


def test_a_model_that_mixes_its_batch_is_not_padded_again():
    async def story(lane, runtime):
        await behind_a_held_run(lane, runtime, [job(v) for v in range(1, 4)])
        runtime.mixes = True
        assert numbers((await lane.submit(job(5))).outputs[0])[0] == 10
        assert runtime.batches == [1, 4, 4, 1]
        assert lane.batch_rows_max == 1

    with_lane(story, shapes=DEAR)


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


class Held:
    """A text model that waits until it is let go, and notes how many texts were in each run."""

    def __init__(self, model):
        self.model, self.inputs, self.outputs = model, model.inputs, model.outputs
        self.go = threading.Event()
        self.batches = []

    def run(self, inputs, outputs):
        self.go.wait(10)
        self.batches.append(len(inputs[0].rows))
        return self.model.run(inputs, outputs)

    def close(self):
        self.model.close()


def test_requests_for_embeddings_that_wait_share_a_run_and_get_what_each_would_have_got_alone(tmp_path):
    text_model(tmp_path / "m.onnx", 6)
    word_tokenizer(tmp_path / "tokenizer.json", ("fan", "failed", "fine"))
    options = {"tokenizer": "tokenizer.json"}
    file = ModelFile(model="m", version="1", variant="c", runtime="onnxruntime", path=str(tmp_path / "m.onnx"), options=options)
    asked = [(b"fan",), (b"fan failed fine fan", b"fine"), (b"",), (b"fan " * 16,), (b"failed",), (b"fan " * 80,)]
    runtime = Held(open_runtime(file))
    runtime.go.set()
    alone = [runtime.run([texts(*rows)], ()) for rows in asked]
    runtime.batches.clear()

    async def tell():
        first, loop = Estimate(0.5), asyncio.get_running_loop()
        lane = Lane(runtime, sample=None, first=first, limit=64, clock=CLOCK, broken=lambda _: None, name="t", batch_rows_max=8)
        try:
            runtime.go.clear()
            held = lane.submit(_asking(b"fine"))
            await until_async(lambda: lane.running)
            waiting = [lane.submit(_asking(*rows)) for rows in asked]
            loop.call_soon(runtime.go.set)
            await held
            return await asyncio.gather(*waiting)
        finally:
            await asyncio.to_thread(lane.close)

    found = asyncio.run(tell())
    assert runtime.batches == [1, 4, 1, 1, 1], "the longest of the first three is of their class; then one at a time"
    for done, expected in zip(found, alone, strict=True):
        vectors, tokens = ({each.name: each for each in made} for made in (done.outputs, expected))
        assert numbers(vectors["embedding"]) == pytest.approx(numbers(tokens["embedding"]), abs=1e-6)
        assert bytes(vectors["tokens"].data) == bytes(tokens["tokens"].data)
    assert [done.batch for done in found] == [3, 3, 3, 1, 1, 1]


def _asking(*rows):
    return Job(inputs=[texts(*rows)], outputs=[], gone=lambda: False, arrived_s=CLOCK.monotonic(), input_bytes=64)


class Timed:
    """A text model whose runs take what `takes_ms` says of their batch, by a clock that it moves itself."""

    inputs = (TensorSpec("text", "BYTES", (-1,)),)
    outputs = (TensorSpec("embedding", "FP32", (-1, 4)),)

    def __init__(self, clock, takes_ms):
        self.clock, self.takes_ms = clock, takes_ms

    def run(self, inputs, outputs):
        self.clock.pass_by(self.takes_ms(len(inputs[0].rows)) / 1e3)
        return [tensor(*[0] * 4 * len(inputs[0].rows), name="embedding")]

    def close(self):
        """Nothing is held."""


@pytest.mark.parametrize(
    ("takes_ms", "rows_max"), [(lambda n: 4 + 0.5 * n, 32), (lambda n: 4.0 * n, 1)], ids=["pays", "does not pay"]
)
def test_whether_texts_run_together_is_measured_when_their_model_is_loaded(tmp_path, takes_ms, rows_max):
    clock = ManualClock()
    file = ModelFile(model="m", version="1", variant="c", runtime="onnxruntime", path=str(tmp_path / "m.onnx"))
    found = opened(Timed(clock, takes_ms), file, {}, Cores(), clock)
    assert found.batch_rows_max == rows_max


class Planning:
    """On a device: each run whose batch is not the last one's takes `plan_ms` more, by a clock that it moves itself."""

    inputs = (TensorSpec("x", "FP32", (-1, 4)),)
    outputs = (TensorSpec("y", "FP32", (-1, 4)),)
    device = "cuda:T4"

    def __init__(self, clock, plan_ms):
        self.clock, self.plan_ms, self.last = clock, plan_ms, 0

    def run(self, inputs, outputs):
        rows = inputs[0].shape[0]
        self.clock.pass_by((0.1 + 0.02 * rows + (self.plan_ms if rows != self.last else 0.0)) / 1e3)
        self.last = rows
        return [tensor(*[0] * 4 * rows, name="y")]

    def close(self):
        """Nothing is held."""


def test_what_a_change_of_shape_takes_is_measured_when_the_model_is_loaded(tmp_path):
    def found(plan_ms):
        clock = ManualClock()
        file = ModelFile(model="m", version="1", variant="g", runtime="onnxruntime", path=str(tmp_path / "m.onnx"))
        return opened(Planning(clock, plan_ms), file, {}, Cores(), clock)

    dear, cheap = found(10.0), found(0.01)
    assert dear.batch_rows_max == cheap.batch_rows_max == 32
    assert cheap.shapes is None
    assert dear.shapes is not None
    assert dear.shapes.change_ms == pytest.approx(10.0)
    assert sorted(dear.shapes.run_ms) == [1, 2, 4, 8, 16, 32]
    assert dear.shapes.run_ms[4] == pytest.approx(0.18)
