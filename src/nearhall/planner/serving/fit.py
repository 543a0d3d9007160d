"""Does a model fit into a server's memory, in which precision, and what would a smaller one cost?

All in GiB (2^30 bytes), as drivers report memory; labels say GB (10^9), and the words give both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearhall.documents.catalogue_models import CatalogueModel, Precision
from nearhall.physics.memory import GB, GIB, concurrent_at_most, kv_bytes, kv_bytes_per_token, needed_bytes, weights_bytes
from nearhall.planner.samples.draws import Samples
from nearhall.policy.variant import Candidate, choose_variant

QUANTILE = 0.95
"""Of what is needed, which must be within what is usable: out of memory is no slow answer but none."""

LOSS_LEAST = 0.01
"""What a bit below all that the catalogue lists costs at least, and the least quality told: assumed."""


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
    """weights, kv, activations, runtime: medians, of one copy; what allocation wastes of them is in `p95_gib` alone."""
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
        tried[bits] = _tried(model, memory, _between(model, bits), ctx=ctx, concurrent=concurrent)
    # What is no smaller in memory is not chosen over what is as good: 32 bits never beat 16.
    narrow = {width: fit for width, fit in tried.items() if width <= 16} or tried
    candidates = [Candidate(id=f"{width}", quality=fit.quality, needed_gib=fit.p95_gib) for width, fit in narrow.items()]
    choice = choose_variant(candidates, usable_gib=max(fit.usable_gib for fit in tried.values()), quality_min=quality_min)
    best = tried[int(choice.chosen.id)] if choice.chosen is not None else None
    good = [width for width, fit in narrow.items() if fit.quality >= quality_min] or list(narrow)
    found = tried[bits] if bits is not None else best or tried[min(good)]
    taken = found.bits
    return MemoryFit(
        bits=taken,
        quality=found.quality,
        copies=found.copies,
        weights_bytes=found.weights_bytes,
        kv_bytes=found.kv_bytes,
        parts_gib=found.parts_gib,
        p95_gib=found.p95_gib,
        usable_gib=found.usable_gib,
        fits=found.fits,
        concurrent_max=found.concurrent_max,
        words=_words(model, found, best),
        others=tuple(
            Smaller(
                bits=width,
                p95_gib=fit.p95_gib,
                fits=fit.fits,
                quality=fit.quality,
                words=_compared(fit, found),
            )
            for width, fit in sorted(tried.items(), reverse=True)
            if width != taken
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    precision: Precision
    copies: int
    weights_bytes: float
    kv_bytes: float
    parts_gib: dict[str, float]
    p95_gib: float
    usable_gib: float
    concurrent_max: int | None

    @property
    def bits(self) -> int:
        return self.precision.bits

    @property
    def quality(self) -> float:
        return self.precision.quality

    @property
    def fits(self) -> bool:
        return self.p95_gib <= self.usable_gib


def _between(model: CatalogueModel, bits: int) -> Precision:
    """A width that the catalogue does not list: on the line between its neighbours; below the least each bit doubles the loss."""
    known = sorted(model.variants, key=lambda variant: variant.bits)
    widths = [variant.bits for variant in known]
    loss = 1.0 - float(np.interp(bits, widths, [variant.quality for variant in known]))
    below = max(widths[0] - bits, 0)
    return Precision(
        bits=bits,
        overhead=float(np.interp(bits, widths, [variant.overhead for variant in known])),
        quality=max(1.0 - max(loss, LOSS_LEAST if below else loss) * 2.0**below, LOSS_LEAST),
    )


def _tried(model: CatalogueModel, memory: Memory, variant: Precision, *, ctx: int, concurrent: int) -> _Tried:
    weights = float(weights_bytes(params=model.params, bits=variant.bits, overhead=variant.overhead))
    per_token = 0.0
    if model.kind == "llm" and model.layers and model.kv_heads and model.head_dim:
        per_token = float(kv_bytes_per_token(layers=model.layers, kv_heads=model.kv_heads, head_dim=model.head_dim))
    kv = float(kv_bytes(per_token=per_token, tokens=ctx, concurrent=concurrent))
    accelerators = max(memory.accelerators, 1)
    whole_gib = float(np.quantile(memory.usable_bytes, 1.0 - QUANTILE)) / GIB
    # One copy on each accelerator where it fits there, else one over all: then the runtime takes its share of each.
    devices = 1
    p95_gib = _p95_gib(memory, weights=weights, kv=kv, devices=1)
    if p95_gib > whole_gib / accelerators:
        devices = accelerators
        p95_gib = _p95_gib(memory, weights=weights, kv=kv, devices=devices)
    copies = accelerators // devices
    usable_gib = whole_gib / copies
    wasted = 1.0 + float(np.quantile(memory.fragmentation, QUANTILE))
    beside_gib = memory.runtime_gib * devices + memory.activations_gib * wasted
    holds = concurrent_at_most(
        usable=usable_gib * GIB,
        weights=weights,
        runtime=float(np.quantile(beside_gib, QUANTILE)) * GIB,
        per_conversation=per_token * ctx * wasted or 1.0,
    )
    return _Tried(
        precision=variant,
        copies=copies,
        weights_bytes=weights,
        kv_bytes=kv,
        parts_gib={
            "weights": weights / GIB,
            "kv": kv / GIB,
            "activations": float(np.median(memory.activations_gib)),
            "runtime": float(np.median(memory.runtime_gib)) * devices,
        },
        p95_gib=p95_gib,
        usable_gib=usable_gib,
        concurrent_max=int(holds) if per_token else None,
    )


def _p95_gib(memory: Memory, *, weights: float, kv: float, devices: int) -> float:
    needed = needed_bytes(
        weights=weights,
        kv=kv,
        activations=memory.activations_gib * GIB,
        runtime=memory.runtime_gib * devices * GIB,
        fragmentation=memory.fragmentation,
    )
    return float(np.quantile(needed, QUANTILE)) / GIB


def _words(model: CatalogueModel, found: _Tried, best: _Tried | None) -> str:
    needed = f"{found.p95_gib:.1f} GiB ({found.p95_gib * GIB / GB:.1f} GB, P95)"
    if found.fits:
        return f"{model.name} at {found.bits} bits takes {needed} of {found.usable_gib:.1f} GiB"
    over = f"{model.name} at {found.bits} bits needs {needed}, {found.usable_gib:.1f} GiB are usable"
    if best is not None and best.bits != found.bits:
        return f"{over}; at {best.bits} bits it would fit, at {best.quality:.1%} of the quality ({_told(best.precision)})"
    return f"{over}, and no smaller variant that is good enough fits"


def _compared(other: _Tried, found: _Tried) -> str:
    if not other.fits:
        return f"needs {other.p95_gib:.1f} GiB, does not fit"
    difference = found.quality - other.quality
    if difference > 1e-9:
        less = f"{found.p95_gib - other.p95_gib:.1f} GiB less"
        return f"takes {less} and {difference:.1%} of quality ({_told(other.precision)})"
    if difference < -1e-9:
        return f"takes {other.p95_gib:.1f} GiB and is {-difference:.1%} better ({_told(other.precision)})"
    return f"takes {other.p95_gib:.1f} GiB, no better"


def _told(precision: Precision) -> str:
    """Published figures are another's task and data; the rest is assumed."""
    return "assumed" if precision.kind == "assumed" else "published"
