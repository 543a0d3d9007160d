"""How far two variants agree: what is compared is chosen by what the outputs look like, and said."""

from __future__ import annotations

import numpy as np
import pytest

from nearhall.cli.profiling.agreement import agree, choose
from nearhall.cli.profiling.boxes import boxes_of, matched
from nearhall.core.errors import InputError

DRAW = np.random.default_rng(7)


def rows(name: str, values: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{name: value[None].astype(np.float32)} for value in values]


SOFT = np.exp(DRAW.random((8, 5)))
SOFT /= SOFT.sum(axis=1, keepdims=True)
VECTORS = DRAW.normal(size=(8, 100))
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("outputs", "metric", "told"),
    [
        (rows("y", SOFT), "top1", "sum to 1"),
        (rows("logits", DRAW.normal(size=(8, 5)) * 9), "top1", "named like scores"),
        (rows("speech", DRAW.random((8, 1))), "top1", "yes or no at one half"),
        (rows("y", DRAW.normal(size=(8, 5)) * 9), "top1", "--metric cosine"),
        (rows("sentence_embedding", DRAW.normal(size=(8, 5)) * 9), "cosine", "named like an embedding"),
        (rows("y", VECTORS), "cosine", "length 1"),
        (rows("y", DRAW.normal(size=(8, 384)) * 9), "cosine", "384 numbers"),
        (rows("y", DRAW.normal(size=(8, 1)) * 9), "close", "neither"),
        (rows("y", DRAW.normal(size=(8, 3, 4, 4))), "close", "neither"),
    ],
)
def test_what_is_compared_is_chosen_by_the_outputs_and_told(outputs: list[dict[str, np.ndarray]], metric: str, told: str):
    chosen = choose(outputs)
    assert (chosen.metric, told in chosen.why) == (metric, True), chosen.why
    same = agree(outputs, outputs, chosen)
    assert (same.score, same.worst, same.n) == (pytest.approx(1.0), pytest.approx(1.0), 8)
    assert told in same.how


def test_a_person_may_overrule_it_and_is_told_what_there_is():
    outputs = rows("y", SOFT)
    assert choose(outputs, metric="close").metric == "close"
    with pytest.raises(InputError, match="one of top1, boxes, cosine, close"):
        choose(outputs, metric="iou")
    with pytest.raises(InputError, match=r"no output looks like boxes \(y \[1, 5\]\)"):
        choose(outputs, metric="boxes")


def test_a_state_that_only_goes_into_the_next_request_is_not_compared():
    outputs = [{"output": np.full((1, 1), 0.9, np.float32), "stateN": np.zeros((2, 1, 128), np.float32)}] * 3
    chosen = choose(outputs, frozenset({"stateN"}))
    assert chosen.outputs == ("output",)


def test_one_class_of_four_that_differs_is_a_quarter_less():
    reference = rows("logits", np.eye(4) * 5)
    other = rows("logits", np.vstack([np.eye(4)[:3] * 5, [[9, 0, 0, 0]]]))
    agreed = agree(reference, other, choose(reference))
    assert (agreed.score, agreed.worst) == (0.75, 0.0)


def test_one_score_counts_by_its_side_of_one_half():
    reference, other = (rows("output", np.array([[value] for value in values])) for values in ((0.9, 0.1, 0.4), (0.6, 0.2, 0.6)))
    assert agree(reference, other, choose(reference)).score == pytest.approx(2 / 3)


