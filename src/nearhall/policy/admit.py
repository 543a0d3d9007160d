"""What a lane may take on: how long a new request would wait, and how long its own service will take.

Values in, values out: the lane keeps the `ServiceTimes` of its model and asks `expected_ms` when a request arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

RISE = 0.10
FALL = 0.02
"""A decaying high quantile by asymmetric steps: up by a tenth of an overshoot, down by a fiftieth of an undershoot; with these
weights a steady stream settles near its p90 (measured in the trials: 98 to 99 % in deadline)."""

STOOD_STILL = 5.0
STOOD_STILL_MS = 10.0
"""A run that takes more than so many times its estimate, and than so long, is counted as that many times: the machine stood still
(suspended, stopped, swapping), which says nothing of the model. Two runs of 6 ms that were stopped for 6 s made an estimate of
1.1 s, and requests with 30 ms were refused for two minutes. A model that has become ten times slower is known one run later."""
MISSED_FALL = 0.0003
"""The same for how far off a reckoning was: with what it ages between answers, the p97 of a thousand answers a second, the p93
of three hundred. On two quiet cores that the client shares, deadline 10 ms, nine runs of 4 s in turn with 0.005 (the p91): p99 of
what is accepted at three times the limit 9.8 to 10.6 ms instead of 10.5 to 11.3, goodput 1.01 of the limit, not 0.97, 99.8 %
of the critical in time with both, and 0.84 of the limit beside them instead of 0.92. With 0.00125 10.1 to 10.8 ms (six runs)."""
HALF_LIFE_S = 1.0
TESTS_SHARE = 20.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """About the p90 of a model's service time, milliseconds."""

    service_ms: float

    def seen(self, service_ms: float, *, fall: float = FALL) -> Estimate:
        """The estimate after one more observation; with a smaller `fall` it settles at a higher quantile."""
        step = service_ms - self.service_ms
        return Estimate(self.service_ms + (RISE if step > 0 else fall) * step)

    def seen_run(self, took_ms: float, *, least_ms: float = STOOD_STILL_MS) -> Estimate:
        """The same after one more run, of which no more counts than a run can take; up to `least_ms` all of it does."""
        return self.seen(min(took_ms, max(STOOD_STILL * self.service_ms, least_ms)))

    def aged(self, unseen_s: float) -> Estimate:
        """The estimate after nothing was seen for a while: it halves again and again, so that it is put to the test.

        An estimate that refuses everybody would never be corrected. Half of it lasts a second, or twenty times as long as
        the service itself: what a test may cost in vain stays a small share of the lane's time.
        """
        if unseen_s <= 0.0:
            return self
        half_life_s = max(HALF_LIFE_S, TESTS_SHARE * self.service_ms / 1e3)
        return Estimate(self.service_ms * 0.5 ** (unseen_s / half_life_s))


SIZES_MAX = 32
"""Sizes of input that are told apart: powers of two, so that 2 GiB is the last one with a place of its own."""


def size_class(input_bytes: int) -> int:
    """Inputs within a factor of two are of one class: 0 for none, then one more for each doubling."""
    return min(input_bytes.bit_length(), SIZES_MAX)


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """What a model takes, by the size of its input: a batch of eight takes longer than one, a long text longer than a short one.

    Sizes are bytes of all input tensors together, by `size_class`.
    """

    first: Estimate
    """From the warm-up; for as long as nothing was seen."""
    by_class: Mapping[int, Estimate] = field(default_factory=dict[int, Estimate])

    def of(self, size: int) -> Estimate:
        """The estimate for an input of this class: its own, else that of the nearest class that was seen, the smaller of two.

        A size never seen is taken for what the nearest one took. A larger input may take longer, and then says so to the next
        one; to refuse what nobody tried would mean never to learn it.
        """
        own = self.by_class.get(size)
        if own is not None:
            return own
        if not self.by_class:
            return self.first
        return self.by_class[min(self.by_class, key=lambda known: (abs(known - size), known))]

    @property
    def longest_ms(self) -> float:
        """Of the class that takes longest, of those that were seen."""
        return max((known.service_ms for known in self.by_class.values()), default=self.first.service_ms)

    def seen(self, size: int, service_ms: float, *, unseen_s: float = 0.0) -> ServiceTimes:
        """The same after one more run; `unseen_s`: for how long requests of this class were turned away before it."""
        own = self.by_class.get(size) if self.by_class else self.first
        after = Estimate(service_ms) if own is None else own.aged(unseen_s).seen_run(service_ms)
        return ServiceTimes(self.first, {**self.by_class, size: after})


