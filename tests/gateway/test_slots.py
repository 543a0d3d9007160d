"""Slots let as many chats talk as there are, the most urgent next, and lose no turn to a client that gives up."""

from __future__ import annotations

import asyncio

import pytest

from nearhall.drivers.clock import SystemClock
from nearhall.gateway.exchange import Expired
from nearhall.gateway.queues.slots import Slots
from waiting import until_async

CLOCK = SystemClock()


def test_turns_in_order_and_none_lost():
    async def tell():
        slots = Slots(count=1, limit=8, clock=CLOCK)
        order, leave = [], asyncio.Event()

        async def talk(name, due_s, hold):
            async with slots.turn(due_s=due_s, deadline_s=None, priority=0):
                order.append(name)
                await hold.wait()

        done = asyncio.Event()
        done.set()
        first = asyncio.create_task(talk("first", 100, leave))
        await until_async(lambda: order == ["first"])
        late = asyncio.create_task(talk("late", 300, done))
        soon = asyncio.create_task(talk("soon", 200, done))
        quits = asyncio.create_task(talk("quits", 150, done))
        await until_async(lambda: slots.waiting == 3)
        assert slots.expected_ms(400, 0, 0) > slots.expected_ms(120, 0, 0)
        quits.cancel()
        await asyncio.gather(quits, return_exceptions=True)
        leave.set()
        await asyncio.gather(first, late, soon)
        assert order == ["first", "soon", "late"]
        assert slots.waiting == 0
        async with slots.turn(due_s=1, deadline_s=None, priority=0):
            pass

    asyncio.run(tell())


def test_a_turn_given_to_one_that_is_just_cancelled_goes_on_to_the_next():
    async def tell():
        slots = Slots(count=1, limit=8, clock=CLOCK)
        order = []

        async def talk(name):
            async with slots.turn(due_s=1, deadline_s=None, priority=0):
                order.append(name)

        async with slots.turn(due_s=1, deadline_s=None, priority=0):
            quits, stays = asyncio.create_task(talk("quits")), asyncio.create_task(talk("stays"))
            await until_async(lambda: slots.waiting == 2)
        quits.cancel()
        await asyncio.gather(quits, return_exceptions=True)
        await stays
        assert order == ["stays"]

    asyncio.run(tell())


def test_a_deadline_that_has_passed_ends_the_wait():
    async def tell():
        slots = Slots(count=1, limit=8, clock=CLOCK)
        with pytest.raises(Expired):
            async with slots.turn(due_s=1, deadline_s=CLOCK.monotonic(), priority=0):
                raise AssertionError
        async with slots.turn(due_s=1, deadline_s=CLOCK.monotonic() + 60, priority=0):
            with pytest.raises(Expired):  # though nobody leaves
                async with slots.turn(due_s=1, deadline_s=CLOCK.monotonic() + 0.02, priority=0):
                    raise AssertionError
            assert slots.waiting == 0

    asyncio.run(tell())