def test_direction_counts_and_not_length_and_opposites_are_nothing():
    reference = rows("embedding", np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    other = rows("embedding", np.array([[7.0, 0.0], [0.0, -2.0], [1.0, 0.0]]))
    agreed = agree(reference, other, choose(reference))
    assert (agreed.score, agreed.worst) == (pytest.approx((1 + 0 + 2**-0.5) / 3), 0.0)


def test_a_plain_difference_counts_by_the_length_of_the_reference():
    reference = [{"y": np.full((1, 2, 2), 2.0)}, {"y": np.zeros((1, 2, 2))}]
    chosen = choose(reference)
    assert agree(reference, [{"y": np.full((1, 2, 2), 1.5)}, {"y": np.zeros((1, 2, 2))}], chosen).score == pytest.approx(0.875)
    assert agree(reference, [{"y": np.full((1, 2, 2), 9.0)}, {"y": np.ones((1, 2, 2))}], chosen).score == 0.0


@pytest.mark.parametrize("metric", ["top1", "cosine", "close"])
def test_no_number_and_another_shape_agree_with_nothing(metric: str):
    reference = rows("y", SOFT)
    chosen = choose(reference, metric=metric)
    assert agree(reference, rows("y", SOFT * np.nan), chosen).score == 0.0
    assert agree(reference, rows("y", SOFT[:, :4]), chosen).score == 0.0


def test_words_are_the_same_or_not():
    said = [{"said": np.array(["yes", "no"], dtype=object)}]
    chosen = choose(said)
    assert agree(said, [{"said": np.array(["yes", "yes"], dtype=object)}], chosen).score == 0.5


# ---- boxes ----------------------------------------------------------------------------------------------------


def detections(*found: tuple[float, float, float, float, float, float], rows_: int = 10) -> dict[str, np.ndarray]:
    table = np.zeros((1, rows_, 6), dtype=np.float32)
    for index, values in enumerate(found):
        table[0, index] = values
    return {"detections": table}


CUP = (10, 10, 20, 20, 0.9, 1)
MUG = (50, 50, 80, 80, 0.8, 2)


def test_rows_of_corners_score_and_class_are_boxes():
    found = boxes_of(detections(CUP, MUG, (1, 1, 2, 2, 0.3, 1)))
    assert found is not None
    assert (len(found.corners), found.names) == (2, ("detections",))


def test_a_box_is_the_same_thing_if_it_overlaps_by_half_and_is_of_the_same_class():
    reference = detections(CUP, MUG)

    def counts(*found: tuple[float, float, float, float, float, float]) -> tuple[int, int, int]:
        ours, theirs = boxes_of(reference), boxes_of(detections(*found))
        assert ours is not None
        assert theirs is not None
        return matched(ours, theirs)

    assert counts(CUP, MUG) == (2, 2, 2)
    assert counts((11, 10, 21, 20, 0.7, 1), MUG) == (2, 2, 2)
    assert counts((17, 10, 27, 20, 0.7, 1), MUG) == (1, 2, 2)
    assert counts((10, 10, 20, 20, 0.9, 3), MUG) == (1, 2, 2)
    assert counts(MUG) == (1, 2, 1)
    assert counts() == (0, 2, 0)


def test_the_two_of_the_same_place_are_not_both_matched_by_one():
    reference = detections(CUP, (10, 10, 20, 21, 0.8, 1))
    ours, theirs = boxes_of(reference), boxes_of(detections(CUP))
    assert ours is not None
    assert theirs is not None
    assert matched(ours, theirs) == (1, 2, 1)


def test_missed_and_invented_boxes_count_alike():
    reference = [detections(CUP, MUG), detections()]
    chosen = choose(reference)
    assert chosen.metric == "boxes"
    missed = agree(reference, [detections(CUP), detections()], chosen)
    assert (missed.score, missed.worst) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert "1 of the reference's 2 matched, 1 missed, 0 invented" in missed.how
    invented = agree(reference, [detections(CUP, MUG), detections(MUG)], chosen)
    assert (invented.score, invented.worst) == (pytest.approx(4 / 5), 0.0)


def test_pictures_without_anything_in_them_tell_nothing():
    agreed = agree([detections()], [detections()], choose([detections()]))
    assert (agreed.score, agreed.telling) == (1.0, False)


def test_boxes_beside_scores_are_corners():
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40]]], dtype=np.float32)
    found = boxes_of({"boxes": boxes, "scores": np.array([[[0.1, 0.9], [0.2, 0.3]]], dtype=np.float32)})
    assert found is not None
    assert (found.corners.tolist(), found.classes.tolist(), found.places) == ([[0, 0, 10, 10]], [1], None)


def test_anchors_are_held_against_the_same_anchor():
    """BlazeFace's form: offsets of the centre and sizes, scores as logits; the anchors' own places are the model maker's."""
    regressors = np.zeros((1, 896, 16), dtype=np.float32)
    regressors[0, :, 2:4] = 10
    logits = np.full((1, 896, 1), -9, dtype=np.float32)
    logits[0, [3, 5]] = 4
    reference = {"regressors": regressors, "classificators": logits}
    moved = {"regressors": regressors.copy(), "classificators": logits}
    moved["regressors"][0, 3, 0] = 8  # overlaps by less than one half now
    chosen = choose([reference])
    assert (chosen.metric, "anchors" in chosen.why) == ("boxes", True)
    assert agree([reference], [reference], chosen).score == 1.0
    assert agree([reference], [moved], chosen).score == pytest.approx(0.5)
    other_anchor = {"regressors": regressors, "classificators": np.roll(logits, 1, axis=1)}
    assert agree([reference], [other_anchor], chosen).score == 0.0


def test_a_map_of_centre_size_and_scores_names_each_thing_once():
    table = np.zeros((1, 7, 200), dtype=np.float32)
    table[0, :, 0] = (50, 50, 20, 20, 0.1, 0.9, 0)
    table[0, :, 1] = (51, 50, 20, 20, 0.1, 0.8, 0)
    table[0, :, 2] = (51, 50, 20, 20, 0.7, 0.1, 0)
    found = boxes_of({"output0": table})
    assert found is not None
    assert found.corners.tolist() == [[40, 40, 60, 60], [41, 40, 61, 60]]
    assert found.classes.tolist() == [1, 0]


def test_a_spectrum_is_no_map_of_boxes():
    assert boxes_of({"mel": DRAW.normal(size=(1, 80, 500)).astype(np.float32)}) is None
    assert boxes_of({"y": DRAW.random((1, 3, 500)).astype(np.float32)}) is None


def test_a_variant_whose_outputs_lost_their_form_is_told():
    with pytest.raises(InputError, match="do not have the same form"):
        agree([detections(CUP)], [{"detections": np.zeros((1, 3, 3), np.float32)}], choose([detections(CUP)]))
