"""The [task] table of model.toml: what it gives, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ConfigError
from edgeq.model.modeltoml import read_model_file
from edgeq.model.tasks import Detection, Segmentation

HEAD = """
name = "dense"
[network]
factory = "net.py:dense"
weights = "dense.safetensors"
[input]
shape = [3, 32, 48]
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
"""
SEGMENTATION = """
[output]
task = "segmentation"
classes = 3
[task]
kind = "segmentation"
classes = ["background", "cat", "dog"]
ignore = 11
"""
DETECTION = """
[output]
task = "detection"
classes = 3
[task]
kind = "detection"
classes = ["cat", "dog"]
maps = [[4, 6], [2, 3]]
sizes = [[8], [16, 20.5]]
score = 0.3
overlap = 0.4
variances = [0.1, 0.25]
"""


def read(folder: Path, text: str) -> Segmentation | Detection | None:
    path = folder / "model.toml"
    path.write_text(HEAD + text)
    return read_model_file(path).spec.dense


def test_segmentation(tmp_path: Path) -> None:
    assert read(tmp_path, SEGMENTATION) == Segmentation(("background", "cat", "dog"), 11)
    assert read(tmp_path, SEGMENTATION.replace("ignore = 11", "")) == Segmentation(("background", "cat", "dog"), 255)


def test_detection(tmp_path: Path) -> None:
    task = read(tmp_path, DETECTION)
    sizes = ((8.0,), (16.0, 20.5))
    assert task == Detection(("cat", "dog"), ((4, 6), (2, 3)), sizes, 0.3, 0.4, (0.1, 0.25))
    assert isinstance(task, Detection)
    assert task.anchors((32, 48)).shape == (4 * 6 + 2 * 3 * 2, 4)


def test_a_file_need_not_say(tmp_path: Path) -> None:
    assert read(tmp_path, SEGMENTATION.partition("[task]")[0]) is None


def test_boxes_of_a_batch(tmp_path: Path) -> None:
    task = read(tmp_path, DETECTION)
    assert isinstance(task, Detection)
    anchors = task.anchors((32, 48))
    logits, deltas = np.zeros((2, len(anchors), 3), np.float32), np.zeros((2, len(anchors), 4), np.float32)
    logits[:, :, 0] = 9.0
    logits[1, 30, 2] = 12.0
    first, second = task.detect([logits, deltas], anchors)
    assert len(first.labels) == 0
    assert second.labels.tolist() == [1]
    centre, half = anchors[30, :2], anchors[30, 2:] / 2
    assert second.boxes[0] == pytest.approx([*(centre - half), *(centre + half)])
    assert len(task.detect([logits, deltas], anchors, score=0.0)[0].labels) > 1
    with pytest.raises(ConfigError, match=r"\[task\] maps, sizes and classes promise"):
        task.detect([deltas, logits], anchors)


@pytest.mark.parametrize(
    ("text", "before", "after", "parts"),
    [
        (SEGMENTATION, "ignore", "ignored", ("unknown key 'ignored'", "[task]", "did you mean 'ignore'?")),
        (SEGMENTATION, "ignore = 11", "ignore = 2", ("ignore = 2", "between the 3 classes and 255")),
        (SEGMENTATION, "ignore = 11", "ignore = 256", ("ignore = 256", "[task]")),
        (SEGMENTATION, '"dog"', '"cat"', ("none of them twice",)),
        (SEGMENTATION, ', "dog"', "", ("makes 2 outputs, [output] says classes = 3",)),
        (SEGMENTATION, '"dog"', "3", ("must be a list of non-empty strings",)),
        (SEGMENTATION, 'kind = "segmentation"', "", ("key 'kind' is missing", "[task]")),
        (SEGMENTATION, 'kind = "segmentation"', 'kind = "detection"', ("[output] says task = 'segmentation'",)),
        (SEGMENTATION, 'kind = "segmentation"', 'kind = "segmentatio"', ("did you mean 'segmentation'?",)),
        (DETECTION, ', "dog"', "", ("makes 2 outputs with the background, [output] says classes = 3",)),
        (DETECTION, "maps = [[4, 6], [2, 3]]", "", ("key 'maps' is missing", "[task]")),
        (DETECTION, "[2, 3]", "[2]", ("maps = [[4, 6], [2]]", "must be a list of pairs of integers")),
        (DETECTION, "[2, 3]", "[2, 3.5]", ("must be a list of pairs of integers",)),
        (DETECTION, "[2, 3]", "2", ("must be a list of pairs of integers",)),
        (DETECTION, "[[8], ", "[", ("sizes = [[16.0, 20.5]]", "2 lists of pixels, one per map")),
        (DETECTION, "[8]", "[-8]", ("sizes", "one per map")),
        (DETECTION, "[8]", "[nan]", ("must be a list of lists of numbers",)),
        (DETECTION, "score = 0.3", "score = 1", ("score = 1.0", "must be at least 0 and below 1")),
        (DETECTION, "score = 0.3", 'score = "high"', ("score = 'high'", "must be a number")),
        (DETECTION, "overlap = 0.4", "overlap = -1", ("overlap = -1.0",)),
        (DETECTION, "[0.1, 0.25]", "[0.1]", ("variances = [0.1]", "must be a pair of numbers")),
    ],
)
def test_mistakes(tmp_path: Path, text: str, before: str, after: str, parts: tuple[str, ...]) -> None:
    assert text.count(before) == 1
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text.replace(before, after))
    for part in parts:
        assert part in str(caught.value), str(caught.value)
