"""A lane: one loaded tensor model, its own worker thread, and the requests that wait for it, earliest deadline first."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from queue import SimpleQueue

from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import Tensor
from nearhall.gateway.exchange import ClientGoneError, Expired
from nearhall.policy.admit import Estimate, expected_ms, still_worth
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import TensorRuntime

log = logging.getLogger("nearhall.gateway")

JOIN_S_MAX = 2.0
"""A run in progress is let finish this long when its model is unloaded; the thread is a daemon and dies with the process."""


class RuntimeBrokenError(Exception):
    """The runtime does not work any more, not even on the sample it was warmed up with; it will be opened anew."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a run gave, and what it took."""

    outputs: Sequence[Tensor]
    queue_ms: float
    service_ms: float
    cpu_ms: float
    """Of the worker's thread: the whole of it for runtimes with one thread."""


@dataclass(slots=True)
class Job:
    """One request in a lane. Times are on the monotonic clock, in seconds."""

    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    gone: Callable[[], bool]
    arrived_s: float
    due_s: float = inf
    """Orders the queue: the client's deadline or the workload's target, whichever is earlier."""
    deadline_s: float | None = None
    """Hard: past it the work is not begun."""
    priority: int = 0
    future: asyncio.Future[Done] = field(init=False)


_Key = tuple[float, int, int]


class Lane:
    """Runs one model's requests one by one in a thread, so that the event loop is never blocked."""

    def __init__(
        self,
        runtime: TensorRuntime,
        *,
        sample: Sequence[Tensor] | None,
        first: Estimate,
        limit: int,
        clock: Clock,
        broken: Callable[[str], None],
        name: str,
    ) -> None:
        """`sample` is an input that the model took at warm-up; `broken` is called on the loop when the runtime fails on it."""
        self.limit = limit
        self.estimate = first
        self._runtime = runtime
        self.sample = sample
        """An input that the model took at warm-up; None if it took none of ours."""
        self._clock = clock
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[_Key, Job]] = []
        self._sequence = 0
        self._lock = threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        """One entry for each job, and one to close: written in C, it wakes the worker faster than a Condition does."""
        self._running_since: float | None = None
        self._passed_over_s: float | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"lane-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def expected_ms(self, due_s: float, priority: int) -> float:
        """Until the answer of a request that arrived now: the run in progress, what is due before it, and its own run."""
        since = self._running_since
        own = self._aged(self._clock.monotonic()).service_ms
        left = 0.0 if since is None else own - (self._clock.monotonic() - since) * 1e3
        with self._lock:
            ahead = bisect_right(self._waiting, (due_s, priority, self._sequence + 1), key=_key)
        return expected_ms(ahead_ms=(ahead * own,), running_left_ms=left, own_ms=own)

    def passed_over(self) -> None:
        """Notes that a request went elsewhere, or nowhere, because of the estimate: from then on it ages until it is tested."""
        if self._passed_over_s is None:
            self._passed_over_s = self._clock.monotonic()

    def _aged(self, now_s: float) -> Estimate:
        since = self._passed_over_s
        return self.estimate if since is None else self.estimate.aged(now_s - since)

    def submit(self, job: Job) -> asyncio.Future[Done]:
        """Queues a request; the caller has asked `waiting` against `limit` before.

        The future raises Refusal, Expired, ClientGoneError or RuntimeBrokenError.
        """
        job.future = self._loop.create_future()
        with self._lock:
            if self._closed:
                job.future.set_exception(RuntimeBrokenError("the model has just been unloaded"))
                return job.future
            self._sequence += 1
            insort(self._waiting, ((job.due_s, job.priority, self._sequence), job), key=_key)
        self._wake.put(None)
        return job.future

    def close(self) -> None:
        """Stops taking work, fails what waits, lets the run in progress finish, frees the runtime; blocks meanwhile."""
        with self._lock:
            self._closed = True
            left, self._waiting = self._waiting, []
        self._wake.put(None)
        for _, job in left:
            self._settle(job, RuntimeBrokenError("the model has been unloaded"))
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S_MAX)
        self._runtime.close()

    def _work(self) -> None:
        while True:
            self._running_since = None
            self._wake.get()
            with self._lock:
                if self._closed:
                    return
                job = self._waiting.pop(0)[1]
                begun = self._running_since = self._clock.monotonic()
            self._settle(job, self._outcome(job, begun))

    def _outcome(self, job: Job, begun: float) -> Done | BaseException:
        if job.gone():
            return ClientGoneError()
        deadline = None if job.deadline_s is None else job.deadline_s * 1e3
        expected = self._aged(begun).service_ms
        if not still_worth(begun * 1e3, deadline, expected, client_gone=False):
            return Expired(Reason.DEADLINE, "the deadline passed in the queue", retry_after_ms=None)
        cpu = time.thread_time()
        try:
            outputs = self._runtime.run(job.inputs, job.outputs)
        except Refusal as refusal:
            return refusal
        except Exception as error:  # whatever a runtime raises must end this request alone, not the lane
            return self._fault(error)
        ended = self._clock.monotonic()
        service_ms = (ended - begun) * 1e3
        self.estimate, self._passed_over_s = self._aged(begun).seen(service_ms), None
        return Done(outputs, (begun - job.arrived_s) * 1e3, service_ms, (time.thread_time() - cpu) * 1e3)

    def _fault(self, error: Exception) -> BaseException:
        """Whose fault a failed run was: the model still answers its own sample, so the input's; or it does not."""
        if not isinstance(error, PermanentError):
            log.error("the runtime raised %s: %s", type(error).__name__, error)
        try:
            if self.sample is None:
                return Refusal(Reason.RUNTIME_FAILED, f"the model failed: {error}")
            self._runtime.run(self.sample, ())
        except Exception as second:  # the same holds here
            self._loop.call_soon_threadsafe(self._broken, str(second))
            return RuntimeBrokenError(str(second))
        return Refusal(Reason.BAD_REQUEST, f"the model cannot compute with these values: {error}")

    def _settle(self, job: Job, outcome: Done | BaseException) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, job.future, outcome)
        except RuntimeError:  # the loop is closed: the process is ending and nobody waits
            return


def _key(entry: tuple[_Key, Job]) -> _Key:
    return entry[0]


def _resolve(future: asyncio.Future[Done], outcome: Done | BaseException) -> None:
    if future.done():  # cancelled: its request was given up
        return
    if isinstance(outcome, Done):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
