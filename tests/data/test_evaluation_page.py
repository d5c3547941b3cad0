"""Every form of evaluation images on docs/reference/evaluation.md is one that edgeq reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeq.data.evaluation import load_images
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, Embedding, GridDetection, Regression, Segmentation, Task
from tests.pages import Block, blocks

PAGE = list(blocks(Path("docs/reference/evaluation.md")))


def spec_of(task: str, dense: Task | None = None, classes: int = 3, **kwargs: Any) -> ModelSpec:
    sides = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    return ModelSpec("net", (3, 32, 32), task=task, classes=classes, dense=dense, **sides, **kwargs)


ANCHORS = Detection(("a", "b"), maps=((4, 4),), sizes=((8.0,),))
HEADS = GridDetection(("a", "b"), heads="detect", strides=(8.0,))
SPECS = {
    "classes.npz": [spec_of("classification")],
    "masks.npz": [spec_of("segmentation", Segmentation(("a", "b", "c")))],
    "boxes.npz": [spec_of("detection", ANCHORS), spec_of("detection", HEADS, 2)],
    "values.npz": [spec_of("regression", Regression(), 2)],
    "pairs.npz": [spec_of("embedding", Embedding(), 8)],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the programs of the page ran."""
    monkeypatch.chdir(tmp_path)
    code = "".join(block.text for block in PAGE if block.language == "python")
    Path("data.py").write_text(code)
    exec(compile(code, "evaluation.md", "exec"), {})  # noqa: S102
    return tmp_path


def test_each_npz_is_read_for_its_task(here: Path) -> None:
    assert {path.name for path in here.glob("*.npz")} == set(SPECS)
    for name, specs in SPECS.items():
        for spec in specs:
            assert len(load_images(name, spec)) == 4


def test_the_function_is_read(here: Path) -> None:
    assert load_images("data.py:test_images", spec_of("classification")).labels.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize("table", [block for block in PAGE if block.language == "csv"], ids=str)
def test_each_csv_is_read(table: Block, tmp_path: Path) -> None:
    header, *rows = [line.split(",") for line in table.text.splitlines()]
    pictures = {word for row in rows for word in row if word.endswith(".png")}
    for name in pictures:
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "test.csv").write_text(table.text)
    kind = "embedding" if "first" in header else "classification" if "label" in header else "regression"
    assert len(load_images(tmp_path / "test.csv", spec_of(kind, classes=2))) == len(pictures)


def test_class_folders_are_read(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name / "0001.png")
    spec = spec_of("classification", classes=2, labels=("cat", "dog"))
    assert load_images(tmp_path, spec).labels.tolist() == [0, 1]
