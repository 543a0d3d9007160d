"""Detections out of a detector's raw outputs, in the forms that are common, and how many of two sets are the same things.

Forms: rows of (x1, y1, x2, y2, score, class); boxes [n, 4] beside scores [n, classes]; anchors (boxes as offsets from places that
only the model's maker knows) beside scores; and one map [4 + classes, n] of centre, size and scores, as later YOLOs give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearhall.drivers.arrays import Array

SCORE_MIN = 0.5
"""What counts as a detection: half sure. Below, detectors name many things that no application uses."""
OVERLAP_MIN = 0.5
"""Intersection over union of what is taken for the same thing (PASCAL VOC's measure)."""
DETECTIONS_MAX = 300
"""Of one picture, by score: COCO's measures look at 100."""
OUTSIDE = 0.1
"""How far a corner may lie outside of the picture, as a share of the farthest corner: offsets of anchors are often below 0."""
ANCHORS_MIN = 100
"""A map with fewer columns is another thing."""
CLASSES_MAX = 1000
_BOXES = re.compile(r"box|reg|loc|bbox|rect", re.IGNORECASE)
_SCORES = re.compile(r"score|class|conf|cls|logit|prob", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """What was found in one picture, most certain first."""

    names: tuple[str, ...]
    """Of the outputs it was read from."""
    why: str
    corners: Array
    """(n, 4): x1, y1, x2, y2, in whatever unit; for anchors relative to each one's own place."""
    classes: Array
    places: Array | None = None
    """For anchors: which one; only boxes of the same anchor can be held against each other."""


def boxes_of(outputs: Mapping[str, Array]) -> Boxes | None:
    """The detections of one picture; None where no output looks like boxes."""
    single = {
        name: array[0] for name, array in outputs.items() if array.ndim == 3 and array.shape[0] == 1 and array.dtype.kind == "f"
    }
    for name, array in single.items():
        if array.shape[1] == 6 and _are_corners(array[:, :4], array[:, 4]):
            why = f"{name} has rows of two corners, a score and a class"
            return _kept((name,), why, array[:, :4], scores=array[:, 4], classes=array[:, 5])
    pair = _pair(single)
    if pair is not None:
        return _from_pair(*pair, single)
    for name, array in single.items():
        if _is_map(array):
            return _from_map(name, array)
    return None


def matched(first: Boxes, second: Boxes) -> tuple[int, int, int]:
    """(pairs, detections of the first, detections of the second): each at most once, the most certain first, of one class."""
    free = np.ones(len(second.corners), dtype=bool)
    pairs = 0
    for index in range(len(first.corners)):
        fits = free & (second.classes == first.classes[index])
        if first.places is not None and second.places is not None:
            fits &= second.places == first.places[index]
        overlaps = np.where(fits, _overlap(first.corners[index], second.corners), 0.0)
        if overlaps.size and overlaps.max() >= OVERLAP_MIN:
            free[int(overlaps.argmax())] = False
            pairs += 1
    return pairs, len(first.corners), len(second.corners)


def _pair(single: Mapping[str, Array]) -> tuple[str, str] | None:
    """(boxes, scores): two outputs with as many rows, named like what they are."""
    for boxes, corners in single.items():
        if not (_BOXES.search(boxes) and corners.shape[1] >= 4):
            continue
        for scores, values in single.items():
            if scores != boxes and _SCORES.search(scores) and values.shape[0] == corners.shape[0]:
                return boxes, scores
    return None


def _from_pair(boxes: str, scores: str, single: Mapping[str, Array]) -> Boxes:
    sure = _as_probabilities(single[scores])
    classes = sure.argmax(axis=1)
    corners = single[boxes][:, :4]
    best = sure.max(axis=1)
    if single[boxes].shape[1] == 4 and _are_corners(corners, best):
        return _kept((boxes, scores), f"{boxes} holds corners, {scores} their scores", corners, scores=best, classes=classes)
    # The anchor's place is added to both sides alike, and the overlap of two boxes does not change when both are moved.
    why = f"{boxes} and {scores} are anchors; each is held against the same anchor's box"
    return _kept((boxes, scores), why, _around(corners), scores=best, classes=classes, places=np.arange(len(corners)))


def _is_map(array: Array) -> bool:
    """Whether it can be centre, size and scores in columns: sizes are no less than 0, scores lie within 0 and 1."""
    rows, columns = array.shape
    if not (5 <= rows <= 4 + CLASSES_MAX and columns >= max(ANCHORS_MIN, 4 * rows)):
        return False
    return bool(np.all(array[2:] >= 0) and np.all(array[4:] <= 1))


def _from_map(name: str, array: Array) -> Boxes:
    scores = array[4:].T
    kept = _kept(
        (name,),
        f"{name} is a map of centre, size and the scores of {array.shape[0] - 4} classes",
        _around(array[:4].T),
        scores=scores.max(axis=1),
        classes=scores.argmax(axis=1),
    )
    return _without_doubles(kept)


def _without_doubles(boxes: Boxes) -> Boxes:
    """Of boxes of one class that overlap, the most certain one: such maps name each thing many times."""
    left = np.arange(len(boxes.corners))
    kept: list[int] = []
    while left.size:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        same = (boxes.classes[left] == boxes.classes[first]) & (
            _overlap(boxes.corners[first], boxes.corners[left]) >= OVERLAP_MIN
        )
        left = left[~same]
    return Boxes(names=boxes.names, why=boxes.why, corners=boxes.corners[kept], classes=boxes.classes[kept])


def _kept(
    names: tuple[str, ...], why: str, corners: Array, *, scores: Array, classes: Array, places: Array | None = None
) -> Boxes:
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= SCORE_MIN][:DETECTIONS_MAX]
    return Boxes(
        names=names,
        why=why,
        corners=corners[order].astype(np.float64),
        classes=classes[order],
        places=None if places is None else places[order],
    )


def _as_probabilities(scores: Array) -> Array:
    """Logits through the logistic function; what lies within 0 and 1 already stays."""
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        return 1.0 / (1.0 + np.exp(-np.clip(scores.astype(np.float64), -50, 50)))
    return scores


def _are_corners(boxes: Array, scores: Array) -> bool:
    """Whether the second corner lies beyond the first one, within the picture, in all that is a detection; scores can be such."""
    sure = scores >= SCORE_MIN
    if scores.size and (scores.min() < -1e-3 or scores.max() > 1 + 1e-3):
        return False
    told = boxes[sure] if sure.any() else boxes
    within = told.size == 0 or bool(told.min() >= -OUTSIDE * max(float(told.max()), 0.0))
    return within and bool(np.all(told[:, 2] >= told[:, 0]) and np.all(told[:, 3] >= told[:, 1]))


def _around(boxes: Array) -> Array:
    """Corners of boxes that are given by centre and size."""
    half = np.abs(boxes[:, 2:4]) / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _overlap(box: Array, others: Array) -> Array:
    """Intersection over union with each of the others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - inside
    return inside / np.maximum(area, 1e-12)