def expected_ms(*, ahead_ms: Iterable[float], running_left_ms: Iterable[float], workers: int = 1, own_ms: float) -> float:
    """Until the answer of a request that arrives now: what runs, what goes before it, and its own service.

    `workers` runs go on at a time; whoever is next takes the worker that is free first. A run that is overdue counts as done.
    """
    free_ms = [max(0.0, left) for left in running_left_ms]
    free_ms += [0.0] * (workers - len(free_ms))
    if len(free_ms) == 1:
        return free_ms[0] + sum(ahead_ms) + own_ms
    heapify(free_ms)
    for ms in ahead_ms:
        heapreplace(free_ms, free_ms[0] + ms)
    return free_ms[0] + own_ms


LOOP_TURNS = 4.0
"""Turns of the event loop for which there must be room before a deadline: one until the request is seen, one until its body has
come, one until its answer is written, and one for what comes meanwhile. Tried on two quiet cores that the client shares, three
runs of 4 s each: critical requests in time at three times the limit 91 to 95 % at two turns, 95 to 97 % at four, 81 to 98 % at
six; goodput 0.76 to 0.83, 0.89 to 0.91, 0.70 to 0.98 of the limit."""


def beyond_ms(*, turn_ms: float, aside_ms: float, rank: int) -> float:
    """What an answer takes beyond what its lane reckons: waiting for the event loop, and what is set aside.

    `turn_ms` is a turn of the loop; `aside_ms` by how much answers came later than was foreseen, about the p97, and the way that
    is given to the first rank. That one is not refused for the sake of either. Requests of other ranks leave room for a crowded
    loop, so that it becomes less crowded for those of the first.
    """
    return turn_ms if rank == 0 else LOOP_TURNS * turn_ms + aside_ms


STRAINED = 0.05
"""Of its deadline: what the first rank's answers may take, about the p90, before other ranks give way. At three times the limit,
a fifth of it of the first rank, on two cores that the client shares, 18 runs of 3 s: 99.5 % of the first rank in time at 0.05
instead of 99.3 at 0.15, for goodput of 0.81 of the limit instead of 0.84; at 0 no more, and less goodput. At 0.8 times the limit
98.8 % of all are answered in time instead of 99.1."""


def way_ms(strain: float, limit_ms: float) -> float:
    """The room that a request of another rank leaves before its own limit, so that the first rank is answered in time.

    `strain` is the share of their deadlines that answers of the first rank take, about the p90. From `STRAINED` on others give
    way, the more the nearer it comes to the whole; then they are not taken at all.
    """
    return min(1.0, max(0.0, strain - STRAINED) / (1.0 - STRAINED)) * limit_ms


USUAL_STEP = 0.02


def usual_share(share: float, service_ms: float, estimate_ms: float) -> float:
    """What a run usually takes of its estimate, which is about its p90: a moving mean, at most the whole.

    A request of the first rank counts those before it at this. Several runs in a row hardly ever take their p90 each, and who
    has nobody to give way to is refused in vain: in three runs as above 98.6 to 99.5 % of the first rank in time instead of 97.4
    to 98.3.
    """
    if estimate_ms <= 0.0:
        return share
    return share + USUAL_STEP * (min(1.0, service_ms / estimate_ms) - share)


def queue_full(waiting: int, limit: int) -> bool:
    """Whether the bounded queue takes no more."""
    return waiting >= limit


def still_worth(now_ms: float, deadline_ms: float | None, own_ms: float, *, client_gone: bool) -> bool:
    """Whether a request that reaches the head of the queue is worth running: its client waits, its deadline can be met."""
    return not client_gone and (deadline_ms is None or now_ms + own_ms <= deadline_ms)
