"""The networks of `export.py`: what people bring, with random weights that keep every layer's values in range.

Weights are Kaiming's, batch-norm statistics those of a noise batch: structure and exactness need no more.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from cases import NETWORKS
from torch import Tensor, nn

from edgeq.model.pycode import import_callable
from edgeq.model.torchvision import import_torchvision

__all__ = ["SUBJECTS", "Subject", "sane"]

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Subject:
    """`make` builds the network, `shape` is one input's ``(C, H, W)``."""

    name: str
    make: Callable[[], nn.Module]
    shape: Shape


class ConvUnit(nn.Sequential):
    """Convolution, batch norm, SiLU: the unit of YOLO from version 5 on."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
        )


class Split(nn.Module):
    """YOLO's split block: half of the channels pass, half go through a residual, all are joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = ConvUnit(channels, channels), ConvUnit(channels // 2 * 3, channels)
        self.inner = nn.Sequential(ConvUnit(channels // 2, channels // 2, 3), ConvUnit(channels // 2, channels // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, 1)
        return self.last(torch.cat([left, right, right + self.inner(right)], 1))


class Yolo(nn.Module):
    """SiLU, split blocks, pooled pyramid, nearest upsampling, concatenation and two raw heads."""

    def __init__(self, width: int = 16, values: int = 3 * 9) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvUnit(3, width, 3, 2), ConvUnit(width, 2 * width, 3, 2), Split(2 * width))
        self.middle = nn.Sequential(ConvUnit(2 * width, 4 * width, 3, 2), Split(4 * width))
        self.deep = nn.Sequential(ConvUnit(4 * width, 8 * width, 3, 2), Split(8 * width))
        self.before, self.after = ConvUnit(8 * width, 4 * width), ConvUnit(16 * width, 8 * width)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.join = nn.Sequential(ConvUnit(12 * width, 4 * width), Split(4 * width))
        self.heads = nn.ModuleList([nn.Conv2d(4 * width, values, 1), nn.Conv2d(8 * width, values, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle = self.middle(self.stem(x))
        pooled = [self.before(self.deep(middle))]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        deep = self.after(torch.cat(pooled, 1))
        return self.heads[0](self.join(torch.cat([self.up(deep), middle], 1))), self.heads[1](deep)


class UNet(nn.Module):
    """Two levels down by pooling, two up by transposed convolutions of 2 and of 4 pixels, joined by concatenation."""

    def __init__(self, width: int = 16, classes: int = 4) -> None:
        super().__init__()

        def twice(inputs: int, outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for source in (inputs, outputs):
                layers += [nn.Conv2d(source, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList([twice(3, width), twice(width, 2 * width), twice(2 * width, 4 * width)])
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
                nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            ]
        )
        self.merge = nn.ModuleList([twice(4 * width, 2 * width), twice(2 * width, width)])
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down[0](x)
        middle = self.down[1](F.max_pool2d(high, 2))
        low = self.down[2](F.max_pool2d(middle, 2))
        middle = self.merge[0](torch.cat([self.up[0](low), middle], 1))
        return self.last(self.merge[1](torch.cat([self.up[1](middle), high], 1)))


class FaceNet(nn.Sequential):
    """The head of a face recogniser for phones: depthwise layers, a PReLU per channel, one depthwise layer to 1 x 1."""

    def __init__(self, width: int = 32, values: int = 128) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)]
        for stride in (1, 2, 2):
            layers += [nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.PReLU(width), nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)]
            width *= 2
            layers += [nn.PReLU(width)]
        layers += [nn.Conv2d(width, width, 7, groups=width, bias=False), nn.BatchNorm2d(width), nn.Flatten()]
        super().__init__(*layers, nn.Linear(width, values))


class DSCNN(nn.Module):
    """MLPerf Tiny keyword spotting: 49 frames of 10 coefficients, four depthwise-separable layers."""

    def __init__(self, width: int = 64, classes: int = 12) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, width, (10, 4), 2)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(4):
            for kernel, groups in ((3, width), (1, 1)):
                layers += [nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=groups)]
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class AutoEncoder(nn.Sequential):
    """MLPerf Tiny anomaly detection: ten fully connected layers, five frames of 128 mel bands in and out."""

    def __init__(self) -> None:
        sizes = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.Linear(128, 640))


