"""The networks of `strangers.py`: what strangers bring, by source, each with the shape of its input.

Names are fixed here, so that a table can be compared with the one before it. The packages are imported when a network
is made, and a package that is missing makes one row that says so.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from strangers_packages import PACKAGED, made
from torch import Tensor, nn

from edgeq.model.timm import import_timm
from edgeq.model.torchvision import import_torchvision

__all__ = ["SOURCES", "Stranger", "strangers"]


@dataclass(frozen=True)
class Stranger:
    """A network: `make` builds it for an input of ``(C, H, W)``, and `shapes` are the inputs to try, smallest first."""

    source: str
    name: str
    make: Callable[[tuple[int, ...]], nn.Module]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def decodes(self) -> bool:
        """Whether its forward takes a list of pictures and needs compiled operators: torchvision's detectors."""
        return self.name.startswith(("ssdlite", "retinanet", "fcos_"))

    @property
    def key(self) -> str:
        return f"{self.source}--{self.name}".replace("/", "-").replace(" ", "-")


# --- timm -------------------------------------------------------------------------------------------------------------

_SIDES = ((3, 96, 96), (3, 128, 128), (3, 224, 224), (3, 256, 256), (3, 240, 240))


def _timm(name: str, shape: tuple[int, ...]) -> nn.Module:
    """At another size than its own where the architecture takes one, else as it is."""
    timm = import_timm()
    try:
        made: nn.Module = timm.create_model(name, pretrained=False, img_size=shape[1])
    except Exception:  # whatever an architecture says of an argument it does not know
        made = timm.create_model(name, pretrained=False)
    return made


# --- ultralytics ------------------------------------------------------------------------------------------------------

_YOLO_TASKS = {
    "": "DetectionModel",
    "-seg": "SegmentationModel",
    "-pose": "PoseModel",
    "-obb": "OBBModel",
    "-cls": "ClassificationModel",
}
_YOLO_FORMS = (
    *("yolov3-tiny", "yolov5n", "yolov5n-p6", "yolov6n", "yolov9t", "yolov9c-seg", "yolov10n"),
    *("yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolov8n-p2", "yolov8n-p6"),
    *("yolov8n-ghost", "yolov8n-ghost-p2", "yolov8n-ghost-p6", "yolov8n-seg-p6", "yolov8n-pose-p6"),
    *("yolov8n-cls-resnet50", "yolo11n-cls-resnet18"),
    *(f"yolo11n{form}" for form in _YOLO_TASKS),
    *(f"yolo12n{form}" for form in _YOLO_TASKS),
    *(f"yolo26n{form}" for form in _YOLO_TASKS),
    *("yolo26n-p2", "yolo26n-p6"),
    *("yolov8n-rtdetr", "rtdetr-l"),
    *("yolov9s", "yolov9m"),
    *("yolov8n fused", "yolo11n fused", "yolo26n fused", "yolov10n end2end", "yolo26n end2end"),
    *("yolo26n-seg end2end", "yolo26n-pose end2end", "yolo26n-obb end2end"),
)


def _yolo(form: str, shape: tuple[int, ...]) -> nn.Module:
    import_torchvision()
    tasks = importlib.import_module("ultralytics.nn.tasks")
    name, _, state = form.partition(" ")
    kind = next((made for suffix, made in _YOLO_TASKS.items() if suffix and suffix in name), "DetectionModel")
    kind = "RTDETRDetectionModel" if "rtdetr" in name else kind
    layers = _without_downloads(tasks.yaml_model_load(f"{name}.yaml"))
    network: Any = getattr(tasks, kind)(layers, verbose=False).eval()
    if state == "end2end":
        network.end2end = True
    made: nn.Module = network.fuse(verbose=False) if state == "fused" else network
    return made


def _without_downloads(layers: Any) -> Any:
    """A description of a network that asks for the published weights of a part of it, with random ones instead."""
    if isinstance(layers, dict):
        return {name: _without_downloads(part) for name, part in layers.items()}
    if isinstance(layers, list):
        return [_without_downloads(part) for part in layers]
    return None if layers == "DEFAULT" else layers


# --- torchvision ------------------------------------------------------------------------------------------------------

