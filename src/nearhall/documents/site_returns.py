"""What one metered site returned, whatever ran there: the one form that decisions are made from.

`pilot_returns` reads it from pilot.json; the Prometheus and CSV drivers fill it by a mapping. Energy is of registers, never of
watts added up: a register knows what it grew by while nobody looked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearhall.core.evidence import Kind

BLOCK_S = 900.0
"""Fifteen minutes: long enough to be nearly independent of its neighbours."""
POSITIONS = ("feed", "ups_in", "ups_out", "pdu", "it", "cooling", "other")
SITE_CLASSES = ("device", "micro", "distributed", "regional")
PARTS = ("energy", "requests", "bytes", "outdoor")
"""Of a site's figures, each with evidence of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReturn:
    """One instrument."""

    id: str
    position: str
    """One of `POSITIONS`."""
    class_percent: float | None
    """Accuracy class from its commissioning record; None where nobody wrote it down."""
    kind: Kind
    """`measured` needs a commissioning record; without one a reading is assumed, and a virtual device's is simulated."""
    serial: str | None = None
    """The maker's number; None where nobody wrote it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReturn:
    """Fifteen minutes, or the part of them that was run. Times are seconds since 1970, UTC."""

    start_s: float
    end_s: float
    register_kwh: Mapping[str, tuple[float, float]]
    """First and last reading by meter's id."""
    outdoor_c: float | None = None
    slo: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Requests in time, and all, by workload."""
    total: Mapping[str, int] = field(default_factory=dict[str, int])
    """All requests, of workloads of which nobody counted those in time."""
    in_time: Mapping[str, float] = field(default_factory=dict[str, float])
    """Share in time of such workloads, where the site told that."""
    p99_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    """99th percentile of such workloads, where the site told that."""
    latency: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    """Requests by bin of latency, by workload; the bins are in `WorkloadReturn.upto_ms`."""
    sent_bytes: float | None = None
    """On the link, both ways."""
    raw_bytes: float | None = None
    """What a central design would have sent."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s

    def kwh(self, meter: str) -> float | None:
        """What the meter's register grew by; None where it was not read, or went back (a new meter)."""
        readings = self.register_kwh.get(meter)
        return None if readings is None or readings[1] < readings[0] else readings[1] - readings[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadReturn:
    """One workload over the whole period."""

    id: str
    total: int
    """Requests that arrived."""
    local: int
    """Of those, answered on site."""
    late: int
    """Answered after the target."""
    p99_ms: float | None = None
    """Of answers on site; None below 1,000 of them."""
    limit_ms: float | None = None
    """What an answer in time kept; None where nobody told."""
    first_token: bool | None = None
    """Whether that limit is to the first token, not of the whole answer; None where nobody told."""
    upto_ms: tuple[float, ...] = ()
    """Upper ends of the bins of its latency, the last infinite; empty where there are none."""
    joules_full: float | None = None
    """A request's energy with its share of what the site takes anyway; None where it was not split by workload."""
    busy_s: float | None = None
    """How long the servers worked for it, over the period; None where nobody told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReturns:
    """One site over one period."""

    id: str
    site_class: str
    """One of `SITE_CLASSES`."""
    jurisdiction: str | None
    origin: str
    """The file or address it was read from, for messages."""
    start_s: float
    end_s: float
    coverage: float
    """Share of the period for which figures arrived; of several servers, from all of them."""
    register_coverage: float
    """The least share of the period that a meter's register covers."""
    clock_error_ms: float | None
    """Of the site against a clock outside; None where nobody compared them."""
    meters: Sequence[MeterReturn]
    energy_kwh: Mapping[str, float]
    """By position, over the whole period."""
    blocks: Sequence[BlockReturn]
    """In order of time."""
    workloads: Sequence[WorkloadReturn]
    kinds: Mapping[str, Kind]
    """Evidence of each of `PARTS`; what is not named is assumed."""
    silent: Sequence[str] = ()
    """Servers of it of which nothing arrived."""

    @property
    def seconds(self) -> float:
        """How long the period is."""
        return self.end_s - self.start_s

    def kind(self, part: str) -> Kind:
        """Evidence of a part."""
        return self.kinds.get(part, Kind.ASSUMED)

    def at(self, position: str) -> list[MeterReturn]:
        """The instruments at a position; their energies add up."""
        return [meter for meter in self.meters if meter.position == position]

    def block_kwh(self, block: BlockReturn, position: str) -> float | None:
        """The energy of one block at a position; None unless every instrument there was read."""
        meters = self.at(position)
        if not meters:
            return None
        total = 0.0
        for meter in meters:
            kwh = block.kwh(meter.id)
            if kwh is None:
                return None
            total += kwh
        return total
