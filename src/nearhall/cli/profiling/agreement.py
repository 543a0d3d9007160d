"""How well one variant's answers agree with another's to the same samples: by classes, boxes, direction, or plain difference.

It is no accuracy: where the reference errs, a variant that errs alike agrees. What is compared is chosen by what the outputs
look like, and the choice is told, so that a person can overrule it.
"""

# What numpy gives of arrays of any type has no type of its own.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from nearhall.cli.profiling.boxes import boxes_of, matched
from nearhall.core.errors import InputError
from nearhall.drivers.arrays import Array

Metric = Literal["top1", "boxes", "cosine", "close"]
METRICS: tuple[str, ...] = get_args(Metric)
Outputs = Mapping[str, Array]
"""One sample's, by name."""
_SCORES = re.compile(r"logit|prob|class|score|softmax|label|pred", re.IGNORECASE)
_VECTORS = re.compile(r"embed|feature|vector|pool|hidden", re.IGNORECASE)
VECTOR_STEP = 64
"""Embeddings are as long as a multiple of this (128, 384, 768); classes are seldom so many to the very number."""
TOLERANCE = 1e-3
"""How far softmax rows may miss the sum of 1, and unit vectors their length, after rounding to 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What is compared, and why that."""

    metric: Metric
    outputs: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """How far two variants agree."""

    score: float
    worst: float
    n: int
    how: str
    telling: bool
    """False where the samples hold nothing that they could have disagreed about."""


def choose(reference: Sequence[Outputs], states: frozenset[str] = frozenset(), metric: str | None = None) -> Chosen:
    """What to compare, by the reference's outputs to all samples; `states` are outputs that only go into the next request.

    Raises InputError for a `metric` that is none, or that these outputs do not fit.
    """
    if metric is not None and metric not in METRICS:
        raise InputError(f"{metric!r} is no metric", where="--metric", right=f"one of {', '.join(METRICS)}")
    names = tuple(name for name in reference[0] if name not in states and reference[0][name].dtype.kind in "fiub") or tuple(
        reference[0]
    )
    boxes = boxes_of(reference[0])
    if metric == "boxes" and boxes is None:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in reference[0].items())
        right = "boxes are [1, n, 6], or [1, n, 4] beside scores [1, n, classes]; choose another metric"
        raise InputError(f"no output looks like boxes ({shapes})", where="--metric", right=right)
    if boxes is not None and metric in {None, "boxes"}:
        return Chosen(metric="boxes", outputs=boxes.names, why=boxes.why)
    if metric is not None:
        return Chosen(metric=_as_metric(metric), outputs=names, why="as --metric says")
    told = {name: _looks(name, [outputs[name] for outputs in reference]) for name in names}
    for kind in ("top1", "cosine"):
        found = tuple(name for name, (looks, _) in told.items() if looks == kind)
        if found:
            return Chosen(metric=_as_metric(kind), outputs=found, why=told[found[0]][1])
    return Chosen(metric="close", outputs=names, why="they look like neither classes, boxes nor embeddings")


def agree(reference: Sequence[Outputs], other: Sequence[Outputs], chosen: Chosen) -> Agreed:
    """How far the other variant's outputs agree with the reference's, sample by sample."""
    if chosen.metric == "boxes":
        return _boxes(reference, other, chosen)
    compare = _COMPARE[chosen.metric]
    scores = [min(compare(a[name], b[name]) for name in chosen.outputs) for a, b in zip(reference, other, strict=True)]
    return Agreed(
        score=float(np.mean(scores)),
        worst=float(min(scores)),
        n=len(scores),
        how=f"{chosen.metric}: {_WORDS[chosen.metric]} of {', '.join(chosen.outputs)}; {chosen.why}",
        telling=True,
    )


def _boxes(reference: Sequence[Outputs], other: Sequence[Outputs], chosen: Chosen) -> Agreed:
    """Matched pairs over all that either found: one that is missed counts as much as one that is invented."""
    pairs, found, extra, worst = 0, 0, 0, 1.0
    for a, b in zip(reference, other, strict=True):
        ours, theirs = boxes_of(a), boxes_of(b)
        if ours is None or theirs is None:
            raise InputError("the two variants' outputs do not have the same form", where="--metric", right="compare by close")
        common, first, second = matched(ours, theirs)
        pairs, found, extra = pairs + common, found + first, extra + second
        if first + second:
            worst = min(worst, 2 * common / (first + second))
    counts = f"{pairs} of the reference's {found} matched, {found - pairs} missed, {extra - pairs} invented"
    return Agreed(
        score=2 * pairs / (found + extra) if found + extra else 1.0,
        worst=worst,
        n=len(reference),
        how=f"boxes: {counts} (overlap at least one half); {chosen.why}",
        telling=found + extra > 0,
    )


