"""Trains scenes-yolo from nothing: renders its own scenes, then about thirteen minutes on one core.

Usage, from the repository root: ``.venv/bin/python models/scenes-yolo/train.py``
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
sys.path[:0] = [str(HERE), str(HERE.parent / "scenes")]

from assign import Cells, detection_loss  # noqa: E402
from network import STRIDES, scenes_yolo  # noqa: E402
from scenes import SIZE  # noqa: E402
from training import Settings, run, scenes_to_train_on  # noqa: E402

MIRROR, WIDTH = np.array([2, 1, 0, 3]), np.array([1.0, 0.0, 1.0, 0.0])
"""A box seen in a mirror is ``abs(WIDTH - box[MIRROR])``."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(options.epochs, seed=options.seed, threads=options.threads, rate=3e-3)
    scenes = scenes_to_train_on(settings)
    cells = Cells.of(SIZE, STRIDES)
    most = max(len(labels) for labels in scenes.labels)

    def loss(network: nn.Module, x: Tensor, chosen: npt.NDArray[np.int64], mirrored: npt.NDArray[np.bool_]) -> Tensor:
        """`detection_loss` against the boxes of these scenes, mirrored where the scenes are."""
        truth, labels = np.zeros((len(chosen), most, 4), np.float32), np.full((len(chosen), most), -1)
        for row, (index, flip) in enumerate(zip(chosen, mirrored, strict=True)):
            boxes = scenes.boxes[index]
            truth[row, : len(boxes)] = SIZE * (np.abs(WIDTH - boxes[:, MIRROR]) if flip else boxes)
            labels[row, : len(boxes)] = scenes.labels[index]
        return detection_loss(network(x), cells, torch.from_numpy(truth), torch.from_numpy(labels))

    run("scenes-yolo", HERE, scenes_yolo, scenes, loss, settings)
