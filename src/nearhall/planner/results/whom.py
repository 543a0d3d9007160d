"""Whom to ask: who knows a quantity of the plan, and who answers a check that nobody could compute."""

from __future__ import annotations

from collections.abc import Sequence

from nearhall.planner.power.check import Check
from nearhall.planner.sensitivity.measurements import fits

ENGINEER = "a licensed electrician or engineer"
UPS_MAKER = "the maker of the UPS: its data sheet"
COOLING_MAKER = "the maker of the cooling: its data sheet"
SERVER_MAKER = "the maker of the servers: its data sheet"
GRID = "the landlord or the operator of the power grid"

FINANCE = "finance, with whoever runs the sites"
SERVICE = "the service desk"
SERVER_SUPPLIER = "a supplier of servers"
CABINET_SUPPLIER = "a supplier of cabinet, cooling and UPS"
FACILITY = "facility management"
LINE = "the network provider"
NETWORK = "the network team"
HUB = "whoever runs the hub"
APPLICATION = "whoever runs the application"
TRIAL = "whoever tries the model on the hardware"
PILOT = "the pilot's meters"
AUTHOR = "the plan's author: it is a choice"

KNOWS: tuple[tuple[str, str], ...] = (
    ("workloads.*.value", FINANCE),
    ("workloads.*.measured.*", TRIAL),
    ("workloads.*", APPLICATION),
    ("hubs.*", HUB),
    ("hub.*", HUB),
    ("hardware.*hub*", HUB),
    ("*hardware.life_years", FINANCE),
    ("*hardware.cost.*", SERVER_SUPPLIER),
    ("hardware.*.cost_usd", SERVER_SUPPLIER),
    ("hardware.*", SERVER_MAKER),
    ("*enclosure*", CABINET_SUPPLIER),
    ("*operations.*", SERVICE),
    ("*tariff*", FACILITY),
    ("sites.*.uplink.rtt_ms", NETWORK),
    ("sites.*.uplink.*", LINE),
    ("uplink.*", LINE),
    ("*cooling.*", COOLING_MAKER),
    ("sites.*.climate*", FACILITY),
    ("ups.temperature_c", FACILITY),
    ("*ups.*", UPS_MAKER),
    ("thermal.ups_*", UPS_MAKER),
    ("thermal.*", CABINET_SUPPLIER),
    ("access.*", NETWORK),
    ("network.*", NETWORK),
    ("lan.*", NETWORK),
    ("gateway.*", TRIAL),
    ("memory.*", TRIAL),
    ("service.batch_of_slo", AUTHOR),
    ("service.*", TRIAL),
    ("llm.*", APPLICATION),
    ("site.*", PILOT),
    ("sites.*", FACILITY),
    ("fleet.*", APPLICATION),
    ("feeders.*", GRID),
    ("outage.kept_share", APPLICATION),
    ("outage.*", AUTHOR),
    ("rollout.*", AUTHOR),
    ("decide.*", AUTHOR),
    *((f"{name}*", SERVER_MAKER) for name in ("boot.", "crest.", "inrush_peak.", "leakage.", "nameplate", "power", "supplies.")),
)
"""(names in the ledger, without `default:`, and who knows them): the first that fits holds."""

ANSWERS: dict[str, str] = {
    "inrush": UPS_MAKER,
    "UPS bypass start": UPS_MAKER,
    "UPS walk-in": UPS_MAKER,
    "UPS retransfer": UPS_MAKER,
    "UPS bypass": UPS_MAKER,
    "inrush beside load": UPS_MAKER,
    "compressor on the UPS": UPS_MAKER,
    "battery power": UPS_MAKER,
    "hold": UPS_MAKER,
    "battery": UPS_MAKER,
    "compressor start": COOLING_MAKER,
    "cooling at altitude": COOLING_MAKER,
    "inlet": SERVER_MAKER,
    "short circuit": GRID,
    "cable": ENGINEER,
    "voltage drop": ENGINEER,
    "fault at the cable's end": ENGINEER,
    "selectivity": ENGINEER,
    "neutral": ENGINEER,
    "breaker at altitude": ENGINEER,
}
"""By a check's name, of those that may stay open."""


def who_knows(name: str) -> str:
    """Who knows a number of the ledger; whoever wrote the plan where the mapping has no line for it."""
    plain = name.removeprefix("default:")
    return next((who for pattern, who in KNOWS if fits(plain, pattern)), AUTHOR)


def all_who_know(names: Sequence[str]) -> list[str]:
    """Each of them once, in the order of the names."""
    return list(dict.fromkeys(who_knows(name) for name in names))


def who_answers(check: Check, *, ups: bool) -> str | None:
    """Who answers a check that is open, at a site with a UPS or without; None for one that is computed."""
    if check.state != "not_checked":
        return None
    who = ANSWERS.get(check.name, ENGINEER)
    return ENGINEER if who == UPS_MAKER and not ups else who
