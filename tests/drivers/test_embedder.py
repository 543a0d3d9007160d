"""Texts become vectors: the mean of their tokens without padding, of length one, however many go in one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.small_models import text_model, word_tokenizer
from nearhall.cli.roots.gateway import open_runtime
from nearhall.core.errors import PermanentError, Refusal
from nearhall.core.tensor import BYTES, Tensor
from nearhall.drivers.arrays import to_array
from nearhall.drivers.embedder import batches, mean_of_tokens, normalised
from nearhall.ports.runtime import ModelFile
from nearhall.wire.oip_tensors import pack_rows

WORDS = ("fan", "failed", "fine")


def opened(folder: Path, *, words=WORDS, max_tokens="8", **more):
    text_model(folder / "m.onnx", len(words) + 3, **more)
    word_tokenizer(folder / "tokenizer.json", words)
    options = {"tokenizer": "tokenizer.json", "max_tokens": max_tokens}
    return open_runtime(
        ModelFile(model="m", version="1", variant="c", runtime="onnxruntime", path=str(folder / "m.onnx"), options=options)
    )


def embedded(model, *texts):
    rows = tuple(text if isinstance(text, bytes) else text.encode() for text in texts)
    made = model.run([Tensor("text", BYTES, (len(rows),), memoryview(pack_rows(rows)), rows)], ())
    return to_array(made[0]), to_array(made[1]).tolist()


def test_it_says_what_it_takes_and_gives(tmp_path):
    model = opened(tmp_path)
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.inputs] == [("text", "BYTES", (-1,))]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("embedding", (-1, 8)), ("tokens", (-1,))]
    model.close()


def test_a_text_is_the_mean_of_its_words_whatever_it_is_padded_to(tmp_path):
    model = opened(tmp_path)
    alone, tokens = embedded(model, "fan failed")
    assert tokens == [2]
    assert np.linalg.norm(alone[0]) == pytest.approx(1)
    together, tokens = embedded(model, "fan failed", "fan failed fine fan failed", "fine", "")
    assert tokens == [2, 5, 1, 0]
    assert together[0] == pytest.approx(alone[0], abs=1e-6)
    assert together[2] @ together[0] == pytest.approx(0, abs=1e-6)
    assert together[1] @ together[0] > 0.9
    assert not together[3].any(), "nothing was said"
    assert embedded(model)[0].shape == (0, 8)


@pytest.mark.parametrize("more", [{"output": "sentence_embedding"}, {"segments": True}], ids=str)
def test_other_forms_of_text_models(tmp_path, more):
    vectors, _ = embedded(opened(tmp_path, **more), "fan failed", "fan failed")
    assert vectors[0] @ vectors[1] == pytest.approx(1)


def test_what_is_no_text_is_the_clients_fault(tmp_path):
    model = opened(tmp_path, max_tokens="3")
    embedded(model, "fan fan fan")
    for text, why in (("fan " * 4, "4 tokens; this model reads 3"), (b"\xff", "not UTF-8"), (b"x" * 70_000, "70000 bytes")):
        with pytest.raises(Refusal, match=why):
            embedded(model, "fine", text)


def test_a_model_or_tokenizer_that_is_none_is_told(tmp_path):
    text_model(tmp_path / "m.onnx", 6)
    options = {"tokenizer": "tokenizer.json"}
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PermanentError, match="no tokenizer"):
        open_runtime(
            ModelFile(model="m", version="1", variant="c", runtime="onnxruntime", path=str(tmp_path / "m.onnx"), options=options)
        )
    with pytest.raises(PermanentError, match="a text model gives"):
        opened(tmp_path, output="logits")


@given(st.lists(st.integers(0, 64), max_size=40), st.integers(64, 256))
def test_every_text_is_in_one_batch_and_none_is_too_large(lengths, most):
    made = batches(lengths, most)
    assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[index] for index in batch) <= most for batch in made)


def test_pooling_by_hand():
    states = np.array([[[1, 0], [3, 0], [100, 100]]], np.float32)
    assert mean_of_tokens(states, np.array([[1, 1, 0]])).tolist() == [[2, 0]]
    assert normalised(np.array([[3, 4], [0, 0]], np.float32)).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
