"""A thread gets the slice that it asks for, and gives the usual one to those that it starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from nearhall.drivers.time_slice import ask_for_slice, slice_ms

T = TypeVar("T")


def in_a_thread(work: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(slice_ms() is None, reason="this system tells of no slices (Linux 6.12 does)")
def test_a_thread_gets_the_slice_it_asks_for_and_those_it_starts_the_usual_one():
    usual = in_a_thread(slice_ms)

    def story() -> tuple[bool, float | None, float | None]:
        return ask_for_slice(0.3), slice_ms(), in_a_thread(slice_ms)

    assert in_a_thread(story) == (True, 0.3, usual)
    assert usual != 0.3
    assert in_a_thread(slice_ms) == usual
