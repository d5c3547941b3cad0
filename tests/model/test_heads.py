"""Detectors as people have them end in their raw heads; what was cut off is computed by `edgeq.decode_grid`."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from model import yolo_standin
from torch import nn

from edgeq.decode_grid import decode_grid
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.model.heads import cut_decoding, unwrap, usual_input
from edgeq.model.load import load_model, wrap_module
from edgeq.model.tasks import GridDetection

STANDIN = str(Path(__file__).with_name("yolo_standin.py"))


def test_heads_stay_apart_under_their_own_names() -> None:
    network, cut = cut_decoding(yolo_standin.DetectionModel().eval())
    assert cut is not None
    assert cut.task == "detection"
    assert cut.where == "model.2 (Detect)"
    graph = capture(network, (3, 32, 48), "yolo")
    assert graph.outputs == ("model.2.cv2.0.0", "model.2.cv2.1.0", "model.2.cv3.0.0", "model.2.cv3.1.0")
    assert [graph.shapes[name][1:] for name in graph.outputs] == [(16, 8, 12), (16, 4, 6), (3, 8, 12), (3, 4, 6)]
    assert len(cut.heads) == len(graph.outputs)
    assert not any(name.startswith("softmax") for name in graph.shapes)


@pytest.mark.parametrize("bins", [4, 16])
def test_the_host_computes_what_was_cut_off(bins: int) -> None:
    whole = yolo_standin.DetectionModel(yolo_standin.Detect(bins)).eval()
    network, cut = cut_decoding(copy.deepcopy(whole))
    assert cut is not None
    assert cut.decoding is not None
    image = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        expected, heads = whole(image)[0], network(image)
    rows = decode_grid([head.numpy() for head in heads], cut.decoding)
    np.testing.assert_allclose(rows, expected.transpose(1, 2).numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("head", "kind", "extra", "outputs"),
    [
        (yolo_standin.Segment, "segment", 5, 7),
        (yolo_standin.Pose, "pose", 6, 6),
        (yolo_standin.OBB, "obb", 1, 6),
    ],
)
def test_third_branches_are_kept(head: type[nn.Module], kind: str, extra: int, outputs: int) -> None:
    network, cut = cut_decoding(yolo_standin.DetectionModel(head()).eval())
    assert cut is not None
    assert cut.decoding is not None
    assert (cut.decoding.kind, cut.decoding.extra, cut.decoding.outputs) == (kind, extra, outputs)
    assert len(network(torch.rand(1, 3, 32, 32))) == outputs == len(cut.heads)


def test_a_factory_of_a_detector_needs_no_more_said_than_its_size() -> None:
    loaded = load_model(f"{STANDIN}:detector", input_shape=(3, 32, 32))
    assert loaded.spec.task == "detection"
    assert not loaded.spec.assumed
    assert (loaded.spec.mean, loaded.spec.std) == ((0.0,) * 3, (1.0,) * 3)
    assert isinstance(loaded.spec.dense, GridDetection)
    assert loaded.spec.dense.classes == ("cat", "dog", "bird")
    assert loaded.cut is not None
    assert loaded.cut.what.startswith("distances")


def test_what_ultralytics_wraps_a_network_in_is_taken_off() -> None:
    assert load_model(f"{STANDIN}:whole", input_shape=(3, 32, 32)).cut is not None
    assert unwrap(nn.ReLU()).__class__ is nn.ReLU
    hollow = yolo_standin.Model()
    hollow.model = None  # type: ignore[assignment]
    with pytest.raises(UnsupportedError, match="holds no PyTorch network"):
        unwrap(hollow)


def test_the_users_module_stays_whole() -> None:
    network = yolo_standin.DetectionModel().eval()
    loaded = wrap_module(network, "yolo", (3, 32, 32))
    assert loaded.cut is not None
    assert isinstance(network.model[2], yolo_standin.Detect)


def test_networks_that_decode_nothing_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert cut_decoding(network) == (network, None)
    assert usual_input(network) == {}
    assert usual_input(yolo_standin.DetectionModel())["input_size"] == (3, 640, 640)


def test_two_stages_are_refused() -> None:
    kind = type("GeneralizedRCNN", (nn.Module,), {"__module__": "torchvision.models.detection.generalized_rcnn"})
    with pytest.raises(UnsupportedError, match="detects in two stages"):
        cut_decoding(kind())


def test_ultralytics_that_is_not_installed_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs weights.*state_dict"):
        load_model("ultralytics:yolo11n")
    with pytest.raises(ConfigError, match=r"does not exist.*state_dict"):
        load_model("ultralytics:yolo11n", weights=str(tmp_path / "yolo11n.pt"))
