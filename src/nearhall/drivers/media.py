"""Pictures and sound from files, folders and cameras (PyAV, Pillow), with the encoded bytes that each piece stands for.

Those bytes are the honest `raw` of a pilot: what a camera's own stream would have cost the link, never decoded pixels.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from nearhall.core.errors import InputError, TemporaryError
from nearhall.policy.backoff import retry_wait_s

Pixels = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.float32]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
CONNECT_S = 10.0
"""A camera on a slow link needs two seconds to its first frame (measured)."""
STALL_S = 5.0
"""A stream without a packet for so long is lost: the slowest cameras send one a second."""
CLOSE_S = 1.0
RAW_SOUND_HZ = 8_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture (height, width, 3; RGB) and the encoded bytes that came with it."""

    pixels: Pixels
    encoded_bytes: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A short film in memory: frames at `rate_per_s`, each with the encoded bytes since the frame before."""

    frames: Sequence[Frame]
    rate_per_s: float


def load_clip(path: Path, *, rate_per_s: float, frames_max: int, size: tuple[int, int] | None = None) -> Clip:
    """The film in `path`, thinned to about `rate_per_s`; the bytes of frames left out count with the next one kept.

    `size` (width, height) scales while decoding. A folder is a film of its images. Raises InputError for what is no film.
    """
    if path.is_dir():
        return Clip(frames=_images(path, frames_max, size), rate_per_s=rate_per_s)
    kept: list[Frame] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            own_rate = float(stream.average_rate or 25)
            step = max(1.0, own_rate / rate_per_s)
            waiting, seen, due = 0, 0, 0.0
            for packet in container.demux(stream):
                waiting += packet.size
                for frame in packet.decode():
                    if seen >= due:
                        kept.append(Frame(_pixels(frame, size), waiting))
                        waiting, due = 0, due + step
                    seen += 1
                    if len(kept) >= frames_max:
                        return Clip(frames=kept, rate_per_s=own_rate / step)
            if kept:
                kept[-1] = replace(kept[-1], encoded_bytes=kept[-1].encoded_bytes + waiting)
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise InputError(
            f"is no film that can be read ({_in_words(error)})", where=str(path), right="name a video file or a folder of images"
        ) from error
    if not kept:
        raise InputError("has no pictures in it", where=str(path), right="name a video file or a folder of images")
    return Clip(frames=kept, rate_per_s=own_rate / step)


def load_sound(path: Path, *, rate_hz: int, seconds_max: float) -> Samples:
    """The sound in `path` as mono float32 from -1 to 1 at `rate_hz`; a `.raw` file is 16-bit PCM at 8 kHz, and stays so."""
    if path.suffix == ".raw":
        if rate_hz != RAW_SOUND_HZ:
            raise InputError(f"is raw sound at {RAW_SOUND_HZ} Hz, not {rate_hz}", where=str(path), right="name a WAV file")
        samples = np.frombuffer(path.read_bytes(), dtype="<i2").astype(np.float32) / 32768.0
        return samples[: int(seconds_max * rate_hz)]
    parts: list[Samples] = []
    wanted = int(seconds_max * rate_hz)
    have = 0
    try:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
            for frame in container.decode(audio=0):
                for piece in resampler.resample(frame):
                    parts.append(piece.to_ndarray().reshape(-1).astype(np.float32))
                    have += parts[-1].size
                if have >= wanted:
                    break
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise InputError(
            f"has no sound that can be read ({_in_words(error)})", where=str(path), right="name a file with an audio track"
        ) from error
    if not parts:
        raise InputError("has no sound in it", where=str(path), right="name a file with an audio track")
    return np.concatenate(parts)[:wanted]


def png_bytes(grey: npt.NDArray[Any]) -> int:
    """The size of a grey picture (0 to 255) as PNG: what an inspection camera would have sent."""
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return buffer.tell()


class LiveStream:
    """A camera's stream, read in a thread of its own; `latest` is the newest picture with all bytes since the last call.

    A stream that is lost, or stands still for `STALL_S`, is opened again for as long as it takes; `lost` counts how often, and
    `tell` says so in words.
    """

    def __init__(self, url: str, *, size: tuple[int, int] | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        """Connects; raises InputError when nothing answers at the address the first time."""
        self._url = url
        self._size = size
        self._tell = tell
        self._lock = threading.Lock()
        self._frame: Pixels | None = None
        self._waiting = 0
        self._ended = threading.Event()
        self.lost = 0
        """Times that the stream was lost."""
        self._draw = Random()  # noqa: S311 (spreads tries, no secret)
        frames = self._frames()
        try:
            self._keep(next(frames))
        except (TemporaryError, StopIteration) as error:
            why = str(error) or "it ended before its first picture"
            right = "check the camera's address, name and password"
            raise InputError(f"no stream can be read ({why})", where=url, right=right) from error
        self._thread = threading.Thread(target=self._read, args=(frames,), daemon=True, name="camera")
        self._thread.start()

    def latest(self) -> Frame | None:
        """The newest picture; None when none came since the last call."""
        with self._lock:
            if self._frame is None:
                return None
            frame, self._frame = Frame(self._frame, self._waiting), None
            self._waiting = 0
            return frame

    def close(self) -> None:
        """Stops reading. A thread that waits for a picture that does not come is left to end with its read or the process."""
        self._ended.set()
        self._thread.join(CLOSE_S)

    def _read(self, frames: Iterator[tuple[Pixels, int]]) -> None:
        wait = 0.0
        while not self._ended.is_set():
            why = "it ended"
            try:
                for frame in frames:
                    if wait:
                        self._tell("the camera's pictures come again")
                        wait = 0.0
                    self._keep(frame)
                    if self._ended.is_set():
                        return
            except TemporaryError as error:
                why = str(error)
            except Exception as error:  # whatever a decoder raises: a reader that ended in silence would look like a still camera
                why = f"{type(error).__name__}: {error}"
            if not wait:
                self.lost += 1
                self._tell(f"the camera's stream was lost ({why}); it is tried again until it is back")
            wait = retry_wait_s(wait, self._draw.random())
            self._ended.wait(wait)
            frames = self._frames()

    def _keep(self, frame: tuple[Pixels, int]) -> None:
        with self._lock:
            self._frame = frame[0]
            self._waiting += frame[1]

    def _frames(self) -> Iterator[tuple[Pixels, int]]:
        options = {"rtsp_transport": "tcp"} if self._url.startswith("rtsp") else {}
        try:
            with av.open(self._url, options=options, timeout=(CONNECT_S, STALL_S)) as container:
                stream = container.streams.video[0]
                size = 0
                for packet in container.demux(stream):
                    size += packet.size
                    for frame in packet.decode():
                        yield _pixels(frame, self._size), size
                        size = 0
        except (av.error.FFmpegError, IndexError, OSError, ValueError) as error:
            raise TemporaryError(_in_words(error)) from error


def check_pictures(source: str) -> None:
    """Reads one picture of a film, a folder or a stream; raises InputError where there is none to be had."""
    if "://" in source:
        LiveStream(source).close()
    else:
        load_clip(Path(source), rate_per_s=1.0, frames_max=1)


def _in_words(error: Exception) -> str:
    """What FFmpeg says, without the address and its numbers; a read that took too long is called an exit by it."""
    if isinstance(error, IndexError):
        return "it has no track of that kind"
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {STALL_S:g} s"
    if isinstance(error, av.error.FFmpegError) and error.strerror:
        return error.strerror
    return str(error)


def _pixels(frame: Any, size: tuple[int, int] | None) -> Pixels:
    width, height = size if size is not None else (frame.width, frame.height)
    return frame.reformat(width=width, height=height, format="rgb24").to_ndarray()


def _images(folder: Path, frames_max: int, size: tuple[int, int] | None) -> list[Frame]:
    frames: list[Frame] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or len(frames) >= frames_max:
            continue
        try:
            with Image.open(path) as image:
                rgb = image.convert("RGB")
                pixels = np.asarray(rgb.resize(size) if size is not None else rgb)
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"is no picture ({error})", where=str(path), right="take it out of the folder") from error
        frames.append(Frame(pixels, path.stat().st_size))
    if not frames:
        raise InputError(
            "has no pictures in it", where=str(folder), right=f"a folder of images ({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return frames
