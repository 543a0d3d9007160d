"""What this gateway says of itself and its models in the v2 protocol's words, for REST and gRPC alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nearhall import __version__
from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway.models.model import Model
from nearhall.gateway.models.variants import State
from nearhall.gateway.plane import Plane
from nearhall.ports.runtime import ModelFile
from nearhall.wire import oip_describe as words
from nearhall.wire.oip_describe import Configured

Plain = dict[str, Any]

NOT_SERVED: Mapping[str, str] = {
    "shared memory": "shared memory is not served; send tensors as binary data, from this machine through the Unix socket",
    "trace": "tracing is not served; Server-Timing and x-nearhall-reason say of each answer where its time went and why",
    "log": "log settings are not served; the gateway logs to standard error",
    "stream": "ModelStreamInfer is not served; ask a tensor model with ModelInfer, a language model at /v1/chat/completions",
}
"""Parts of Triton's protocol that are not there, in words."""


def found(plane: Plane, name: str, version: str | None) -> Model:
    """The model; raises Refusal(MODEL_UNKNOWN)."""
    model = plane.models.find(name, version or None)
    if model is None:
        raise Refusal(Reason.MODEL_UNKNOWN, f"there is no model {name[:64]!r} here")
    return model


def check_ready(plane: Plane) -> None:
    """Raises Refusal while this gateway should not be sent work."""
    if plane.draining:
        raise Refusal(Reason.DRAINING, "this gateway is being stopped", retry_after_ms=1000)
    if not plane.models.settled:
        raise Refusal(Reason.MODEL_NOT_READY, "models are still loading", retry_after_ms=1000)


def standing(model: Model) -> str:
    """How a model stands, in words."""
    if model.state is State.READY:
        return "ready, but its process or server is down"
    return f"{model.state.value}: {model.detail}" if model.detail else model.state.value


def server_metadata(*, may_load: bool) -> Plain:
    """Of the gateway; `may_load`: whether models may be loaded and unloaded at the address that is asked."""
    return words.server_metadata(__version__, may_load=may_load)


def model_metadata(model: Model) -> Plain:
    """Of a model."""
    entry = model.entry
    return words.model_metadata(
        name=entry.name,
        versions=[entry.version] if entry.version else [],
        platform=entry.platform,
        inputs=model.inputs,
        outputs=model.outputs,
    )


def model_config(model: Model) -> Plain:
    """A model's configuration, of the variant that stands for it; raises Refusal(MODEL_NOT_READY) where none can be loaded."""
    entry, variant = model.entry, model.front.entry
    if entry.file is None:
        raise Refusal(Reason.MODEL_NOT_READY, f"model {entry.name!r} is {standing(model)}", retry_after_ms=None)
    return words.model_config(
        Configured(
            name=entry.name,
            version=entry.version,
            platform=variant.platform or entry.platform,
            runtime=variant.file.runtime,
            variant=variant.name,
            file="" if variant.file.runtime == "upstream" else PurePosixPath(variant.file.path).name,
            kind=_kind(variant.file),
            inputs=model.inputs,
            outputs=model.outputs,
        )
    )


def _kind(file: ModelFile) -> str:
    if file.runtime == "upstream":
        return "KIND_MODEL"
    on_gpu = any(value.upper().startswith(("GPU", "CUDA")) for value in file.options.values())
    return "KIND_GPU" if on_gpu else "KIND_CPU"


def model_statistics(plane: Plane, name: str = "", version: str = "") -> Plain:
    """Of one model, or of all that can be loaded; raises Refusal(MODEL_UNKNOWN)."""
    models = [found(plane, name, version)] if name else [model for model in plane.models.all() if model.entry.file is not None]
    return {
        "model_stats": [
            words.model_statistics(
                name=model.entry.name,
                version=model.entry.version,
                counts=plane.stats.model(model.entry.name, model.entry.version).frozen(),
            )
            for model in models
        ]
    }


def repository_index(plane: Plane, *, ready: bool) -> list[Plain]:
    """Every model of the repository, or those that answer now; of a model with several variants, how each stands."""
    return [_indexed(model) for model in plane.models.all() if model.ready or not ready]


def _indexed(model: Model) -> Plain:
    state = State.LOADING if model.state is State.READY and not model.ready else model.state
    said = words.repository_entry(name=model.entry.name, version=model.entry.version, state=state.value, reason=model.detail)
    if model.several:
        said["variants"] = {name: variant.state.value for name, variant in model.variants.items()}
    return said
