"""model.yaml: what a model is, where it comes from, and its runnable forms (schema `nearhall/model/v1`)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

SCHEMA = "nearhall/model/v1"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Fits a URL's path and a folder's name."""


_SWITCH = "on|off"
OPTIONS: dict[str, dict[str, str]] = {
    "onnxruntime": {
        "optimization": "all|basic|none",
        "device": "cpu|auto|cuda(:[0-9]{1,2})?",
        "gpu_memory_mib": "[1-9][0-9]{0,6}",
        "conv_search": "heuristic|exhaustive|default",
        "tf32": _SWITCH,
        "tokenizer": "[^/]+",
        "max_tokens": "[1-9][0-9]{0,4}",
    },
    "openvino": {"performance_hint": "LATENCY|THROUGHPUT"},
    "genai": {"context": "[1-9][0-9]{1,6}", "kv_cache_gib": "[1-9][0-9]{0,3}", "prefix_cache": _SWITCH},
    "upstream": {"model": ".+", "api_key_file": ".+"},
}
"""What `options` of a variant may hold, by runtime, and the pattern of its value.

`optimization`: of the graph (default all). `device`: `cpu` (default); `cuda` or `cuda:1`, an NVIDIA device, refused where there
is none; `auto`, the device where there is one and else the CPU. On a device: `gpu_memory_mib` bounds what the model may take of
its memory (default 8192), `conv_search` says how cuDNN chooses an algorithm (default heuristic), and `tf32: on` lets tensor cores
round FP32 (default off: the CPU's answers).
`tokenizer`: of a model of embeddings, a tokenizer.json beside its file; `max_tokens`:
of one text (default 256). `context`: tokens of prompt and answer together (default 2048). `kv_cache_gib`: what its key-value
cache may grow to (default 1). `prefix_cache`: what begins like an earlier prompt is not read again (default on).
`model`: the model's name at the other server (default: ours). `api_key_file`: its first line is sent as the bearer token; the key
itself never stands in model.yaml.
"""


OptionText = Annotated[str, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]})]
_DIGITS = re.compile(r"\[1-9\]\[0-9\]\{(\d),(\d)\}")


def _as_text(value: Any, pattern: str) -> Any:
    """A plain value of YAML as an option's text: `gpu_memory_mib: 384`, `tf32: true`. Anything else as it is."""
    if isinstance(value, bool):
        words = ("off", "on") if pattern == _SWITCH else ("false", "true")
        return words[value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def _in_words(pattern: str) -> str:
    """What an option may be, for a message."""
    digits = _DIGITS.fullmatch(pattern)
    if digits is None:
        return pattern
    return f"a whole number from {10 ** int(digits[1])} to {10 ** (int(digits[2]) + 1) - 1}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TensorShape(_Strict):
    """One input or output: -1 is any length."""

    name: str
    dtype: Literal[
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
    ]
    shape: list[Annotated[int, Field(ge=-1)]]
    optional: bool = False
    example_shape: list[Annotated[int, Field(ge=0)]] | None = None
    """What to warm up and measure with, where free lengths cannot simply be 1."""
    example_value: float = 0.0
    """Every element of the example."""


class Measured(_Strict):
    """What one variant took on one host; evidence `measured` for that host alone."""

    latency_p50_ms: float = Field(ge=0)
    memory_mib: float = Field(ge=0)
    runs: int = Field(ge=1)
    date: str
    host: str


class Variant(_Strict):
    """One runnable form."""

    runtime: Literal["onnxruntime", "openvino", "genai", "upstream"]
    file: str
    """File name in `<version>/<variant>/`; for `upstream` the base URL."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    threads: int = Field(default=1, ge=1, le=256)
    options: dict[str, OptionText] = {}
    """Settings of the runtime. Numbers may be written without quotes; `true` and `false` are `on` and `off`."""
    measured: Measured | None = None
    quality: float | None = Field(default=None, ge=0, le=1)
    """Its score over that of the reference variant, 0 to 1, where it is known; a `profile.json` beside the file says it with its
    evidence and counts more. A variant of unknown quality never stands in for another one."""
    preload: bool = False
    """Loaded at start beside the default variant; without it a second variant is loaded when it is needed."""

    @field_validator("options", mode="before")
    @classmethod
    def _options_as_text(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        options = cast("dict[Any, Any]", given)
        known = OPTIONS.get(info.data.get("runtime", ""), {})
        return {name: _as_text(value, known.get(name, "")) for name, value in options.items()}

    @model_validator(mode="after")
    def _options_are_known(self) -> Variant:
        known = OPTIONS[self.runtime]
        for name, value in self.options.items():
            if name not in known:
                message = f"options.{name} is not known to {self.runtime}; known: {', '.join(known)}"
                raise ValueError(message)
            if not re.fullmatch(known[name], value):
                message = f"options.{name} is {value!r}; right would be {_in_words(known[name])}"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _file_is_a_name(self) -> Variant:
        if self.runtime == "upstream":
            if not self.file.startswith(("http://", "https://")):
                message = f"file of an upstream variant is {self.file!r}; give the server's http:// or https:// address"
                raise ValueError(message)
        elif "/" in self.file or self.file in {"", ".", ".."}:
            message = f"file {self.file!r} is not a plain file name; put the file into <version>/<variant>/"
            raise ValueError(message)
        return self


class Version(_Strict):
    """One version of a model: its A/B slot."""

    variants: dict[Name, Variant] = Field(min_length=1)


class ModelDocument(_Strict):
    """The whole of model.yaml."""

    schema_: Literal["nearhall/model/v1"] = Field(alias="schema")
    name: Name
    task: Literal["tensors", "chat", "embeddings"]
    licence: str
    source: str
    """Package, version and path, or the file or address the user gave."""
    quality: str | None = None
    """How well it does, on which data, in words."""
    inputs: list[TensorShape] = []
    outputs: list[TensorShape] = []
    stateful: bool = False
    """A request to it must not be repeated elsewhere."""
    pinned: bool = False
    """Its default variant never leaves memory for another model's sake, and is loaded before all that are not pinned."""
    versions: dict[Name, Version] = Field(min_length=1)
    default_version: str
    default_variant: str

    @model_validator(mode="after")
    def _embeddings_have_a_tokenizer(self) -> ModelDocument:
        for version in self.versions.values():
            for name, variant in version.variants.items():
                if variant.runtime == "upstream":
                    continue
                if (self.task == "embeddings") != ("tokenizer" in variant.options):
                    what = "has no options.tokenizer" if self.task == "embeddings" else "has options.tokenizer"
                    message = (
                        f"variant {name!r} {what}, and task is {self.task}; a model of embeddings needs one, no other has any"
                    )
                    raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _defaults_exist(self) -> ModelDocument:
        version = self.versions.get(self.default_version)
        if version is None:
            message = f"default_version {self.default_version!r} is not among versions: {', '.join(self.versions)}"
            raise ValueError(message)
        if self.default_variant not in version.variants:
            message = f"default_variant {self.default_variant!r} is not a variant of it: {', '.join(version.variants)}"
            raise ValueError(message)
        return self
