"""A server as the plan knows it: what the plan says, else the catalogue, else a default; each with its samples."""

from __future__ import annotations

from dataclasses import dataclass

from nearhall.core.evidence import Evidence, Kind
from nearhall.core.quantity import Exact, LogNormal, Quantity, Spread, log_sigma
from nearhall.documents.hardware import Fact, System
from nearhall.documents.plan_place import Hardware
from nearhall.physics.memory import GIB
from nearhall.planner.samples.draws import Samples
from nearhall.planner.samples.ledger import Ledger

READ_SIGMA = 0.05
"""What separates a server like the one in a benchmark's log from that one: assumed, a few percent of power and speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server of a kind."""

    id: str
    system: System
    idle_w: Samples
    busy_w: Samples
    power_factor: Samples
    memory_bytes: Samples
    cost_usd: Samples
    nameplate_w: Samples
    supplies: float
    """Of one server; below 1 where several share one."""
    crest: float
    """Of a supply's current over its root mean square."""
    inrush_peak_a: Samples
    """Of one supply."""
    leakage_ma: Samples
    """Of one supply."""
    speed: Samples
    """Its speed over the catalogue's figures, about 1."""

    @property
    def supply(self) -> str:
        """What feeds it: brick, shared_dc or server."""
        return self.system.supply


def resolve_server(hardware: Hardware, system: System, ledger: Ledger) -> Server:
    """The server's samples, and in the ledger where each comes from."""
    at, source = f"hardware.{hardware.id}", Evidence(kind=Kind(system.kind), source=system.source, date=system.date)
    memory, price, cords = (_evidence(system.fact(figure)) for figure in ("mem_gib", "cost_usd", "supplies"))

    def read(value: float | None, unit: str, spread: Spread | None = None, evidence: Evidence = source) -> Quantity | None:
        if value is None:
            return None
        return Quantity(p50=value, unit=unit, evidence=evidence, spread=spread or Exact())

    like = LogNormal(READ_SIGMA)
    busy_w = ledger.take(f"{at}.busy_w", hardware.busy_w or read(system.busy_w, "W", like))
    over = ledger.take(f"{at}.nameplate_over_busy", None, "nameplate_over_busy")
    if hardware.nameplate_w is not None:
        nameplate_w = ledger.take(f"{at}.nameplate_w", hardware.nameplate_w)
    elif system.nameplate_w is not None:
        nameplate_w = ledger.take(f"{at}.nameplate_w", read(system.nameplate_w, "W"))
    else:
        nameplate_w = busy_w * over
    cost = system.cost_usd
    priced = None
    if cost is not None:
        priced = read(cost.p50, "usd", LogNormal(log_sigma(p50=cost.p50, p90=cost.p90)), price)
    return Server(
        id=hardware.id,
        system=system,
        idle_w=ledger.take(f"{at}.idle_w", hardware.idle_w or read(system.idle_w, "W", like)),
        busy_w=busy_w,
        power_factor=ledger.take(
            f"{at}.power_factor", hardware.power_factor or read(system.power_factor, "1"), f"power_factor.{system.supply}"
        ),
        memory_bytes=ledger.take(f"{at}.mem_gib", hardware.mem_gib or read(system.mem_gib, "GiB", None, memory)) * GIB,
        cost_usd=ledger.take(f"{at}.cost_usd", hardware.cost_usd or priced, f"hardware.cost.{system.supply}"),
        nameplate_w=nameplate_w,
        supplies=ledger.quantity(
            f"{at}.supplies", hardware.supplies or read(system.supplies, "1", None, cords), f"supplies.{system.supply}"
        ).p50,
        crest=ledger.fixed(f"{at}.crest", f"crest.{system.supply}"),
        inrush_peak_a=ledger.take(
            f"{at}.inrush_peak_a", hardware.inrush_peak_a or read(system.inrush_peak_a, "A"), f"inrush_peak.{system.supply}"
        ),
        leakage_ma=ledger.take(
            f"{at}.leakage_ma", hardware.leakage_ma or read(system.leakage_ma, "mA"), f"leakage.{system.supply}"
        ),
        speed=ledger.take(f"{at}.speed", read(1.0, "1", like)),
    )


def _evidence(fact: Fact) -> Evidence:
    return Evidence(kind=Kind(fact.kind), source=fact.source, date=fact.date)
