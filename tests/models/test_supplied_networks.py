"""The benchmark networks: weights fit, and float accuracy is the one published beside the weights.

Whole sets where they are small; a fixed subset where they are large, whose count was measured once with the whole.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from edgeq.data.evaluation import load_images
from edgeq.model.load import load_model

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ROOT / "benchmarks" / "networks"
DATA = Path(os.environ.get("EDGEQ_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no weights and images: EDGEQ_DATA names no folder")


@pytest.fixture(autouse=True)
def _data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_DATA", str(DATA))


def _correct(name: str, images: str, limit: int | None = None) -> tuple[int, int]:
    loaded = load_model(str(NETWORKS / f"{name}.toml"))
    assert isinstance(loaded.module, torch.nn.Module)
    evaluation = load_images(DATA / images, loaded.spec, limit)
    correct = 0
    with torch.inference_mode():
        for inputs, labels in evaluation.batches(loaded.spec, 50):
            correct += int((loaded.module(torch.from_numpy(inputs)).argmax(1).numpy() == labels).sum())
    return correct, len(evaluation)


@pytest.mark.parametrize(
    ("name", "images", "correct", "total"),
    [
        ("resnet20", "cifar10/test_0000_0499.npz", 455, 500),  # 91.0 %
        ("resnet32", "cifar10/test_0000_0499.npz", 466, 500),  # 93.2 %
        ("resnet8", "mlperf_tiny/ic01_200.npz", 171, 200),  # 85.5 %
        ("resnet8", "cifar10/test_0000_0499.npz", 445, 500),  # 89.0 %
        ("person-detect", "mlperf_tiny/vww01_500.npz", 422, 500),  # 84.4 %
    ],
)
def test_whole_set_gives_the_published_accuracy(name: str, images: str, correct: int, total: int) -> None:
    assert _correct(name, images) == (correct, total)


@pytest.mark.parametrize(
    ("name", "images", "correct", "total"),
    [
        ("resnet20-shifted", "cifar10/test_jpeg_5000.npz", 409, 500),  # of all 5,000: 4052, 81.04 %
        ("mobilenetv1-0.25", "imagenet_val1000/labels.csv", 12, 20),  # of all 1,000: 593
        ("squeezenet1.1", "imagenet_val1000/labels.csv", 11, 20),  # 706
        ("mobilenetv2-folded", "imagenet_val1000/labels.csv", 18, 20),  # 931
    ],
)
def test_evenly_spaced_part_of_a_large_set(name: str, images: str, correct: int, total: int) -> None:
    assert _correct(name, images, total) == (correct, total)


@pytest.mark.parametrize("toml", sorted(NETWORKS.glob("*.toml")), ids=lambda path: path.stem)
def test_toml_names_images_that_exist(toml: Path) -> None:
    if "EDGEQ_LITE0" in toml.read_text() and "EDGEQ_LITE0" not in os.environ:
        pytest.skip("needs two packages beside edgeq's own: see benchmarks/networks/efficientnet_lite0.py")
    spec = load_model(str(toml)).spec
    if spec.evaluation is not None:
        assert Path(os.path.expandvars(spec.evaluation)).exists()


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("camvid-segmenter", [(1, 11, 44, 60)]), ("face-detector", [(1, 4420, 2), (1, 4420, 4)])],
)
def test_dense_networks_have_the_stated_outputs(name: str, shapes: list[tuple[int, ...]]) -> None:
    loaded = load_model(str(NETWORKS / f"{name}.toml"))
    assert isinstance(loaded.module, torch.nn.Module)
    with torch.inference_mode():
        output = loaded.module(torch.zeros(1, *loaded.spec.input_shape))
    outputs = output if isinstance(output, tuple) else (output,)
    assert [tuple(o.shape) for o in outputs] == shapes
