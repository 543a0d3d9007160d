"""Where the figures of plan-result.json come from: each part names the inputs that it rests on, and is as weak as the weakest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nearhall.core.evidence import weakest
from nearhall.planner.plan import Planned, SitePlan
from nearhall.planner.samples.ledger import Entry

NAMED = 3
"""Weakest inputs that a source names."""
MONEY = (".cost_usd", ".tariff.", ".operations.", ".enclosure_usd", ".value", ".uplink.", ".usd_per_server_hour")
MEMORY = (".mem_gib", ".runtime_gib", ".fragmentation", ".activations_gib")
WAY = ("lan.", "network.", "gateway.")
SPEED = (".speed", ".busy_w", ".idle_w")

Json = dict[str, Any]
Wanted = Callable[[str], bool]


def evidence_part(planned: Planned, entries: Mapping[str, Entry]) -> Json:
    """By JSON pointer; the shortest holds for everything that has no entry nearer to it."""
    everything = tuple(entries.values())
    found: Json = {"": _derived(planned, everything), "/placement": _derived(planned, everything, "HiGHS on averages; ")}
    found["/memory"] = _derived(planned, _resting(everything, _of_memory))
    for index, workload in enumerate(planned.plan.workloads):
        found[f"/workloads/{index}"] = _derived(planned, _resting(everything, _of_workload(workload.id)))
        found[f"/workloads/{index}/per_thousand"] = _derived(planned, everything)
    for index, site in enumerate(planned.sites):
        found[f"/sites/{index}"] = _derived(planned, _resting(everything, _of_site(site)))
    physical = [entry for site in planned.sites if site.built for entry in _resting(everything, _of_site(site))]
    together = _resting(everything, lambda path: path.startswith("fleet"))
    found["/fleet"] = _derived(planned, tuple(dict.fromkeys([*physical, *together])))
    for index, entry in enumerate(everything):
        found[f"/ledger/{index}"] = as_said(entry)
    return found


def as_said(entry: Entry) -> Json:
    """One input's own evidence."""
    evidence = entry.quantity.evidence
    dated = {"date": evidence.date} if evidence.date else {}
    return {"kind": evidence.kind.value, "source": evidence.source, **dated}


def _resting(entries: Sequence[Entry], wanted: Wanted) -> tuple[Entry, ...]:
    return tuple(entry for entry in entries if any(wanted(path) for path in entry.used_by))


def _of_memory(path: str) -> bool:
    return path.endswith(MEMORY)


def _of_workload(name: str) -> Wanted:
    def wanted(path: str) -> bool:
        own = path.startswith(f"workloads.{name}.") and not path.endswith((".value", *MEMORY))
        return own or path.startswith(WAY) or path.endswith((".access", ".route_factor", ".rtt_ms", ".speed"))

    return wanted


def _of_site(site: SitePlan) -> Wanted:
    there = tuple(f"workloads.{s.point.workload.id}." for s in site.served if not s.at_hub)
    servers = tuple(f"hardware.{rack.server.id}." for rack in site.load.racks)
    starts = (f"sites.{site.site.id}.", *there, *servers, "power.", "boot.")

    def wanted(path: str) -> bool:
        return path.startswith(starts) and not any(part in f"{path}." for part in MONEY) and not path.endswith(MEMORY)

    return wanted


def _derived(planned: Planned, entries: Sequence[Entry], how: str = "") -> Json:
    kinds = Counter(entry.quantity.evidence.kind for entry in entries)
    if not kinds:
        return {"kind": "assumed", "source": f"{how}the plan as it is written"}
    worst = weakest(kinds)
    told = ", ".join(f"{count} {kind.value}" for kind, count in kinds.most_common())
    names = [entry.words or entry.name for entry in entries if entry.quantity.evidence.kind is worst]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    source = (
        f"{how}{planned.plan.samples:,} samples of this plan's model, seed {planned.plan.seed}, "
        f"from {len(entries)} inputs ({told}); "
        f"{worst.value}: {', '.join(names[:NAMED])}{more}"
    )
    return {"kind": worst.value, "source": source, "inputs": {kind.value: count for kind, count in kinds.most_common()}}
