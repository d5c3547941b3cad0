"""Evaluation images with real values, with pairs, and with nothing known of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.data.evaluation import evaluation_from_arrays, load_images
from edgeq.errors import ConfigError
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Regression

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
POINT = ModelSpec("point", (3, 4, 4), (0.5,) * 3, (0.25,) * 3, task="regression", classes=2)
FACE = ModelSpec("face", (3, 4, 4), (0.5,) * 3, (0.25,) * 3, task="embedding", classes=8)
NAMED = ModelSpec(
    "point", (3, 4, 4), (0.5,) * 3, (0.25,) * 3, task="regression", classes=2, dense=Regression(("y", "x"))
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / "images" / f"{index}.png")
    return tmp_path


def test_values_of_an_npz(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.savez(tmp_path / "t.npz", images=IMAGES, values=values)
    found = load_images(tmp_path / "t.npz", POINT)
    assert found.labels.dtype == np.float64
    assert np.array_equal(found.labels, values)
    assert np.array_equal(load_images(tmp_path / "t.npz", POINT, limit=2).labels, values[[0, 5]])
    np.savez(tmp_path / "bare.npz", images=IMAGES)
    assert load_images(tmp_path / "bare.npz", POINT).labels.shape == (6, 0)
    other = evaluation_from_arrays(IMAGES, values + 1, POINT)
    assert other.sha256 != found.sha256


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((6, 3)), "are 3 per image"),
        (np.zeros((5, 2)), "one row per image"),
        (np.full((6, 2), np.nan), "finite"),
        (np.arange(6), "--task classification"),
        (np.array(["a"] * 6), "--task classification"),
    ],
)
def test_other_values_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluation_from_arrays(IMAGES, values, POINT)


def test_values_of_a_table(pictures: Path) -> None:
    table = pictures / "t.csv"
    table.write_text("filename,x,y\n" + "".join(f"{i}.png,{i},{i / 2}\n" for i in range(6)))
    found = load_images(table, POINT)
    assert np.array_equal(found.images, IMAGES)
    assert np.array_equal(found.labels[3], [3, 1.5])
    assert np.array_equal(load_images(table, NAMED).labels[3], [1.5, 3])  # by the names of the columns
    table.write_text("filename,x\n0.png,1\n")
    with pytest.raises(ConfigError, match=r"\[task\] names y"):
        load_images(table, NAMED)
    table.write_text("filename,x,y\n0.png,1,two\n")
    with pytest.raises(ConfigError, match=r"line 2: y = 'two'.*must be a number|y = 'two'"):
        load_images(table, POINT)
    assert load_images(pictures / "images", POINT).labels.shape == (6, 0)


def test_pairs(tmp_path: Path, pictures: Path) -> None:
    pairs, same = np.array([[0, 1], [5, 2], [0, 5]]), np.array([True, False, True])
    found = evaluation_from_arrays(IMAGES, {"pairs": pairs, "same": same}, FACE)
    assert [(int(own[0]), rows.tolist()) for own, rows in found.labels if len(rows)] == [
        (0, [[1, 1], [5, 1]]),
        (2, [[5, 0]]),
    ]
    table = pictures / "p.csv"
    table.write_text("first,second,same\n0.png,1.png,1\n5.png,2.png,0\n0.png,5.png,1\n")
    listed = load_images(table, FACE)
    assert np.array_equal(listed.images, IMAGES[[0, 1, 5, 2]])
    assert [rows.tolist() for _, rows in listed.labels] == [[[1, 1], [2, 1]], [], [[3, 0]], []]
    table.write_text("first,second,same\n0.png,1.png,yes\n")
    with pytest.raises(ConfigError, match="must be 0 or 1"):
        load_images(table, FACE)
    with pytest.raises(ConfigError, match="there are 6 images"):
        evaluation_from_arrays(IMAGES, {"pairs": [[0, 6]], "same": [1]}, FACE)
    with pytest.raises(ConfigError, match="integers"):
        evaluation_from_arrays(IMAGES, {"pairs": [[0, 1]], "same": [1, 0]}, FACE)
