"""What a link adds to an answer, and the round trip above which answering on site pays."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from nearhall.core.elementwise import Value, maximum

LIGHT_IN_FIBRE_KM_PER_MS = 200.0
"""Two thirds of the speed of light in vacuum."""


EARTH_RADIUS_KM = 6371.0088
"""Mean radius (IUGG)."""


def great_circle_km(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Shortest way over the earth's surface between two places in degrees (haversine; off by at most 0.5 %)."""
    north, east = radians(other_lat - lat) / 2.0, radians(other_lon - lon) / 2.0
    h = sin(north) ** 2 + cos(radians(lat)) * cos(radians(other_lat)) * sin(east) ** 2
    return 2.0 * EARTH_RADIUS_KM * asin(min(sqrt(h), 1.0))


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
