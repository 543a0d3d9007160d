"""What lies in a repository: ours, Triton's simple case, and faults that stop nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plane_rig import write_model
from nearhall.core.errors import InputError
from nearhall.core.tensor import TensorSpec
from nearhall.gateway.repository import scan
from nearhall.gateway.triton_config import parse_pbtxt

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
