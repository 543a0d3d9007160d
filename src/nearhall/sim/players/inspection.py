"""A factory line's inspection: small grey pictures in, a class out, compared with what the part really is."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from nearhall.drivers.media import png_bytes
from nearhall.sim.players.work import Answer, Array, Found, Request, TensorCall

FULL_SCALE = 16.0
"""scikit-learn's digits hold 17 grey levels."""


class InspectionWork:
    """Shows the line's pictures in a random, repeatable order."""

    def __init__(self, *, model: str, workload: str, images: Array, labels: Array, seed: int) -> None:
        """`images` (n, 64) from 0 to 16, `labels` (n,)."""
        self._call = TensorCall(model, workload)
        self._images = images.astype(np.float32)
        self._labels = labels
        self._draw = Random(seed)  # noqa: S311 (a repeatable rehearsal)
        self._png = [png_bytes((image / FULL_SCALE * 255).reshape(8, 8)) for image in images]

    def next(self) -> Request | None:
        """The next part's picture."""
        index = self._draw.randrange(len(self._images))
        image = self._images[index : index + 1] / FULL_SCALE
        return self._call.request({"image": ("FP32", image)}, raw_bytes=self._png[index], context=int(self._labels[index]))

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """Whether the class was right."""
        best = int(self._call.arrays(answer)["logits"].argmax())
        return [Found("inspected", 1, 1.0), Found("right", 1, 1.0 if best == request.context else 0.0)]

    def close(self) -> None:
        """Nothing is open."""