class RawHeads(nn.Module):
    """Backbone and heads of a torchvision detector, without anchors and without suppression."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self.head(list(self.backbone(x).values()))
        return found["cls_logits"], found["bbox_regression"]


class Main(nn.Module):
    """The main output of a segmenter that returns a dictionary."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, x: Tensor) -> Tensor:
        return self.segmenter(x)["out"]


def _torchvision(name: str) -> nn.Module:
    models = import_torchvision().models
    options: dict[str, Any] = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    if ".segmentation." in models.get_model_builder(name).__module__ or name.startswith("ssd"):
        options |= {"weights_backbone": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        made: nn.Module = models.get_model(name, **options)
    if name.startswith("ssd"):
        return RawHeads(made)
    return Main(made) if "weights_backbone" in options else made


def _classifiers() -> list[Subject]:
    """At 64 pixels, which leaves one to four in the last maps; networks that need more get what they need."""
    names = (
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "shufflenet_v2_x1_0",
        "squeezenet1_1",
        "mnasnet1_0",
        "densenet121",
        "googlenet",
        "inception_v3",
        "regnet_y_400mf",
        "vgg11",
        "vgg11_bn",
        "convnext_tiny",
    )
    sides = {"inception_v3": 107, "vgg11": 224, "vgg11_bn": 224}
    return [Subject(n, lambda n=n: _torchvision(n), (3, sides.get(n, 64), sides.get(n, 64))) for n in names]


SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in [
        *_classifiers(),
        Subject("lraspp_mobilenet_v3_large", lambda: _torchvision("lraspp_mobilenet_v3_large"), (3, 64, 64)),
        Subject("deeplabv3_mobilenet_v3_large", lambda: _torchvision("deeplabv3_mobilenet_v3_large"), (3, 64, 64)),
        Subject(
            "ssdlite320_mobilenet_v3_large heads", lambda: _torchvision("ssdlite320_mobilenet_v3_large"), (3, 128, 128)
        ),
        Subject("U-Net, transposed convolutions", UNet, (3, 64, 64)),
        Subject("YOLO-style", Yolo, (3, 96, 96)),
        Subject("face recogniser, PReLU", FaceNet, (3, 56, 56)),
        Subject("MLPerf Tiny ResNet-8", import_callable(f"{NETWORKS / 'mlperf_tiny.py'}:resnet8"), (3, 32, 32)),
        Subject(
            "MLPerf Tiny person detector", import_callable(f"{NETWORKS / 'mlperf_tiny.py'}:person_detect"), (3, 96, 96)
        ),
        Subject("MLPerf Tiny DS-CNN", DSCNN, (1, 49, 10)),
        Subject("MLPerf Tiny autoencoder", AutoEncoder, (1, 5, 128)),
    ]
}


@torch.no_grad()
def sane(module: nn.Module, shape: Shape, seed: int = 0) -> nn.Module:
    """`module` with Kaiming weights, small biases, slopes in -0.1..0.5, batch norms of noise; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    norms = []
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                part.bias.uniform_(-0.1, 0.1, generator=generator)
        elif isinstance(part, nn.PReLU):
            part.weight.uniform_(-0.1, 0.5, generator=generator)
        elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.weight.uniform_(0.6, 1.4, generator=generator)
            part.bias.uniform_(-0.4, 0.4, generator=generator)
            part.reset_running_stats()
            part.momentum = None  # a plain mean over the batches seen
            norms.append(part)
    module.eval()
    for norm in norms:
        norm.train()
    if norms:
        module(torch.randn(8, *shape, generator=generator))
    return module.eval()
