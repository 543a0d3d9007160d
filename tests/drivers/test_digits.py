"""The inspection model that set-up trains: good on images it has not seen, the same every time, a file that any runtime takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from nearhall.drivers.digits import TrainedDigits, train_digits

ACCURACY_MIN = 0.97


@pytest.fixture(scope="module")
def trained() -> TrainedDigits:
    return train_digits()


def test_it_is_right_about_images_that_it_has_not_seen(trained: TrainedDigits):
    assert trained.accuracy > ACCURACY_MIN
    assert trained.held_out > 700


def test_the_exported_file_says_what_the_trained_model_does(trained: TrainedDigits):
    datasets: Any = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    session = ort.InferenceSession(trained.onnx)
    logits: Any = session.run(["logits"], {"image": (images / 16).astype(np.float32)})[0]
    assert logits.shape == (len(labels), 10)
    assert float(np.mean(logits.argmax(axis=1) == labels)) > trained.accuracy - 0.001


def test_training_twice_gives_one_file(trained: TrainedDigits):
    assert train_digits().onnx == trained.onnx
