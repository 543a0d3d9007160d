"""What variants are run on: the user's data, what nearhall ships for models of that form, or random numbers, said to be so."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nearhall.core.errors import InputError, Refusal
from nearhall.core.evidence import Kind
from nearhall.core.tensor import BYTES, TensorSpec
from nearhall.drivers.arrays import DTYPES, Array, to_array
from nearhall.wire.oip import decode_request

SAMPLES_MAX = 512
"""Agreement of 98 % is known to within 1.2 % from so many (95 %), and they are run in seconds."""
SAMPLE_BYTES_MAX = 256 * 2**20
"""Of all samples together: they lie in memory twice."""
RANDOM_SAMPLES = 32
SEED = 0
SUFFIXES = (".npy", ".npz", ".json")
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".mp4", ".avi", ".wav"})
RIGHT = (
    "a .npz of the model's inputs by name, samples along the first axis; a .npy for a model with one; or a folder of .npy, .npz "
    "or v2 .json"
)

Feed = Mapping[str, Array]
"""One request's inputs, by name."""
Examples = Mapping[str, tuple[Sequence[int] | None, float]]
"""From model.yaml: shape and value of inputs for which zeros with free lengths of 1 are no valid example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeds:
    """What a model is run on."""

    feeds: Sequence[Feed]
    source: str
    kind: Kind
    """`assumed` for random numbers."""
    notes: Sequence[str] = field(default_factory=tuple[str, ...])

    def sha256(self) -> str:
        """Of names, types, shapes and bytes, in order."""
        digest = hashlib.sha256()
        for feed in self.feeds:
            for name in sorted(feed):
                array = np.ascontiguousarray(feed[name])
                digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
                digest.update(
                    "\0".join(map(str, array.ravel().tolist())).encode() if array.dtype.kind == "O" else array.tobytes()
                )
        return digest.hexdigest()


def from_files(path: Path, specs: Sequence[TensorSpec], examples: Examples) -> Feeds:
    """The samples in a file or folder, fitted to the model's inputs; raises InputError that says what would be right."""
    wanted = [spec for spec in specs if not spec.optional]
    if not path.exists():
        raise InputError("does not exist", where=str(path), right=RIGHT)
    files = _files(path) if path.is_dir() else [path]
    feeds: list[dict[str, Array]] = []
    left: set[str] = set()
    for file in files:
        given = _named(file, wanted)
        left |= {spec.name for spec in wanted} - set(given)
        feeds.extend(islice(_apart(file, given, wanted, examples), SAMPLES_MAX - len(feeds)))
        if len(feeds) >= SAMPLES_MAX:
            break
    size = sum(array.nbytes for feed in feeds for array in feed.values())
    if size > SAMPLE_BYTES_MAX:
        raise InputError(
            f"holds {size / 2**20:.0f} MiB of samples", where=str(path), right=f"at most {SAMPLE_BYTES_MAX >> 20} MiB"
        )
    notes = [f"{', '.join(sorted(left))}: not in the data, taken from model.yaml's examples"] if left else []
    return Feeds(feeds=feeds, source=str(path), kind=Kind.MEASURED, notes=notes)


def at_random(specs: Sequence[TensorSpec], examples: Examples) -> Feeds:
    """Random numbers from 0 to 1 (a fixed seed) of the examples' shapes; whole numbers as the examples say, for they choose."""
    draw = np.random.default_rng(SEED)
    feeds = [
        {spec.name: _drawn(spec, examples.get(spec.name, (None, 0.0)), draw) for spec in specs if not spec.optional}
        for _ in range(RANDOM_SAMPLES)
    ]
    note = "run on random numbers: agreement on them tells little, for real data lies elsewhere; give --data"
    return Feeds(feeds=feeds, source=f"random numbers (seed {SEED})", kind=Kind.ASSUMED, notes=[note])


def example_of(spec: TensorSpec, given: tuple[Sequence[int] | None, float]) -> Array:
    """The input as model.yaml's example has it: one value everywhere."""
    shape, value = given
    lengths = tuple(shape) if shape is not None else tuple(1 if length < 0 else length for length in spec.shape)
    return np.full(lengths, "", dtype=object) if spec.dtype == BYTES else np.full(lengths, value, dtype=DTYPES[spec.dtype])


