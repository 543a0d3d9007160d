"""What a server draws at a given load."""

from __future__ import annotations

from nearhall.core.elementwise import Value, maximum, minimum


def server_power_w(*, idle_w: Value, busy_w: Value, load: Value, exponent: float = 1.0) -> Value:
    """Watts at the wall: idle + (busy - idle) x load^exponent, with the load held between 0 and 1.

    The linear form (exponent 1): Fan, Weber, Barroso, "Power provisioning for a warehouse-sized computer", ISCA 2007.
    """
    held = minimum(maximum(load, 0.0), 1.0)
    return idle_w + (busy_w - idle_w) * held**exponent


def dynamic_power_w(*, idle_w: Value, power_w: Value) -> Value:
    """The part of the power that the work itself causes; never negative."""
    return maximum(power_w - idle_w, 0.0)
