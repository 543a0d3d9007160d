"""What `nearhall plan` writes: the result, the report, the parts list, and a site.yaml for each kind of site."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nearhall.core.errors import InputError
from nearhall.documents.plan import Plan
from nearhall.documents.plan_place import Site
from nearhall.documents.site import NODES_MAX, SiteDocument
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import dump_document
from nearhall.report.plan.page import render_plan

PORT_FIRST = 8080
"""Of the first node; each further one takes the next, so that all can be tried on one machine."""
PARTS = (
    "site",
    "count",
    "item",
    "what",
    "quantity",
    "quantity_total",
    "unit_usd",
    "unit_usd_p10",
    "unit_usd_p90",
    "line_usd",
    "within",
    "needs_quote",
    "evidence",
    "source",
)


def write_plan(out: Path, plan: Plan, result: Mapping[str, Any]) -> list[Path]:
    """Writes everything into `out`, which is made; raises InputError where it cannot."""
    files: dict[str, bytes] = {
        "plan-result.json": json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False).encode(),
        "report.html": render_plan(result).encode(),
        "bill-of-materials.csv": parts_list(result),
    }
    for site in plan.sites:
        part = next(s for s in result["sites"] if s["id"] == site.id)
        if part["built"]:
            files[f"sites/{site.id}.yaml"] = site_yaml(plan, site, part)
    try:
        (out / "sites").mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(out / name, data)
    except OSError as error:
        right = "name a folder that you may write"
        raise InputError(f"{out} cannot be written ({error.strerror})", where="--out", right=right) from error
    return [out / name for name in files]


def in_json(part: Any) -> Any:
    """The same with null for what is no number: JSON knows neither NaN nor infinity."""
    if isinstance(part, Mapping):
        return {key: in_json(value) for key, value in part.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(part, list | tuple):
        return [in_json(value) for value in part]  # pyright: ignore[reportUnknownVariableType]
    return None if isinstance(part, float) and not math.isfinite(part) else part


def parts_list(result: Mapping[str, Any]) -> bytes:
    """One row for each part of one site, with how many all its sites take; last the allowance and the total, as in the report."""
    text = io.StringIO()
    table: csv.DictWriter[str] = csv.DictWriter(text, PARTS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    whole = 0.0
    for row in result["bill_of_materials"]:
        price, pieces = row["unit_usd"], row["quantity"] * row["count"]
        told = {"quantity_total": pieces, "needs_quote": "yes" if row["needs_quote"] else "no", "evidence": row["kind"]}
        if price is not None:
            whole += price["p50"] * pieces
            told |= {"unit_usd": f"{price['p50']:.0f}", "line_usd": f"{price['p50'] * pieces:.0f}"}
            told |= {f"unit_usd_{end}": f"{price[end]:.0f}" for end in ("p10", "p90")}
        table.writerow({**row, "unit_usd": None, **told})
    known = result["money"].get("capex")
    if known is not None:
        why = "what is not known of prices: medians do not add up"
        table.writerow({"site": "all", "item": "allowance", "what": why, "line_usd": f"{known['p50'] - whole:.0f}"})
        what = f"all sites; 8 of 10 cases lie between {known['p10']:.0f} and {known['p90']:.0f} USD, without taxes"
        table.writerow({"site": "all", "item": "total", "what": what, "line_usd": f"{known['p50']:.0f}"})
    return text.getvalue().encode()


def site_yaml(plan: Plan, site: Site, part: Mapping[str, Any]) -> bytes:
    """The configuration that `nearhall site` starts from; what only the place knows is left to be written in."""
    nodes = _nodes(plan, part)
    workloads = [w for w in plan.workloads if w.id in part["workloads"]]
    document: dict[str, Any] = {
        "schema": "nearhall/site/v1",
        "id": site.id,
        "class": site.site_class,
        "jurisdiction": site.jurisdiction,
        "envelope": {
            "it_power_kw": site.it_budget_kw,
            "feed": {
                "phases": site.supply.phases,
                "volts": site.supply.volts,
                "breaker_a": site.supply.breaker_a or part["breaker"]["needed_a"],
                "code": site.supply.code,
                "feeder": site.supply.feeder,
            },
            "cooling": {
                "kind": site.cooling.kind,
                "capacity_kw": site.cooling.capacity_kw.p50,
                "class": site.cooling.ashrae,
            },
            "ups": {"kw": site.ups.kw, "hold_min": site.ups.hold_min} if site.ups is not None else None,
        },
        "nodes": nodes[:NODES_MAX],
        "workloads": _workloads(workloads),
    }
    models = [str(one["model"]) for one in document["workloads"]]
    head = "".join(f"# {line}\n" for line in _head(plan, site, part, servers=len(nodes), models=models))
    return head.encode() + dump_document(SiteDocument.model_validate(document))


def _head(plan: Plan, site: Site, part: Mapping[str, Any], *, servers: int, models: Sequence[str]) -> Iterator[str]:
    """What a person at the site reads first."""
    yield f"Planned from {plan.name or 'a plan'}. {'; '.join(_who(part))}."
    if site.count > 1:
        yield f"One of {site.count} alike: give each cabinet an id of its own, {site.id}-001 and so on."
    if servers > NODES_MAX:
        yield f"{servers} servers stand here and a file holds {NODES_MAX}: split them into sites of their own."
    if servers > 1:
        yield "Each server runs `nearhall site` with this file and its own --node. The first reads the meters, the others none."
        yield "Clients are given the addresses of the nodes that serve them, and share themselves out over these."
    on_each = ", to each server those that it is for" if servers > 1 else ""
    yield f"Its models ({', '.join(models)}) come by `nearhall models fetch` or `nearhall models add FILE`{on_each}."
    yield "To be written in at the site: hub (https://...), meters (feed, ups_in, it, cooling),"
    yield f"and as http where {'each node listens on its machine' if servers > 1 else 'the node listens'}."


def _who(part: Mapping[str, Any]) -> Iterator[str]:
    """Which nodes are of which kind, and what they were planned for."""
    first = 1
    for rack in part["hardware"]:
        last = first + rack["count"] - 1
        nodes = f"n{first}" if last == first else f"n{first}{' and' if last == first + 1 else ' to'} n{last}"
        yield f"{nodes}: {rack['count']} x {rack['id']} for {', '.join(rack['workloads'])}"
        first = last + 1


def _nodes(plan: Plan, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One for each server of every kind that stands there, in the plan's order."""
    refs = {h.id: h.ref for h in plan.hardware}
    hardware = [refs[rack["id"]] for rack in part["hardware"] for _ in range(rack["count"])]
    return [
        {"id": f"n{n}", "hardware": ref, "http": f"127.0.0.1:{PORT_FIRST + n - 1}"} for n, ref in enumerate(hardware, start=1)
    ]


def _workloads(workloads: list[Any]) -> list[dict[str, Any]]:
    """One for each model: a site serves a model once."""
    told: dict[str, dict[str, Any]] = {}
    for workload in workloads:
        model = workload.wish.ref or workload.id
        told.setdefault(
            model,
            {
                "id": workload.id,
                "model": model.removeprefix("mlperf:"),
                "slo_p99_ms": workload.slo.p99_ms,
                "slo_ttft_ms": workload.slo.ttft_p99_ms,
                "priority": workload.priority,
                "residency": workload.data.residency,
            },
        )
    return list(told.values())
