"""What lies in a repository: ours, Triton's simple case, and faults that stop nobody else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plane_rig import write_model, write_variants
from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.core.tensor import TensorSpec
from nearhall.documents.profile import Profile, write_profile
from nearhall.gateway.models.repository import scan
from nearhall.gateway.models.triton_config import parse_pbtxt

TRITON = """
# a comment
name: "t"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] },
  { name: "s", data_type: TYPE_STRING, dims: 1, optional: true }
]
output { name: "y" data_type: TYPE_INT64 dims: [ 10 ] }  # and another
"""


def write_triton(folder, text, *, files=("1/model.onnx", "3/model.onnx")):
    for file in files:
        (folder / "t" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "t" / file).write_bytes(b"")
    (folder / "t" / "config.pbtxt").write_text(text)
    return scan(folder)["t"]


def test_tritons_simple_case(tmp_path):
    entry = write_triton(tmp_path, TRITON)
    assert entry.fault == ""
    assert (entry.version, entry.versions, entry.runtime) == ("3", ("1", "3"), "onnxruntime")
    assert entry.inputs == (TensorSpec("x", "FP32", (-1, 3, -1)), TensorSpec("s", "BYTES", (-1, 1), optional=True))
    assert entry.outputs == (TensorSpec("y", "INT64", (-1, 10)),)
    assert entry.file.path.endswith("t/3/model.onnx")


REFUSED = {
    "a field": (TRITON + "dynamic_batching { }", "'dynamic_batching' is not supported"),
    "an ensemble": (TRITON.replace("onnxruntime_onnx", "ensemble"), "platform 'ensemble'"),
    "a GPU": (TRITON + "instance_group [ { kind: KIND_GPU } ]", "instance_group"),
    "a policy": (TRITON + "version_policy: { all { } }", "version_policy"),
    "a reshape": (TRITON.replace("dims: 1", "dims: 1 reshape: { shape: [ ] }"), "'reshape'"),
    "a type": (TRITON.replace("TYPE_INT64", "TYPE_BF16"), "'BF16'"),
    "a brace": (TRITON + "input {", "never closed"),
    "a stray brace": (TRITON + "}", "closes nothing"),
    "no value": (TRITON + "name: }", "has no value"),
    "no text": ("\x00", "cannot be read"),
    "a number": (TRITON.replace("max_batch_size: 8", "max_batch_size: many"), "many"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_triton_can_and_we_cannot_is_named(tmp_path, case):
    text, says = case
    assert says in write_triton(tmp_path, text).fault


def test_triton_without_its_file(tmp_path):
    (tmp_path / "t").mkdir()
    assert "no version folder" in write_triton(tmp_path, TRITON, files=()).fault
    assert "is missing" in write_triton(tmp_path, TRITON, files=("1/other.onnx",)).fault
    assert write_triton(tmp_path, TRITON, files=("1/model.onnx",)).fault == ""


@given(st.text(alphabet='{}[]:,"#ab1 \n', max_size=60))
def test_no_text_breaks_the_reader(text):
    try:
        parse_pbtxt(text, "here")
    except InputError:
        return


def test_one_faulty_model_stops_no_other(tmp_path):
    write_model(tmp_path, "good")
    write_model(tmp_path, "moved")
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    write_model(tmp_path, "empty")
    (tmp_path / "empty" / "1" / "cpu" / "m.onnx").unlink()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model.yaml").write_text("{")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes").mkdir()
    found = scan(tmp_path)
    assert set(found) == {"good", "elsewhere", "empty", "torn"}
    assert found["good"].fault == ""
    assert "its folder is 'elsewhere'" in found["elsewhere"].fault
    assert "is missing" in found["empty"].fault
    assert "YAML" in found["torn"].fault
    with pytest.raises(InputError, match="cannot be read"):
        scan(tmp_path / "none")


def write_figures(folder, variant, *, file=b"1" * (1 << 20), **about):
    """The variant's file and a profile of it."""
    place = folder / "m" / "1" / variant
    (place / "m.onnx").write_bytes(file)
    plain = {
        "schema": "nearhall/profile/v1",
        "model": "m",
        "version": "1",
        "variant": variant,
        "runtime": "onnxruntime",
        "sha256": hashlib.sha256(file).hexdigest(),
        "device": "cpu",
        "threads": 1,
        "host": {"cpu": "Old Faithful 1000", "cores": 2},
        "date": "2026-11-26T05:20:00+00:00",
        "latency_ms": [{"batch": 1, "n": 200, "p50": 4.0, "p90": 5.0, "kind": "measured"}],
        "load_s": {"value": 0.7, "kind": "measured", "source": "a clock"},
        "memory_mib": {"value": 30.0, "kind": "measured", "source": "/proc"},
        **about,
    }
    write_profile(place, Profile.model_validate(plain))


def agreed(score, kind="measured"):
    how = {"how": "top1", "n": 100, "worst": 0.0, "kind": kind}
    return {"agreement": {"reference": "fp32", "score": score, **how}}


def joules(**parts):
    return {"joules_per_item": {part: {"value": value, "kind": "measured", "source": "x"} for part, value in parts.items()}}


