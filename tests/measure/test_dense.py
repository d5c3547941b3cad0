"""mIoU and mAP, on masks and boxes small enough to count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeq.decode import Detections
from edgeq.errors import MeasurementError
from edgeq.measure.dense import Boxes, chance_score, detection_score, enlarge, masks_score, segmentation_score


def logits_of(answer: list[list[int]], classes: int) -> npt.NDArray[np.float32]:
    """One image's logits whose argmax is `answer`."""
    return np.eye(classes, dtype=np.float32)[np.array(answer)].transpose(2, 0, 1)[None]


def mask_of(rows: list[list[int]]) -> npt.NDArray[np.uint8]:
    return np.array(rows, np.uint8)[None]


def found(*rows: tuple[float, int, tuple[float, float, float, float]]) -> Detections:
    """Score, label, box."""
    return Detections(
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[0] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.int64),
    )


def truth(*rows: tuple[int, tuple[float, float, float, float]]) -> Boxes:
    boxes = np.array([row[1] for row in rows], np.float64).reshape(-1, 4)
    return Boxes(boxes, np.array([row[0] for row in rows], np.int64))


LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 1.0, 1.0)


def test_miou_by_hand() -> None:
    result = segmentation_score([logits_of([[0, 0, 1, 1]], 3)], [mask_of([[0, 1, 1, 255]])], 3)
    # The last pixel is not judged. Class 0: 1 of 2. Class 1: 1 of 2. Class 2 is nowhere.
    assert result.per_class == (50.0, 50.0, None)
    assert (result.score, result.n) == (50.0, 1)


def test_miou_counts_pixels_of_all_images_together() -> None:
    answers = [logits_of([[0, 0]], 2), logits_of([[0, 1]], 2)]
    result = segmentation_score(answers, [mask_of([[0, 0]]), mask_of([[1, 1]])], 2)
    # Class 0: 2 right of 3 answered. Class 1: 1 right of 2. The mean over images would be 100 and 25.
    assert result.per_class == pytest.approx((100 * 2 / 3, 50.0))
    assert result.score == pytest.approx((200 / 3 + 50) / 2)
    assert result.n == 2


def test_a_class_answered_but_never_there_counts_as_missed() -> None:
    result = segmentation_score([logits_of([[0, 2]], 3)], [mask_of([[0, 0]])], 3)
    assert result.per_class == (50.0, None, 0.0)
    assert result.score == 25.0


def test_coarse_logits_are_enlarged_before_the_argmax() -> None:
    coarse = np.array([[[[3.0, 0.0]], [[0.0, 1.0]]]], np.float32)  # classes 0 and 1, one row, two columns
    assert enlarge(coarse, (1, 4))[0, :, 0].tolist() == [[3.0, 2.25, 0.75, 0.0], [0.0, 0.25, 0.75, 1.0]]
    # Enlarged labels would split in the middle; enlarged logits tie in the third column, where the lower class wins.
    assert segmentation_score([coarse], [mask_of([[0, 0, 0, 1]])], 2).score == 100.0


@pytest.mark.parametrize(
    ("logits", "mask", "part"),
    [
        (np.zeros((1, 3, 2, 2)), np.zeros((1, 2, 2), np.uint8), r"must be \(1, 2, height, width\)"),
        (np.zeros((1, 2, 2, 2)), np.full((1, 2, 2), 7, np.uint8), r"masks hold uint8 \[7\]"),
        (np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2)), "masks hold float64"),
        (np.full((1, 2, 2, 2), np.nan), np.zeros((1, 2, 2), np.uint8), "NaN"),
        (np.zeros((1, 2, 2, 2)), np.full((1, 2, 2), 255, np.uint8), "no image has a labelled pixel"),
    ],
)
def test_masks_that_cannot_be_judged(logits: npt.NDArray[Any], mask: npt.NDArray[Any], part: str) -> None:
    with pytest.raises(MeasurementError, match=part):
        segmentation_score([logits], [mask], 2)


def test_map_is_whole_for_the_right_boxes_whatever_their_score() -> None:
    result = detection_score([found((0.02, 1, RIGHT), (0.01, 0, LEFT))], [truth((0, LEFT), (1, RIGHT))], 3)
    assert result.per_class == pytest.approx((100.0, 100.0, None))
    assert (result.score, result.n) == (pytest.approx(100.0), 1)


def test_map_by_hand() -> None:
    """Two true boxes; best first a wrong one, a right one, nothing else: precision 1/2 up to recall 1/2, then 0."""
    result = detection_score([found((0.9, 0, RIGHT), (0.8, 0, LEFT)), found()], [truth((0, LEFT)), truth((0, LEFT))], 1)
    # COCO reads precision at recalls 0.00, 0.01 to 1.00: 51 of these 101 are at most 1/2.
    assert result.score == pytest.approx(100 * 51 / 101 / 2)


def test_a_box_found_twice_is_right_once() -> None:
    twice = [found((0.9, 0, LEFT), (0.8, 0, LEFT), (0.7, 0, RIGHT))]
    result = detection_score(twice, [truth((0, LEFT), (0, RIGHT))], 1)
    # Precision 1 up to recall 1/2, 2/3 beyond.
    assert result.score == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)


def test_overlap_decides_and_is_averaged_where_none_is_given() -> None:
    narrow = (0.0, 0.0, 0.4, 0.29)  # IoU 0.725: right at 0.50 to 0.70, five of COCO's ten overlaps
    answers, there = [found((0.9, 0, narrow))], [truth((0, LEFT))]
    assert detection_score(answers, there, 1).score == pytest.approx(100.0)
    assert detection_score(answers, there, 1, overlap=0.75).score == 0.0
    assert detection_score(answers, there, 1, overlap=None).score == pytest.approx(50.0)


def test_the_label_must_be_right_and_the_image_too() -> None:
    there = [truth((0, LEFT)), truth()]
    assert detection_score([found((0.9, 1, LEFT)), found()], there, 2).per_class == (0.0, None)
    assert detection_score([found(), found((0.9, 0, LEFT))], there, 2).per_class == (0.0, None)


def test_no_detection_at_all_scores_nothing() -> None:
    assert detection_score([found()], [truth((0, LEFT))], 1).score == 0.0


@pytest.mark.parametrize(
    ("answers", "there", "part"),
    [
        ([found()], [], "labels are for 0"),
        ([], [], "no images"),
        ([found()], [truth()], "no image holds a box"),
        ([found((0.5, 2, LEFT))], [truth((0, LEFT))], "must be 0 to 1"),
        ([found((float("nan"), 0, LEFT))], [truth((0, LEFT))], "not finite"),
    ],
)
def test_boxes_that_cannot_be_judged(answers: list[Detections], there: list[Boxes], part: str) -> None:
    with pytest.raises(MeasurementError, match=part):
        detection_score(answers, there, 2)


def test_the_score_of_dealt_classes_is_that_of_shuffled_pixels() -> None:
    rng = np.random.default_rng(0)
    found = [rng.choice(3, (40, 40), p=[0.7, 0.2, 0.1]).astype(np.uint8) for _ in range(4)]
    masks = [rng.choice(3, (40, 40), p=[0.5, 0.3, 0.2]).astype(np.uint8) for _ in range(4)]
    masks[0][:5] = 255
    assert chance_score(found, masks, 3) == pytest.approx(masks_score(found, masks, 3).score, abs=1.0)
    same = [np.zeros((4, 4), np.uint8)]
    assert chance_score(same, same, 3) == 100.0
