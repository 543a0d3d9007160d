"""Power usage effectiveness: energies over the same period, as a ratio of sums (ISO/IEC 30134-2, EN 50600-4-2)."""

from __future__ import annotations

CATEGORY_BY_POSITION: dict[str, int] = {"ups_out": 1, "pdu": 2, "it": 3}
"""Where the IT energy is metered: UPS output 1, PDU output 2, the IT equipment's input 3."""
ANNUAL_SECONDS = 365 * 86_400.0
"""The standard's period; a shorter one is an interim PUE."""


def pue(*, facility_kwh: float, it_kwh: float) -> float | None:
    """Facility energy over IT energy; None when there was no IT energy. Never a mean of ratios."""
    return facility_kwh / it_kwh if it_kwh > 0 else None


def category(positions: set[str]) -> tuple[int, str] | None:
    """The best category that the meters allow and the position it is metered at; None without any of them."""
    found = [(CATEGORY_BY_POSITION[position], position) for position in positions if position in CATEGORY_BY_POSITION]
    return max(found, default=None)


def is_interim(period_s: float) -> bool:
    """Whether the period is shorter than the year that the standard asks for."""
    return period_s < ANNUAL_SECONDS


def categories(*, facility_kwh: float, ups_out_kwh: float, pdu_out_kwh: float, it_kwh: float) -> tuple[float, float, float]:
    """PUE of category 1 (IT metered at the UPS's output), 2 (at the distribution's) and 3 (at the equipment): 1 <= 2 <= 3."""
    return facility_kwh / ups_out_kwh, facility_kwh / pdu_out_kwh, facility_kwh / it_kwh
