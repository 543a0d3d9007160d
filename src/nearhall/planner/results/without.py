"""What a plan's return is compared with: what there is without its sites."""

from __future__ import annotations

from nearhall.documents.plan_work import Workload
from nearhall.planner.plan import Placed, Planned
from nearhall.planner.results.spread import listed, usd

SILENT = ("", "the plan's author")
"""Sources that tell a reader nothing."""


def without_sites(planned: Planned) -> str:
    """The comparison in words: what the hub answers, and what no hub does, with what the plan says that is worth."""
    built = [site for site in planned.sites if site.built]
    hub = {s.point.workload.id for site in built for s in site.served if s.hub.allowed}
    nobody = {s.point.workload.id: s.point.workload for site in built for s in site.served if not s.hub.allowed}
    told = [f"Without these sites the hub answers {listed(hub)}."] if hub else []
    if nobody:
        reasons = [p for p in planned.placed if p.point.workload.id in nobody and p.at == p.point.site.id]
        why = "; ".join(dict.fromkeys(_binding(p) for p in reasons))
        why = why.replace("its data", "their data") if len(nobody) > 1 else why
        verb = "may" if all(_forbidden(p) for p in reasons) else "can"
        told.append(f"No hub {verb} answer {listed(nobody)} ({why}): without a site you keep what you have there.")
        told += [_worth(workload) for _, workload in sorted(nobody.items())]
    return " ".join(told)


def _binding(placed: Placed) -> str:
    """What speaks against the hub that is nearest to being possible; by how much it would be late stands with each workload."""
    hubs = [option for option in placed.options if option.is_hub]
    best = max(hubs, key=lambda option: option.p_slo, default=None)
    if best is None or not best.against:
        return "another place is better"
    return "answers would come too late" if best.kind_against == "latency" else best.against[0].removeprefix("residency: ")


def _forbidden(placed: Placed) -> bool:
    return all(option.kind_against == "residency" for option in placed.options if option.is_hub)


def _worth(workload: Workload) -> str:
    """What the plan says that having it answered is worth, and who says so."""
    yearly, each = workload.value_usd_per_year, workload.value_usd_per_1000
    said = yearly or each
    if said is None:
        return f"What {workload.id} would add is not said."
    unit = "a year to each site" if yearly is not None else "for each thousand"
    source = said.evidence.source
    whose = f" ({source})" if source not in SILENT else ""
    amount = usd(said.p50) if said.p50 >= 1 else f"${said.p50:.2g}"
    return f"The plan values {workload.id} at {amount} {unit}{whose}."