def figures(folder):
    return {each.name: each for each in scan(folder)["m"].variants}


def test_a_profile_says_what_a_variant_takes_and_how_good_it_is(tmp_path):
    write_variants(tmp_path, "m", {"fp32": "", "int8": ""})
    write_figures(tmp_path, "fp32", **joules(cpu=0.02, it=0.05))
    write_figures(tmp_path, "int8", **agreed(0.97), **joules(cpu=0.01, it=0.03))
    found = figures(tmp_path)
    assert [(each.quality, each.joules) for each in found.values()] == [(1.0, 0.05), (0.97, 0.03)]
    int8 = found["int8"]
    assert (int8.latency_ms, int8.load_s, int8.memory_mib, int8.memory_kind) == (5.0, 0.7, 30.0, Kind.MEASURED)


def test_agreement_on_nobodys_data_is_no_quality(tmp_path):
    write_variants(tmp_path, "m", {"fp32": "", "int8": "", "lean": ", quality: 0.9"})
    write_figures(tmp_path, "int8", **agreed(0.97, "assumed"))
    write_figures(tmp_path, "lean", **agreed(0.99, "assumed"))
    found = figures(tmp_path)
    assert (found["int8"].quality, found["lean"].quality) == (None, 0.9)
    write_figures(tmp_path, "lean", **agreed(0.99))
    assert figures(tmp_path)["lean"].quality == 0.99, "what was measured counts more than what somebody wrote"


def test_a_language_models_quality_is_its_agreement_token_by_token(tmp_path):
    write_variants(tmp_path, "m", {"fp32": "", "int8": ""})
    how = {
        "how": "tokens: 1,940 of 2,000 positions",
        "n": 32,
        "positions": 2000,
        "spread": 0.01,
        "worst": 0.9,
        "kind": "measured",
    }
    talk = {"streams": 1, "n": 4, "tokens_per_s": 50.0, "ttft_p50_ms": 60.0, "kind": "measured"}
    agreement = {"reference": "fp32", "reference_sha256": "a" * 64, "score": 0.97, **how}
    write_figures(tmp_path, "int8", runtime="genai", latency_ms=[], chat=[talk], agreement=agreement)
    assert [each.quality for each in figures(tmp_path).values()] == [1.0, 0.97]


def test_joules_of_different_parts_or_machines_are_not_compared(tmp_path):
    write_variants(tmp_path, "m", {"fp32": "", "int8": ""})
    write_figures(tmp_path, "fp32", **joules(cpu=0.02, gpu=0.03))
    write_figures(tmp_path, "int8", **joules(cpu=0.01))
    assert {each.joules for each in figures(tmp_path).values()} == {None}
    write_figures(tmp_path, "int8", **joules(cpu=0.01, gpu=0.01))
    assert [each.joules for each in figures(tmp_path).values()] == [0.05, 0.02]
    write_figures(tmp_path, "int8", host={"cpu": "another", "cores": 2}, **joules(cpu=0.01, gpu=0.01))
    assert {each.joules for each in figures(tmp_path).values()} == {None}


def test_a_profile_that_is_none_or_of_another_file_does_not_count(tmp_path, caplog):
    write_variants(tmp_path, "m", {"fp32": f", sha256: {'b' * 64}"})
    write_figures(tmp_path, "fp32")
    assert (figures(tmp_path)["fp32"].load_s, figures(tmp_path)["fp32"].memory_kind) == (pytest.approx(0.21), Kind.ASSUMED)
    assert "of another file" in caplog.text
    (tmp_path / "m" / "1" / "fp32" / "profile.json").write_text("{")
    assert figures(tmp_path)["fp32"].latency_ms == 0.0
    assert "a profile is not used" in caplog.text


def test_what_is_not_measured_is_guessed_and_says_so(tmp_path):
    def measured(mib):
        return f", measured: {{latency_p50_ms: 3, memory_mib: {mib}, runs: 9, date: x, host: y}}"

    write_variants(tmp_path, "m", {"guess": "", "told": measured(30), "too-little": measured(0.1)})
    for name in ("guess", "told", "too-little"):
        (tmp_path / "m" / "1" / name / "m.onnx").write_bytes(b"1" * (1 << 20))
    found = {name: (each.memory_mib, each.memory_kind.value, each.latency_ms) for name, each in figures(tmp_path).items()}
    assert found == {"guess": (10.0, "assumed", 0.0), "told": (30.0, "measured", 3.0), "too-little": (10.0, "assumed", 3.0)}


def test_a_language_model_takes_its_cache_as_well_and_another_server_nothing(tmp_path):
    write_model(tmp_path, "chat", task="chat")
    text = (tmp_path / "chat" / "model.yaml").read_text()
    assert scan(tmp_path)["chat"].variants[0].memory_mib == 8 + 1024
    (tmp_path / "chat" / "model.yaml").write_text(
        text.replace("runtime: genai, file: m.onnx", "runtime: upstream, file: 'http://x'")
    )
    assert scan(tmp_path)["chat"].variants[0].memory_mib == 0
