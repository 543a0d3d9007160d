"""Where a model runs: what the document wishes, what the machine has, and what is said where they differ."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from nearhall.core.errors import PermanentError, TemporaryError
from nearhall.drivers.cuda import load_cuda_libraries, named_device, why_no_device
from nearhall.drivers.onnx_device import CPU, CUDA, Placing, place, plain_fault, settle
from nearhall.drivers.onnx_runtime import OnnxRuntime
from nearhall.ports.devices import Device
from nearhall.ports.runtime import ModelFile

BUILT_WITH_CUDA = [CUDA, CPU]
without_cuda = pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime is built with CUDA")


class Session:
    """What a session says of where it runs."""

    def __init__(self, *providers: str) -> None:
        self._providers = list(providers)

    def get_providers(self) -> list[str]:
        return self._providers


def _settle(placing: Placing, *answers: Session | PermanentError) -> tuple[Any, Placing, list[Placing]]:
    """`answers` are what opening gives, one after the other; also gives what was opened with."""
    left, asked = list(answers), []

    def open_session(given: Placing) -> Session:
        asked.append(given)
        answer = left.pop(0)
        if isinstance(answer, PermanentError):
            raise answer
        return answer

    session, landed = settle(placing, prepare=lambda: None, open_session=open_session, why=lambda: "no driver")
    return session, landed, asked


@pytest.mark.parametrize(
    ("options", "available", "device", "demanded", "said"),
    [
        ({}, BUILT_WITH_CUDA, "cpu", False, ""),
        ({"device": "cpu"}, BUILT_WITH_CUDA, "cpu", False, ""),
        ({"device": "auto"}, BUILT_WITH_CUDA, "cuda:0", False, ""),
        ({"device": "cuda"}, BUILT_WITH_CUDA, "cuda:0", True, ""),
        ({"device": "cuda:3"}, BUILT_WITH_CUDA, "cuda:3", True, ""),
        ({"device": "auto"}, [CPU], "cpu", False, "built without CUDA"),
    ],
)
def test_a_wish_becomes_a_place(options: dict[str, str], available: list[str], device: str, demanded: bool, said: str):
    placing = place(options, available)
    assert (placing.device, placing.demanded) == (device, demanded)
    assert said in placing.note
    assert bool(said) == bool(placing.note)
    assert placing.providers[-1][0] == CPU


def test_a_demanded_device_of_a_build_without_cuda_is_refused_with_what_to_do():
    with pytest.raises(
        PermanentError, match=r"built without CUDA; install requirements/gpu\.txt \(make gpu\), or say device: auto"
    ):
        place({"device": "cuda"}, [CPU])


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"device": "cuda:2"}, "device_id", "2"),
        ({"device": "cuda"}, "gpu_mem_limit", str(8192 * 2**20)),
        ({"device": "cuda", "gpu_memory_mib": "512"}, "gpu_mem_limit", str(512 * 2**20)),
        ({"device": "cuda"}, "cudnn_conv_algo_search", "HEURISTIC"),
        ({"device": "cuda", "conv_search": "exhaustive"}, "cudnn_conv_algo_search", "EXHAUSTIVE"),
        ({"device": "cuda"}, "use_tf32", "0"),
        ({"device": "cuda", "tf32": "on"}, "use_tf32", "1"),
        ({"device": "auto"}, "arena_extend_strategy", "kSameAsRequested"),
    ],
)
def test_each_option_reaches_the_provider(options: dict[str, str], key: str, value: str):
    name, given = place(options, BUILT_WITH_CUDA).providers[0]
    assert (name, given[key]) == (CUDA, value)


def test_a_session_that_runs_on_the_device_is_there():
    session, landed, _ = _settle(place({"device": "auto"}, BUILT_WITH_CUDA), Session(CUDA, CPU))
    assert (landed.device, landed.note) == ("cuda:0", "")
    assert session.get_providers() == [CUDA, CPU]


def test_a_session_that_landed_on_the_cpu_says_so_and_why():
    _, landed, asked = _settle(place({"device": "auto"}, BUILT_WITH_CUDA), Session(CPU))
    assert (landed.device, landed.note) == ("cpu", "runs on the CPU: cuda:0 cannot be used: no driver")
    assert len(asked) == 1


def test_a_session_that_landed_on_the_cpu_is_refused_where_the_device_was_demanded():
    with pytest.raises(PermanentError, match="device cuda:1 was asked for and cannot be used: no driver"):
        _settle(place({"device": "cuda:1"}, BUILT_WITH_CUDA), Session(CPU))


def test_a_device_that_does_not_take_the_model_leaves_it_to_the_cpu():
    refused = PermanentError("Available memory of 1 is smaller than requested bytes of 2")
    _, landed, asked = _settle(place({"device": "auto"}, BUILT_WITH_CUDA), refused, Session(CPU))
    assert landed.device == "cpu"
    assert "cuda:0 did not take it: Available memory of 1" in landed.note
    assert [provider for provider, _ in asked[1].providers] == [CPU]


def test_a_demanded_device_that_does_not_take_the_model_names_the_limit():
    placing = place({"device": "cuda", "gpu_memory_mib": "64"}, BUILT_WITH_CUDA)
    with pytest.raises(PermanentError, match=r"too big; it was to run on cuda:0, within 64 MiB .*options\.gpu_memory_mib"):
        _settle(placing, PermanentError("too big"))


SOURCE = "/onnxruntime_src/onnxruntime/core"


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        (
            f"{SOURCE}/providers/cuda/info.cc:63 static x::From(const x::Options&) [ONNXRuntimeError] : 1 : FAIL : "
            'provider_options_utils.h:187 Parse Failed to parse "device_id": info.cc:71 operator() Invalid device ID: 9.',
            'Failed to parse "device_id": Invalid device ID: 9.',
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code while running Conv node. Status Message: "
            f"{SOURCE}/framework/bfc_arena.cc:360 void* x::Allocate(size_t, bool) Available memory of 1 is smaller than 2",
            "Non-zero status code while running Conv node. Status Message: Available memory of 1 is smaller than 2",
        ),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model\nfrom m.onnx failed", "Load model from m.onnx failed"),
        ("", "Exception"),
    ],
)
def test_a_fault_is_told_without_the_librarys_own_source(said: str, plain: str):
    assert plain_fault(Exception(said)) == plain


def test_what_the_cpu_does_not_take_is_the_files_fault():
    with pytest.raises(PermanentError, match=r"^broken$"):
        _settle(place({}, BUILT_WITH_CUDA), PermanentError("broken"))


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., ModelFile]:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "small", [ends[0]], [ends[1]])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString())

    def made(**options: str) -> ModelFile:
        return ModelFile(model="m", version="1", variant="v", runtime="onnxruntime", path=str(path), options=options)

    return made


def test_the_real_runtime_says_where_it_runs(file: Callable[..., ModelFile]):
    runtime = OnnxRuntime(file())
    assert (runtime.device, runtime.note, runtime.concurrent) == ("cpu", "", True)


@without_cuda
def test_the_real_runtime_without_cuda_falls_back_in_words_and_refuses_in_words(file: Callable[..., ModelFile]):
    runtime = OnnxRuntime(file(device="auto"))
    assert (runtime.device, "built without CUDA" in runtime.note) == ("cpu", True)
    with pytest.raises(PermanentError, match="device cuda was asked for"):
        OnnxRuntime(file(device="cuda"))


@pytest.mark.skipif(CUDA not in ort.get_available_providers(), reason="this ONNX Runtime is built without CUDA")
def test_the_real_runtime_with_cuda_runs_on_a_device_or_says_why_not(file: Callable[..., ModelFile]):
    runtime = OnnxRuntime(file(device="auto"))
    assert runtime.device.startswith("cuda:") != bool(runtime.note)
    assert runtime.concurrent == (runtime.device == "cpu")


def test_libraries_are_found_in_packages_that_no_path_names(tmp_path: Path):
    assert "libcudnn.so.9" in load_cuda_libraries("13.0", []) or sys.platform != "linux"
    lib = tmp_path / "cudnn" / "lib"
    lib.mkdir(parents=True)
    source = tmp_path / "empty.c"
    source.write_text("")
    compiler = next((name for name in ("cc", "gcc", "clang") if _answers(name)), None)
    if compiler is None:
        pytest.skip("no C compiler to make a library with")
    subprocess.run([compiler, "-shared", "-o", str(lib / "libcudnn.so.9"), str(source)], check=True, timeout=30)
    assert "libcudnn.so.9" not in load_cuda_libraries("13.0", [tmp_path])


def _answers(program: str) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize(("version", "name"), [("13.0", "libcufft.so.12"), ("12.8", "libcufft.so.11"), ("", "libcudart.so.13")])
def test_each_cuda_has_its_own_names(version: str, name: str):
    missing = load_cuda_libraries(version, [])
    assert name in missing or _loaded(name)


def _loaded(name: str) -> bool:
    return name in Path("/proc/self/maps").read_text()


class Found:
    """A driver that finds these devices, or does not answer."""

    def __init__(self, *devices: Device, answers: bool = True) -> None:
        self._devices = devices
        self._answers = answers
        self.closed = False

    def look(self) -> tuple[Device, ...]:
        if not self._answers:
            raise TemporaryError("NVML does not answer")
        return self._devices

    def close(self) -> None:
        self.closed = True


DEVICE = Device(name="NVIDIA T1", driver="580.1")


@pytest.mark.parametrize(
    ("found", "missing", "says"),
    [
        (Found(), [], "the driver finds no device"),
        (Found(answers=False), [], "NVML does not answer"),
        (Found(DEVICE), ["libcudnn.so.9"], "NVIDIA T1 is there, but libcudnn.so.9 cannot be loaded (make gpu)"),
        (Found(DEVICE), [], "NVIDIA T1 is there, but ONNX Runtime could not use CUDA on it (make gpu)"),
    ],
)
def test_the_reason_is_what_the_driver_and_the_libraries_say(found: Found, missing: list[str], says: str):
    assert why_no_device(missing, lambda: found) == says
    assert found.closed


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (Found(DEVICE), "cuda:NVIDIA T1"),
        (Found(DEVICE, DEVICE), "cuda:NVIDIA T1"),
        (Found(DEVICE, Device(name="NVIDIA T2", driver="580.1")), "cuda:1"),
        (Found(), "cuda:1"),
        (Found(answers=False), "cuda:1"),
    ],
)
def test_a_device_goes_by_its_name_where_that_is_sure(found: Found, name: str):
    assert named_device("cuda:1", lambda: found) == name


@without_cuda
def test_without_a_driver_the_reason_is_the_drivers():
    said = why_no_device(["libcudnn.so.9"])
    assert said
    assert "\n" not in said
    assert named_device("cuda:0") == "cuda:0"
