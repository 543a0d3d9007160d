"""The user's own stream and model: pictures scaled to whatever the model takes, and the plainest reading of what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from nearhall.core.errors import InputError
from nearhall.drivers.media import Clip, Frame, LiveStream, Pixels
from nearhall.sim.players.work import DTYPES, Answer, Array, Found, Request, TensorCall

SCORES_MAX = 100_000
"""Outputs up to this many numbers are read as class scores; larger ones are only counted."""


class ImageInput:
    """How a model takes a picture, from its v2 metadata: one input of rank 4 (or 3) with three channels, first or last."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        """Raises InputError for a model that takes no picture."""
        inputs = metadata["inputs"]
        shape = [int(length) for length in inputs[0]["shape"]] if inputs else []
        right = "use a model with one input of shape [1, H, W, 3] or [1, 3, H, W] (FP32, FP16 or UINT8)"
        if len(inputs) != 1 or len(shape) not in {3, 4} or inputs[0]["datatype"] not in DTYPES:
            raise InputError(f"model {metadata['name']!r} does not take one picture", where="--model", right=right)
        inner = shape[-3:]
        self.name: str = inputs[0]["name"]
        self.dtype: str = inputs[0]["datatype"]
        self.channels_first = inner[0] == 3
        if not self.channels_first and inner[2] != 3:
            raise InputError(f"model {metadata['name']!r} takes {shape}, which is no RGB picture", where="--model", right=right)
        height, width = inner[1:] if self.channels_first else inner[:2]
        self.size = (width if width > 0 else 640, height if height > 0 else 480)
        self.batched = len(shape) == 4

    def tensor(self, pixels: Pixels) -> Array:
        """The picture as the model takes it: UINT8 as it is, floats from 0 to 1."""
        array: Array = pixels if self.dtype == "UINT8" else pixels.astype(np.float32) / 255.0
        array = np.transpose(array, (2, 0, 1)) if self.channels_first else array
        return array[None] if self.batched else array


class CameraWork:
    """Shows a film or a camera to the user's model."""

    def __init__(self, *, model: str, workload: str, source: Clip | LiveStream, image: ImageInput) -> None:
        self._call = TensorCall(model, workload)
        self._source = source
        self._image = image
        self._frames = cycle(source.frames) if isinstance(source, Clip) else None

    def next(self) -> Request | None:
        """The next picture as a request."""
        if self._frames is not None:
            frame: Frame | None = next(self._frames)
        else:
            frame = self._source.latest() if isinstance(self._source, LiveStream) else None
        if frame is None:
            return None
        tensor = self._image.tensor(frame.pixels)
        return self._call.request({self._image.name: (self._image.dtype, tensor)}, raw_bytes=frame.encoded_bytes)

    def take(self, request: Request, answer: Answer) -> Sequence[Found]:
        """Pictures seen, and the best class where the first output looks like one row of scores."""
        outputs = list(self._call.arrays(answer).values())
        found = [Found("pictures", 1, 1.0)]
        if outputs and outputs[0].squeeze().ndim == 1 and 1 < outputs[0].size <= SCORES_MAX:
            found.append(Found(f"class_{int(outputs[0].argmax())}", 1, 1.0))
        return found

    def close(self) -> None:
        """Lets go of a camera."""
        if isinstance(self._source, LiveStream):
            self._source.close()
