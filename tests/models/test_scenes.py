"""The shipped segmenter and detector, and their scenes: reproducible, true to their masks, as good as the cards say."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgeq.decode import decode_boxes, iou
from edgeq.measure.dense import Boxes, detection_score, segmentation_score
from edgeq.model.load import load_model
from edgeq.model.modeltoml import read_model_file, shipped_model
from edgeq.model.pycode import import_callable
from edgeq.model.tasks import Detection, GridDetection, Segmentation

FOLDER = Path(__file__).resolve().parents[2] / "models" / "scenes"
NETWORKS = ("scenes-segmenter", "scenes-detector", "scenes-yolo")
SUBSET = 100


def module(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


def test_same_seed_gives_the_same_scenes_and_splits_share_none() -> None:
    scenes = module("scenes")
    one, more = scenes.render_scenes(6, seed=2), scenes.render_scenes(9, seed=2)
    assert np.array_equal(one.images, more.images[:6])
    assert np.array_equal(one.masks, more.masks[:6])
    assert all(np.array_equal(a, b) for a, b in zip(one.boxes, more.boxes, strict=False))
    other, seeded = scenes.render_scenes(6, seed=2, split="scenes-test"), scenes.render_scenes(6, seed=3)
    seen = {image.tobytes() for each in (one, other, seeded) for image in each.images}
    assert len(seen) == 18


def test_boxes_and_masks_agree_on_families() -> None:
    scenes = module("scenes")
    made = scenes.render_scenes(60)
    for mask, boxes, labels in zip(made.masks, made.boxes, made.labels, strict=True):
        assert set(np.unique(mask)) == {0, *(labels + 1)}
        for (x0, y0, x1, y1), label in zip((boxes * scenes.SIZE).round().astype(int), labels, strict=True):
            inside = mask[y0:y1, x0:x1] == label + 1
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
    assert set(np.concatenate(made.labels)) == set(range(len(scenes.FAMILIES)))


def test_families_follow_outline_and_colour() -> None:
    scenes = module("scenes")
    families = {name: scenes.FAMILIES[family] for name, family in zip(scenes.SIGNS, scenes._families(), strict=True)}
    expected = {
        "no-entry": "prohibition",
        "end-of-limits": "prohibition",
        "danger": "warning",
        "cattle": "warning",
        "yield": "priority",
        "stop": "priority",
        "ducks": "priority",
        "go-straight": "order",
        "bicycle-path": "order",
        "footpath": "order",
        "parking": "information",
        "dead-end": "information",
    }
    assert {name: families[name] for name in expected} == expected
    tasks = [read_model_file(shipped_model(name)).spec.dense for name in NETWORKS]
    expected_names = [("background", *scenes.FAMILIES), scenes.FAMILIES, scenes.FAMILIES]
    assert [task.classes for task in tasks if task is not None] == expected_names


def test_evaluation_sets_are_the_same_scenes() -> None:
    images, masks = import_callable(f"{FOLDER}/scenes.py:segmentation")(5)
    again, truth = import_callable(f"{FOLDER}/scenes.py:detection")(5)
    assert np.array_equal(images, again)
    assert images.shape == (5, 96, 96, 3)
    assert images.dtype == masks.dtype == np.uint8
    assert [set(labels + 1) | {0} for _, labels in truth] == [set(np.unique(mask)) for mask in masks]


def test_anchors_are_told_what_decodes_to_the_boxes() -> None:
    anchors_module, task = module("anchors"), read_model_file(shipped_model("scenes-detector")).spec.dense
    assert isinstance(task, Detection)
    anchors = task.anchors((96, 96))
    scenes = module("scenes").render_scenes(20)
    for boxes, labels in zip(scenes.boxes, scenes.labels, strict=True):
        classes, deltas = anchors_module.assign(boxes, labels, anchors, task.variances)
        chosen = np.flatnonzero(classes)
        overlaps = iou(decode_boxes(deltas[chosen], anchors[chosen], task.variances), boxes)
        assert overlaps.max(1).min() > 0.999
        assert overlaps.max(0).min() > 0.999  # every box has an anchor
        assert np.array_equal(labels[overlaps.argmax(1)] + 1, classes[chosen])
    classes, _ = anchors_module.assign(np.empty((0, 4)), np.empty(0, np.int64), anchors, task.variances)
    assert not classes.any()


def test_detection_loss_counts_boxes_and_the_hardest_background() -> None:
    loss = module("anchors").detection_loss
    classes = torch.tensor([[1, 0, 0, 0, 0, 0]])
    logits, deltas = torch.zeros(1, 6, 2), torch.zeros(1, 6, 4)
    targets = torch.zeros(1, 6, 4)
    targets[0, 0, 0] = 3.0  # smooth L1: 2.5
    targets[0, 1:] = 9.0  # of background, which has no box
    logits[0, :, 0], logits[0, 0, 0] = 50.0, 0.0  # background is sure, the box undecided: log 2
    assert loss(logits, deltas, classes, targets).item() == pytest.approx(2.5 + np.log(2))
    logits[0, 1:, 0] = 0.0  # five undecided, of which three count
    assert loss(logits, deltas, classes, targets).item() == pytest.approx(2.5 + 4 * np.log(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_fit_and_are_small(name: str) -> None:
    loaded = read_model_file(shipped_model(name))
    assert loaded.weights.stat().st_size < 4_000_000
    network = import_callable(loaded.factory)(**loaded.arguments)
    missing, unexpected = network.load_state_dict(load_file(loaded.weights), strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)


def test_segmenter_is_as_good_as_its_card() -> None:
    spec, network, card = shipped("scenes-segmenter")
    assert isinstance(spec.dense, Segmentation)
    images, masks = import_callable(f"{FOLDER}/scenes.py:segmentation")(SUBSET)
    with torch.inference_mode():
        logits = network(torch.from_numpy(spec.normalise(images))).numpy()
    score = segmentation_score([logits], [masks], len(spec.dense.classes), spec.dense.ignore).score
    assert score == pytest.approx(stated(card, f"mIoU of the first {SUBSET}"), abs=0.2)
    assert score > 80


def test_detector_is_as_good_as_its_card() -> None:
    spec, network, card = shipped("scenes-detector")
    assert isinstance(spec.dense, Detection)
    images, truth = import_callable(f"{FOLDER}/scenes.py:detection")(SUBSET)
    with torch.inference_mode():
        outputs = [rows.numpy() for rows in network(torch.from_numpy(spec.normalise(images)))]
    found = spec.dense.detect(outputs, spec.dense.anchors((96, 96)), score=0.01)
    score = detection_score(found, [Boxes(*each) for each in truth], len(spec.dense.classes)).score
    assert score == pytest.approx(stated(card, f"mAP@0.5 on the first {SUBSET}"), abs=0.3)
    assert score > 75


def test_yolo_is_as_good_as_its_card() -> None:
    spec, network, card = shipped("scenes-yolo")
    assert isinstance(spec.dense, GridDetection)
    images, truth = import_callable(f"{FOLDER}/scenes.py:detection")(SUBSET)
    with torch.inference_mode():
        outputs = [maps.numpy() for maps in network(torch.from_numpy(spec.normalise(images)))]
    assert [each.shape for each in outputs] == [
        (SUBSET, channels, side, side) for channels in (32, 5) for side in (12, 6, 3)
    ]
    found = spec.dense.detect(outputs, score=0.01)
    score = detection_score(found, [Boxes(*each) for each in truth], len(spec.dense.classes)).score
    assert score == pytest.approx(stated(card, f"mAP@0.5 on the first {SUBSET}"), abs=0.3)
    assert score > 75


def test_cells_inside_an_object_are_told_its_family() -> None:
    assigning = import_callable(f"{FOLDER.parent}/scenes-yolo/assign.py:assign").__globals__
    cells = assigning["Cells"].of(96, (8, 16, 32))
    scenes = module("scenes").render_scenes(8)
    truth, labels = torch.zeros(8, 3, 4), torch.full((8, 3), -1)
    for row, (boxes, kinds) in enumerate(zip(scenes.boxes, scenes.labels, strict=True)):
        truth[row, : len(boxes)] = 96 * torch.from_numpy(boxes).float()
        labels[row, : len(boxes)] = torch.from_numpy(kinds)
    centre = (truth[..., None, :2] + truth[..., None, 2:]) / 2
    owner = ((cells.centres - centre) ** 2).sum(-1).argmin(1)  # the object nearest to each cell
    exact = truth.gather(1, owner[..., None].expand(-1, -1, 4))
    scores, chosen = assigning["assign"](torch.full((8, 189, 5), 0.5), exact, cells, truth, labels)
    positive = scores.sum(-1) > 0
    assert positive.any(1).all()
    assert (labels.gather(1, chosen)[positive] == scores.argmax(-1)[positive]).all()
    assert (scores.amax((1, 2)) > 0.99).all()  # a cell whose box is right should be sure
    torch.testing.assert_close(cells.boxes(cells.distances(exact)), exact, rtol=1e-4, atol=1e-3)


def shipped(name: str) -> tuple:
    loaded = load_model(name)
    assert isinstance(loaded.module, torch.nn.Module)
    return loaded.spec, loaded.module, (shipped_model(name).parent / "README.md").read_text(encoding="utf-8")


def stated(card: str, row: str) -> float:
    found = re.search(re.escape(row) + r"[^|]*\| (\d+\.\d+) %", card)
    assert found is not None
    return float(found[1])


def test_training_is_the_same_from_the_same_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, networks = module("training"), module("networks")
    monkeypatch.setattr(training, "ROOT", tmp_path)
    settings = training.Settings(epochs=1, scenes=8, batch=4)
    scenes = training.scenes_to_train_on(settings)
    again = training.scenes_to_train_on(settings)  # from the cache
    assert np.array_equal(scenes.images, again.images)
    assert all(np.array_equal(a, b) for a, b in zip(scenes.boxes, again.boxes, strict=True))

    def loss(network, x, chosen, mirrored):  # type: ignore[no-untyped-def]
        return network(x).square().mean()

    for name in ("one", "two"):
        training.run(name, tmp_path, networks.segmenter, scenes, loss, settings)
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    torch.manual_seed(0)
    fresh = networks.segmenter().state_dict()
    assert not torch.equal(one["body.stem.0.weight"], fresh["body.stem.0.weight"])
