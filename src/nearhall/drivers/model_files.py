"""What kind of model a file holds, told from its name and its first bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from nearhall.core.errors import InputError

GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""What OpenVINO GenAI reads straight from GGUF (2026.4)."""
ALTERNATIVES: dict[str, str] = {
    ".pt": "export it to ONNX: torch.onnx.export(model, example, 'model.onnx')",
    ".pth": "export it to ONNX: torch.onnx.export(model, example, 'model.onnx')",
    ".safetensors": "convert a language model to GGUF (convert_hf_to_gguf.py), or serve it elsewhere and add its URL",
    ".bin": "weights alone are no model; convert it to ONNX, or to GGUF for a language model",
    ".pb": "convert it to ONNX: python -m tf2onnx.convert --graphdef model.pb --output model.onnx",
    ".h5": "convert it to TFLite: tf.lite.TFLiteConverter.from_keras_model(model)",
    ".keras": "convert it to TFLite: tf.lite.TFLiteConverter.from_keras_model(model)",
    ".engine": "TensorRT engines fit one GPU and version; serve it with Triton and add its URL",
    ".plan": "TensorRT engines fit one GPU and version; serve it with Triton and add its URL",
    ".mlmodel": "convert it to ONNX with onnxmltools",
    ".xml": "OpenVINO IR is not taken yet; add the ONNX or TFLite file it was made from",
    ".ggml": "convert it to GGUF",
    ".pkl": "a pickle can run any code when opened; export the model to ONNX (skl2onnx for scikit-learn)",
    ".joblib": "a pickle can run any code when opened; export the model to ONNX (skl2onnx for scikit-learn)",
}
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT_MAX = 1 << 20


def runtime_of(path: Path) -> str:
    """`onnxruntime`, `openvino` or `genai`; raises InputError that names what is not supported, and the alternative."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(what, where=str(path), right="name a .onnx, .tflite or .gguf file, or the URL of a v2 or OpenAI server")
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        head = file.read(8)
    if suffix == ".gguf" or head[:4] == b"GGUF":
        architecture = gguf_architecture(path)
        if architecture not in GGUF_ARCHITECTURES:
            right = f"a GGUF of {', '.join(GGUF_ARCHITECTURES)}; or serve it with llama-server and add its URL"
            raise InputError(
                f"is a GGUF of architecture {architecture!r}, which OpenVINO GenAI does not read", where=str(path), right=right
            )
        return "genai"
    if head[4:8] == b"TFL3":
        return "openvino"
    if suffix == ".tflite":
        what = "is no TFLite file; bytes 5 to 8 of one are TFL3"
        raise InputError(what, where=str(path), right="was the download cut short?")
    if suffix == ".onnx":
        return "onnxruntime"
    right = ALTERNATIVES.get(suffix, "name a .onnx, .tflite or .gguf file, or the URL of a v2 or OpenAI server")
    raise InputError(f"files of type {suffix or 'without a suffix'} are not served", where=str(path), right=right)


def gguf_architecture(path: Path) -> str:
    """`general.architecture` from the file's head (GGUF v2 and v3); raises InputError for a file that is no GGUF."""
    try:
        with path.open("rb") as file:
            magic, version = struct.unpack("<4sI", file.read(8))
            if magic != b"GGUF" or version not in {2, 3}:
                raise ValueError(magic)
            _, pairs = struct.unpack("<QQ", file.read(16))
            for _ in range(pairs):
                key = _text(file)
                (kind,) = struct.unpack("<I", file.read(4))
                if key == "general.architecture" and kind == _GGUF_STRING:
                    return _text(file)
                _skip(file, kind)
    except (struct.error, ValueError, KeyError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            "is no GGUF file", where=str(path), right="the first four bytes of one are GGUF; was the download cut short?"
        ) from error
    return "unknown"


def _text(file: BinaryIO) -> str:
    (size,) = struct.unpack("<Q", file.read(8))
    if size > _TEXT_MAX:
        raise ValueError(size)
    return file.read(size).decode()


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _GGUF_STRING:
        _text(file)
    elif kind == _GGUF_ARRAY:
        inner, count = struct.unpack("<IQ", file.read(12))
        if inner in _GGUF_SIZES:
            file.seek(_GGUF_SIZES[inner] * count, 1)
        else:
            for _ in range(count):
                _skip(file, inner)
    else:
        file.seek(_GGUF_SIZES[kind], 1)
