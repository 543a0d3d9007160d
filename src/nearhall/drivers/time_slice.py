"""How long a thread may run before another of its kind may, by Linux's scheduler (EEVDF): who asks for less is let in sooner.

Since Linux 6.12 `sched_setattr` takes a slice for ordinary threads, without privileges. Python's library does not have the call.
An older kernel ignores the slice, and a system without the call is left as it is.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading

_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""sched_setattr and sched_getattr (asm/unistd.h)."""
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""struct sched_attr (sched_setattr(2)): size, policy, flags, nice, priority, runtime, deadline, period, and two bounds of use."""
RESET_ON_FORK = 1
_NS_PER_MS = 1_000_000


def ask_for_slice(ms: float) -> bool:
    """Asks for slices of so many milliseconds (0.1 to 100) for the thread that calls; whether the system knows the call.

    Threads and processes that it starts have the usual slices.
    """
    calls, thread = _calls(), threading.get_native_id()
    if calls is None:
        return False
    nice, policy = os.getpriority(os.PRIO_PROCESS, thread), os.sched_getscheduler(thread)
    wish = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, RESET_ON_FORK, nice, 0, round(ms * _NS_PER_MS), 0, 0, 0, 0)
    return _call(calls[0], thread, ctypes.create_string_buffer(wish), 0) == 0


def slice_ms() -> float | None:
    """The slice of the thread that calls; None where the system does not tell."""
    calls = _calls()
    told = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if calls is None or _call(calls[1], threading.get_native_id(), told, _ATTRIBUTES.size, 0) != 0:
        return None
    return _ATTRIBUTES.unpack(told.raw)[5] / _NS_PER_MS or None


def _calls() -> tuple[int, int] | None:
    return _CALLS.get(platform.machine()) if sys.platform == "linux" else None


def _call(*arguments: object) -> int:
    try:
        return int(ctypes.CDLL(None).syscall(*arguments))
    except (OSError, AttributeError):
        return -1
