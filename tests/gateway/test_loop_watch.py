"""The watch on the event loop: a long turn is seen, a model's run in it is not taken for one."""

from __future__ import annotations

import asyncio

from nearhall.gateway.queues.loop_watch import LoopWatch


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


def turns(took_ms, computed_ms=0.0, n=60):
    """A watch after so many turns of this length, with a run of a model in each."""

    async def tell():
        clock = Clock()
        watch = LoopWatch(clock)
        for _ in range(n):
            watch.stirred()
            clock.now_s += took_ms / 1e3
            watch.computed(computed_ms)
            await asyncio.sleep(0)
        return watch

    return asyncio.run(tell())


def test_long_turns_are_seen_as_a_crowded_loop():
    watch = turns(3.0)
    assert 2.5 < watch.lag_ms <= 3.0
    assert watch.crowded
    assert not turns(0.3).crowded


def test_a_models_run_is_no_crowd():
    watch = turns(1.3, computed_ms=1.0)
    assert watch.lag_ms < 0.35
    assert not watch.crowded
    assert turns(1.0, computed_ms=2.0).lag_ms == 0.0


def test_nothing_is_timed_after_a_run_for_somebody_alone():
    """One look is left that ends the watch; after anything else there is one more, of what the turn's callbacks took."""

    async def looks(computed):
        clock = Clock()
        watch = LoopWatch(clock)
        watch.stirred()
        if computed:
            watch.computed(1.0)
        seen = []
        for _ in range(3):
            clock.now_s += 0.003
            await asyncio.sleep(0)
            seen.append(watch.lag_ms)
        return len(set(seen))

    assert asyncio.run(looks(computed=True)) == 1
    assert asyncio.run(looks(computed=False)) == 2
