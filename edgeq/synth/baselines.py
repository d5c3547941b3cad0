"""Baselines: noise that uses nothing of the network. Every synthesizer must do better."""

from __future__ import annotations

import numpy as np
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.synth.base import SYNTHESIZERS, Request

__all__ = ["noise", "uniform"]


def _without_labels(inputs: torch.Tensor, method: str) -> CalibrationSet:
    array = inputs.numpy().astype(np.float32)
    return CalibrationSet(array, np.full(len(array), -1, np.int64), method)


@SYNTHESIZERS.register("noise")
def noise(request: Request) -> CalibrationSet:
    """Gaussian noise, not clipped: pixels of mean 0.45 and standard deviation 0.225, which the usual ImageNet
    normalisation turns into the literature's N(0, 1) baseline, and any other into its fair equivalent."""
    generator = torch.Generator().manual_seed(request.seed)
    low, high = request.limits()
    pixels = 0.45 + 0.225 * torch.randn((request.images, *request.shape), generator=generator)
    return _without_labels(low + (high - low) * pixels, "noise")


@SYNTHESIZERS.register("uniform")
def uniform(request: Request) -> CalibrationSet:
    """Uniform random pixels over the whole pixel range."""
    generator = torch.Generator().manual_seed(request.seed)
    low, high = request.limits()
    return _without_labels(
        low + (high - low) * torch.rand((request.images, *request.shape), generator=generator), "uniform"
    )
