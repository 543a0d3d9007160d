"""Video frames counted for faces: pre- and post-processing of the BlazeFace front model (MediaPipe).

Input 128x128 RGB from -1 to 1, letterboxed. Output: 896 anchors (16x16 cells of 2, 8x8 cells of 6), box offsets in pixels, a
score as a logit. Source: Bazarevsky et al., "BlazeFace", 2019; the anchors follow its figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np

from nearhall.drivers.media import Clip, Frame, LiveStream, Pixels
from nearhall.sim.players.work import Answer, Array, Found, Request, TensorCall

SIDE = 128
THRESHOLD = 0.7
"""With it the front model finds no face in a cat's (measured), and one in each of the car phone's frames."""
OVERLAP_MAX = 0.3
BOXES_MAX = 50


class FaceWork:
    """Counts faces in a film or a camera's pictures."""

    def __init__(self, *, model: str, workload: str, source: Clip | LiveStream) -> None:
        self._call = TensorCall(model, workload)
        self._source = source
        self._frames = (
            cycle([Frame(letterboxed(f.pixels), f.encoded_bytes) for f in source.frames]) if isinstance(source, Clip) else None
        )

    def next(self) -> Request | None:
        """The next picture as a request."""
        if self._frames is not None:
            frame: Frame | None = next(self._frames)
        elif isinstance(self._source, LiveStream):
            frame = self._source.latest()
            frame = None if frame is None else Frame(letterboxed(frame.pixels), frame.encoded_bytes)
        else:
            frame = None
        if frame is None:
            return None
        image = frame.pixels.astype(np.float32)[None] / 127.5 - 1.0
        return self._call.request({"input": ("FP32", image)}, raw_bytes=frame.encoded_bytes)

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """How many faces."""
        outputs = self._call.arrays(answer)
        return [Found("faces", 1, float(count_faces(outputs["regressors"][0], outputs["classificators"][0, :, 0])))]

    def close(self) -> None:
        """Lets go of a camera."""
        if isinstance(self._source, LiveStream):
            self._source.close()


def letterboxed(pixels: Pixels, side: int = SIDE) -> Pixels:
    """The picture scaled into a square of black, nearest neighbour: enough for a detector of 128 pixels."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    rows = np.minimum((np.arange(new_h) / scale).astype(int), height - 1)
    columns = np.minimum((np.arange(new_w) / scale).astype(int), width - 1)
    square = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - new_h) // 2, (side - new_w) // 2
    square[top : top + new_h, left : left + new_w] = pixels[rows][:, columns]
    return square


def anchors() -> Array:
    """Centres of the 896 anchors, from 0 to 1: (x, y)."""
    found = [
        ((x + 0.5) / cells, (y + 0.5) / cells)
        for cells, each in ((16, 2), (8, 6))
        for y in range(cells)
        for x in range(cells)
        for _ in range(each)
    ]
    return np.array(found, dtype=np.float32)


_ANCHORS = anchors()


def count_faces(regressors: Array, logits: Array) -> int:
    """The number of faces: anchors above the threshold, overlapping boxes taken once (non-maximum suppression)."""
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits, -50, 50)))
    good = np.flatnonzero(scores > THRESHOLD)
    if not good.size:
        return 0
    good = good[np.argsort(-scores[good])][:BOXES_MAX]
    centres = regressors[good, :2] / SIDE + _ANCHORS[good]
    sizes = np.abs(regressors[good, 2:4]) / SIDE
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    kept = 0
    while boxes.size:
        kept += 1
        boxes = boxes[1:][_overlap(boxes[0], boxes[1:]) < OVERLAP_MAX]
    return kept


def _overlap(box: Array, others: Array) -> Array:
    """Intersection over union with each of the others."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - inside
    return inside / np.maximum(area, 1e-9)
