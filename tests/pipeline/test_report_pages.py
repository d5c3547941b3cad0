"""report.html as a build leaves it: links to the builds beside it, and evaluation images only where asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.config.build import BuildConfig
from edgeq.measure import tasks
from edgeq.measure.accuracy import Accuracy
from edgeq.measure.disagreements import compare_classes, compare_maps
from edgeq.pipeline.build import build, link_pages
from edgeq.report.check import check


@pytest.fixture
def twins(config: BuildConfig) -> list[BuildConfig]:
    return replace(config, targets=("tflite-arm", "onnx-x86")).split()


def test_builds_of_several_targets_link_to_each_other(twins: list[BuildConfig]) -> None:
    reports = [build(one) for one in twins]
    link_pages(twins, reports)
    for one, other in (twins, twins[::-1]):
        assert one.output is not None
        text = (one.output / "report.html").read_text()
        assert re.findall(r'<a href="\.\./([^"]+)/report\.html">', text) == [Path(other.target).stem]
        assert check(one.output, max_bytes=4_000_000).held


def test_evaluation_images_are_shown_only_when_asked(config: BuildConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where answers differ, the page has the numbers of the images, or the images."""
    rows = [{"image": 3, "truth": "a", "float": "a", "integer": "b"}]
    monkeypatch.setattr(tasks, "compare_classes", lambda *_: {"disagreements": rows})
    assert build(config)["accuracy"]["disagreements"] == rows
    folder = config.output
    assert folder is not None
    assert not (folder / "disagreements.png").exists()
    assert "--show-images" in (folder / "report.html").read_text()
    model = (folder / "model.tflite").read_bytes()
    build(replace(config, show_images=True))
    assert (folder / "disagreements.png").read_bytes().startswith(b"\x89PNG")
    assert "sheet-disagreements" in (folder / "report.html").read_text()
    assert (folder / "model.tflite").read_bytes() == model


def answers(predictions: list[int], labels: list[int]) -> Accuracy:
    found, truth = np.array(predictions, np.int64), np.array(labels, np.int64)
    return Accuracy(found, truth, None)


def test_a_confusion_counts_every_image_once() -> None:
    before, after = answers([0, 0, 1, 2], [0, 1, 1, 2]), answers([0, 1, 2, 2], [0, 1, 1, 2])
    found = compare_classes(before, after, ("a", "b", "c"))
    assert found["confusion"]["classes"] == ["a", "b", "c"]
    assert found["confusion"]["float"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert found["confusion"]["integer"] == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert [row["image"] for row in found["disagreements"]] == [2, 1], "what became wrong comes first"
    assert found["disagreements"][0] == {"image": 2, "truth": "b", "float": "b", "integer": "c"}


def test_a_confusion_of_maps_leaves_out_what_has_no_truth() -> None:
    truth = np.array([[0, 1], [1, 255]], np.uint8)
    before, after = np.array([[0, 1], [1, 1]], np.uint8), np.array([[0, 1], [0, 0]], np.uint8)
    found = compare_maps([before], [after], [truth], ("a", "b"), 255)
    assert found["confusion"]["float"] == [[1, 0], [0, 2]]
    assert found["confusion"]["integer"] == [[1, 0], [1, 1]]
    assert found["agreement"] == 0.5
    assert found["disagreements"] == [{"image": 0, "agreement": 0.5}]
