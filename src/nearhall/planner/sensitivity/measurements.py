"""Which inputs of a plan can be measured, how, and how long that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Entry
from nearhall.planner.sensitivity.tornado import Bar
from nearhall.planner.sensitivity.worth import evppi_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One thing to measure, and what it is worth before the decision."""

    what: str
    words: str
    inputs: tuple[str, ...]
    """Names in the ledger that it settles."""
    days: float
    usd: float
    """Expected value of knowing them all before each kind of site is built or left."""
    share: float
    """Of the variance of the return that they explain: the sum of their shares in the tornado."""

    @property
    def usd_per_day(self) -> float:
        """What a day of it is worth."""
        return self.usd / self.days

    @property
    def at_a_desk(self) -> bool:
        """Whether somebody has only to be asked, or a paper to be read: no pilot is needed for it."""
        return self.what.startswith(("ask ", "read "))


HOW: tuple[tuple[str, str, str, float], ...] = (
    ("*.value", "ask what the answers are worth", "what they earn, or what they replace, from last year's books", 3.0),
    ("*.arrivals.rate_per_s", "count requests", "a counter at one site of each kind for two weeks", 14.0),
    ("*.data.*", "weigh a request", "log the sizes of a day's requests", 1.0),
    ("*site.it_scale", "meter IT power", "an IT meter at one site under real load for a week (nearhall up --meter)", 7.0),
    ("*.idle_w", "meter an idle server", "a plug meter on one server for a day", 1.0),
    ("*.busy_w", "meter a busy server", "a plug meter on one server under your own model for a day", 1.0),
    ("*power*", "meter a server under load", "a plug meter on one server at several loads for two days", 2.0),
    ("*site.overhead_scale", "meter the feed", "feed and IT meters for two months, one of them warm", 60.0),
    ("*cooling*", "meter the cooling", "a meter on the cooling for a month", 30.0),
    ("*tariff*", "read the bill", "last year's bills of the sites", 1.0),
    ("*uplink*", "read the contract", "the line's contract and its router's counters for a week", 7.0),
    ("*hub*", "ask the hub", "a quote and last month's utilisation of the hub", 2.0),
    ("*cost_usd", "ask for a quote", "quotes for servers", 5.0),
    ("*hardware.cost*", "ask for a quote", "quotes for servers", 5.0),
    ("*enclosure*", "ask for a quote", "a quote for cabinet, cooling and UPS", 5.0),
    ("*operations*", "ask the service desk", "last year's visits, hours and spares", 2.0),
    ("*service.*", "run the model", "your own model on the hardware for a day (nearhall models add)", 1.0),
    ("*.speed", "run the model", "your own model on the hardware for a day (nearhall models add)", 1.0),
    ("*access*", "probe the link", "nearhall up --hub-probe URL for a day", 1.0),
    ("*network*", "probe the link", "nearhall up --hub-probe URL for a day", 1.0),
    ("*rtt_ms", "probe the link", "nearhall up --hub-probe URL for a day", 1.0),
    ("*site.own_power_w", "meter IT power", "an IT meter at one site under real load for a week (nearhall up --meter)", 7.0),
)
"""(names in the ledger, what, how, days): days are assumed."""


def how(name: str) -> tuple[str, str, float] | None:
    """(what, how, days) to measure an input; None for what cannot be measured ahead."""
    return next(((what, words, days) for pattern, what, words, days in HOW if fits(name, pattern)), None)


def fits(name: str, pattern: str) -> bool:
    """Whether the pattern's parts between its `*` stand in the name in this order, at its ends where it has no `*` there."""
    first, *rest = pattern.split("*")
    if not name.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return not rest or (name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= at)


def measurements(
    returns: Sequence[Samples], inputs: Mapping[str, Samples], entries: Mapping[str, Entry], bars: Mapping[str, Bar]
) -> tuple[Measurement, ...]:
    """What could be measured next, the most worth a day of metering first; what turns no decision comes by its share of doubt.

    `returns`: of each kind of site, since each is built or left by itself. Inputs that are measured already are left out.
    """
    groups: dict[tuple[str, str, float], list[str]] = {}
    for name in inputs:
        found = how(name)
        if found is not None and entries[name].quantity.evidence.kind.value != "measured":
            groups.setdefault(found, []).append(name)
    made = [
        Measurement(
            what=what,
            words=words,
            inputs=tuple(names),
            days=days,
            usd=sum(evppi_usd(kind, *(inputs[name] for name in names)) for kind in returns),
            share=sum(bars[name].share for name in names if name in bars and not bars[name].is_noise),
        )
        for (what, words, days), names in groups.items()
    ]
    return tuple(sorted(made, key=lambda m: (-m.usd_per_day, -m.share / m.days, m.what, m.words)))
