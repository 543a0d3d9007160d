"""What a file holds is told from its name and first bytes; what is not served is refused with the alternative."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from nearhall.core.errors import InputError
from nearhall.drivers.model_files import ALTERNATIVES, gguf_architecture, runtime_of


def _gguf(architecture: str, *, noise: bool = False) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [text("general.architecture") + struct.pack("<I", 8) + text(architecture)]
    if noise:
        number = text("general.version") + struct.pack("<II", 4, 7)
        words = text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
        numbers = text("scores") + struct.pack("<IIQ", 9, 6, 3) + struct.pack("<3f", 1, 2, 3)
        pairs = [number, words, numbers, *pairs]
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + b"".join(pairs)


@pytest.mark.parametrize(
    ("name", "data", "runtime"),
    [
        ("a.onnx", b"\x08\x07", "onnxruntime"),
        ("a.tflite", b"....TFL3", "openvino"),
        ("unnamed", b"....TFL3", "openvino"),
        ("a.gguf", _gguf("llama"), "genai"),
        ("b.gguf", _gguf("qwen2", noise=True), "genai"),
    ],
)
def test_a_served_file_names_its_runtime(tmp_path: Path, name: str, data: bytes, runtime: str):
    path = tmp_path / name
    path.write_bytes(data)
    assert runtime_of(path) == runtime


@pytest.mark.parametrize("suffix", ALTERNATIVES)
def test_what_is_not_served_is_refused_with_the_alternative(tmp_path: Path, suffix: str):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(InputError) as refused:
        runtime_of(path)
    assert suffix in str(refused.value)
    assert refused.value.right == ALTERNATIVES[suffix]


def test_a_tflite_file_is_known_by_its_bytes(tmp_path: Path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match="is no TFLite file"):
        runtime_of(path)


def test_a_gguf_of_another_architecture_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "m.gguf"
    path.write_bytes(_gguf("mamba", noise=True))
    assert gguf_architecture(path) == "mamba"
    with pytest.raises(InputError, match="architecture 'mamba'"):
        runtime_of(path)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF\x03\0\0\0", b"nonsense" * 10, _gguf("llama")[:30]])
def test_a_damaged_gguf_is_refused(tmp_path: Path, data: bytes):
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(InputError, match="is no GGUF file"):
        runtime_of(path)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        runtime_of(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="is a folder"):
        runtime_of(tmp_path)
