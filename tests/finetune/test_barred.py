"""No evaluation image can reach training: the types keep it out, and what gets around the types raises."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, bar_evaluation, load_images
from edgeq.errors import MeasurementError
from edgeq.finetune.loop import Job, finetune
from edgeq.finetune.settings import Settings
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.model.spec import ModelSpec
from edgeq.quant.calibrate import calibrate
from edgeq.quant.scheme import Scheme

EVALUATION = EvaluationSet(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64), "test.npz", "0")
SPEC = ModelSpec("net", (3, 8, 8), (0.5,) * 3, (0.5,) * 3, classes=2)


class Cheating:
    """A source of training images that reads those that measure."""

    def images(self, count, random):
        inputs, _ = next(EVALUATION.batches(SPEC))
        return torch.from_numpy(inputs)


def test_a_source_that_reads_evaluation_images_stops_fine_tuning():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    raw = capture(network.eval(), (3, 8, 8), "net")
    graph = optimize(raw)
    images = CalibrationSet(np.random.default_rng(0).normal(0, 1, (8, 3, 8, 8)).astype(np.float32), np.full(8, -1), "x")
    decided = calibrate(graph, images, (-2.0, 2.0), scheme=Scheme.of("w4a4"))
    ends = torch.full((3,), 2.0)
    job = Job(graph, raw, decided, images, -ends, ends, Settings("kd", 2, batch=4), source=Cheating())
    with pytest.raises(MeasurementError, match="evaluation images touched during fine-tuning"):
        finetune(job)
    assert len(EVALUATION) == 4  # and they are there again afterwards


def test_everything_about_evaluation_images_raises_inside_and_nothing_outside(tmp_path):
    np.savez(tmp_path / "e.npz", images=EVALUATION.images, labels=EVALUATION.labels)
    touches = (
        lambda: EVALUATION.images,
        lambda: EVALUATION.labels,
        lambda: len(EVALUATION),
        lambda: next(EVALUATION.batches(SPEC)),
        lambda: load_images(tmp_path / "e.npz", SPEC),
    )
    for touch in touches:
        touch()
        with bar_evaluation("a test"), pytest.raises(MeasurementError, match="touched during a test"):
            touch()
