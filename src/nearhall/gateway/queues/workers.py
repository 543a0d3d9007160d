"""The threads of a lane: those that compute, and one to spare that computes in what all others leave of the cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue

from nearhall.policy.admit import Estimate
from nearhall.policy.cores import STRETCH_MAX, STRETCH_WORST, may_give_way
from nearhall.ports.clock import Clock

NICE = 5
"""Of the worker threads: the event loop goes first when both want a core, for what it has to say is done already."""


class Crew:
    """Threads of one kind. Changed and counted with the lane's lock held."""

    __slots__ = ("idle", "spare", "threads", "wake")

    def __init__(self, *, spare: bool) -> None:
        self.spare = spare
        """It gives way to everybody else who wants a core."""
        self.threads: list[threading.Thread] = []
        self.idle = 0
        """Threads that wait to be woken."""
        self.wake: SimpleQueue[None] = SimpleQueue()
        """Wakes an idle thread: written in C, it does so faster than a Condition."""

    @property
    def active(self) -> int:
        """Threads that work, or are about to look for work."""
        return len(self.threads) - self.idle


class Workers:
    """Hires, wakes and counts a lane's threads. All but `start` and `sleep` is called with the lane's lock held.

    Of several, one is spare (ADR 0034): the event loop needs a core too, and a run that shares one with it is late, and so is
    the loop. Where other processes leave the spare thread next to nothing, a regular one takes its place.
    """

    def __init__(
        self,
        work: Callable[[Crew], None],
        *,
        lock: threading.Lock,
        name: str,
        count_max: int,
        spare: Callable[[], bool],
        crowded: Callable[[], bool],
        longest_ms: Callable[[], float],
        begins: Callable[[], object] | None,
        clock: Clock,
    ) -> None:
        """`work` is what each thread does, after `start`; `begins` is called there. While it is `crowded` one run goes on.

        `spare`: whether one of several may give way. `longest_ms`: what a run takes at most, as far as is known.
        """
        self.count_max = count_max
        self._work = work
        self._lock = lock
        self._name = name
        self._crowded = crowded
        self._longest_ms = longest_ms
        self._begins = begins
        self._clock = clock
        self._regular, self._spare = Crew(spare=False), Crew(spare=True)
        self._with_spare = spare
        self._stretch = Estimate(1.0)
        """Of the spare thread's runs: their time over what they had of a core, about the p90 of the last ones."""
        self._stretch_s = 0.0
        self._overdue_s = inf
        """When the spare thread's run will have taken too long."""
        self._stuck = False
        """It has, and somebody else does its work."""

    @property
    def count(self) -> int:
        """How many runs may go on now."""
        return 1 if self.count_max == 1 or self._crowded() else self.count_max

    def _most(self, crew: Crew) -> int:
        """How many threads of this crew may run now."""
        count = self.count
        spare = int(count > 1 and self._has_time() and self._with_spare())
        return spare if crew.spare else count - spare

    def _has_time(self) -> bool:
        now_s = self._clock.monotonic()
        if self._stuck or now_s > self._overdue_s:
            return False
        return may_give_way(stretch=self._stretch.aged(now_s - self._stretch_s).service_ms, run_ms=self._longest_ms())

    def hire(self, crew: Crew | None = None) -> None:
        """One more thread; a regular one unless something else is said."""
        crew = crew or self._regular
        thread = threading.Thread(target=self._work, args=(crew,), name=f"lane-{self._name}", daemon=True)
        crew.threads.append(thread)
        thread.start()

    def rouse(self) -> None:
        """Lets one more thread look for work, if there may be one."""
        for crew in (self._regular, self._spare):
            if crew.active < self._most(crew):
                if crew.spare:
                    self.begins(self._longest_ms())
                if crew.idle:
                    crew.idle -= 1
                    crew.wake.put(None)
                else:
                    self.hire(crew)
                return

    def may_run(self, crew: Crew) -> bool:
        """Whether a thread of this crew, which looks for work, may have some; otherwise it is to `sleep`."""
        return crew.active <= self._most(crew)

    def rests(self, crew: Crew) -> None:
        """A thread of this crew has nothing to do."""
        crew.idle += 1
        if crew.spare:
            self._overdue_s, self._stuck = inf, False

    def begins(self, takes_ms: float) -> None:
        """The spare thread begins a run that is expected to take so long."""
        self._overdue_s, self._stuck = self._clock.monotonic() + STRETCH_MAX * takes_ms / 1e3, False

    def found_stuck(self) -> bool:
        """Whether the spare thread's run takes too long; true once, for whoever is to do its work."""
        if self._clock.monotonic() <= self._overdue_s:
            return False
        self._overdue_s, self._stuck = inf, True
        return True

    @property
    def late(self) -> bool:
        """Whether the spare thread's run takes, or took, too long."""
        return self._stuck or self._clock.monotonic() > self._overdue_s

    def ran(self, wall_s: float, cpu_s: float) -> None:
        """Notes what a run of the spare thread took, and what it had of a core."""
        now_s = self._clock.monotonic()
        self._overdue_s, self._stuck = inf, False
        if cpu_s > 0.0:
            stretch = min(wall_s / cpu_s, STRETCH_WORST)
            self._stretch, self._stretch_s = self._stretch.aged(now_s - self._stretch_s).seen(stretch), now_s

    @property
    def to_be_tried(self) -> bool:
        """Whether the spare thread got next to nothing when it last ran, and it is time to see whether that is still so."""
        return self._stretch.service_ms > STRETCH_MAX and self._has_time()

    def start(self, crew: Crew) -> None:
        """What a thread does first."""
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
            if crew.spare:
                os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
        if self._begins is not None:
            self._begins()

    def sleep(self, crew: Crew) -> None:
        """Until there is work for a thread that `rests`; a regular one looks after the spare one's run as well."""
        left_s = self._overdue_s - self._clock.monotonic()
        try:
            crew.wake.get(timeout=None if crew.spare or left_s == inf else max(0.0, left_s) + 1e-4)
        except Empty:
            with self._lock:
                try:
                    crew.wake.get_nowait()
                except Empty:
                    crew.idle -= 1

    def dismiss(self) -> list[threading.Thread]:
        """Wakes all, to end; returns them."""
        for crew in (self._regular, self._spare):
            for _ in crew.threads:
                crew.wake.put(None)
        return [*self._regular.threads, *self._spare.threads]
