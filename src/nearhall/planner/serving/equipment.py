"""What the plan's hardware does for the plan's workloads: servers, models, memory and times, resolved once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearhall.core.errors import InputError
from nearhall.documents.catalogue_models import CatalogueModel, ModelCatalogue, Precision
from nearhall.documents.hardware import Catalogue, System
from nearhall.documents.plan import Plan
from nearhall.documents.plan_work import Workload
from nearhall.planner.samples.ledger import Ledger
from nearhall.planner.serving.fit import Memory, fit_memory
from nearhall.planner.serving.server import Server, resolve_server
from nearhall.planner.serving.service import Service, serve_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """All of it."""

    servers: Mapping[str, Server]
    models: Mapping[str, CatalogueModel]
    """By workload."""
    services: Mapping[tuple[str, str], tuple[Service, ...]]
    """By (workload, hardware): the variants there, the best first; one that does not fit where none does."""


def equip(plan: Plan, catalogue: Catalogue, models: ModelCatalogue, ledger: Ledger) -> Equipment:
    """Resolves everything; raises InputError for hardware and models that no catalogue has."""
    servers = {h.id: resolve_server(h, _named(catalogue, h.ref, f"hardware.{h.id}.ref"), ledger) for h in plan.hardware}
    chosen = {workload.id: _model(workload, models) for workload in plan.workloads}
    services = {
        (workload.id, server.id): _variants(workload, chosen[workload.id], server, ledger, catalogue)
        for workload in plan.workloads
        for server in servers.values()
    }
    return Equipment(servers=servers, models=chosen, services=services)


def _variants(
    workload: Workload, model: CatalogueModel, server: Server, ledger: Ledger, catalogue: Catalogue
) -> tuple[Service, ...]:
    memory = Memory(
        usable_bytes=server.memory_bytes,
        accelerators=server.system.accelerators,
        runtime_gib=ledger.take(f"hardware.{server.id}.runtime_gib", None, "memory.runtime_gib"),
        fragmentation=ledger.take(f"hardware.{server.id}.fragmentation", None, "memory.fragmentation"),
        activations_gib=ledger.take(f"workloads.{workload.id}.activations_gib", None, "memory.activations_gib"),
    )
    wish = workload.wish
    best = fit_memory(model, memory, bits=wish.bits, ctx=wish.ctx, concurrent=wish.concurrent)
    smaller = [other.bits for other in best.others if other.bits < best.bits and other.fits]
    widths = [best.bits, *([] if wish.bits is not None else smaller)]
    fits = [fit_memory(model, memory, bits=width, ctx=wish.ctx, concurrent=wish.concurrent) for width in widths]
    return tuple(serve_on(workload, model, server, fit, ledger, catalogue=catalogue) for fit in fits)


def _named(catalogue: Catalogue, ref: str, where: str) -> System:
    try:
        return catalogue.system(ref)
    except InputError as error:
        raise InputError(error.what, where=where, right=error.right) from error


def _model(workload: Workload, models: ModelCatalogue) -> CatalogueModel:
    wish = workload.wish
    if wish.own is not None:
        own = wish.own
        widths = (16, 8, 4) if wish.kind == "llm" else (16, 8)
        return CatalogueModel(
            id=workload.id,
            name=f"the plan's own model of {own.params.p50:.3g} parameters",
            kind=wish.kind,
            params=own.params.p50,
            layers=own.layers,
            kv_heads=own.kv_heads,
            head_dim=own.head_dim,
            gflop=own.gflop.p50 if own.gflop is not None else None,
            variants=[Precision(bits=w, overhead=_OVERHEAD[w], quality=_QUALITY[w]) for w in widths],
            source=own.params.evidence.source,
            date=own.params.evidence.date or "",
        )
    try:
        return models.model(wish.ref or "")
    except InputError as error:
        raise InputError(error.what, where=f"workloads.{workload.id}.model.ref", right=error.right) from error


_OVERHEAD = {16: 0.0, 8: 0.0625, 4: 0.21}
_QUALITY = {16: 1.0, 8: 0.99, 4: 0.96}
"""Assumed, as in the catalogue."""
