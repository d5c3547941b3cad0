"""Trains scenes-detector from nothing: renders its own scenes, then about fourteen minutes on one core.

Usage, from the repository root: ``.venv/bin/python models/scenes-detector/train.py``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scenes"))

from anchors import assign, detection_loss  # noqa: E402
from networks import detector  # noqa: E402
from scenes import SIZE  # noqa: E402
from training import Settings, run, scenes_to_train_on  # noqa: E402

from edgeq.model.modeltoml import read_model_file  # noqa: E402
from edgeq.model.tasks import Detection  # noqa: E402

MIRROR, WIDTH = np.array([2, 1, 0, 3]), np.array([1.0, 0.0, 1.0, 0.0])
"""A box seen in a mirror is ``abs(WIDTH - box[MIRROR])``."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(options.epochs, seed=options.seed, threads=options.threads)
    scenes = scenes_to_train_on(settings)
    task = read_model_file(HERE / "model.toml").spec.dense
    if not isinstance(task, Detection):
        raise SystemExit("model.toml lacks the detector's [task]")
    anchors = task.anchors((SIZE, SIZE))

    def loss(network: nn.Module, x: Tensor, chosen: npt.NDArray[np.int64], mirrored: npt.NDArray[np.bool_]) -> Tensor:
        """`detection_loss` against the boxes of these scenes, mirrored where the scenes are."""
        wanted = []
        for index, flip in zip(chosen, mirrored, strict=True):
            boxes = scenes.boxes[index]
            boxes = np.abs(WIDTH - boxes[:, MIRROR]) if flip else boxes
            wanted.append(assign(boxes, scenes.labels[index], anchors, task.variances))
        classes, targets = (torch.from_numpy(np.stack(column)) for column in zip(*wanted, strict=True))
        return detection_loss(*network(x), classes, targets)

    run("scenes-detector", HERE, detector, scenes, loss, settings)
