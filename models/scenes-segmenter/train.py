"""Trains scenes-segmenter from nothing: renders its own scenes, then about twelve minutes on one core.

Usage, from the repository root: ``.venv/bin/python models/scenes-segmenter/train.py``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scenes"))

from networks import segmenter  # noqa: E402
from training import Settings, run, scenes_to_train_on  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(options.epochs, seed=options.seed, threads=options.threads)
    scenes = scenes_to_train_on(settings)

    def loss(network: nn.Module, x: Tensor, chosen: npt.NDArray[np.int64], mirrored: npt.NDArray[np.bool_]) -> Tensor:
        """Cross-entropy of the enlarged logits, as they are judged."""
        masks = np.where(mirrored[:, None, None], scenes.masks[chosen, :, ::-1], scenes.masks[chosen])
        logits = F.interpolate(network(x), masks.shape[1:], mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, torch.from_numpy(masks).long())

    run("scenes-segmenter", HERE, segmenter, scenes, loss, settings)
