"""What counts and meters joules, for tests: the work decides what they say."""

from __future__ import annotations

import threading
from itertools import count

from nearhall.core.errors import TemporaryError
from nearhall.core.evidence import Kind
from nearhall.ports.meter import MeterIdentity, Reading

READINGS = 6
"""Of one measurement."""


class Counter:
    """Counts what its machine takes: 10 W at rest, and what somebody adds."""

    def __init__(self, source: str = "rapl") -> None:
        self.source = source
        self.sum_j = 0.0
        self.closed = False

    def joules(self) -> float:
        return self.sum_j

    def close(self) -> None:
        self.closed = True

    def rest(self, seconds: float) -> None:
        self.sum_j += 10.0 * seconds


class Plug:
    """A meter that tells one power at rest and another one after it, each so often as makes a measurement."""

    def __init__(self, *, rest_w: float, busy_w: float, kind: Kind = Kind.MEASURED, spread_w: float = 0.1) -> None:
        self.kind = kind
        self.faults = False
        self.tells_power = True
        self.closed = 0
        self._powers = (rest_w, busy_w)
        self._phase = 0
        self._spread_w = spread_w
        self._reads = count()
        self._since = 0
        self._enough = threading.Event()

    @property
    def identity(self) -> MeterIdentity | None:
        return None

    async def read(self) -> Reading:
        number = next(self._reads)
        self._since += 1
        if self._since >= READINGS or self.faults or not self.tells_power:
            self._enough.set()
        if self.faults:
            raise TemporaryError("the meter does not answer")
        power = self._powers[self._phase] + self._spread_w * (-1) ** number
        return Reading(at_s=float(number), values={"power_w": power} if self.tells_power else {}, kind=self.kind)

    async def close(self) -> None:
        self.closed += 1

    def rest(self, _seconds: float = 0.0) -> None:
        """Until it was read often enough; the work begins then."""
        self.wait()
        self._phase, self._since = 1, 0
        self._enough.clear()

    def wait(self) -> None:
        assert self._enough.wait(10)
