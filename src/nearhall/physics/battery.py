"""How long a battery and a room hold without the mains."""

from __future__ import annotations

from nearhall.core.elementwise import Value, minimum


def hold_s(*, usable_j: Value, load_w: Value) -> Value:
    """Seconds that `usable_j` carries a constant load; an upper bound for lead-acid under an hour (use the maker's table)."""
    return usable_j / load_w


def thermal_hold_s(*, thermal_mass_j_per_k: Value, headroom_k: Value, heat_w: Value) -> Value:
    """Seconds until uncooled heat uses up the allowed rise: C dT / Q. With 100 kJ/K, 8 kW rises 4.8 K a minute."""
    return thermal_mass_j_per_k * headroom_k / heat_w


def site_hold_s(*, battery_s: Value, thermal_s: Value) -> Value:
    """A site holds as long as the shorter of the two."""
    return minimum(battery_s, thermal_s)
