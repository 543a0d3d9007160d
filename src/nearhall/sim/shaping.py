"""When bytes that enter a link leave it: pure, in seconds, without a clock of its own.

A direction of a site's link is a wire that puts one message after the other (bandwidth, shared by all connections); each
connection keeps its own order and adds half a round trip and some jitter. Not modelled: loss, TCP's slow start (the kernel's own
runs on loopback, where it costs nothing), competition with other sites.
"""

from __future__ import annotations

from dataclasses import dataclass

BITS = 8.0
MEGA = 1e6
HELD_BYTES_MIN = 1 << 20
HELD_BYTES_MAX = 16 << 20
"""What one direction of a connection may hold back, at least and at most; then its sender waits, as behind a full window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the link is like."""

    rtt_s: float
    """The least round trip; half of it each way."""
    jitter_s: float
    """A round trip takes up to this much longer; each way draws its half evenly."""
    bytes_per_s: float
    """Per site and direction; 0 is unlimited."""

    @classmethod
    def of(cls, *, rtt_ms: float, jitter_ms: float, mbps: float) -> Shape:
        """From the units that people use."""
        return cls(rtt_s=rtt_ms / 1000.0, jitter_s=jitter_ms / 1000.0, bytes_per_s=mbps * MEGA / BITS)

    @property
    def held_bytes_max(self) -> int:
        """Twice what is in flight at full rate, so that a connection can fill the link, within the two limits."""
        return int(min(max(2.0 * self.rtt_s * self.bytes_per_s, HELD_BYTES_MIN), HELD_BYTES_MAX))


class Wire:
    """One direction of one site's link."""

    __slots__ = ("_free_at_s",)

    def __init__(self) -> None:
        self._free_at_s = float("-inf")

    def put(self, size_bytes: int, now_s: float, shape: Shape) -> float:
        """Puts a message on the wire as soon as it is free; gives the time at which its last byte is on it."""
        begun_s = max(now_s, self._free_at_s)
        if shape.bytes_per_s:
            begun_s += size_bytes / shape.bytes_per_s
            self._free_at_s = begun_s
        return begun_s


class Order:
    """One direction of one connection: nothing overtakes what went before."""

    __slots__ = ("_last_due_s", "_opens_at_s", "_wire")

    def __init__(self, wire: Wire, *, opens_at_s: float) -> None:
        self._wire = wire
        self._opens_at_s = opens_at_s
        self._last_due_s = float("-inf")

    def due(self, size_bytes: int, now_s: float, shape: Shape, draw: float) -> float:
        """When a message that enters now arrives. `draw` is uniform in 0..1; before the connection is up nothing enters."""
        on_wire_s = self._wire.put(size_bytes, max(now_s, self._opens_at_s), shape)
        due_s = on_wire_s + (shape.rtt_s + draw * shape.jitter_s) / 2.0
        self._last_due_s = max(due_s, self._last_due_s)
        return self._last_due_s