def _drawn(spec: TensorSpec, given: tuple[Sequence[int] | None, float], draw: np.random.Generator) -> Array:
    plain = example_of(spec, given)
    if spec.dtype in {"FP16", "FP32", "FP64"} and not given[1]:
        return draw.random(plain.shape).astype(plain.dtype)
    return draw.integers(0, 256, plain.shape, dtype=np.uint8) if spec.dtype == "UINT8" else plain


def _files(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if files:
        return files
    if any(path.suffix.lower() in PICTURES for path in folder.iterdir()):
        raise _pictures(folder)
    raise InputError("holds no samples", where=str(folder), right=RIGHT)


def _pictures(path: Path) -> InputError:
    what = "pictures, films and sounds are not taken: how they become the model's input is the application's to know"
    return InputError(what, where=str(path), right="save what it sends, as a .npy or .npz")


def _named(file: Path, wanted: Sequence[TensorSpec]) -> dict[str, Array]:
    """What a file holds, by input."""
    suffix = file.suffix.lower()
    if suffix in PICTURES:
        raise _pictures(file)
    try:
        if suffix == ".json":
            return {tensor.name: to_array(tensor) for tensor in decode_request(file.read_bytes(), None).inputs}
        loaded: Any = np.load(file, allow_pickle=False)
        if suffix == ".npz":
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except Refusal as error:
        raise InputError(
            f"is no v2 request ({error.message})", where=str(file), right="the body of a v2 infer request"
        ) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot be read as samples ({str(error).splitlines()[0]})", where=str(file), right=RIGHT) from error
    if len(wanted) != 1:
        names = ", ".join(spec.name for spec in wanted)
        raise InputError("is one array, and the model has several inputs", where=str(file), right=f"a .npz with {names}")
    return {wanted[0].name: loaded}


def _apart(
    file: Path, given: Mapping[str, Array], wanted: Sequence[TensorSpec], examples: Examples
) -> Sequence[dict[str, Array]]:
    """One feed for each sample in a file."""
    known = {spec.name: spec for spec in wanted}
    for name in given:
        if name not in known:
            raise InputError(f"the model has no input {name!r}", where=str(file), right=f"its inputs are {', '.join(known)}")
    taken = {name: _samples(file, known[name], array) for name, array in given.items()}
    counts = {name: len(samples) for name, samples in taken.items()}
    n = max(counts.values(), default=0)
    odd = next((name for name, count in counts.items() if count not in {1, n}), None)
    if odd is not None:
        raise InputError(f"{odd} has {counts[odd]} samples, and others {n}", where=str(file), right="as many of each, or one")
    if n == 0:
        raise InputError("holds no samples", where=str(file), right=RIGHT)
    fixed = {spec.name: example_of(spec, examples.get(spec.name, (None, 0.0))) for spec in wanted if spec.name not in taken}
    return [{**fixed, **{name: samples[min(index, len(samples) - 1)] for name, samples in taken.items()}} for index in range(n)]


def _samples(file: Path, spec: TensorSpec, array: Array) -> list[Array]:
    """An input's samples: along the first axis, which is the model's own or stands before it; one, where neither can be."""
    if spec.dtype != BYTES:
        array = _typed(file, spec, array)
    rank = len(spec.shape)
    if array.ndim == rank + 1 and _fits(spec.shape, array.shape[1:]):
        return list(array)
    if array.ndim == rank and rank and spec.shape[0] in {-1, 1} and _fits(spec.shape[1:], array.shape[1:]):
        return [array[index : index + 1] for index in range(len(array))]
    if array.ndim == rank and _fits(spec.shape, array.shape):
        return [array]
    shape = ["any" if length < 0 else length for length in spec.shape]
    right = f"the model takes {shape} of {spec.dtype}; samples lie along the first axis, or along one more in front"
    raise InputError(f"{spec.name} has the shape {list(array.shape)}", where=str(file), right=right)


def _typed(file: Path, spec: TensorSpec, array: Array) -> Array:
    """Of the model's type, where nothing is lost by it: 64 bit floats and whole numbers as they come from lists are taken."""
    dtype = DTYPES[spec.dtype]
    if array.dtype == dtype:
        return array
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(
            f"{spec.name} is of type {array.dtype}", where=str(file), right=f"the model takes {spec.dtype} ({dtype.name})"
        )
    return array.astype(dtype)


def _fits(shape: Sequence[int], given: Sequence[int]) -> bool:
    return len(shape) == len(given) and all(a in {-1, b} for a, b in zip(shape, given, strict=True))
