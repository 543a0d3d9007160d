"""What a link adds to an answer, and the round trip above which answering on site pays."""

from __future__ import annotations

from nearhall.core.elementwise import Value, maximum

LIGHT_IN_FIBRE_KM_PER_MS = 200.0
"""Two thirds of the speed of light in vacuum."""


def serialisation_ms(*, size_bytes: Value, mbps: Value) -> Value:
    """Time to put `size_bytes` on a link of `mbps` (10^6 bits a second)."""
    return size_bytes * 8.0 / (mbps * 1000.0)


def distance_rtt_ms(*, kilometres: Value, route_factor: Value = 1.5) -> Value:
    """Round trip in fibre alone; a route is longer than the straight line by `route_factor` (1.5 to 2, assumed)."""
    return 2.0 * kilometres * route_factor / LIGHT_IN_FIBRE_KM_PER_MS


def break_even_rtt_ms(*, rtt_ms: Value, gain_ms: Value) -> Value:
    """The round trip at which hub and site answer equally fast.

    One exchange on a warm connection takes one round trip plus what does not depend on it, so the gain (hub minus site) falls
    by a millisecond for each millisecond of round trip: it is zero at `rtt - gain`. At 0 the site is never slower.
    """
    return maximum(rtt_ms - gain_ms, 0.0)
