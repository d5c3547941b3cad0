"""Every task measured the same way: what is right scores 100, what is half right half, and equal answers agree."""

import numpy as np
import pytest

from edgeq.errors import MeasurementError
from edgeq.measure.tasks import Predictions, compare_predictions, make_predictor, measure_predictions
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, GridDetection, Segmentation

SHAPE = {"input_shape": (3, 4, 4), "mean": (0.0,) * 3, "std": (1.0,) * 3}
SEGMENTER = ModelSpec("seg", **SHAPE, task="segmentation", classes=2, dense=Segmentation(("none", "sign")))
DETECTOR = ModelSpec("det", **SHAPE, task="detection", classes=2, dense=Detection(("sign",), ((2, 2),), ((2.0,),)))
IMAGES = np.zeros((2, 3, 4, 4), np.float32)


def maps(masks):
    """Logits that say these masks."""
    return lambda inputs: [np.stack([1.0 - masks, masks], 1).astype(np.float32)]


def test_a_segmenter():
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[:, :2] = 1
    right = measure_predictions(maps(truth), [(IMAGES, truth)], SEGMENTER)
    assert isinstance(right, Predictions)
    assert (right.score, right.n) == (100.0, 2)
    half = truth.copy()
    half[1] = 0  # the second image's sign is not seen: IoU 1/2 of signs, 16/24 of none
    wrong = measure_predictions(maps(half), [(IMAGES, truth)], SEGMENTER)
    assert wrong.score == pytest.approx(100 * (8 / 16 + 16 / 24) / 2)
    told = compare_predictions(right, wrong)["accuracy"]
    assert told["metric"] == "mIoU"
    assert told["agreement"] == 0.75
    assert told["difference"] == {"points": wrong.score - 100}
    assert told["integer"]["per_class"]["sign"] == pytest.approx(50.0)


def test_a_detector():
    anchors = DETECTOR.dense.anchors((4, 4))
    corners = np.concatenate([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1)
    truth = np.empty(2, object)
    truth[0], truth[1] = (corners[:1], np.zeros(1, np.int64)), (corners[2:3], np.zeros(1, np.int64))

    def says(*places):
        logits = np.tile(np.array([9.0, -9.0], np.float32), (2, 4, 1))
        for image, place in enumerate(places):
            if place is not None:
                logits[image, place] = [-9.0, 9.0]
        return lambda inputs: [np.zeros((2, 4, 4), np.float32), logits]  # deltas first, as a runtime may list them

    right = measure_predictions(says(0, 2), [(IMAGES, truth)], DETECTOR)
    missed = measure_predictions(says(0, None), [(IMAGES, truth)], DETECTOR)
    assert right.score == pytest.approx(100.0)
    assert missed.score == pytest.approx(50.0, abs=1.0)
    told = compare_predictions(right, missed)["accuracy"]
    assert (told["metric"], told["agreement"]) == ("mAP@0.5", 0.5)
    assert compare_predictions(missed, right)["accuracy"]["agreement"] == 1.0


def test_a_detector_of_raw_heads():
    task = GridDetection(("sign",), "detect", (2.0,), reg_max=1)
    spec = ModelSpec("yolo", **SHAPE, task="detection", classes=1, dense=task)
    truth = np.empty(2, object)
    truth[0] = truth[1] = (np.array([[0.0, 0.0, 0.5, 0.5]]), np.zeros(1, np.int64))  # the cell in the upper left

    def says(*images):
        scores = np.full((2, 1, 2, 2), -9.0, np.float32)
        for image in images:
            scores[image, 0, 0, 0] = 9.0
        return lambda inputs: [np.full((2, 4, 2, 2), 0.5, np.float32), scores]

    right, missed = (measure_predictions(says(*images), [(IMAGES, truth)], spec) for images in ((0, 1), (0,)))
    assert right.score == pytest.approx(100.0)
    assert missed.score == pytest.approx(50.0, abs=1.0)
    assert compare_predictions(right, missed)["accuracy"]["metric"] == "mAP@0.5"


def test_outputs_that_are_not_what_the_task_says_are_refused():
    truth = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(MeasurementError, match="must be"):
        measure_predictions(lambda inputs: [np.zeros((2, 5, 4, 4))], [(IMAGES, truth)], SEGMENTER)
    with pytest.raises(MeasurementError, match="NaN"):
        measure_predictions(lambda inputs: [np.full((2, 2, 4, 4), np.nan)], [(IMAGES, truth)], SEGMENTER)
    with pytest.raises(MeasurementError, match="no images"):
        measure_predictions(maps(truth), [], SEGMENTER)


def test_all_outputs_of_a_module_are_numpy():
    import torch

    class Two(torch.nn.Module):
        def forward(self, x):
            return {"a": x, "b": x.sum(1)}

    one, other = make_predictor(Two().eval())(IMAGES)
    assert (one.shape, other.shape) == ((2, 3, 4, 4), (2, 4, 4))


def test_a_file_without_an_output_is_said_to_have_none() -> None:
    spec = ModelSpec("net", (3, 4, 4), (0.5,) * 3, (0.25,) * 3, classes=2)
    batches = [(np.zeros((1, 3, 4, 4), np.float32), np.zeros(1, np.int64))]
    with pytest.raises(MeasurementError, match="the file has no output"):
        measure_predictions(lambda inputs: [], batches, spec, whose="the file")
