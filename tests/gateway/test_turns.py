"""Turns with a language model: as many as its cache holds, the most critical next, and none lost to a client that gives up."""

from __future__ import annotations

import asyncio

import pytest

from gateway.plane_rig import rig
from nearhall.core.reasons import Reason
from nearhall.drivers.clock import SystemClock
from nearhall.gateway.exchange import Expired
from nearhall.gateway.queues.turns import Talk, Turns
from nearhall.policy.tokens import Capacity, Step
from nearhall.ports.runtime import ChatPiece
from waiting import until_async

CLOCK = SystemClock()
ONE = Capacity(sequences=1, kv_tokens=4096, context=2048, step_tokens=128)
TALK = Talk(40, 16)


class Crowd:
    """Chats that note when they begin, and hold their turn until they are let go."""

    def __init__(self, turns):
        self.turns = turns
        self.order = []
        self.held = {}

    def come(self, name, *, due_s=100.0, priority=0, deadline_s=None, talk=TALK):
        self.held[name] = asyncio.Event()

        async def chat():
            async with self.turns.turn(talk, due_s=due_s, deadline_s=deadline_s, priority=priority):
                self.order.append(name)
                await self.held[name].wait()

        return asyncio.create_task(chat())

    async def begun(self, *names):
        await until_async(lambda: self.order == list(names), what=f"{names} have begun")

    def go(self, *names):
        for name in names:
            self.held[name].set()


def test_turns_in_order_and_none_lost():
    async def tell():
        turns = Turns(ONE, limit=8, clock=CLOCK)
        crowd = Crowd(turns)
        tasks = [crowd.come("first")]
        await crowd.begun("first")
        tasks += [crowd.come("bulk", due_s=1, priority=5), crowd.come("late", due_s=300), crowd.come("soon", due_s=200)]
        quits = crowd.come("quits", due_s=150)
        await until_async(lambda: turns.waiting == 4)
        assert turns.expected_ms(400, 0, 40, TALK) > turns.expected_ms(120, 0, 40, TALK)
        quits.cancel()
        await asyncio.gather(quits, return_exceptions=True)
        crowd.go("first", "bulk", "soon", "late")
        await asyncio.gather(*tasks)
        assert crowd.order == ["first", "soon", "late", "bulk"]
        assert (turns.waiting, turns.use.running) == (0, 0)

    asyncio.run(tell())


def test_a_turn_given_to_one_that_is_just_cancelled_goes_on_to_the_next():
    async def tell():
        turns = Turns(ONE, limit=8, clock=CLOCK)
        crowd = Crowd(turns)
        async with turns.turn(TALK, due_s=1, deadline_s=None, priority=0):
            quits, stays = crowd.come("quits"), crowd.come("stays")
            await until_async(lambda: turns.waiting == 2)
        quits.cancel()  # it was its turn, in this very moment
        await asyncio.gather(quits, return_exceptions=True)
        crowd.go("stays")
        await stays
        assert crowd.order == ["stays"]
        assert turns.use.running == 0

    asyncio.run(tell())


def test_a_deadline_that_cannot_be_met_any_more_ends_the_wait():
    async def tell():
        turns = Turns(ONE, limit=8, clock=CLOCK)
        crowd = Crowd(turns)
        with pytest.raises(Expired):
            await crowd.come("late", deadline_s=CLOCK.monotonic())
        first = crowd.come("first")
        await crowd.begun("first")
        hopeless, hopeful = crowd.come("hopeless", due_s=1, deadline_s=CLOCK.monotonic() + 5), crowd.come("hopeful")
        await until_async(lambda: turns.waiting == 2)
        for _ in range(100):
            turns.heard(Step(took_ms=9000.0, running=1))
        crowd.go("first", "hopeful")
        with pytest.raises(Expired) as caught:
            await hopeless
        assert caught.value.reason is Reason.DEADLINE
        await asyncio.gather(first, hopeful)
        assert crowd.order == ["first", "hopeful"]

    asyncio.run(tell())


