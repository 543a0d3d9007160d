"""A profile beside a variant tells its lane which batches pay, here and nowhere else."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nearhall.core.evidence import Kind
from nearhall.documents.profile import FILE_NAME, Profile, write_profile
from nearhall.gateway.profiles import curve_of, known_of, read_curve
from nearhall.gateway.repository import read_entry
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


# ---- what the choice among variants hears --------------------------------------------------------------------


def _agreed(score: float, kind: str = "measured") -> dict[str, Any]:
    return {"reference": "fp32", "score": score, "how": "top1", "n": 99, "worst": 0.0, "kind": kind}


def _joules(value: float, kind: str = "assumed") -> dict[str, Any]:
    return {"value": value, "kind": kind, "source": "a test"}


def _write(folder: Path, name: str, **more: Any) -> None:
    write_profile(folder / name, Profile.model_validate({**ABOUT, "variant": name, **more}))


HASHES = {"fp32": "a" * 64, "int8": "a" * 64}


def _known(folder: Path, hashes: Mapping[str, str | None] = HASHES):
    return known_of({name: (folder / name / "m.onnx", sha256) for name, sha256 in hashes.items()})


def test_quality_and_joules_of_variants_that_were_measured_alike(tmp_path: Path):
    _write(tmp_path, "fp32", joules_per_item={"cpu": _joules(2.0)})
    _write(tmp_path, "int8", agreement=_agreed(0.97), joules_per_item={"cpu": _joules(1.0)})
    known = _known(tmp_path)
    assert {name: (each.quality, each.joules) for name, each in known.items()} == {"fp32": (1.0, 2.0), "int8": (0.97, 1.0)}


def test_joules_of_another_kind_device_or_instrument_are_not_held_against_each_other(tmp_path: Path):
    _write(tmp_path, "fp32", joules_per_item={"cpu": _joules(2.0), "it": _joules(9.0, "measured")})
    for other in (
        {"joules_per_item": {"cpu": _joules(1.0)}},
        {"joules_per_item": {"it": _joules(1.0, "simulated")}},
        {"joules_per_item": {"it": _joules(1.0, "measured")}, "host": {"cpu": "another", "cores": 2}},
    ):
        _write(tmp_path, "int8", agreement=_agreed(0.97), **other)
        assert [each.joules for each in _known(tmp_path).values()] == [None, None]
    _write(tmp_path, "int8", joules_per_item={"cpu": _joules(1.0), "it": _joules(4.0, "measured")})
    assert [each.joules for each in _known(tmp_path).values()] == [9.0, 4.0]


def test_agreement_on_random_numbers_and_of_another_file_is_no_quality(tmp_path: Path):
    _write(tmp_path, "fp32")
    _write(tmp_path, "int8", agreement=_agreed(0.97, "assumed"))
    assert [each.quality for each in _known(tmp_path).values()] == [None, None]
    _write(tmp_path, "int8", agreement=_agreed(0.97))
    assert [each.quality for each in _known(tmp_path).values()] == [1.0, 0.97]
    assert list(_known(tmp_path, {"fp32": "a" * 64, "int8": "b" * 64})) == ["fp32"]


def test_where_model_yaml_has_no_hash_the_file_is_read_for_it(tmp_path: Path):
    data = b"a model"
    _write(tmp_path, "fp32", sha256=hashlib.sha256(data).hexdigest())
    assert list(_known(tmp_path, {"fp32": None})) == []
    (tmp_path / "fp32" / "m.onnx").write_bytes(b"another")
    assert list(_known(tmp_path, {"fp32": None})) == []
    (tmp_path / "fp32" / "m.onnx").write_bytes(data)
    assert list(_known(tmp_path, {"fp32": None})) == ["fp32"]
    _write(tmp_path, "far", sha256=None)
    assert list(_known(tmp_path, {"far": None})) == ["far"]


def test_the_repository_hears_of_it_before_it_hears_model_yaml(tmp_path: Path):
    place = tmp_path / "door"
    for name in HASHES:
        (place / "1" / name).mkdir(parents=True)
        (place / "1" / name / "m.onnx").write_bytes(b"x")
    variants = {n: {"runtime": "onnxruntime", "file": "m.onnx", "sha256": sha, "quality": 0.5} for n, sha in HASHES.items()}
    document = {
        "schema": "nearhall/model/v1",
        "name": "door",
        "task": "tensors",
        "licence": "ours",
        "source": "a test",
        "versions": {"1": {"variants": variants}},
        "default_version": "1",
        "default_variant": "fp32",
    }
    (place / "model.yaml").write_text(json.dumps(document))

    def heard() -> list[tuple[float | None, float | None]]:
        entry = read_entry(place)
        assert entry is not None
        return [(each.quality, each.joules) for each in entry.variants]

    assert heard() == [(0.5, None), (0.5, None)]
    _write(place / "1", "fp32", joules_per_item={"cpu": _joules(2.0)})
    _write(place / "1", "int8", agreement=_agreed(0.97), joules_per_item={"cpu": _joules(1.0)})
    assert heard() == [(1.0, 2.0), (0.97, 1.0)]
