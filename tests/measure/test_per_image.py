"""Answers to single images: kept whole, read back, refused where they are not, and what resampling them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from edgeq.errors import ArtifactError
from edgeq.measure.accuracy import Accuracy
from edgeq.measure.answers import Answers
from edgeq.measure.dense import Dense, masks_score
from edgeq.measure.paired import bootstrap_interval, mean_iou
from edgeq.measure.per_image import answers_of
from edgeq.measure.statistics import images_to_decide, paired_interval
from edgeq.measure.tasks import Predictions
from edgeq.measure.values import Embeddings, Values
from edgeq.model.tasks import Regression, Segmentation

RNG = np.random.default_rng(0)


def test_a_classifier_s_answers_come_back_in_a_byte_each(tmp_path: Path) -> None:
    labels = RNG.integers(0, 200, 5000)
    after = np.where(RNG.random(5000) < 0.9, labels, 3)
    answers = answers_of(Accuracy(labels, labels, None), Accuracy(after, labels, None), "ab")
    assert answers is not None
    data = answers.to_bytes()
    assert len(data) < 3 * 5000 + 500
    (tmp_path / "a").write_bytes(data)
    read = Answers.load(tmp_path / "a")
    assert read.images == "ab"
    right = read.right()
    assert right is not None
    assert right.tolist() == (after == labels).tolist()
    assert read.arrays["label"].dtype == np.int64


def test_areas_give_the_score_of_torchmetrics() -> None:
    masks = [RNG.integers(0, 3, (8, 8)) for _ in range(6)]
    masks[0][0] = 255
    found = [np.where(RNG.random((8, 8)) < 0.8, mask % 3, 1) for mask in masks]
    task = Segmentation(classes=("a", "b", "c"))
    scored = masks_score(found, masks, 3)
    one = Predictions(task, found, Dense(scored.score, scored.per_class, 6), masks)
    answers = answers_of(one, one, "ab")
    assert answers is not None
    areas = answers.arrays["integer_areas"]
    assert areas.shape == (6, 3, 2)
    assert mean_iou(areas.sum(0)) == pytest.approx(scored.score, abs=1e-4)


def test_errors_of_values_and_embeddings() -> None:
    truths = RNG.normal(size=(50, 2))
    before, after = Values(Regression(), (truths + 1,), truths), Values(Regression(), (truths - 2,), truths)
    answers = answers_of(before, after, "ab")
    assert answers is not None
    assert np.allclose(answers.arrays["difference"], 3)
    assert np.allclose(answers.arrays["error"], 2)
    vectors = RNG.normal(size=(20, 4))
    pairs = [(np.array([i]), np.array([[(i + 1) % 20, i % 2]])) for i in range(20)]
    one = Embeddings.of(vectors, pairs)
    answers = answers_of(one, one, "ab")
    assert answers is not None
    assert np.allclose(answers.arrays["difference"], 0)
    assert len(answers.arrays["label"]) == 20


@pytest.mark.parametrize(
    "tensors",
    [
        {"label": np.zeros(3, np.int8)},
        {"label": np.zeros(3, np.int8), "float": np.zeros(3, np.int8), "integer": np.zeros(2, np.int8)},
        {"label": np.zeros((3, 1), np.int8), "float": np.zeros((3, 1), np.int8), "integer": np.zeros((3, 1), np.int8)},
        {"difference": np.full((3, 1), np.nan, np.float32)},
        {"difference": np.full((3, 1), -1, np.float32)},
        {"difference": np.zeros((0, 1), np.float32)},
        {"difference": np.zeros((3, 1), np.int8)},
        {"other": np.zeros(3, np.int8)},
    ],
)
def test_arrays_that_no_build_writes_are_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(save(tensors, metadata={"edgeq": '{"schema": 1, "images": "ab"}'}))
    with pytest.raises(ArtifactError):
        Answers.load(tmp_path / "a")


@pytest.mark.parametrize("metadata", [None, {"edgeq": "["}, {"edgeq": "3"}, {"edgeq": '{"schema": 2, "images": "a"}'}])
def test_a_file_without_its_facts_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(save({"difference": np.ones((3, 1), np.float32)}, metadata=metadata))
    with pytest.raises(ArtifactError):
        Answers.load(tmp_path / "a")


def test_resampling_images_agrees_with_the_normal_interval() -> None:
    """The mean of many values: the bootstrap's interval is that of the central limit theorem, within a few percent."""
    values = RNG.normal(1.0, 2.0, (2000, 1))
    low, high = bootstrap_interval(values, lambda sums: sums[:, 0] / 2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 8)
    assert bootstrap_interval(values, lambda sums: sums[:, 0] / 2000) == (low, high)


def test_the_images_needed_decide_at_the_power_that_is_said() -> None:
    """Of many experiments with as many images as `images_to_decide` says, about 80 % decide."""
    gained, lost, n, limit = 4, 12, 200, -1.0
    low, high = (100 * end for end in paired_interval(gained, lost, n))
    assert low < limit < high
    needed = images_to_decide(n, low, high, limit)
    assert needed is not None
    shares = np.array([gained + 1, lost + 1, n - gained - lost]) / (n + 2)
    draws = RNG.multinomial(needed, shares / shares.sum(), 2000)
    decided = np.mean([100 * paired_interval(up, down, needed)[1] < limit for up, down, _ in draws.tolist()])
    assert 0.75 < decided < 0.87


def test_no_number_of_images_decides_what_is_at_the_limit() -> None:
    assert images_to_decide(200, -2.0, 0.0, -1.0) is None
    assert images_to_decide(200, -2.0, 0.0, -1.0001) is None
