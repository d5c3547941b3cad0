"""The renderer behind the shipped networks' images: reproducible, balanced, its splits apart, its boxes true."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SIGNS = Path(__file__).resolve().parents[2] / "models" / "signs"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    name = "render"
    sys.path.insert(0, str(SIGNS))
    try:
        spec = importlib.util.spec_from_file_location(name, SIGNS / "render.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SIGNS))
    return module


def test_same_seed_gives_the_same_bytes_in_any_order(render: ModuleType) -> None:
    forward = [render.render_image(i, seed=3).image for i in range(12)]
    backward = [render.render_image(i, seed=3).image for i in reversed(range(12))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_worker_count_changes_nothing(render: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SIGNS), *sys.path])  # spawned workers import what the parent can
    alone, labels = render.render_set(300, seed=1, split="test")
    shared, again = render.render_set(300, seed=1, split="test", workers=2)
    assert np.array_equal(alone, shared)
    assert np.array_equal(labels, again)


def test_images_have_the_promised_form(render: ModuleType) -> None:
    images, labels = render.render_set(80)
    assert images.shape == (80, render.SIZE, render.SIZE, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert images.reshape(80, -1).std(axis=1).min() > 3  # no blank picture


def test_classes_are_balanced_in_every_prefix(render: ModuleType) -> None:
    assert len(render.CLASSES) >= 24
    assert len(set(render.CLASSES)) == len(render.CLASSES)
    _, labels = render.render_set(130)
    for count in (40, 95, 130):
        found = np.bincount(labels[:count], minlength=len(render.CLASSES))
        assert found.max() - found.min() <= 1


def test_evaluation_is_shuffled_and_balanced(render: ModuleType) -> None:
    images, labels = render.evaluation(200)
    assert np.bincount(labels).tolist() == [5] * len(render.CLASSES)
    assert len(np.unique(labels[::4])) > len(render.CLASSES) // 2  # evenly spaced picks still meet most classes
    ordered, classes = render.render_set(200, split="test")
    assert sorted(i.tobytes() for i in images) == sorted(i.tobytes() for i in ordered)
    first = int(np.flatnonzero([np.array_equal(images[0], image) for image in ordered])[0])
    assert labels[0] == classes[first]


@pytest.mark.parametrize(("one", "other"), [((0, "train"), (0, "test")), ((0, "train"), (1, "train"))])
def test_splits_and_seeds_share_no_image(render: ModuleType, one: tuple[int, str], other: tuple[int, str]) -> None:
    seen = [{image.tobytes() for image in render.render_set(60, seed=s, split=split)[0]} for s, split in (one, other)]
    assert len(seen[0]) == len(seen[1]) == 60
    assert not seen[0] & seen[1]


def test_unknown_split_is_refused(render: ModuleType) -> None:
    with pytest.raises(KeyError):
        render.render_image(0, split="validation")


def test_classes_look_different(render: ModuleType) -> None:
    faces = [np.asarray(render._template(label, 0), np.float32) for label in range(len(render.CLASSES))]
    for i, a in enumerate(faces):
        for b in faces[i + 1 :]:
            assert (np.abs(a - b).max(axis=2) > 60).mean() > 0.02


def test_boxes_are_tight_around_the_mask(render: ModuleType) -> None:
    for index in range(40):
        scene = render.render_image(index)
        assert scene.labels.tolist() == [index % len(render.CLASSES)]
        ys, xs = np.nonzero(scene.mask)
        assert scene.boxes.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]
        assert set(np.unique(scene.mask)) <= {0, index % len(render.CLASSES) + 1}


def test_scenes_agree_with_their_masks(render: ModuleType) -> None:
    counts = set()
    for index in range(12):
        scene = render.render_scene(index, size=(120, 160), signs=(1, 4))
        assert scene.image.shape == (120, 160, 3)
        assert scene.mask.shape == (120, 160)
        assert len(scene.labels) == len(scene.boxes)
        counts.add(len(scene.labels))
        covered = np.zeros_like(scene.mask, dtype=bool)
        for label, (x0, y0, x1, y1) in zip(scene.labels, scene.boxes, strict=True):
            inside = scene.mask[y0:y1, x0:x1] == label + 1
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            covered[y0:y1, x0:x1] |= inside
        assert np.array_equal(covered, scene.mask > 0)
    assert len(counts) > 1
    again = render.render_scene(3, size=(120, 160), signs=(1, 4))
    assert np.array_equal(again.image, render.render_scene(3, size=(120, 160), signs=(1, 4)).image)


def test_the_sign_is_where_the_mask_says(render: ModuleType) -> None:
    """Without the camera's effects a stop sign's mask is mostly red and white; a wrong warp would show background."""
    rng = np.random.default_rng(0)
    picture = render.Image.new("RGB", (64, 64), (0, 200, 0))
    instances = render.Image.new("L", (64, 64))
    sign = render._Placed(render.CLASSES.index("stop"), 32.0, 32.0, 22.0)
    render._mount(rng, picture, instances, sign, 1)
    seen, pixels = np.asarray(instances) == 1, np.asarray(picture).astype(int)
    green = (pixels == [0, 200, 0]).all(axis=2)
    assert not green[seen].any()
    assert green[~seen].mean() > 0.8
