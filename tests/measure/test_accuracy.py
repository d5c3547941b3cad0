"""Accuracy and the paired comparison, on answers small enough to count by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import MeasurementError
from edgeq.formats.session import Session
from edgeq.measure.accuracy import Accuracy, agreement, compare, evaluate, logits_function

Floats = npt.NDArray[np.float32]


def answers(predictions: list[int], labels: list[int]) -> Accuracy:
    return Accuracy(np.array(predictions, np.int64), np.array(labels, np.int64), None)


def batches(logits: Floats, labels: npt.NDArray[Any], size: int) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
    """Images that carry their logits as pixels, so that the identity is a classifier."""
    for start in range(0, len(logits), size):
        yield logits[start : start + size, :, None, None], labels[start : start + size].astype(np.int64)


def identity(inputs: Floats) -> Floats:
    return inputs[:, :, 0, 0]


class Fake(Session):
    """A session whose answers are its inputs."""

    runtime, kernels, threads = "fake 1", "none", 1

    def run(self, inputs: Floats) -> list[Floats]:
        return [np.zeros((len(inputs), 1), np.float32), identity(inputs)]

    def run_integers(self, inputs: Floats) -> list[npt.NDArray[Any]]:
        raise NotImplementedError

    def prepare(self, sample: Floats) -> None: ...

    def invoke(self) -> None: ...


def test_counts_by_hand() -> None:
    logits = np.eye(8, dtype=np.float32)[[0, 1, 2, 3]]
    result = evaluate(identity, batches(logits, np.array([0, 1, 7, 4]), 3))
    assert (result.n, result.top1) == (4, 50.0)
    # Image 2 scores class 2 first, then ties from class 0 up: 7 is not among five, but 4 is for image 3.
    assert result.top5 == 75.0
    assert result.predictions.tolist() == [0, 1, 2, 3]


@given(st.integers(1, 30), st.integers(2, 12), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_batches_do_not_matter_and_ties_go_to_the_lower_class(n: int, classes: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-3, 3, (n, classes)).astype(np.float32)  # integers: many ties
    labels = rng.integers(0, classes, n)
    heard: list[int] = []
    result = evaluate(identity, batches(logits, labels, size), heard.append)
    assert result.predictions.tolist() == logits.argmax(1).tolist()
    assert heard[-1] == n
    if classes < 6:
        assert result.top5 is None
    else:
        ranks = [sorted(range(classes), key=lambda c: (-row[c], c)).index(label) for row, label in zip(logits, labels, strict=True)]  # fmt: skip  # noqa: E501
        assert result.top5 == pytest.approx(100 * np.mean(np.array(ranks) < 5))
        assert result.top5 >= result.top1


@pytest.mark.parametrize(
    "logits",
    [np.zeros((4, 3, 5), np.float32), np.zeros((3, 10), np.float32), np.zeros(4, np.float32)],
    ids=["map", "wrong number", "scalars"],
)
def test_answers_that_are_no_scores(logits: Floats) -> None:
    with pytest.raises(MeasurementError, match="one row of class scores"):
        evaluate(lambda _: logits, [(np.zeros((4, 3, 2, 2), np.float32), np.zeros(4, np.int64))])


def test_nan_and_nothing_are_errors() -> None:
    bad = np.array([[0.0, np.nan]], np.float32)
    with pytest.raises(MeasurementError, match="NaN"):
        evaluate(identity, batches(bad, np.array([0]), 1))
    with pytest.raises(MeasurementError, match="no images"):
        evaluate(identity, [])


def test_a_session_and_a_module_are_runners() -> None:
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    labels = np.arange(9) % 7
    module = torch.nn.Flatten().eval()
    one = evaluate(logits_function(module), batches(logits, labels, 4))
    two = evaluate(logits_function(Fake(), output=1), batches(logits, labels, 4))
    assert one.predictions.tolist() == two.predictions.tolist() == logits.argmax(1).tolist()
    with pytest.raises(MeasurementError, match=r"training mode.*eval"):
        evaluate(logits_function(torch.nn.Dropout()), batches(logits, labels, 4))


def test_a_comparison_by_hand() -> None:
    before, after = answers([0, 1, 2, 3, 0], [0, 1, 2, 0, 0]), answers([0, 1, 1, 0, 1], [0, 1, 2, 0, 0])
    result = compare(before, after)
    assert (result.gained, result.lost, result.points) == (1, 2, pytest.approx(-20.0))
    assert result.agreement == agreement(before, after) == 0.4
    assert result.low < -20.0 < result.high
    assert result.p_value == 1.0
    section = result.to_json()
    assert section["n"] == 5
    assert section["integer"]["top1"] - section["float"]["top1"] == pytest.approx(section["difference"]["points"])
    assert section["float"]["top5"] is None


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=50))
def test_agreement_bounds_the_difference(rows: list[tuple[int, int, int]]) -> None:
    a, b, labels = (list(column) for column in zip(*rows, strict=True))
    result = compare(answers(a, labels), answers(b, labels))
    assert result.points == pytest.approx(result.after.top1 - result.before.top1)
    assert abs(result.points) <= 100 * (1 - result.agreement) + 1e-9
    assert result.low <= result.points <= result.high
    assert (result.agreement == 1.0) == (a == b)


def test_one_logit_decides_by_its_sign() -> None:
    logits = np.array([[-2.0], [3.0], [0.0], [0.5], [-0.1]], np.float32)
    result = evaluate(identity, batches(logits, np.array([0, 1, 0, 0, 1]), 2))
    assert result.predictions.tolist() == [0, 1, 0, 1, 0]
    assert (result.top1, result.top5) == (60.0, None)
    flipped = evaluate(identity, batches(-logits, np.array([0, 1, 0, 0, 1]), 2))
    assert compare(result, flipped).agreement == 0.2  # only the tie


def test_chance_is_what_shuffled_answers_score() -> None:
    rng = np.random.default_rng(0)
    labels, given = rng.integers(0, 3, 300), rng.integers(0, 4, 300)
    one = answers(given.tolist(), labels.tolist())
    dealt = [answers(rng.permutation(given).tolist(), labels.tolist()).top1 for _ in range(300)]
    assert one.chance == pytest.approx(np.mean(dealt), abs=0.5)
    constant = answers([2] * 4, [2, 2, 2, 1])
    assert constant.chance == constant.top1 == 75.0
    one_class = answers([0, 0, 1, 0], [0] * 4)
    assert one_class.chance == one_class.top1 == 75.0
    assert compare(one, one).to_json()["chance"] == one.chance


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_whose_answers_are_no_numbers_is_said(value: float) -> None:
    bad = np.array([[0.0, value]], np.float32)
    with pytest.raises(MeasurementError, match="the float network answers with"):
        evaluate(identity, batches(bad, np.array([0]), 1), whose="the float network")


def test_different_images_cannot_be_compared() -> None:
    with pytest.raises(MeasurementError, match="different images"):
        compare(answers([0, 1], [0, 1]), answers([0, 1], [1, 1]))
