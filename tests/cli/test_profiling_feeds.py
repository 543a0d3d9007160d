"""Samples from files: fitted to the model's inputs, or refused in one line that says what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearhall.cli.profiling.feeds import Feeds, at_random, from_files
from nearhall.core.errors import InputError
from nearhall.core.evidence import Kind
from nearhall.core.tensor import BYTES, TensorSpec

IMAGE = TensorSpec("image", "FP32", (-1, 4))
FRAME = TensorSpec("frame", "FP32", (1, 2, 2))
RATE = TensorSpec("rate", "INT64", ())
EXAMPLES = {"rate": ((), 16_000.0)}


def test_samples_lie_along_the_first_axis(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(12).reshape(3, 4))
    feeds = from_files(tmp_path / "a.npy", [IMAGE], {})
    assert [feed["image"].tolist() for feed in feeds.feeds] == [[[0, 1, 2, 3]], [[4, 5, 6, 7]], [[8, 9, 10, 11]]]
    assert feeds.feeds[0]["image"].dtype == np.float32
    assert (feeds.kind, feeds.source, feeds.notes) == (Kind.MEASURED, str(tmp_path / "a.npy"), [])


def test_one_axis_more_in_front_is_that_of_the_samples(tmp_path: Path):
    np.savez(tmp_path / "a.npz", frame=np.zeros((5, 1, 2, 2), np.float32))
    feeds = from_files(tmp_path / "a.npz", [FRAME, RATE], EXAMPLES)
    assert [feed["frame"].shape for feed in feeds.feeds] == [(1, 2, 2)] * 5
    assert feeds.feeds[4]["rate"] == 16_000
    assert feeds.notes == ["rate: not in the data, taken from model.yaml's examples"]


def test_one_value_goes_with_all_samples(tmp_path: Path):
    np.savez(tmp_path / "a.npz", frame=np.zeros((5, 2, 2), np.float32), rate=np.array(8_000))
    feeds = from_files(tmp_path / "a.npz", [FRAME, RATE], EXAMPLES)
    assert [int(feed["rate"]) for feed in feeds.feeds] == [8_000] * 5


def test_a_folder_of_requests_and_arrays_is_read_in_order(tmp_path: Path):
    np.save(tmp_path / "b.npy", np.full((1, 4), 2, np.float32))
    body = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}]}
    (tmp_path / "a.json").write_text(json.dumps(body))
    (tmp_path / "notes.txt").write_text("not read")
    feeds = from_files(tmp_path, [IMAGE], {})
    assert [float(feed["image"][0, 0]) for feed in feeds.feeds] == [1.0, 2.0]


def test_texts_are_samples_too(tmp_path: Path):
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["door"]}]}
    (tmp_path / "a.json").write_text(json.dumps(body))
    feeds = from_files(tmp_path, [TensorSpec("text", BYTES, (-1,))], {})
    assert feeds.feeds[0]["text"].tolist() == ["door"]
    assert len(feeds.sha256()) == 64


def test_the_same_samples_have_the_same_name_and_others_another():
    def named(value: float) -> str:
        return Feeds(feeds=[{"a": np.full(3, value)}], source="", kind=Kind.MEASURED).sha256()

    assert named(1.0) == named(1.0)
    assert named(1.0) != named(2.0)


def test_random_numbers_are_said_to_be_so_and_spare_what_chooses():
    feeds = at_random([IMAGE, RATE, TensorSpec("pixels", "UINT8", (1, 50)), TensorSpec("more", "FP32", (1,), True)], EXAMPLES)
    assert feeds.kind is Kind.ASSUMED
    assert "tells little" in feeds.notes[0]
    assert {int(feed["rate"]) for feed in feeds.feeds} == {16_000}
    assert {feed["image"].shape for feed in feeds.feeds} == {(1, 4)}
    assert feeds.feeds[0]["pixels"].max() > 1
    assert "more" not in feeds.feeds[0]
    assert at_random([IMAGE], {}).sha256() == at_random([IMAGE], {}).sha256()


def _written(folder: Path, name: str) -> Path:
    path = folder / name
    if name == "empty":
        path.mkdir()
    elif name == "pictures":
        path.mkdir()
        (path / "a.png").write_bytes(b"")
    elif name == "two.npz":
        np.savez(path, image=np.zeros((3, 4)), rate=np.zeros((2, 0)))
    elif name == "shape.npy":
        np.save(path, np.zeros((3, 5)))
    elif name == "type.npy":
        np.save(path, np.array([["a", "b", "c", "d"]]))
    elif name == "none.npy":
        np.save(path, np.zeros((0, 4)))
    elif name == "other.npz":
        np.savez(path, picture=np.zeros((3, 4)))
    elif name == "object.npy":
        np.save(path, np.array([{}]), allow_pickle=True)
    elif name != "absent":
        path.write_bytes(b"{")
    return path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("absent", "does not exist"),
        ("empty", "holds no samples"),
        ("pictures", "save what it sends, as a .npy or .npz"),
        ("a.png", "pictures, films and sounds are not taken"),
        ("bad.json", "is no v2 request"),
        ("bad.npy", "cannot be read as samples"),
        ("bad.npz", "cannot be read as samples"),
        ("object.npy", "cannot be read as samples"),
        ("shape.npy", "image has the shape [3, 5]; the model takes ['any', 4] of FP32"),
        ("type.npy", "the model takes FP32"),
        ("none.npy", "holds no samples"),
        ("other.npz", "the model has no input 'picture'; its inputs are image"),
    ],
)
def test_what_are_no_samples_is_one_line(tmp_path: Path, name: str, told: str):
    with pytest.raises(InputError) as refused:
        from_files(_written(tmp_path, name), [IMAGE], {})
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_as_many_of_each_input_are_wanted_and_names_where_there_are_several(tmp_path: Path):
    two = TensorSpec("two", "FP32", (-1, 2))
    np.savez(tmp_path / "a.npz", image=np.zeros((3, 4)), two=np.zeros((2, 2)))
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    with pytest.raises(InputError, match="two has 2 samples, and others 3"):
        from_files(tmp_path / "a.npz", [IMAGE, two], {})
    with pytest.raises(InputError, match=r"a \.npz with image, two"):
        from_files(tmp_path / "b.npy", [IMAGE, two], {})


def test_more_samples_than_are_needed_are_left_and_too_many_bytes_refused(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((600, 4), np.float32))
    assert len(from_files(tmp_path / "a.npy", [IMAGE], {}).feeds) == 512
    np.save(tmp_path / "b.npy", np.zeros((300, 250_000), np.float32))
    with pytest.raises(InputError, match="at most 256 MiB"):
        from_files(tmp_path / "b.npy", [TensorSpec("image", "FP32", (-1, 250_000))], {})
