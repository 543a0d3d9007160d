"""An int8 variant is kept only where it agrees enough and is faster here; of one that is not, nothing is left."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearhall.cli.profiling.feeds import Feeds
from nearhall.cli.profiling.measure import Wish
from nearhall.cli.profiling.place import Place, find_model
from nearhall.cli.profiling.quantise import Ask, Made, check, choose_way, parted, quantise, verdict
from nearhall.core.errors import InputError, PermanentError
from nearhall.core.evidence import Kind
from nearhall.documents.profile import FILE_NAME, Profile
from profiling_rig import chat_model, classifier, convolution, negation, put

pytestmark = pytest.mark.timeout(120)

FLOOR = 0.98


def _profile(
    *,
    p50: float = 1.0,
    score: float | None = None,
    kind: str = "measured",
    batch_8: float | None = None,
    cpu_ms: float | None = None,
) -> Profile:
    points = [{"batch": 1, "n": 10, "p50": p50, "cpu_ms": cpu_ms, "kind": "measured"}]
    if batch_8 is not None:
        points.append({"batch": 8, "n": 10, "p50": batch_8, "kind": "measured"})
    agreement = None if score is None else {"reference": "fp32", "score": score, "how": "top1", "n": 9, "worst": 0, "kind": kind}
    plain: dict[str, Any] = {
        "schema": "nearhall/profile/v1",
        "model": "door",
        "version": "1",
        "variant": "int8",
        "runtime": "onnxruntime",
        "device": "cpu",
        "threads": 1,
        "host": {"cpu": "Old Faithful 1000", "cores": 2},
        "date": "2026-11-26T05:20:00+00:00",
        "latency_ms": points,
        "agreement": agreement,
    }
    return Profile.model_validate(plain)


ASK = Ask(source="fp32", quality_min=FLOOR)


@pytest.mark.parametrize(
    ("before", "after", "ask", "kept", "told"),
    [
        (_profile(p50=2.2), _profile(p50=1.0, score=0.985), ASK, True, "2.20x as fast as fp32, 98.50% agreement with fp32"),
        (
            _profile(p50=2.2),
            _profile(p50=1.0, score=0.979),
            ASK,
            False,
            "refused: 97.90% agreement with fp32, and the floor is 98 %",
        ),
        (_profile(p50=1.0), _profile(p50=1.3, score=1.0), ASK, False, "1.3x slower here: not worth it"),
        (_profile(p50=1.0), _profile(p50=1.0, score=1.0), ASK, False, "no faster here: not worth it"),
        (_profile(p50=1.0), _profile(p50=1.3, score=1.0), replace(ASK, keep_slower=True), True, "because --keep-slower says so"),
        (_profile(p50=1.0), _profile(p50=1.3, score=0.5), replace(ASK, keep_slower=True), False, "refused: 50.00%"),
        (
            _profile(p50=2.2),
            _profile(p50=1.0, score=1.0, kind="assumed"),
            ASK,
            True,
            "give --data before you rely on it",
        ),
        (
            _profile(p50=1.0, batch_8=4.0),
            _profile(p50=1.3, score=1.0, batch_8=2.0),
            ASK,
            False,
            "1.3x slower here one by one (2.00x as fast in batches of 8): not worth it",
        ),
        (_profile(p50=2.0), _profile(p50=1.0), ASK, False, "its agreement was not measured"),
        (
            _profile(p50=9.0, cpu_ms=2.0),
            _profile(p50=10.0, cpu_ms=1.0, score=1.0),
            ASK,
            True,
            "2.00x as fast as fp32 by CPU time, for the machine was busy",
        ),
        (_profile(p50=2.0, cpu_ms=2.0), _profile(p50=1.0, cpu_ms=1.0, score=1.0), ASK, True, "2.00x as fast as fp32, 100"),
    ],
)
def test_quality_comes_first_and_then_speed(before: Profile, after: Profile, ask: Ask, kept: bool, told: str):
    said, decided = verdict(before, after, ask)
    assert (decided, told in said) == (kept, True), said


def _feeds(n: int, kind: Kind = Kind.MEASURED) -> Feeds:
    return Feeds(feeds=[{"x": np.full((1, 8), i, np.float32)} for i in range(n)], source="samples", kind=kind)


def test_what_calibrates_does_not_judge():
    calibration, judged = parted(_feeds(60), "static")
    first, second = ({float(feed["x"][0, 0]) for feed in feeds} for feeds in (calibration, judged.feeds))
    assert (len(first), len(second), first & second) == (20, 40, set())
    assert max(first) > 50
    assert len(parted(_feeds(500), "static")[0]) == 128
    nobody, all_ = parted(_feeds(5), "dynamic")
    assert (list(nobody), len(all_.feeds)) == ([], 5)
    with pytest.raises(InputError, match="20 samples are too few"):
        parted(_feeds(20), "static")


def test_how_it_is_quantised_depends_on_the_data_and_the_model(tmp_path: Path):
    matrices, convolutions = tmp_path / "m.onnx", tmp_path / "c.onnx"
    matrices.write_bytes(classifier())
    convolutions.write_bytes(convolution())
    real, drawn = _feeds(60), _feeds(60, Kind.ASSUMED)
    assert choose_way(matrices, real, None)[0] == "static"
    assert choose_way(matrices, drawn, None) == ("dynamic", "quantised without data, for there was none")
    assert choose_way(matrices, real, "dynamic") == ("dynamic", "")
    with pytest.raises(InputError, match="not mostly products of matrices"):
        choose_way(convolutions, drawn, None)
    with pytest.raises(InputError, match="no samples to calibrate with"):
        choose_way(matrices, drawn, "static")


def test_what_is_no_onnx_model_is_told_what_would_be_right(tmp_path: Path):
    chat_model(tmp_path, "talk")
    put(tmp_path, "door", fp32=classifier(), int8=classifier(seed=1))
    with pytest.raises(InputError, match="a GGUF is quantised already"):
        check(find_model(tmp_path, "talk"), Ask(source="cpu"))
    with pytest.raises(InputError, match="door has a variant 'int8' already"):
        check(find_model(tmp_path, "door"), Ask(source="fp32"))
    check(find_model(tmp_path, "door"), Ask(source="fp32", name="other"))


# ---- for real -------------------------------------------------------------------------------------------------


def _data(folder: Path, n: int = 60) -> Path:
    np.save(folder / "data.npy", np.random.default_rng(1).normal(size=(n, 8)).astype(np.float32))
    return folder / "data.npy"


def _made(place: Place, ask: Ask, data: Path | None, metric: str | None = None) -> Made:
    wish = Wish(cache=place.repository / "none", data=data, batches=(1,), seconds=0.01, metric=metric, with_energy=False)
    return quantise(place, ask, wish, lambda _: None)


def _everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("way", ["static", "dynamic"])
def test_one_that_is_kept_is_a_variant_with_a_profile(tmp_path: Path, way: str):
    folder = put(tmp_path / "repo", "door", fp32=classifier())
    ask = Ask(source="fp32", quality_min=0.5, way="static" if way == "static" else "dynamic", keep_slower=True)
    made = _made(find_model(tmp_path / "repo", "door"), ask, _data(tmp_path))
    assert (made.kept, made.way) == (True, way), made.said
    after = find_model(tmp_path / "repo", "door")
    assert set(after.variants) == {"fp32", "int8"}
    assert after.document.default_variant == "fp32"
    profile = after.profile("int8")
    assert profile is not None
    assert profile.agreement is not None
    assert (profile.agreement.reference, profile.agreement.kind) == ("fp32", "measured")
    assert profile.sha256 == after.variants["int8"].sha256
    assert after.profile("fp32") is not None
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["fp32", "int8"]
    assert {path.name for path in (folder / "1" / "int8").iterdir()} == {"model.int8.onnx", FILE_NAME}
    assert (folder / "1" / "int8").stat().st_mode & 0o777 == 0o755


def test_one_that_does_not_agree_enough_is_refused_and_nothing_is_left(tmp_path: Path):
    folder = put(tmp_path / "repo", "door", fp32=classifier(output="embedding"))
    before = _everything(folder)
    ask = Ask(source="fp32", quality_min=1.0, keep_slower=True)
    made = _made(find_model(tmp_path / "repo", "door"), ask, _data(tmp_path))
    assert (made.kept, "refused" in made.said, made.document) == (False, True, None)
    assert _everything(folder) == before
    assert [path.name for path in (folder / "1").iterdir()] == ["fp32"]
    looser = _made(find_model(tmp_path / "repo", "door"), replace(ask, quality_min=0.9), _data(tmp_path))
    assert looser.kept


def test_it_is_the_default_only_where_asked_and_still_held_against_the_first(tmp_path: Path):
    put(tmp_path / "repo", "door", fp32=classifier())
    ask = Ask(source="fp32", quality_min=0.5, keep_slower=True, make_default=True)
    _made(find_model(tmp_path / "repo", "door"), ask, _data(tmp_path))
    place = find_model(tmp_path / "repo", "door")
    assert place.document.default_variant == "int8"
    assert place.reference(None) == "fp32"
    assert place.variants["fp32"].quality == 1.0
    assert 0.5 <= (place.variants["int8"].quality or 0.0) <= 1.0


def test_a_profile_that_holds_stays_beside_what_it_was_made_from(tmp_path: Path):
    folder = put(tmp_path / "repo", "door", fp32=classifier())
    ask = Ask(source="fp32", quality_min=0.5, keep_slower=True)
    _made(find_model(tmp_path / "repo", "door"), ask, _data(tmp_path))
    first = (folder / "1" / "fp32" / FILE_NAME).read_bytes()
    _made(find_model(tmp_path / "repo", "door"), replace(ask, name="again"), _data(tmp_path))
    assert (folder / "1" / "fp32" / FILE_NAME).read_bytes() == first
    (folder / "1" / "fp32" / FILE_NAME).write_bytes(first.replace(b'"threads": 1', b'"threads": 2'))
    _made(find_model(tmp_path / "repo", "door"), replace(ask, name="third"), _data(tmp_path))
    assert b'"threads": 1' in (folder / "1" / "fp32" / FILE_NAME).read_bytes()


@pytest.mark.parametrize("opset", [11, 18])
def test_a_convolution_of_a_fixed_batch_is_calibrated_too_and_an_old_one_raised(tmp_path: Path, opset: int):
    put(tmp_path / "repo", "eye", fp32=convolution(opset=opset))
    np.save(tmp_path / "data.npy", np.random.default_rng(1).random((30, 3, 8, 8)).astype(np.float32))
    ask = Ask(source="fp32", quality_min=0.5, keep_slower=True)
    made = _made(find_model(tmp_path / "repo", "eye"), ask, tmp_path / "data.npy")
    assert made.kept
    assert made.after.agreement is not None
    assert made.after.agreement.score > 0.9
    assert "one scale a channel" in made.after.notes[0]


def test_a_model_with_nothing_to_quantise_and_a_file_that_is_none_leave_nothing(tmp_path: Path):
    folder = put(tmp_path / "repo", "minus", fp32=negation())
    before = _everything(folder)
    with pytest.raises(PermanentError, match=r"nothing in model\.onnx can be quantised"):
        _made(find_model(tmp_path / "repo", "minus"), Ask(source="fp32"), _data(tmp_path))
    assert _everything(folder) == before
    assert [path.name for path in (folder / "1").iterdir()] == ["fp32"]


def test_what_lies_in_the_way_is_left_and_told(tmp_path: Path):
    folder = put(tmp_path / "repo", "door", fp32=classifier())
    (folder / "1" / "int8").mkdir()
    (folder / "1" / "int8" / "mine.txt").write_text("mine")
    before = _everything(folder)
    with pytest.raises(InputError, match=r"is there already, and not in model\.yaml"):
        check(find_model(tmp_path / "repo", "door"), Ask(source="fp32"))
    assert _everything(folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_nothing_is_told(tmp_path: Path):
    folder = put(tmp_path / "repo", "door", fp32=classifier())
    (folder / "1").chmod(0o555)
    try:
        with pytest.raises(InputError, match="cannot be written to"):
            _made(find_model(tmp_path / "repo", "door"), Ask(source="fp32"), _data(tmp_path))
    finally:
        (folder / "1").chmod(0o755)
