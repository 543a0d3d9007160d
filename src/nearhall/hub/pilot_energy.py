"""The energy of one site over a period: by register, by position, and whether the meters agree."""

from __future__ import annotations

from typing import Any

from nearhall.core.evidence import Kind, weakest
from nearhall.hub.period import SitePeriod
from nearhall.physics.balance import MeteredEnergy, energy_balance
from nearhall.physics.electrical import ups_loss_w
from nearhall.physics.power import dynamic_power_w

POSITIONS = ("feed", "ups_in", "ups_out", "it", "cooling", "other")
JOULES_PER_KWH = 3.6e6
FULL_COVERAGE = 0.999


def metered(period: SitePeriod) -> dict[str, MeteredEnergy]:
    """Energy by position, scaled to the whole period where a register covers only a part of it."""
    lasted = max(period.end_s - period.start_s, 1e-9)
    found: dict[str, MeteredEnergy] = {}
    for about in period.about.meters:
        seen = period.meters.get(about.id)
        if seen is not None and seen.covered_s > 0 and about.position in POSITIONS:
            whole = seen.energy_kwh * lasted / seen.covered_s
            found[about.position] = MeteredEnergy(kwh=whole, class_percent=about.class_percent)
    return found


def energy_kind(period: SitePeriod) -> Kind:
    """The kind of everything derived from this site's meters; assumed where there is none."""
    positions = {meter.id for meter in period.about.meters if meter.position in POSITIONS}
    return weakest(Kind(meter.kind) for name, meter in period.meters.items() if name in positions)


def energy(period: SitePeriod) -> dict[str, Any]:
    """The `energy` object: kilowatt-hours by position, how well the books close, and what does not agree."""
    books = metered(period)
    balance = energy_balance(books, expected_ups_loss_kwh=_expected_loss_kwh(period, books))
    facility = books.get("feed")
    others = [books[position].kwh for position in ("ups_in", "cooling") if position in books]
    other = (
        books["other"].kwh
        if "other" in books
        else (max(0.0, facility.kwh - sum(others)) if facility and len(others) == 2 else None)
    )
    return {
        "facility_kwh": _round(facility.kwh if facility else None),
        **{f"{position}_kwh": _round(books[position].kwh if position in books else None) for position in POSITIONS[1:5]},
        "other_kwh": _round(other),
        "closure_percent": None if balance.closure_percent is None else round(balance.closure_percent, 3),
        "tolerance_percent": None if balance.tolerance_percent is None else round(balance.tolerance_percent, 3),
        "closes": balance.closes,
        "findings": list(balance.findings),
        "register_coverage": round(period.energy_coverage, 4),
    }


def joules(period: SitePeriod) -> tuple[float | None, float | None]:
    """(facility energy, the part of the IT energy that the work itself caused) over the period, in joules."""
    books = metered(period)
    facility = books["feed"].kwh * JOULES_PER_KWH if "feed" in books else None
    idle_w = period.about.catalogue.idle_w
    if "it" not in books or idle_w is None:
        return facility, None
    lasted = max(period.end_s - period.start_s, 1e-9)
    mean_w = books["it"].kwh * JOULES_PER_KWH / lasted
    return facility, dynamic_power_w(idle_w=idle_w, power_w=mean_w) * lasted


def _expected_loss_kwh(period: SitePeriod, books: dict[str, MeteredEnergy]) -> float | None:
    rating = period.about.ups.rating_w
    if rating is None or "ups_out" not in books:
        return None
    lasted = max(period.end_s - period.start_s, 1e-9)
    load_w = books["ups_out"].kwh * JOULES_PER_KWH / lasted
    return ups_loss_w(rating_w=rating, load_w=load_w) * lasted / JOULES_PER_KWH


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 9)
