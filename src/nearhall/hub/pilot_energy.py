"""The energy of one site over a period: by register, by position, and whether the meters agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearhall.core.evidence import Kind, weakest
from nearhall.hub.evidence import Ledger
from nearhall.hub.period import SitePeriod
from nearhall.physics.balance import MeteredEnergy, energy_balance
from nearhall.physics.electrical import ups_loss_w
from nearhall.physics.pue import CATEGORY_BY_POSITION, category

POSITIONS = ("feed", "ups_in", "ups_out", "pdu", "it", "cooling", "other")
NAMED = {"ups_in_kwh": "ups_in", "ups_out_kwh": "ups_out", "it_kwh": "it", "cooling_kwh": "cooling"}
"""Figures of `energy` that are one position's own."""
JOULES_PER_KWH = 3.6e6
MOMENTS_S = 0.5
"""Of reading: a register steps up to five times a second in the virtual cabinet, once a second in common meters, at both ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Energy by position over the period, scaled to the whole of it where a register covers only a part."""

    energy: Mapping[str, MeteredEnergy]
    kinds: Mapping[str, Kind]
    seconds: float
    virtual: frozenset[str] = frozenset()
    """Positions whose instruments are virtual: they see another load than real ones do."""

    @classmethod
    def of(cls, period: SitePeriod) -> Books:
        """From a site's records; several instruments at one position add up."""
        energy: dict[str, MeteredEnergy] = {}
        kinds: dict[str, Kind] = {}
        virtual: set[str] = set()
        for about in period.about.meters:
            seen = period.meters.get(about.id)
            if seen is None or seen.covered_s <= 0 or about.position not in POSITIONS:
                continue
            kwh = seen.energy_kwh * period.span.seconds / seen.covered_s
            moments = min(100.0, 100.0 * MOMENTS_S / seen.covered_s)
            metered = MeteredEnergy(kwh=kwh, class_percent=about.class_percent, moments_percent=moments)
            before = energy.get(about.position)
            energy[about.position] = metered if before is None else _both(before, metered)
            kind = seen.kind or Kind.ASSUMED
            kinds[about.position] = weakest([kind, kinds.get(about.position, kind)])
            if seen.virtual:
                virtual.add(about.position)
        return cls(energy=energy, kinds=kinds, seconds=period.span.seconds, virtual=frozenset(virtual))

    def kwh(self, position: str) -> float | None:
        """The energy at a position; None without an instrument there."""
        found = self.energy.get(position)
        return None if found is None else found.kwh

    def kind(self, *positions: str) -> Kind:
        """The kind of a figure derived from the instruments at these positions; assumed while one is missing."""
        return weakest(self.kinds.get(position, Kind.ASSUMED) for position in positions)

    def comparable(self, *positions: str) -> bool:
        """Whether the instruments at these positions see one load: a real feed says nothing of a virtual cabinet's parts."""
        return len({position in self.virtual for position in positions if position in self.energy}) < 2

    @property
    def one_load(self) -> Mapping[str, MeteredEnergy]:
        """The instruments that can be compared: the larger part, the real or the virtual ones; all, as a rule."""
        real = {position: energy for position, energy in self.energy.items() if position not in self.virtual}
        unreal = {position: energy for position, energy in self.energy.items() if position in self.virtual}
        return real if len(real) >= len(unreal) else unreal

    @property
    def whole_kind(self) -> Kind:
        """The weakest kind of all instruments; assumed where there is none."""
        return weakest(self.kinds.values())


def energy(period: SitePeriod, books: Books) -> dict[str, Any]:
    """The `energy` object: kilowatt-hours by position, how well the books close, and what does not agree."""
    balance = energy_balance(books.one_load, expected_ups_loss_kwh=_expected_loss_kwh(period, books))
    return {
        "facility_kwh": _round(books.kwh("feed")),
        **{name: _round(books.kwh(position)) for name, position in NAMED.items()},
        "other_kwh": _round(_other(books)),
        "closure_percent": None if balance.closure_percent is None else round(balance.closure_percent, 3),
        "tolerance_percent": None if balance.tolerance_percent is None else round(balance.tolerance_percent, 3),
        "closes": balance.closes,
        "findings": list(balance.findings),
        "register_coverage": round(period.energy_coverage, 4),
    }


def say_energy(ledger: Ledger, pointer: str, books: Books) -> None:
    """The evidence of `energy`: each figure is what the instruments are that it comes from."""

    def say(name: str, kind: Kind, more: str = "") -> None:
        instrument = "the virtual cabinet" if kind is Kind.SIMULATED else "the site's meters"
        ledger.say(f"{pointer}/{name}" if name else pointer, kind, f"energy registers of {instrument}{more}")

    say("", books.whole_kind)
    say("facility_kwh", books.kind("feed"))
    for name, position in NAMED.items():
        if position in books.kinds:
            say(name, books.kind(position))
    if "other" not in books.kinds:
        say("other_kwh", books.kind("feed", "ups_in", "cooling"), ": feed less ups_in and cooling")
    apart = sorted(set(books.energy) - set(books.one_load))
    if apart:
        why = f"; not compared with them: {', '.join(apart)}, since a real instrument and a virtual one do not see the same load"
        for name in ("closure_percent", "tolerance_percent", "closes", "findings", "other_kwh"):
            say(name, weakest(books.kinds[position] for position in books.one_load), why)
    ledger.say(f"{pointer}/register_coverage", Kind.MEASURED, "records that reached the hub, over the period")


def _other(books: Books) -> float | None:
    """What a meter at `other` says; without one, what the feed has beyond UPS input and cooling."""
    metered, feed, into, cooling = (books.kwh(position) for position in ("other", "feed", "ups_in", "cooling"))
    if metered is not None or feed is None or into is None or cooling is None:
        return metered
    if not books.comparable("feed", "ups_in", "cooling"):
        return None
    return max(0.0, feed - into - cooling)


def facility_joules(books: Books) -> float | None:
    """What the site drew over the period."""
    kwh = books.kwh("feed")
    return None if kwh is None else kwh * JOULES_PER_KWH


def it_position(books: Books) -> str | None:
    """Where the IT energy is metered: the best of IT input, PDU output and UPS output."""
    found = category({position for position in books.energy if position in CATEGORY_BY_POSITION})
    return None if found is None else found[1]


def _both(one: MeteredEnergy, other: MeteredEnergy) -> MeteredEnergy:
    classes = (one.class_percent, other.class_percent)
    known = [percent for percent in classes if percent is not None]
    return MeteredEnergy(kwh=one.kwh + other.kwh, class_percent=max(known) if len(known) == len(classes) else None)


def _expected_loss_kwh(period: SitePeriod, books: Books) -> float | None:
    rating = period.about.ups.rating_w
    out = books.kwh("ups_out")
    if rating is None or out is None:
        return None
    load_w = out * JOULES_PER_KWH / books.seconds
    return ups_loss_w(rating_w=rating, load_w=load_w) * books.seconds / JOULES_PER_KWH


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 9)
