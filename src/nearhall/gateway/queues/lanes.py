"""A lane: one loaded tensor model, its own worker threads, and the requests that wait for it, the most urgent first."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

import msgspec

from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import Tensor
from nearhall.gateway.exchange import ClientGoneError, Expired
from nearhall.gateway.queues.batches import Key, joined, key_of, padded, parted, rows_of, takes_batches
from nearhall.gateway.queues.loop_watch import LoopWatch
from nearhall.gateway.queues.workers import Crew, Workers
from nearhall.policy.admit import MISSED_FALL, Estimate, ServiceTimes, expected_ms, size_class, still_worth, usual_share
from nearhall.policy.batching import Shape, Shapes, Waiting, together
from nearhall.ports.clock import Clock
from nearhall.ports.runtime import TensorRuntime
from nearhall.wire.headers import PRIORITY_MAX as PRIORITY_LOWEST

log = logging.getLogger("nearhall.gateway")

JOIN_S_MAX = 2.0
"""A run in progress is let finish this long when its model is unloaded; the thread is a daemon and dies with the process."""
AT_ONCE_MS = 0.1
"""A run that takes no longer than this is done on the event loop: the hand-over to a thread and back costs as much (0.07 ms
measured on two cores), and parsing a request in JSON blocks the loop for longer."""
ALONE_MS = 2.0
"""The same while no other request is being answered: a run on the loop spares two wake-ups of sleeping cores (0.1 ms, and a tenth
of the energy of a run of 1 ms). Who comes meanwhile waits a fifth of the shortest deadline at most, and for this very lane."""
MISSED_MS_MAX = 100.0
"""One answer that was held up longer, say while the machine slept, says nothing about the next."""
STRAIN_MAX = 1.5
"""What an answer counts for that was refused or far too late."""
BRIEF_RUNS = 64
BRIEF_MS_WORST = 5.0
"""Only after so many runs in a row of which none took longer than this: what a model once took by chance proves nothing."""


class RuntimeBrokenError(Exception):
    """The runtime does not work any more, not even on the sample it was warmed up with; it will be opened anew."""


class Done(msgspec.Struct, frozen=True):
    """What a run gave, and what it took. One is made for each answer, in a tenth of the time of a frozen dataclass."""

    outputs: Sequence[Tensor]
    queue_ms: float
    service_ms: float
    """Of the run; several requests that ran together took it together."""
    cpu_ms: float
    """Of the worker's thread, this request's share: the whole of it for runtimes with one thread."""
    batch: int = 1
    """How many requests ran together."""


Outcome = Done | BaseException
"""What came of a job; as an error: Refusal, Expired, ClientGoneError or RuntimeBrokenError."""


@dataclass(slots=True)
class Job:
    """One request in a lane. Times are on the monotonic clock, in seconds."""

    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    gone: Callable[[], bool]
    arrived_s: float
    due_s: float = inf
    """Orders the queue among requests of one rank: the client's deadline or the workload's target, whichever is earlier."""
    deadline_s: float | None = None
    """Hard: past it the work is not begun."""
    priority: int = 0
    """The rank: a lower one always goes first."""
    input_bytes: int = 0
    expected_ms: float = field(default=0.0, init=False)
    """Its own run, as expected when it was queued."""
    tell: Callable[[Outcome], None] = field(init=False)
    """Called on the loop, once, with what came of it."""
    told: bool = field(default=False, init=False)


_Key = tuple[int, float, int]


class Lane:
    """Runs one model's requests in threads, so that the event loop is not blocked: as many as there are cores for."""

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
        batch_rows_max: int = 1,
        shapes: Shapes | None = None,
        workers_max: int = 1,
        loop: LoopWatch | None = None,
        begins: Callable[[], object] | None = None,
        spare: Callable[[], bool] = lambda: True,
    ) -> None:
        """`sample` is an input that the model took at warm-up; `broken` is called on the loop when the runtime fails on it.

        `batch_rows_max`: the largest batch that a measured curve says pays on this device; 1: requests run alone. `shapes`: those
        that runs are padded to, where a change of shape is dear.
        `workers_max`: how many runs may go on at a time; a thread is only made when there is work for it. While the event
        `loop` is crowded only one goes on, for what is computed faster would only wait to be said. `begins` is called in each
        thread first. `spare`: whether one of several threads may give way to all others, and its run be made again by another
        one if it takes too long.
        """
        self.limit = limit
        self.times = ServiceTimes(first, {} if sample is None else {size_class(bytes_of(sample)): first})
        self._runtime = runtime
        self.sample = sample
        """An input that the model took at warm-up; None if it took none of ours."""
        self._clock = clock
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[_Key, Job]] = []
        self._sequence = 0
        self._lock = threading.Lock()
        self._running: dict[int, float] = {}
        """When each run in progress is expected to end, by its thread."""
        self._workers = Workers(
            self._work,
            lock=self._lock,
            name=name,
            count_max=workers_max,
            spare=spare,
            crowded=(lambda: False) if loop is None else (lambda: loop.crowded),
            longest_ms=lambda: self.times.longest_ms,
            begins=begins,
            clock=clock,
        )
        self._held: Sequence[Job] = ()
        """What the spare thread runs."""
        self._passed_over_s: dict[int, float] = {}
        """Since when requests of a size went elsewhere, or nowhere, because of the estimate."""
        self._missed = Estimate(0.0)
        self._missed_s = 0.0
        """How far off the reckoning was, and when that was last seen."""
        self._strain = Estimate(0.0)
        self._strain_s = 0.0
        """The same for the first rank's answers, and their share of their deadlines."""
        self._usual = 1.0
        """What a run usually takes of its estimate."""
        self._brief_runs = 0
        """Runs in a row that took no longer than `BRIEF_MS_WORST`."""
        self._rows_max = batch_rows_max if takes_batches(runtime.inputs, runtime.outputs) else 1
        self._shapes = shapes if self._rows_max > 1 and workers_max == 1 else None
        self._shape = Shape()
        self._closed = False
        self._workers.hire()

    @property
    def running(self) -> int:
        """How many runs are in progress."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def workers_max(self) -> int:
        """How many runs may go on at a time."""
        return self._workers.count_max

    @property
    def estimate(self) -> Estimate:
        """Of what was seen last of its kind: the smallest input's, for lists of models."""
        return self.times.of(0)

    @property
    def batch_rows_max(self) -> int:
        """The largest batch that requests are put together to; 1: they run alone."""
        return self._rows_max

    @property
    def busy(self) -> bool:
        """Whether a request runs now."""
        return bool(self._running)

    def own_ms(self, input_bytes: int) -> float:
        """A run of its own alone, for an input of this size."""
        return self._aged(size_class(input_bytes), self._clock.monotonic()).service_ms

    def expected_ms(self, due_s: float, priority: int, input_bytes: int) -> float:
        """Until the answer of a request that arrived now: the run in progress, what goes before it, and its own run."""
        now_s = self._clock.monotonic()
        own = self._aged(size_class(input_bytes), now_s).service_ms
        workers = self._workers.count
        if not self._waiting and len(self._running) < workers:
            return own
        with self._lock:
            before = bisect_right(self._waiting, (priority, due_s, self._sequence + 1), key=_key)
            share = 1.0 if priority else self._usual
            ahead = [share * job.expected_ms for _, job in self._waiting[:before]]
            left = [(end_s - now_s) * 1e3 for end_s in tuple(self._running.values())]  # workers leave without the lock
        return expected_ms(ahead_ms=ahead, running_left_ms=left, workers=workers, own_ms=own)

    def backlog_ms(self) -> float:
        """Until a request of the lowest rank that arrived now would begin."""
        return self.expected_ms(inf, PRIORITY_LOWEST, 0) - self._aged(0, self._clock.monotonic()).service_ms

    def missed_ms(self) -> float:
        """By how much answers came later than `expected_ms` had said, about the p97 of the last; it ages while none comes."""
        return self._missed.aged(self._clock.monotonic() - self._missed_s).service_ms

    def missed_by(self, late_ms: float) -> None:
        """Notes by how much an answer came later than was said; negative if it came earlier."""
        now_s = self._clock.monotonic()
        missed = self._missed.aged(now_s - self._missed_s)
        self._missed = missed.seen(min(max(0.0, late_ms), MISSED_MS_MAX), fall=MISSED_FALL)
        self._missed_s = now_s

    def strain(self) -> float:
        """The share of their deadlines that the first rank's answers take, about the p90 of the last ones."""
        return self._strain.aged(self._clock.monotonic() - self._strain_s).service_ms

    def strained(self, share: float) -> None:
        """Notes what share of its deadline an answer of the first rank took; more than 1 if there was none in time."""
        now_s = self._clock.monotonic()
        self._strain = self._strain.aged(now_s - self._strain_s).seen(min(share, STRAIN_MAX))
        self._strain_s = now_s

    def passed_over(self, input_bytes: int) -> None:
        """Notes that a request went elsewhere, or nowhere, because of the estimate: from then on it ages until it is tested."""
        self._passed_over_s.setdefault(size_class(input_bytes), self._clock.monotonic())

    def _aged(self, size: int, now_s: float) -> Estimate:
        estimate = self.times.of(size)
        since = self._passed_over_s.get(size)
        return estimate if since is None else estimate.aged(now_s - since)

    def quick(self, job: Job, *, alone: bool) -> bool:
        """Whether the job may run at once on the event loop.

        The lane must be idle, and inputs of this size take next to no time; or little, and the job is `alone` in the gateway.
        """
        if self._brief_runs < BRIEF_RUNS or self._waiting or self._running or self._closed:
            return False
        own = self.times.by_class.get(size_class(job.input_bytes))
        return own is not None and own.service_ms <= (ALONE_MS if alone else AT_ONCE_MS)

    def run_at_once(self, job: Job) -> Done:
        """Runs a `quick` job here and now; raises an outcome that is an error."""
        begun = self._clock.monotonic()
        outcome = self._dropped(job, begun) or self._alone(job, begun)
        if isinstance(outcome, Done):
            return outcome
        raise outcome

    def submit(self, job: Job) -> asyncio.Future[Done]:
        """Queues a request, as `hand` does; the future raises an outcome that is an error."""
        future: asyncio.Future[Done] = self._loop.create_future()

        def tell(outcome: Outcome) -> None:
            if future.done():  # cancelled: its request was given up
                return
            if isinstance(outcome, Done):
                future.set_result(outcome)
            else:
                future.set_exception(outcome)

        self.hand(job, tell)
        return future

    def hand(self, job: Job, tell: Callable[[Outcome], None]) -> None:
        """Queues a request; the caller has asked `waiting` against `limit` before. `tell` is called on the loop, later or now."""
        job.tell = tell
        job.expected_ms = self.times.of(size_class(job.input_bytes)).service_ms
        with self._lock:
            closed = self._closed
            if not closed:
                self._queue(job)
        if closed:
            tell(RuntimeBrokenError("the model has just been unloaded"))

    def _queue(self, job: Job) -> None:
        """Takes its place among those that wait, and wakes or hires who works; the lock is held."""
        self._place(job)
        self._workers.rouse()

    def _place(self, job: Job) -> None:
        self._sequence += 1
        insort(self._waiting, ((job.priority, job.due_s, self._sequence), job), key=_key)

    def close(self) -> None:
        """Stops taking work, fails what waits, lets the run in progress finish, frees the runtime; blocks meanwhile."""
        with self._lock:
            self._closed = True
            left, self._waiting = self._waiting, []
            threads = self._workers.dismiss()
        self._settle([job for _, job in left], [RuntimeBrokenError("the model has been unloaded") for _ in left])
        patience_s = self._clock.monotonic() + JOIN_S_MAX
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, patience_s - self._clock.monotonic()))
        self._runtime.close()

    def _work(self, crew: Crew) -> None:
        """What a thread of the lane does."""
        own = threading.get_ident()
        self._workers.start(crew)
        while True:
            if crew.spare and self._workers.to_be_tried:
                self._try_spare()
            begun = self._clock.monotonic()
            jobs = self._next(crew, own, begun)
            if jobs is None:
                return
            if not jobs:
                self._workers.sleep(crew)
                continue
            cpu_s = time.thread_time()
            try:
                outcomes = self._outcomes(jobs, begun, crew)
            except Exception:  # a fault of ours: whoever waits is told, and the worker stays
                log.exception("a run failed outside of its runtime")
                outcomes = [Refusal(Reason.RUNTIME_FAILED, "the gateway failed; its log says why") for _ in jobs]
            if crew.spare:
                self._spare_ran(begun, cpu_s)
            self._running.pop(own, None)
            self._settle(jobs, outcomes)

    def _try_spare(self) -> None:
        """Runs the sample in the spare thread: nobody waits for it while the machine may leave that thread nothing."""
        if self.sample is None:
            return
        begun, cpu_s = self._clock.monotonic(), time.thread_time()
        with suppress(Exception):  # a model that is broken shows it soon enough
            self._runtime.run(self.sample, ())
        self._spare_ran(begun, cpu_s)

    def _spare_ran(self, begun: float, began_cpu_s: float) -> None:
        cpu_s = time.thread_time() - began_cpu_s
        with self._lock:
            self._held = ()
            self._workers.ran(self._clock.monotonic() - begun, cpu_s)

    def _next(self, crew: Crew, worker: int, now_s: float) -> list[Job] | None:
        """The most urgent job, and those that join its run; [] to wait for more, None when the lane is closed."""
        with self._lock:
            if self._closed:
                return None
            if not crew.spare and self._workers.found_stuck():
                for job in self._held:
                    self._place(job)
                self._held = ()
            if not self._waiting or not self._workers.may_run(crew):
                self._workers.rests(crew)
                return []
            if self._rows_max == 1 or len(self._waiting) == 1:
                jobs = [self._waiting.pop(0)[1]]
                takes_ms = jobs[0].expected_ms
            else:
                count = self._joining(now_s)
                jobs = [job for _, job in self._waiting[:count]]
                del self._waiting[:count]
                takes_ms = self.times.of(size_class(sum(job.input_bytes for job in jobs))).service_ms
            self._running[worker] = now_s + takes_ms / 1e3
            if crew.spare:
                self._held = jobs
                self._workers.begins(takes_ms)
        return jobs

    def _joining(self, now_s: float) -> int:
        jobs = [job for _, job in self._waiting[: self._rows_max]]
        key: Key | None = key_of(jobs[0].inputs, jobs[0].outputs)
        alike = 1
        while key is not None and alike < len(jobs) and key_of(jobs[alike].inputs, jobs[alike].outputs) == key:
            alike += 1
        waiting = [
            Waiting(
                rows=rows_of(job.inputs),
                input_bytes=job.input_bytes,
                deadline_ms=None if job.deadline_s is None else job.deadline_s * 1e3,
            )
            for job in jobs[:alike]
        ]
        return together(
            waiting,
            rows_max=self._rows_max,
            now_ms=now_s * 1e3,
            expected_ms=lambda size: self.times.of(size_class(size)).service_ms,
        )

    def _outcomes(self, jobs: Sequence[Job], begun: float, crew: Crew) -> list[Outcome]:
        """What came of each of the jobs, which run together."""
        if len(jobs) == 1:
            return [self._dropped(jobs[0], begun) or self._alone(jobs[0], begun, crew)]
        found: dict[int, Outcome] = {}
        for index, job in enumerate(jobs):
            if (dropped := self._dropped(job, begun)) is not None:
                found[index] = dropped
        left = [job for index, job in enumerate(jobs) if index not in found]
        ran = iter(self._together(left, begun, crew) if len(left) > 1 else [self._alone(job, begun, crew) for job in left])
        return [found[index] if index in found else next(ran) for index in range(len(jobs))]

    def _dropped(self, job: Job, begun: float) -> BaseException | None:
        """Why a job that has reached the head of the queue is not worth running any more."""
        if job.told or job.gone():
            return ClientGoneError()
        if job.deadline_s is None:
            return None
        own_ms = self._aged(size_class(job.input_bytes), begun).service_ms
        if still_worth(begun * 1e3, job.deadline_s * 1e3, own_ms, client_gone=False):
            return None
        return Expired(Reason.DEADLINE, "the deadline passed in the queue", retry_after_ms=None)

    def _alone(self, job: Job, begun: float, crew: Crew | None = None) -> Outcome:
        cpu = time.thread_time()
        try:
            (outputs,) = self._run([job])
        except Refusal as refusal:
            return refusal
        except Exception as error:  # whatever a runtime raises must end this request alone, not the lane
            return self._fault(error)
        service_ms = self._learnt(job.input_bytes, begun, crew)
        return Done(outputs, (begun - job.arrived_s) * 1e3, service_ms, (time.thread_time() - cpu) * 1e3)

    def _together(self, jobs: Sequence[Job], begun: float, crew: Crew) -> list[Outcome]:
        """One run for all; where it fails, or its outputs cannot be told apart, each runs alone."""
        cpu = time.thread_time()
        try:
            parts = self._run(jobs)
        except Exception:  # one input may spoil the run for all: alone each gets its own answer, or its own refusal
            return [self._alone(job, self._clock.monotonic(), crew) for job in jobs]
        service_ms = self._learnt(sum(job.input_bytes for job in jobs), begun, crew)
        cpu_ms = (time.thread_time() - cpu) * 1e3 / len(jobs)
        return [
            Done(part, (begun - job.arrived_s) * 1e3, service_ms, cpu_ms, len(jobs))
            for job, part in zip(jobs, parts, strict=True)
        ]

    def _run(self, jobs: Sequence[Job]) -> Sequence[Sequence[Tensor]]:
        """One run for all; each one's outputs. Raises what the runtime raises; PermanentError where they cannot be told apart."""
        first = jobs[0]
        inputs = first.inputs if len(jobs) == 1 else joined([job.inputs for job in jobs])
        shapes = self._shapes
        if shapes is not None and key_of(inputs, ()) is not None:
            self._shape = self._shape.for_rows(rows_of(inputs), shapes)
            inputs = padded(inputs, self._shape.rows)
        if inputs is first.inputs:
            return [self._runtime.run(inputs, first.outputs)]
        outputs = self._runtime.run(inputs, first.outputs)
        rows = [rows_of(job.inputs) for job in jobs]
        parts = parted(outputs, [*rows, rows_of(inputs) - sum(rows)])
        if parts is not None:
            return parts[: len(jobs)]
        log.warning("the model's outputs do not keep the batch apart; its requests run alone from now on")
        self._rows_max, self._shapes = 1, None
        if len(jobs) == 1:
            return [self._runtime.run(first.inputs, first.outputs)]
        raise PermanentError("the outputs do not keep the batch apart")

    def _learnt(self, input_bytes: int, begun: float, crew: Crew | None) -> float:
        """Notes what the run took, ms; what takes long only because it gives way says nothing of others."""
        now_s = self._clock.monotonic()
        service_ms = (now_s - begun) * 1e3
        size = size_class(input_bytes)
        with self._lock:
            if crew is not None and crew.spare and self._workers.late:
                return service_ms
            self._brief_runs = self._brief_runs + 1 if service_ms <= BRIEF_MS_WORST else 0
            unseen_s = now_s - self._passed_over_s.pop(size, now_s) if self._passed_over_s else 0.0
            self._usual = usual_share(self._usual, service_ms, self.times.of(size).service_ms)
            self.times = self.times.seen(size, service_ms, unseen_s=unseen_s)
        return service_ms

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

    def _settle(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        if not jobs:
            return
        try:
            self._loop.call_soon_threadsafe(_resolve, jobs, outcomes)
        except RuntimeError:  # the loop is closed: the process is ending and nobody waits
            return


def bytes_of(inputs: Sequence[Tensor]) -> int:
    """All of a request's input."""
    return sum(len(tensor.data) for tensor in inputs)


def _key(entry: tuple[_Key, Job]) -> _Key:
    return entry[0]


def _resolve(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
    for job, outcome in zip(jobs, outcomes, strict=True):
        if not job.told:
            job.told = True
            job.tell(outcome)
