"""A single-shot face detector for 320x240 frames: thirteen small layers, one extra, and four pairs of heads.

The network ends at raw class logits and box deltas; anchors, decoding and non-maximum suppression are the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (output channels, stride) of the depthwise-separable layers after the stem
_LAYERS = (
    (32, 1),
    (32, 2),
    (32, 1),
    (64, 2),
    (64, 1),
    (64, 1),
    (64, 1),
    (128, 2),
    (128, 1),
    (128, 1),
    (256, 2),
    (256, 1),
)
_TAPS = (7, 10, 12)
_ANCHORS = (3, 2, 2, 3)
_HEAD_INPUTS = (64, 128, 256, 256)


def _separable_bn(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1)
    )


def _heads(values_per_anchor: int) -> nn.ModuleList:
    counts = [anchors * values_per_anchor for anchors in _ANCHORS]
    first = [_separable(inputs, count) for inputs, count in zip(_HEAD_INPUTS[:3], counts[:3], strict=True)]
    return nn.ModuleList([*first, nn.Conv2d(_HEAD_INPUTS[3], counts[3], 3, padding=1)])


class FaceDetector(nn.Module):
    """Input ``(N, 3, 240, 320)``; outputs logits ``(N, 4420, 2)`` (background, face) and deltas ``(N, 4420, 4)``."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes
        stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        inputs = (16, *(channels for channels, _ in _LAYERS[:-1]))
        layers = [_separable_bn(i, o, stride) for i, (o, stride) in zip(inputs, _LAYERS, strict=True)]
        self.base_net = nn.ModuleList([stem, *layers])
        extra = nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), _separable(64, 256, 2), nn.ReLU())
        self.extras = nn.ModuleList([extra])
        self.classification_headers = _heads(num_classes)
        self.regression_headers = _heads(4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = []
        for index, layer in enumerate(self.base_net):
            x = layer(x)
            if index in _TAPS:
                maps.append(x)
        maps.append(self.extras[0](x))
        logits = [self._rows(h(m), self.num_classes) for h, m in zip(self.classification_headers, maps, strict=True)]
        deltas = [self._rows(h(m), 4) for h, m in zip(self.regression_headers, maps, strict=True)]
        return torch.cat(logits, 1), torch.cat(deltas, 1)

    @staticmethod
    def _rows(x: Tensor, values: int) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def face_detector(num_classes: int = 2) -> FaceDetector:
    return FaceDetector(num_classes)