def test_nobody_waits_past_a_deadline_for_a_place_that_does_not_come():
    async def tell():
        turns = Turns(ONE, limit=8, clock=CLOCK)
        crowd = Crowd(turns)
        first = crowd.come("first")
        await crowd.begun("first")
        with pytest.raises(Expired) as caught:
            await crowd.come("late", deadline_s=CLOCK.monotonic() + 0.02)
        assert caught.value.reason is Reason.DEADLINE
        assert (turns.waiting, turns.use.running) == (0, 1)
        crowd.go("first")
        await first

    asyncio.run(tell())


def test_a_critical_chat_takes_a_spare_place_and_bulk_waits():
    async def tell():
        turns = Turns(Capacity(sequences=2, spare=1, kv_tokens=9000, context=2048, step_tokens=128), limit=8, clock=CLOCK)
        crowd = Crowd(turns)
        tasks = [crowd.come(f"bulk {n}", priority=5) for n in range(4)]
        await crowd.begun("bulk 0", "bulk 1")
        tasks.append(crowd.come("critical"))
        await crowd.begun("bulk 0", "bulk 1", "critical")
        assert turns.waiting == 2
        crowd.go("critical")
        await until_async(lambda: turns.use.running == 2)
        assert crowd.order == ["bulk 0", "bulk 1", "critical"], "the spare place is not for bulk"
        crowd.go(*crowd.held)
        await asyncio.gather(*tasks)

    asyncio.run(tell())


def test_a_chat_that_the_cache_cannot_hold_beside_others_waits_for_it():
    async def tell():
        turns = Turns(Capacity(sequences=8, kv_tokens=2048, context=2048, step_tokens=128), limit=8, clock=CLOCK)
        crowd = Crowd(turns)
        long, large = crowd.come("long", talk=Talk(40, 1500)), crowd.come("large", talk=Talk(40, 900))
        await crowd.begun("long")
        assert turns.waiting == 1
        crowd.go("long", "large")
        await asyncio.gather(long, large)
        assert crowd.order == ["long", "large"]

    asyncio.run(tell())


def test_bulk_that_others_keep_waiting_is_told_so():
    async def tell():
        turns = Turns(ONE, limit=8, clock=CLOCK, wait_s_max=0.02)
        crowd = Crowd(turns)
        first = crowd.come("first")
        await crowd.begun("first")
        with pytest.raises(Expired) as caught:
            await crowd.come("bulk", priority=9)
        assert caught.value.reason is Reason.QUEUE_FULL
        assert caught.value.retry_after_ms
        crowd.go("first")
        await first

    asyncio.run(tell())


def test_it_learns_from_steps_and_pieces_and_ages_only_while_nobody_talks():
    async def tell():
        turns = Turns(ONE, limit=8, clock=CLOCK)
        for _ in range(100):
            turns.heard(Step(took_ms=2000.0, running=1, kv_tokens=64))
        slow = turns.expected_ms(1, 0, 40, TALK)
        assert slow > 1500
        turns.passed_over(40)
        await until_async(lambda: turns.expected_ms(1, 0, 40, TALK) < slow, what="it is put to the test")
        async with turns.turn(TALK, due_s=1, deadline_s=None, priority=0) as turn:
            turns.hear(turn, ChatPiece(text="a", prompt_tokens=30, completion_tokens=1))
            assert turn.asked.prompt_tokens == 30
            turns.hear(turn, ChatPiece(text="b"))
            turns.hear(turn, ChatPiece(text="", finish="stop", prompt_tokens=30, completion_tokens=2))
        use = turns.use
        assert (use.prompt_tokens, use.generated_tokens, use.kv_tokens, use.steps) == (30, 2, 64, 100)

    asyncio.run(tell())


def test_who_could_not_be_in_time_is_refused_at_once_with_when_to_come_back(tmp_path):
    async def tell():
        async with rig(tmp_path, chats=["parrot"]) as site:
            turns = site.composed.plane.models.find("parrot").served.slots
            ask = {"x-nearhall-deadline-ms": "400"}
            assert (await site.chat("parrot", "a b", ask)).status == 200
            for _ in range(100):
                turns.heard(Step(took_ms=900.0, running=1))
            refused = await site.chat("parrot", "a b", ask)
            assert (refused.status, refused.reason) == (503, "deadline")
            assert int(refused.headers["retry-after"]) >= 1
            assert (await site.chat("parrot", "a b")).status == 200, "who names no deadline is served"

    asyncio.run(tell())
