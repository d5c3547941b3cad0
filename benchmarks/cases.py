"""The networks of the benchmark table: what each is measured on, calibrated with, and held against.

Paths below are relative to the folder `EDGEQ_DATA` names (default: `../shared/data` beside the repository).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ROOT / "benchmarks" / "networks"
PEERS = ROOT / "build" / "peers"
ROWS = ROOT / "build" / "benchmarks"


def data_folder() -> Path:
    """Where weights and images are; also exported, because the networks' TOMLs name ``${EDGEQ_DATA}``."""
    folder = Path(os.environ.setdefault("EDGEQ_DATA", str(ROOT.parent / "shared" / "data")))
    if not folder.is_dir():
        raise SystemExit("no weights and images here: set EDGEQ_DATA to the folder that holds them")
    return folder


def commit() -> str:
    """Short hash of the checkout, marked when tracked files differ from it: others than results, which this writes.

    A copy without its history is asked through the environment, as ``EDGEQ_COMMIT``.
    """
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    found = _git("rev-parse", "--short", "HEAD") or os.environ.get("EDGEQ_COMMIT", "unknown")
    return found + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


@dataclass(frozen=True)
class PeerFile:
    """An integer .tflite somebody else made of the same network (or one very like it), kept with the images.

    `pixels`: the file wants raw pixels (0..255) rather than normalised ones. `shift`: class 0 of the file is
    "background", so its classes are one higher.
    """

    label: str
    path: str
    pixels: bool = False
    shift: int = 0


@dataclass(frozen=True)
class Case:
    """One network. `training`: real images for calibrated baselines; `evaluations`: labelled images by a short name."""

    name: str
    training: str
    evaluations: dict[str, str]
    methods: tuple[str, ...] = ("gznq", "noise", "images")
    peer_files: tuple[PeerFile, ...] = ()

    @property
    def toml(self) -> Path:
        return NETWORKS / f"{self.name}.toml"


_CIFAR = "cifar10/train_0000_1999.npz"
_IMAGENET = "imagenet_train250/labels.csv"
_VALIDATION = {"val1000": "imagenet_val1000/labels.csv"}

CASES = {
    case.name: case
    for case in (
        Case(
            "resnet20",
            _CIFAR,
            {"lossless500": "cifar10/test_0000_0499.npz", "shifted5000": "cifar10/test_jpeg_5000.npz"},
        ),
        Case(
            "resnet8",
            _CIFAR,
            {"ic01-200": "mlperf_tiny/ic01_200.npz", "lossless500": "cifar10/test_0000_0499.npz"},
            peer_files=(PeerFile("Google converter, real data", "mlperf_tiny/ic01_resnet8_int8.tflite", pixels=True),),
        ),
        Case(
            "person-detect",
            _IMAGENET,  # no training images of its own were to be had: everyday photographs stand in
            {"vww-500": "mlperf_tiny/vww01_500.npz"},
            peer_files=(PeerFile("Google converter, real data", "mlperf_tiny/vww01_int8.tflite"),),
        ),
        Case("mobilenetv1-0.25", _IMAGENET, _VALIDATION),
        Case(
            "mobilenetv2-folded",
            _IMAGENET,
            _VALIDATION,
            methods=("images", "noise"),  # batch norm is folded away: nothing for GZNQ to match
            peer_files=(
                PeerFile(
                    "PyTorch to integer TFLite, same checkpoint",
                    "peer_tflite/mobilenet_v2_quantized_1x3x224x224.tflite",
                ),
                PeerFile(
                    "Google PTQ, other checkpoint",
                    "peer_tflite/tf2_mobilenet_v2_1.0_224_ptq.tflite",
                    pixels=True,
                    shift=1,
                ),
            ),
        ),
    )
}


@dataclass(frozen=True)
class Column:
    """A network of the zero-shot table (`zero_shot.py`).

    `training`: real images for the calibrated row, or None for the renderer's train split. `evaluation`: labelled
    images below the data folder, or None for those the model names. `reference`: how many of them (evenly spaced) the
    integer reference answers where no runtime can; it takes milliseconds to half a second an image.
    """

    name: str
    model: Path
    training: str | None
    evaluation: str | None
    reference: int

    def evaluation_images(self) -> str | None:
        return None if self.evaluation is None else str(data_folder() / self.evaluation)


def _pretrained(name: str, training: str, evaluation: str, reference: int) -> Column:
    return Column(name, NETWORKS / f"{name}.toml", training, evaluation, reference)


_SHIFTED, _VAL1000 = "cifar10/test_jpeg_5000.npz", "imagenet_val1000/labels.csv"

COLUMNS = {
    column.name: column
    for column in (
        _pretrained("resnet20", _CIFAR, _SHIFTED, 500),
        _pretrained("resnet32", _CIFAR, _SHIFTED, 500),
        _pretrained("resnet8", _CIFAR, _SHIFTED, 500),
        _pretrained("person-detect", _IMAGENET, "mlperf_tiny/vww01_500.npz", 250),
        _pretrained("mobilenetv1-0.25", _IMAGENET, _VAL1000, 200),
        _pretrained("mobilenetv2-folded", _IMAGENET, _VAL1000, 50),
        _pretrained("squeezenet1.1", _IMAGENET, _VAL1000, 100),
        _pretrained("efficientnet-lite0", _IMAGENET, _VAL1000, 50),
        Column("signs-mobilenetv2", ROOT / "models" / "signs-mobilenetv2" / "model.toml", None, None, 250),
        Column("signs-fixup", ROOT / "models" / "signs-fixup" / "model.toml", None, None, 250),
    )
}
