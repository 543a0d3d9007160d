"""A profile beside a variant tells its lane which batches pay, here and nowhere else."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest

from nearhall.core.evidence import Kind
from nearhall.documents.profile import FILE_NAME, Profile, write_profile
from nearhall.gateway.models.profiles import curve_of, is_of, read_curve
from nearhall.policy.batching import Runs, batching, device_key

POINTS = [
    {"batch": batch, "n": 200, "p50": ms, "p90": ms * 1.1, "cpu_ms": ms, "kind": "measured"} for batch, ms in ((1, 1.0), (4, 2.0))
]
ABOUT: dict[str, Any] = {
    "schema": "nearhall/profile/v1",
    "model": "door",
    "version": "1",
    "variant": "cpu",
    "runtime": "onnxruntime",
    "sha256": "a" * 64,
    "device": "cpu",
    "threads": 1,
    "host": {"cpu": "Old Faithful 1000", "cores": 2},
    "date": "2026-11-26T05:20:00+00:00",
    "latency_ms": POINTS,
}


def _here(cpu: str) -> Runs:
    return Runs(device=device_key("cpu", cpu), sha256="a" * 64, threads=1)


def test_the_curve_counts_on_the_cpu_that_it_was_measured_on(tmp_path: Path):
    assert read_curve(tmp_path) is None
    write_profile(tmp_path, Profile.model_validate(ABOUT))
    curve = read_curve(tmp_path)
    assert batching(curve, here=_here("Old Faithful 1000")) == (4,)
    assert batching(curve, here=_here("another")) == ()


def test_one_point_that_is_not_measured_makes_the_curve_as_weak():
    curve = curve_of(Profile.model_validate({**ABOUT, "latency_ms": [POINTS[0], {**POINTS[1], "kind": "simulated"}]}))
    assert curve is not None
    assert curve.kind is Kind.SIMULATED


def test_a_profile_without_a_curve_or_a_file_gives_none():
    assert curve_of(Profile.model_validate({**ABOUT, "latency_ms": []})) is None
    assert curve_of(Profile.model_validate({**ABOUT, "sha256": None})) is None


def test_a_broken_profile_stops_nothing_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / FILE_NAME).write_text("{")
    with caplog.at_level(logging.WARNING, logger="nearhall.gateway"):
        assert read_curve(tmp_path) is None
    assert "a profile is not used" in caplog.text


def test_a_profile_is_of_the_file_whose_hash_it_has(tmp_path: Path):
    data = b"a model"
    profile = Profile.model_validate({**ABOUT, "sha256": hashlib.sha256(data).hexdigest()})
    file = tmp_path / "m.onnx"
    assert not is_of(profile, file, None)
    file.write_bytes(b"another")
    assert not is_of(profile, file, None)
    file.write_bytes(data)
    assert is_of(profile, file, None)
    assert not is_of(profile, file, "b" * 64)
    assert is_of(Profile.model_validate({**ABOUT, "sha256": None}), file, None)
