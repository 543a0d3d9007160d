"""What a v2 server says of itself and its models, in Triton's shapes."""

from __future__ import annotations

import json

from nearhall.core.tensor import BYTES, TensorSpec
from nearhall.wire.oip_describe import (
    LIVE,
    READY,
    Configured,
    ModelCounts,
    Spent,
    model_config,
    model_metadata,
    model_ready,
    model_statistics,
    repository_entry,
    server_metadata,
)

SPECS = (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("n", BYTES, (1,), optional=True))


def test_metadata_is_the_protocols():
    assert server_metadata("1.0", may_load=True) == {
        "name": "nearhall",
        "version": "1.0",
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "schedule_policy", "statistics"],
    }
    shut = server_metadata("1.0", may_load=False)["extensions"]
    assert shut == ["binary_tensor_data", "model_configuration", "schedule_policy", "statistics"]
    described = model_metadata(name="m", versions=["1"], platform="p", inputs=SPECS, outputs=[])
    assert described["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    assert described["versions"] == ["1"]


def test_health_is_said_in_kserves_words():
    """Its own REST client reads the words, where Triton's reads the status alone."""
    assert json.loads(LIVE) == {"live": True}
    assert json.loads(READY) == {"ready": True}
    assert model_ready("m") == {"name": "m", "ready": True}


def configured(version):
    return Configured(
        name="m",
        version=version,
        platform="nearhall_onnxruntime",
        runtime="onnxruntime",
        variant="cpu",
        file="m.onnx",
        kind="KIND_CPU",
        inputs=SPECS,
        outputs=SPECS[:1],
    )


def test_a_configuration_names_types_as_triton_does():
    config = model_config(configured("3"))
    assert config["version_policy"] == {"specific": {"versions": [3]}}
    assert config["input"][1] == {"name": "n", "data_type": "TYPE_STRING", "dims": [1], "optional": True}
    assert config["output"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}]
    assert config["instance_group"] == [{"name": "m_0", "kind": "KIND_CPU", "count": 1}]
    assert config["parameters"] == {"nearhall_variant": {"string_value": "cpu"}}
    assert "version_policy" not in model_config(configured("2026-11"))


def test_statistics_count_in_nanoseconds():
    counts = ModelCounts(
        last_inference_s=1.5,
        executions=1,
        success=Spent(count=2, total_ms=3.25),
        fail=Spent(count=1, total_ms=0.5),
        queue=Spent(count=2, total_ms=1.0),
        compute=Spent(count=2, total_ms=2.0),
    )
    said = model_statistics(name="m", version="1", counts=counts)
    assert (said["last_inference"], said["inference_count"], said["execution_count"]) == (1500, 2, 1)
    stats = said["inference_stats"]
    assert stats["success"] == {"count": 2, "ns": 3_250_000}
    assert stats["fail"] == {"count": 1, "ns": 500_000}
    assert stats["compute_infer"] == {"count": 2, "ns": 2_000_000}
    assert stats["compute_input"] == {"count": 0, "ns": 0}


def test_a_repository_says_how_models_stand_in_tritons_words():
    states = {state: repository_entry(name="m", version="1", state=state, reason="")["state"] for state in ("ready", "loading")}
    assert states == {"ready": "READY", "loading": "LOADING"}
    for state in ("failed", "unloaded"):
        assert repository_entry(name="m", version="1", state=state, reason="why") == {
            "name": "m",
            "version": "1",
            "state": "UNAVAILABLE",
            "reason": "why",
        }