_VISION = {
    "alexnet": (3, 128, 128),
    "convnext_tiny": (3, 64, 64),
    "densenet121": (3, 64, 64),
    "efficientnet_b0": (3, 64, 64),
    "efficientnet_v2_s": (3, 64, 64),
    "googlenet": (3, 64, 64),
    "inception_v3": (3, 107, 107),
    "maxvit_t": (3, 224, 224),
    "mnasnet0_5": (3, 64, 64),
    "mobilenet_v2": (3, 64, 64),
    "mobilenet_v3_small": (3, 64, 64),
    "regnet_y_400mf": (3, 64, 64),
    "resnet18": (3, 64, 64),
    "resnext50_32x4d": (3, 64, 64),
    "shufflenet_v2_x0_5": (3, 64, 64),
    "squeezenet1_1": (3, 64, 64),
    "vgg11_bn": (3, 64, 64),
    "wide_resnet50_2": (3, 64, 64),
    "swin_t": (3, 64, 64),
    "swin_v2_t": (3, 64, 64),
    "vit_b_16": (3, 224, 224),
    "deeplabv3_mobilenet_v3_large": (3, 64, 64),
    "fcn_resnet50": (3, 64, 64),
    "lraspp_mobilenet_v3_large": (3, 64, 64),
    "ssdlite320_mobilenet_v3_large": (3, 128, 128),
    "retinanet_resnet50_fpn": (3, 64, 64),
    "fcos_resnet50_fpn": (3, 64, 64),
    "r3d_18": (3, 8, 32, 32),
    "mvit_v2_s": (3, 16, 224, 224),
    "s3d": (3, 16, 224, 224),
    "raft_small": (6, 128, 128),
}


class _Flow(nn.Module):
    """Both pictures of an optical flow as one image of six channels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x[:, :3], x[:, 3:], num_flow_updates=1)


def _vision(name: str, shape: tuple[int, ...]) -> nn.Module:
    models = import_torchvision().models
    options: dict[str, Any] = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    if any(part in models.get_model_builder(name).__module__ for part in (".segmentation.", ".detection.")):
        options |= {"weights_backbone": None}
    made: nn.Module = models.get_model(name, **options)
    return _Flow(made) if name.startswith("raft") else made


# --- segmentation-models-pytorch --------------------------------------------------------------------------------------

_DECODERS = ("Unet", "UnetPlusPlus", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "Linknet", "MAnet", "PAN")
_SMP = (
    *((decoder, encoder) for decoder in _DECODERS for encoder in ("resnet18", "timm-mobilenetv3_small_100")),
    *((decoder, "mobilenet_v2") for decoder in _DECODERS),
    *((decoder, "mit_b0") for decoder in ("Unet", "FPN", "Segformer", "UPerNet")),
    *((decoder, "resnet18") for decoder in ("Segformer", "UPerNet")),
)


def _smp(decoder: str, encoder: str, shape: tuple[int, ...]) -> nn.Module:
    import_torchvision()
    smp = importlib.import_module("segmentation_models_pytorch")
    if encoder.startswith("timm-"):
        encoder = "tu-" + encoder.removeprefix("timm-")
    made: nn.Module = getattr(smp, decoder)(encoder_name=encoder, encoder_weights=None, classes=4)
    return made


# --- others -----------------------------------------------------------------------------------------------------------


def _package(module: str, name: str, arguments: dict[str, Any], shape: tuple[int, ...]) -> nn.Module:
    import_torchvision()
    made: nn.Module = getattr(importlib.import_module(module), name)(**arguments)
    return made


class _Lambda(nn.Module):
    """Parts, and the forward that joins them."""

    def __init__(self, body: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.body = body
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def _temporal() -> nn.Module:
    """MatchboxNet-like: depthwise 1-D convolutions over 64 mel bands."""
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv1d(64, 64, 11, padding=5, groups=64), nn.Conv1d(64, 64, 1), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 35))


def _dilated() -> nn.Module:
    """A temporal convolution network with residuals, as used on sensors."""
    blocks = {f"b{n}": nn.Conv1d(32, 32, 3, padding=2**n, dilation=2**n) for n in range(4)}

    def body(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for name in blocks:
            x = x + F.relu(getattr(net, name)(x))
        out: Tensor = net.head(x.mean(2))
        return out

    return _Lambda(body, stem=nn.Conv1d(9, 32, 1), head=nn.Linear(32, 6), **blocks)


def _ecg() -> nn.Module:
    """One-dimensional residual network with pooling, as used on electrocardiograms."""
    return nn.Sequential(
        nn.Conv1d(1, 32, 17, 2, 8),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 64, 9, 2, 4),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.AvgPool1d(2),
        nn.Conv1d(64, 64, 5, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(5),
    )


def _crnn() -> nn.Module:
    """Text recognition: convolutions, then a bidirectional LSTM over columns."""

    def body(net: Any, x: Tensor) -> Tensor:
        columns = net.convolutions(x).squeeze(2).permute(0, 2, 1)
        out: Tensor = net.head(net.recurrent(columns)[0])
        return out

    convolutions = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
    )
    convolutions += nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 64, (8, 1)))
    return _Lambda(
        body,
        convolutions=convolutions,
        recurrent=nn.LSTM(64, 32, bidirectional=True, batch_first=True),
        head=nn.Linear(64, 37),
    )


def _ctc() -> nn.Module:
    """Text recognition by convolutions alone: log-softmax over the letters of every column."""
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 2)), nn.Conv2d(32, 64, 3, padding=1)]
    layers += [nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d((2, 1)), nn.Conv2d(64, 37, (8, 1))]
    return _Lambda(lambda net, x: net.net(x).squeeze(2).log_softmax(1), net=nn.Sequential(*layers))


def _espcn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.Tanh(), nn.Conv2d(32, 16, 3, padding=1), nn.Tanh(),
        nn.Conv2d(16, 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip


def _edsr() -> nn.Module:
    """Residual super-resolution with a scaled branch."""

    def body(net: Any, x: Tensor) -> Tensor:
        first = x = net.stem(x)
        for n in range(4):
            x = x + 0.1 * getattr(net, f"r{n}")(x)
        out: Tensor = net.tail(x + first)
        return out

    blocks = {
        f"r{n}": nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1))
        for n in range(4)
    }
    tail = nn.Sequential(nn.Conv2d(32, 128, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(32, 3, 3, padding=1))
    return _Lambda(body, stem=nn.Conv2d(3, 32, 3, padding=1), tail=tail, **blocks)


def _fsrcnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2), nn.PReLU(32), nn.Conv2d(32, 8, 1), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1),
        nn.PReLU(8), nn.Conv2d(8, 32, 1), nn.PReLU(32), nn.ConvTranspose2d(32, 1, 9, 2, 4, 1),
    )  # fmt: skip


def _style() -> nn.Module:
    """Fast style transfer: instance norms, reflected edges, upsampling."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 16, 1), (16, 32, 2), (32, 32, 1)):
        layers += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3, stride)]
        layers += [nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]
    return nn.Sequential(*layers, nn.Upsample(scale_factor=2), nn.ReflectionPad2d(4), nn.Conv2d(32, 3, 9))