def _looks(name: str, seen: Sequence[Array]) -> tuple[str, str]:
    """(what an output looks like, why), over all samples."""
    rows = [array.reshape(1, -1) if array.ndim <= 1 else array for array in seen]
    if any(array.ndim != 2 or not array.size or array.dtype.kind != "f" for array in rows):
        return "close", ""
    whole = np.concatenate([array.astype(np.float64) for array in rows if array.shape[1] == rows[0].shape[1]])
    width = whole.shape[1]
    within = bool(np.all((whole >= -TOLERANCE) & (whole <= 1 + TOLERANCE)))
    if width == 1:
        return ("top1", f"{name} is one score from 0 to 1: yes or no at one half") if within else ("close", "")
    if within and bool(np.all(np.abs(whole.sum(axis=1) - 1) <= TOLERANCE)):
        return "top1", f"the rows of {name} sum to 1, as classes' probabilities do"
    if _SCORES.search(name):
        return "top1", f"{name} is named like scores of classes"
    if _VECTORS.search(name):
        return "cosine", f"{name} is named like an embedding"
    if bool(np.all(np.abs(_lengths(whole) - 1) <= TOLERANCE)):
        return "cosine", f"the rows of {name} have length 1, as embeddings do"
    if width % VECTOR_STEP == 0:
        return "cosine", f"the rows of {name} hold {width} numbers, as embeddings do (--metric top1 if they are classes)"
    return "top1", f"each row of {name} holds {width} numbers, taken for scores of classes (--metric cosine if they are a vector)"


def _same_class(a: Array, b: Array) -> float:
    """The share of rows that name the same class; of a single score, that are on the same side of one half."""
    if a.shape != b.shape or not np.all(np.isfinite(b)):
        return 0.0
    if not a.ndim or a.shape[-1] == 1:
        return float(np.mean((a >= 0.5) == (b >= 0.5)))
    return float(np.mean(a.argmax(axis=-1) == b.argmax(axis=-1)))


def _cosine(a: Array, b: Array) -> float:
    """The smallest cosine of the angle between rows of the two; opposite directions count as none."""
    if a.shape != b.shape or not np.all(np.isfinite(b)):
        return 0.0
    width = a.shape[-1] if a.ndim else 1
    first: Array = a.astype(np.float64).reshape(-1, width)
    second: Array = b.astype(np.float64).reshape(-1, width)
    lengths: Array = _lengths(first) * _lengths(second)
    both_nothing = ~np.any(first, axis=1) & ~np.any(second, axis=1)
    cosines = np.where(lengths > 0, np.sum(first * second, axis=1) / np.where(lengths > 0, lengths, 1.0), both_nothing)
    return float(np.clip(np.min(cosines, initial=1.0), 0.0, 1.0))


def _lengths(rows: Array) -> Array:
    """Of each row."""
    return np.sqrt(np.sum(rows * rows, axis=-1))


def _close(a: Array, b: Array) -> float:
    """One less the length of the difference over the length of the reference; at least 0."""
    if a.shape != b.shape:
        return 0.0
    if a.dtype.kind not in "fiub":
        return float(np.mean(a == b))
    first: Array = a.astype(np.float64)
    second: Array = b.astype(np.float64)
    if not np.all(np.isfinite(second)):
        return float(np.array_equal(first, second, equal_nan=True))
    length, off = float(_lengths(first.ravel())), float(_lengths((first - second).ravel()))
    if off == 0:
        return 1.0
    return max(0.0, 1.0 - off / length) if length > 0 else 0.0


_COMPARE: dict[str, Callable[[Array, Array], float]] = {"top1": _same_class, "cosine": _cosine, "close": _close}
_WORDS = {
    "top1": "the same class",
    "cosine": "cosine of the angle between the rows",
    "close": "1 less the relative error",
}


def _as_metric(text: str) -> Metric:
    return next(metric for metric in get_args(Metric) if metric == text)
