"""A Triton model folder: `config.pbtxt` and numbered versions. The simple case is served; a field beyond it is refused by name.

Source: Triton's "Model Configuration" and `model_config.proto`. The text format of protocol buffers is read by a small
recursive reader, since protobuf and Triton's schema would be a heavy dependency for a dozen fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearhall.core.errors import InputError
from nearhall.core.tensor import BYTES, ITEM_BYTES, TensorSpec

FILE_NAME = "config.pbtxt"
BYTES_MAX = 1024 * 1024
DEPTH_MAX = 16
_RUNTIMES: dict[str, tuple[str, str]] = {
    "onnxruntime_onnx": ("onnxruntime", "model.onnx"),
    "onnxruntime": ("onnxruntime", "model.onnx"),
    "openvino": ("openvino", "model.xml"),
}
"""Triton's platform or backend: our runtime and the file that Triton takes by default."""
_FIELDS = frozenset(
    {
        "name",
        "platform",
        "backend",
        "max_batch_size",
        "input",
        "output",
        "default_model_filename",
        "version_policy",
        "instance_group",
    }
)
_TENSOR_FIELDS = frozenset({"name", "data_type", "dims", "format", "optional"})
_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*(?:\n|\Z)\s*)*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[A-Za-z_][\w.]*|[-+]?[\d.][\w.+-]*|[{}\[\]:,;<>])"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonModel:
    """What a Triton folder says, in our words."""

    platform: str
    runtime: str
    version: str
    versions: tuple[str, ...]
    file: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_triton(place: Path) -> TritonModel:
    """The model in a Triton folder; raises InputError naming the field that is not supported."""
    where = str(place / FILE_NAME)
    data = (place / FILE_NAME).read_bytes()
    if len(data) > BYTES_MAX:
        raise InputError(f"is {len(data)} bytes long", where=where, right=f"at most {BYTES_MAX}")
    config = parse_pbtxt(data.decode(errors="replace"), where)
    for field in config:
        if field not in _FIELDS:
            raise InputError(
                f"the field {field!r} is not supported", where=where, right=f"supported: {', '.join(sorted(_FIELDS))}"
            )
    _only_plain(config, where)
    platform = str(_one(config, "platform") or _one(config, "backend") or "")
    if platform not in _RUNTIMES:
        raise InputError(f"platform {platform!r} is not supported", where=where, right=f"supported: {', '.join(_RUNTIMES)}")
    runtime, default_file = _RUNTIMES[platform]
    versions = tuple(sorted((p.name for p in place.iterdir() if p.is_dir() and p.name.isdigit()), key=int))
    if not versions:
        raise InputError("there is no version folder beside it", where=where, right=f"put the model at 1/{default_file}")
    file = place / versions[-1] / str(_one(config, "default_model_filename") or default_file)
    if not file.is_file() or file.parent != place / versions[-1]:
        raise InputError(f"{file} is missing", where=where, right="put the model there")
    batched = int(_one(config, "max_batch_size") or 0) > 0
    return TritonModel(
        platform=platform,
        runtime=runtime,
        version=versions[-1],
        versions=versions,
        file=file,
        inputs=tuple(_spec(tensor, batched, where) for tensor in config.get("input", ())),
        outputs=tuple(_spec(tensor, batched, where) for tensor in config.get("output", ())),
    )


def _only_plain(config: Mapping[str, list[Any]], where: str) -> None:
    """Refuses what would change how the model runs."""
    for policy in config.get("version_policy", ()):
        if set(policy) - {"latest"}:
            raise InputError("version_policy other than latest is not supported", where=where, right="leave it out")
    for group in config.get("instance_group", ()):
        kind = str(_one(group, "kind") or "KIND_CPU")
        if kind not in {"KIND_CPU", "KIND_AUTO"} or int(_one(group, "count") or 1) != 1:
            raise InputError("instance_group other than one on the CPU is not supported", where=where, right="leave it out")


def _spec(tensor: Mapping[str, list[Any]], batched: bool, where: str) -> TensorSpec:
    for field in tensor:
        if field not in _TENSOR_FIELDS:
            raise InputError(f"the tensor field {field!r} is not supported", where=where, right="leave it out")
    dtype = str(_one(tensor, "data_type") or "").removeprefix("TYPE_").replace("STRING", BYTES)
    if dtype != BYTES and dtype not in ITEM_BYTES:
        raise InputError(f"data_type {dtype!r} is not supported", where=where, right=f"one of TYPE_{', TYPE_'.join(ITEM_BYTES)}")
    dims = tuple(int(length) for length in tensor.get("dims", ()))
    optional = str(_one(tensor, "optional") or "false") == "true"
    return TensorSpec(str(_one(tensor, "name") or ""), dtype, (-1, *dims) if batched else dims, optional)


def _one(fields: Mapping[str, list[Any]], name: str) -> Any:
    values = fields.get(name)
    return values[-1] if values else None


def parse_pbtxt(text: str, where: str) -> dict[str, list[Any]]:
    """The fields of a message in protobuf's text format: each a list of its values, messages as such dicts again."""
    tokens = _tokens(text, where)
    fields, end = _message(tokens, where, 0)
    if end is not None:
        raise InputError(f"{end!r} closes nothing", where=where, right="balance the braces")
    return fields


def _tokens(text: str, where: str) -> Iterator[str]:
    at = 0
    stripped = len(text.rstrip())
    while at < stripped:
        match = _TOKEN.match(text, at)
        if match is None:
            if not re.sub(r"#[^\n]*", "", text[at:]).strip():
                return
            line = text.count("\n", 0, at) + 1
            raise InputError("cannot be read as protobuf text", where=f"{where}:{line}", right="e.g. max_batch_size: 0")
        at = match.end()
        yield match.group(1)


def _message(tokens: Iterator[str], where: str, depth: int) -> tuple[dict[str, list[Any]], str | None]:
    """Fields up to the closing brace (returned) or the end (None)."""
    if depth > DEPTH_MAX:
        raise InputError(f"is nested more than {DEPTH_MAX} deep", where=where, right="this is no model configuration")
    fields: dict[str, list[Any]] = {}
    for name in tokens:
        if name in {"}", ">"}:
            return fields, name
        if name in {",", ";"}:
            continue
        first = next(tokens, "")
        if first == ":":
            first = next(tokens, "")
        fields.setdefault(name, []).extend(_values(first, tokens, where, depth))
    return fields, None


def _values(first: str, tokens: Iterator[str], where: str, depth: int) -> list[Any]:
    if first in {"{", "<"}:
        fields, end = _message(tokens, where, depth + 1)
        if end is None:
            raise InputError("a brace is never closed", where=where, right="balance the braces")
        return [fields]
    if first == "[":
        found: list[Any] = []
        for item in tokens:
            if item == "]":
                return found
            if item != ",":
                found.extend(_values(item, tokens, where, depth + 1))
        raise InputError("a bracket is never closed", where=where, right="balance the brackets")
    if first in {"", "}", ">", "]", ":", ",", ";"}:
        raise InputError("a field has no value", where=where, right="e.g. max_batch_size: 0")
    if first[0] in "\"'":
        return [first[1:-1].encode().decode("unicode_escape", errors="replace")]
    return [first]