def _embedding() -> nn.Module:
    """Face or person embedding of length 1."""
    trunk = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.PReLU(16), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
        nn.PReLU(32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64),
    )  # fmt: skip
    return _Lambda(lambda net, x: F.normalize(net.trunk(x)), trunk=trunk)


def _two_heads() -> nn.Module:
    """Age and gender: a dictionary of two answers."""
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def body(net: Any, x: Tensor) -> dict[str, Tensor]:
        x = net.trunk(x)
        return {"age": net.age(x), "gender": net.gender(x)}

    return _Lambda(body, trunk=trunk, age=nn.Linear(16, 1), gender=nn.Linear(16, 2))


def _pose() -> nn.Module:
    """Heatmaps from transposed convolutions, as in Simple Baselines."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 7, 4, 3), nn.BatchNorm2d(32), nn.ReLU()]
    for _ in range(2):
        layers += [nn.ConvTranspose2d(32, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(32, 17, 1))


def _gru() -> nn.Module:
    """Keyword spotting: convolution, then a GRU over time."""

    def body(net: Any, x: Tensor) -> Tensor:
        steps = F.relu(net.stem(x)).transpose(1, 2)
        out: Tensor = net.head(net.recurrent(steps)[0][:, -1])
        return out

    return _Lambda(body, stem=nn.Conv1d(40, 32, 3), recurrent=nn.GRU(32, 32, batch_first=True), head=nn.Linear(32, 12))


def _transformer() -> nn.Module:
    """One encoder layer over 16 steps of 32 numbers."""
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return _Lambda(lambda net, x: net.head(net.layer(x).mean(1)), layer=layer, head=nn.Linear(32, 5))


def _denoiser() -> nn.Module:
    """DnCNN: the picture without its predicted noise."""
    layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return _Lambda(lambda net, x: x - net.noise(x), noise=nn.Sequential(*layers, nn.Conv2d(32, 1, 3, padding=1)))


_OTHERS: tuple[tuple[str, Callable[..., nn.Module], tuple[int, ...]], ...] = (
    ("facenet PNet", lambda s: _package("facenet_pytorch.models.mtcnn", "PNet", {"pretrained": False}, s), (3, 48, 48)),
    ("facenet RNet", lambda s: _package("facenet_pytorch.models.mtcnn", "RNet", {"pretrained": False}, s), (3, 24, 24)),
    ("facenet ONet", lambda s: _package("facenet_pytorch.models.mtcnn", "ONet", {"pretrained": False}, s), (3, 48, 48)),
    ("facenet InceptionResnetV1", lambda s: _package("facenet_pytorch", "InceptionResnetV1", {}, s), (3, 96, 96)),
    (
        "facenet InceptionResnetV1 classes",
        lambda s: _package("facenet_pytorch", "InceptionResnetV1", {"classify": True, "num_classes": 10}, s),
        (3, 96, 96),
    ),
    ("torchcrepe tiny", lambda s: _package("torchcrepe.model", "Crepe", {"model": "tiny"}, s), (1024,)),
    ("torchcrepe full", lambda s: _package("torchcrepe.model", "Crepe", {"model": "full"}, s), (1024,)),
    (
        "efficientnet-lite0",
        lambda s: importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0"),
        (3, 96, 96),
    ),
    ("keyword spotting, 1-D", lambda s: _temporal(), (64, 101)),
    ("keyword spotting, GRU", lambda s: _gru(), (40, 50)),
    ("temporal convolutions", lambda s: _dilated(), (9, 64)),
    ("electrocardiogram, 1-D", lambda s: _ecg(), (1, 256)),
    ("transformer encoder layer", lambda s: _transformer(), (16, 32)),
    ("text recognition, LSTM", lambda s: _crnn(), (1, 32, 64)),
    ("text recognition, log-softmax", lambda s: _ctc(), (1, 32, 64)),
    ("super-resolution, ESPCN", lambda s: _espcn(), (1, 32, 32)),
    ("super-resolution, EDSR", lambda s: _edsr(), (3, 32, 32)),
    ("super-resolution, FSRCNN", lambda s: _fsrcnn(), (1, 32, 32)),
    ("denoiser", lambda s: _denoiser(), (1, 32, 32)),
    ("style transfer", lambda s: _style(), (3, 48, 48)),
    ("embedding of length 1", lambda s: _embedding(), (3, 64, 64)),
    ("two answers in a dictionary", lambda s: _two_heads(), (3, 64, 64)),
    ("pose heatmaps", lambda s: _pose(), (3, 64, 64)),
)


def _table() -> list[Stranger]:
    from strangers_timm import NAMES

    rows = [Stranger("timm", name, lambda s, name=name: _timm(name, s), _SIDES) for name in NAMES]  # type: ignore[misc]
    rows += [
        Stranger("ultralytics", form, lambda s, form=form: _yolo(form, s), ((3, 64, 64),))  # type: ignore[misc]
        for form in _YOLO_FORMS
    ]
    rows += [
        Stranger("torchvision", name, lambda s, name=name: _vision(name, s), (shape,))  # type: ignore[misc]
        for name, shape in _VISION.items()
    ]
    rows += [
        Stranger(
            "segmentation-models-pytorch",
            f"{decoder} {encoder}",
            lambda s, d=decoder, e=encoder: _smp(d, e, s),  # type: ignore[misc]
            ((3, 64, 64), (3, 96, 96), (3, 256, 256)),
        )
        for decoder, encoder in _SMP
    ]
    rows += [Stranger("others", name, make, (shape,)) for name, make, shape in _OTHERS]
    return rows + [Stranger("others", row[0], made(row), (row[3],)) for row in PACKAGED]


SOURCES = ("timm", "ultralytics", "torchvision", "segmentation-models-pytorch", "others")


def strangers() -> list[Stranger]:
    """All networks, in the order of the table."""
    return _table()


CALIBRATION_NUMBERS = 2**22
"""Numbers in the pictures that batch norms see: sixteen of 256 x 256 pixels, fewer where inputs are videos."""


@torch.no_grad()
def calibrated(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """`module` with random weights that make its answers vary, and batch norms with the statistics of random pictures.

    Parameters whose numbers are all alike (layer scales, heads of zeros, offsets, scales of norms) are drawn anew: they
    would hide an error, or make an answer that no picture changes. There are sixteen pictures: with the statistics of
    four, in maps of 2 x 2 pixels, the values of a fifth grow from norm to norm, until float32 itself is off by 40 dB.
    The network is in eval mode.
    """
    generator = torch.Generator().manual_seed(seed)
    module.eval()
    for parameter in module.parameters():
        if parameter.is_floating_point() and float(parameter.max()) == float(parameter.min()):
            _draw(parameter, generator)
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        if norm.track_running_stats:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over what was seen
            norm.train()
    if norms:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            count = max(4, min(16, CALIBRATION_NUMBERS // math.prod(shape)))
            module(torch.randn(count, *shape, generator=generator))
    return module.eval()


def _draw(parameter: Tensor, generator: torch.Generator) -> None:
    """Numbers around the one that a parameter has everywhere; weights where that one is 0."""
    number = float(parameter.flatten()[0])
    if number == 0 and parameter.dim() > 1:
        parameter.normal_(0, math.prod(parameter.shape[1:]) ** -0.5, generator=generator)
    elif number == 0:
        parameter.uniform_(-0.4, 0.4, generator=generator)
    else:  # a layer scale of 1e-6 would leave nothing of its branch
        parameter.uniform_(0.6, 1.4, generator=generator).mul_(math.copysign(max(abs(number), 0.25), number))
