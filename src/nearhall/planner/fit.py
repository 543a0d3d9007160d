"""Does a model fit into a server's memory, in which precision, and what would a smaller one cost?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.catalogue_models import CatalogueModel, Precision
from nearhall.physics.memory import GIB, concurrent_at_most, kv_bytes, kv_bytes_per_token, needed_bytes, weights_bytes
from nearhall.planner.draws import Samples
from nearhall.policy.variant import Candidate, choose_variant

QUANTILE = 0.95
"""Of what is needed, which must be within what is usable: out of memory is no slow answer but none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What does not depend on the model; GiB, samples or one value."""

    usable_bytes: Samples
    """Of the whole server."""
    accelerators: int
    runtime_gib: Samples
    fragmentation: Samples
    activations_gib: Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Smaller:
    """Another precision of the same model."""

    bits: int
    p95_gib: float
    fits: bool
    quality: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """A model in a server's memory."""

    bits: int
    quality: float
    copies: int
    """Instances on the server: one for each accelerator where one holds it, else one over all."""
    weights_bytes: float
    kv_bytes: float
    """Of all conversations of one copy."""
    parts_gib: dict[str, float]
    """weights, kv, activations, runtime: medians, of one copy."""
    p95_gib: float
    usable_gib: float
    """Of what holds one copy."""
    fits: bool
    concurrent_max: int | None
    """Conversations that one copy could hold; None where the model has no cache."""
    words: str
    others: tuple[Smaller, ...]


def fit_memory(
    model: CatalogueModel, memory: Memory, *, bits: int | None, ctx: int, concurrent: int, quality_min: float = 0.0
) -> MemoryFit:
    """The wished precision, or the best that fits where none is wished. Shapes: samples in `memory`, medians and P95 out."""
    tried = {v.bits: _tried(model, memory, v, ctx=ctx, concurrent=concurrent) for v in model.variants}
    if bits is not None and bits not in tried:
        extra = Precision(bits=bits, overhead=0.13 if bits < 8 else 0.0, quality=min(1.0, 0.9 + bits / 160.0))
        tried[bits] = _tried(model, memory, extra, ctx=ctx, concurrent=concurrent)
    usable = next(iter(tried.values())).usable_gib
    # What is no smaller in memory is not chosen over what is as good: 32 bits never beat 16.
    candidates = [
        Candidate(id=f"{width}", quality=fit.quality, needed_gib=fit.p95_gib) for width, fit in tried.items() if width <= 16
    ] or [Candidate(id=f"{width}", quality=fit.quality, needed_gib=fit.p95_gib) for width, fit in tried.items()]
    choice = choose_variant(candidates, usable_gib=max(fit.usable_gib for fit in tried.values()), quality_min=quality_min)
    if bits is not None:
        taken = bits
    elif choice.chosen is not None:
        taken = int(choice.chosen.id)
    else:
        taken = min(tried)
    found = tried[taken]
    return MemoryFit(
        bits=taken,
        quality=found.quality,
        copies=found.copies,
        weights_bytes=found.weights_bytes,
        kv_bytes=found.kv_bytes,
        parts_gib=found.parts_gib,
        p95_gib=found.p95_gib,
        usable_gib=found.usable_gib,
        fits=found.p95_gib <= found.usable_gib,
        concurrent_max=found.concurrent_max,
        words=_words(model, found, choice.chosen, usable),
        others=tuple(
            Smaller(
                bits=width,
                p95_gib=fit.p95_gib,
                fits=fit.p95_gib <= fit.usable_gib,
                quality=fit.quality,
                words=_compared(fit, found),
            )
            for width, fit in sorted(tried.items(), reverse=True)
            if width != taken
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    bits: int
    quality: float
    copies: int
    weights_bytes: float
    kv_bytes: float
    parts_gib: dict[str, float]
    p95_gib: float
    usable_gib: float
    concurrent_max: int | None


def _tried(model: CatalogueModel, memory: Memory, variant: Precision, *, ctx: int, concurrent: int) -> _Tried:
    weights = float(weights_bytes(params=model.params, bits=variant.bits, overhead=variant.overhead))
    per_token = 0.0
    if model.kind == "llm" and model.layers and model.kv_heads and model.head_dim:
        per_token = float(kv_bytes_per_token(layers=model.layers, kv_heads=model.kv_heads, head_dim=model.head_dim))
    kv = float(kv_bytes(per_token=per_token, tokens=ctx, concurrent=concurrent))
    needed = needed_bytes(
        weights=weights,
        kv=kv,
        activations=memory.activations_gib * GIB,
        runtime=memory.runtime_gib * GIB,
        fragmentation=memory.fragmentation,
    )
    p95_gib = float(np.quantile(needed, QUANTILE)) / GIB
    whole_gib = float(np.quantile(memory.usable_bytes, 1.0 - QUANTILE)) / GIB
    each_gib = whole_gib / max(memory.accelerators, 1)
    copies = max(memory.accelerators, 1) if p95_gib <= each_gib else 1
    usable_gib = whole_gib / copies
    holds = concurrent_at_most(
        usable=usable_gib * GIB,
        weights=weights,
        runtime=float(np.quantile(memory.runtime_gib + memory.activations_gib, QUANTILE)) * GIB,
        per_conversation=per_token * ctx * (1.0 + float(np.quantile(memory.fragmentation, QUANTILE))) or 1.0,
    )
    return _Tried(
        bits=variant.bits,
        quality=variant.quality,
        copies=copies,
        weights_bytes=weights,
        kv_bytes=kv,
        parts_gib={
            "weights": weights / GIB,
            "kv": kv / GIB,
            "activations": float(np.median(memory.activations_gib)),
            "runtime": float(np.median(memory.runtime_gib)),
        },
        p95_gib=p95_gib,
        usable_gib=usable_gib,
        concurrent_max=int(holds) if per_token else None,
    )


def _words(model: CatalogueModel, found: _Tried, best: Candidate | None, usable_gib: float) -> str:
    if found.p95_gib <= found.usable_gib:
        return f"{model.name} at {found.bits} bits takes {found.p95_gib:.1f} GiB (P95) of {found.usable_gib:.1f} GiB"
    over = f"{model.name} at {found.bits} bits needs {found.p95_gib:.1f} GiB (P95), {found.usable_gib:.1f} GiB are usable"
    if best is not None and int(best.id) != found.bits:
        return f"{over}; at {best.id} bits it would fit, at {best.quality:.1%} of the quality (assumed)"
    return f"{over}, and no smaller variant fits" if usable_gib > 0 else over


def _compared(other: _Tried, found: _Tried) -> str:
    if other.p95_gib > other.usable_gib:
        return f"needs {other.p95_gib:.1f} GiB, does not fit"
    difference = found.quality - other.quality
    if difference > 1e-9:
        return f"takes {found.p95_gib - other.p95_gib:.1f} GiB less and {difference:.1%} of quality (assumed)"
    return f"takes {other.p95_gib:.1f} GiB, no better"
