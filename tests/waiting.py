"""Waiting for something to become true, with a limit: tests poll a condition, they never guess a duration."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable

_POLL_S = 0.01


def until(condition: Callable[[], object], seconds: float = 10.0, *, what: str = "the condition") -> None:
    """Returns once `condition()` is true; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            message = f"{what} did not hold within {seconds} s"
            raise AssertionError(message)
        select.select([], [], [], _POLL_S)


async def until_async(condition: Callable[[], object], seconds: float = 10.0, *, what: str = "the condition") -> None:
    """The same inside an event loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (conditions are of processes and files; nobody sets an event)
            await asyncio.sleep(_POLL_S)
