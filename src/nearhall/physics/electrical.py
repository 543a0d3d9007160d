"""Volt-amperes, currents, and what a UPS loses."""

from __future__ import annotations

from nearhall.core.elementwise import Value, sqrt, where

UPS_FIXED_LOSS = 0.04
"""Share of the rating lost at any load. Schneider Electric white paper 25, "Calculating total cooling requirements"."""
UPS_PROPORTIONAL_LOSS = 0.05
"""Share of the load lost on top. Same source."""


def ups_loss_w(*, rating_w: Value, load_w: Value) -> Value:
    """Heat of a double-conversion UPS: 0.04 x rating + 0.05 x load (Schneider white paper 25)."""
    return UPS_FIXED_LOSS * rating_w + UPS_PROPORTIONAL_LOSS * load_w


def apparent_va(*, power_w: Value, power_factor: Value) -> Value:
    """Volt-amperes of a load; raises ZeroDivisionError for a power factor of 0 (floats)."""
    return power_w / power_factor


def current_a(*, apparent_va: Value, volts: Value, phases: int) -> Value:
    """Amperes per line. `volts` is line to neutral for one phase, line to line for three: I = S / (V x sqrt 3)."""
    return apparent_va / (volts * (sqrt(3.0) if phases == 3 else 1.0))


def efficiency(*, in_w: Value, out_w: Value) -> Value:
    """Output over input; 0 where nothing goes in."""
    return where(in_w > 0, out_w / where(in_w > 0, in_w, 1.0), 0.0)
