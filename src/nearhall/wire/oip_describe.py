"""What a v2 server says of itself and its models: metadata, configuration, statistics; plain objects for JSON and gRPC alike.

Sources: the Open Inference Protocol v2 and Triton's extensions "model configuration", "statistics" and "model repository". Only
what is really so is said: a field of Triton's that means nothing here is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearhall.core.tensor import BYTES, TensorSpec

EXTENSIONS: tuple[str, ...] = ("binary_tensor_data", "model_configuration", "schedule_policy", "statistics")
"""Advertised in the server metadata; only what is really there."""
REPOSITORY = "model_repository"
"""Of index, load and unload together, so advertised only where all three answer; the index answers everywhere."""

LIVE, READY = b'{"live":true}', b'{"ready":true}'
"""What the protocol has of a server that is: KServe's own REST client reads these words, others the status alone."""

Plain = dict[str, Any]


def model_ready(name: str) -> Plain:
    """GET /v2/models/{name}/ready, of one that is."""
    return {"name": name, "ready": True}


def server_metadata(version: str, *, may_load: bool) -> Plain:
    """GET /v2; `may_load`: whether models may be loaded and unloaded where this is asked."""
    extensions = sorted({*EXTENSIONS, REPOSITORY}) if may_load else list(EXTENSIONS)
    return {"name": "nearhall", "version": version, "extensions": extensions}


def model_metadata(
    *, name: str, versions: Sequence[str], platform: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Plain:
    """GET /v2/models/{name}."""

    def described(specs: Sequence[TensorSpec]) -> list[Plain]:
        return [{"name": spec.name, "datatype": spec.dtype, "shape": list(spec.shape)} for spec in specs]

    return {
        "name": name,
        "versions": list(versions),
        "platform": platform,
        "inputs": described(inputs),
        "outputs": described(outputs),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a model's configuration is told from."""

    name: str
    version: str
    platform: str
    runtime: str
    variant: str
    file: str
    """The name of its file, without the folder; empty where another server runs it."""
    kind: str
    """Triton's: `KIND_CPU`, `KIND_GPU`, or `KIND_MODEL` where somebody else decides."""
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]


def model_config(model: Configured) -> Plain:
    """GET /v2/models/{name}/config.

    `max_batch_size` is 0: `dims` are whole shapes, their batch included, as Triton says of models that it does not batch.
    """
    config: Plain = {"name": model.name, "platform": model.platform, "backend": model.runtime, "max_batch_size": 0}
    if model.version.isdecimal():
        config["version_policy"] = {"specific": {"versions": [int(model.version)]}}
    config["input"] = [_input(spec) for spec in model.inputs]
    config["output"] = [_tensor(spec) for spec in model.outputs]
    config["instance_group"] = [{"name": f"{model.name}_0", "kind": model.kind, "count": 1}]
    config["default_model_filename"] = model.file
    config["parameters"] = {"nearhall_variant": {"string_value": model.variant}}
    return config


def _tensor(spec: TensorSpec) -> Plain:
    kind = "STRING" if spec.dtype == BYTES else spec.dtype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape)}


def _input(spec: TensorSpec) -> Plain:
    return {**_tensor(spec), "optional": True} if spec.optional else _tensor(spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How often something was done, and how long all of it took."""

    count: int = 0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCounts:
    """What is counted of one model's requests that were answered by this gateway itself; cumulative."""

    last_inference_s: float = 0.0
    """When the last one was answered, seconds since 1970 UTC; 0 for none."""
    executions: int = 0
    """Runs of the model; several requests may share one."""
    success: Spent = Spent()
    """Requests, whatever batch a client sent in one: from the first byte to the answer."""
    fail: Spent = Spent()
    """Refused or failed after the model was found."""
    queue: Spent = Spent()
    compute: Spent = Spent()


def model_statistics(*, name: str, version: str, counts: ModelCounts) -> Plain:
    """One model of GET /v2/models/stats. Reading and writing tensors is not kept apart, so Triton's fields for it are 0."""

    def duration(spent: Spent) -> Plain:
        return {"count": spent.count, "ns": round(spent.total_ms * 1e6)}

    nothing = duration(Spent())
    return {
        "name": name,
        "version": version,
        "last_inference": round(counts.last_inference_s * 1e3),
        "inference_count": counts.success.count,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": duration(counts.success),
            "fail": duration(counts.fail),
            "queue": duration(counts.queue),
            "compute_input": nothing,
            "compute_infer": duration(counts.compute),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    }


def repository_entry(*, name: str, version: str, state: str, reason: str) -> Plain:
    """One model of POST /v2/repository/index; `state` is one of our own: loading, ready, failed, unloaded."""
    return {"name": name, "version": version, "state": _STATES[state], "reason": reason}


_STATES: Mapping[str, str] = {"loading": "LOADING", "ready": "READY", "failed": "UNAVAILABLE", "unloaded": "UNAVAILABLE"}
"""Our states in Triton's words."""
