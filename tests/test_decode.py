"""Decoding on the host: overlaps, suppression and matching against slow and obvious forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.decode import count_matches, decode_boxes, detect, iou, nms, priors
from edgeq.errors import ConfigError

FEW = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31 - 1)


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:  # type: ignore[type-arg]
    low = rng.uniform(0, 0.7, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.05, 0.4, (count, 2))], 1)


def slow_iou(a, b) -> float:  # type: ignore[no-untyped-def]
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


@FEW
@given(seed=seeds)
def test_iou(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = boxes_of(rng, 5), boxes_of(rng, 7)
    found = iou(one, other)
    np.testing.assert_allclose(found, iou(other, one).T)
    np.testing.assert_allclose(np.diag(iou(one, one)), 1.0)
    np.testing.assert_allclose(found, [[slow_iou(a, b) for b in other] for a in one])


def test_iou_of_nothing() -> None:
    assert iou(np.zeros((1, 4)), np.zeros((2, 4))).tolist() == [[0.0, 0.0]]


@FEW
@given(seed=seeds, count=st.integers(0, 25), threshold=st.sampled_from([0.1, 0.3, 0.5]))
def test_nms(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    boxes, scores = boxes_of(rng, count), rng.integers(0, 6, count) / 6
    kept = nms(boxes, scores, threshold)
    slow: list[int] = []
    for i in sorted(range(count), key=lambda i: (-scores[i], i)):
        if all(slow_iou(boxes[i], boxes[j]) <= threshold for j in slow):
            slow.append(i)
    assert kept.tolist() == slow
    again = nms(boxes[kept], scores[kept], threshold)
    assert again.tolist() == list(range(len(kept)))


def test_priors_lie_row_by_row_and_decode_to_themselves() -> None:
    anchors = priors((100, 200), [(2, 3), (1, 1)], [[10, 20], [50]])
    assert anchors.shape == (2 * 3 * 2 + 1, 4)
    np.testing.assert_allclose(anchors[0], [1 / 6, 1 / 4, 0.05, 0.1])
    np.testing.assert_allclose(anchors[2], [3 / 6, 1 / 4, 0.05, 0.1])
    np.testing.assert_allclose(anchors[-1], [0.5, 0.5, 0.25, 0.5])
    np.testing.assert_allclose(decode_boxes(np.zeros((13, 4)), anchors)[-1], [0.375, 0.25, 0.625, 0.75])
    with pytest.raises(ConfigError, match="1 lists"):
        priors((8, 8), [(1, 1), (2, 2)], [[1]])


def test_detect_keeps_classes_apart_and_sorts_by_score() -> None:
    anchors = priors((10, 10), [(1, 1)], [[4, 4, 4]])
    logits = np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 4.0], [0.0, 2.9, 0.0]])
    found = detect(logits, np.zeros((3, 4)), anchors, score=0.5, overlap=0.5)
    assert found.labels.tolist() == [1, 0]
    assert found.scores[0] > found.scores[1] > 0.5
    nothing = detect(logits, np.zeros((3, 4)), anchors, score=0.99, overlap=0.5)
    assert nothing.boxes.shape == (0, 4)


def test_a_box_is_matched_once() -> None:
    reference = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9]])
    assert count_matches(reference[:1], reference) == 1
    assert count_matches(reference, reference) == 2
    assert count_matches(reference[:0], reference) == 0
