"""Errors in the outputs' own units, and cosines and verification of embeddings, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.data.evaluation import evaluation_from_arrays
from edgeq.errors import MeasurementError
from edgeq.measure.tasks import compare_predictions, measure_predictions
from edgeq.measure.values import best_threshold
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Regression

IMAGES = np.zeros((40, 1, 1, 3), np.uint8)
TABLE = Regression(("x", "angle"), ("px", "deg"))
POINT = ModelSpec("point", (3, 1, 1), (0.5,) * 3, (0.25,) * 3, task="regression", classes=2, dense=TABLE)
FACE = ModelSpec("face", (3, 1, 1), (0.5,) * 3, (0.25,) * 3, task="embedding", classes=2)


def measure(spec: ModelSpec, truths: Any, *outputs: np.ndarray) -> Any:
    images = evaluation_from_arrays(IMAGES, truths, spec)
    parts = iter(range(0, 40, 16))

    def run(inputs: np.ndarray) -> list[np.ndarray]:
        start = next(parts)
        return [output[start : start + 16].astype(np.float32) for output in outputs]

    return measure_predictions(run, images.batches(spec, 16), spec)


def test_errors_per_value() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(0, 10, (40, 2))
    before = (truth + 1).astype(np.float32).astype(np.float64)
    after = before + np.where(np.arange(40)[:, None] == 7, [4.0, 0.0], [0.5, 0.0])
    found = compare_predictions(measure(POINT, truth, before), measure(POINT, truth, after))
    assert found["accuracy"] is None
    x, angle = found["regression"]["outputs"]
    assert (x["name"], x["unit"], angle["name"], angle["unit"]) == ("x", "px", "angle", "deg")
    assert x["mean_difference"] == pytest.approx((39 * 0.5 + 4) / 40, rel=1e-5)
    assert (x["p95_difference"], x["max_difference"]) == (pytest.approx(0.5, rel=1e-5), pytest.approx(4, rel=1e-5))
    noise = (39 * 0.25 + 16) / 40
    assert x["snr_db"] == pytest.approx(10 * np.log10((before[:, 0] ** 2).mean() / noise), abs=1e-3)
    assert (angle["snr_db"], angle["max_difference"], angle["beyond"]) == (120.0, 0.0, 0.0)
    assert x["float"] == {"mae": pytest.approx(1, rel=1e-5), "rmse": pytest.approx(1, rel=1e-5)}
    assert x["integer"]["mae"] == pytest.approx((39 * 1.5 + 5) / 40, rel=1e-5)
    assert (x["low"], x["high"]) == (before[:, 0].min(), before[:, 0].max())


def test_answers_beyond_the_range() -> None:
    before = np.linspace(-10, 10, 40)[:, None]
    after = np.clip(np.round(before * 2) / 2, -5, 5)
    row = compare_predictions(*(measure(_one(), np.zeros((40, 1)), answers) for answers in (before, after)))
    assert row["regression"]["outputs"][0]["beyond"] == pytest.approx(float((abs(before) > 5.5).mean()))
    assert row["regression"]["outputs"][0]["name"] == "value 0"


def test_large_outputs_are_one_row_each() -> None:
    maps, point = np.ones((40, 6, 6)), np.ones((40, 2))
    spec = ModelSpec("maps", (3, 1, 1), (0.5,) * 3, (0.25,) * 3, task="regression")
    truth = np.zeros((40, 38))
    found = compare_predictions(measure(spec, truth, maps, point), measure(spec, truth, maps + 1, point))
    assert [row["name"] for row in found["regression"]["outputs"]] == ["output 0", "output 1"]
    assert found["regression"]["outputs"][0]["mean_difference"] == 1
    with pytest.raises(MeasurementError, match="38 values per image"):
        measure(spec, np.zeros((40, 3)), maps, point).columns()


def _one() -> ModelSpec:
    return ModelSpec("one", (3, 1, 1), (0.5,) * 3, (0.25,) * 3, task="regression", classes=1)


def vectors(angles: np.ndarray, length: float = 1.0) -> np.ndarray:
    return length * np.stack([np.cos(angles), np.sin(angles)], 1)


def test_cosines_need_no_normalisation() -> None:
    angles = np.linspace(0, 3, 40)
    turned = angles + np.where(np.arange(40) == 0, 0.5, 0.1)
    nothing = {"pairs": np.zeros((0, 2), int), "same": np.zeros(0, bool)}
    found = compare_predictions(
        measure(FACE, nothing, vectors(angles, 7)), measure(FACE, nothing, vectors(turned, 0.3))
    )
    assert found["accuracy"] is None
    section = found["embedding"]
    assert section["cosine_min"] == pytest.approx(np.cos(0.5), abs=1e-5)
    assert section["cosine_p5"] == pytest.approx(np.cos(0.1), abs=1e-5)
    assert section["cosine_mean"] == pytest.approx((39 * np.cos(0.1) + np.cos(0.5)) / 40, abs=1e-5)
    with pytest.raises(MeasurementError, match="all zeros"):
        measure(FACE, nothing, np.zeros((40, 2)))


def test_verification() -> None:
    # Images 2 i and 2 i + 1 are alike by 0.1 rad; others are 0.4 apart or more.
    angles = np.repeat(np.arange(20) * 0.15, 2) + np.tile([0.0, 0.05], 20)
    pairs = np.array([(2 * i, 2 * i + 1) for i in range(20)] + [(2 * i, (2 * i + 10) % 40) for i in range(20)])
    truths = {"pairs": pairs, "same": np.arange(40) < 20}
    right = measure(FACE, truths, vectors(angles))
    assert right.to_json()["score"] == 100.0
    assert np.cos(0.75) < right.to_json()["threshold"] < np.cos(0.05)
    moved = angles + np.where(np.arange(40) == 0, -1.2, 0.0)  # image 0 no longer resembles image 1
    found = compare_predictions(right, measure(FACE, truths, vectors(moved)))
    accuracy = found["accuracy"]
    assert (accuracy["metric"], accuracy["n"], accuracy["float"]) == ("verification", 40, {"score": 100.0})
    assert accuracy["integer"]["score"] == 97.5
    assert accuracy["agreement"] == pytest.approx(39 / 40)
    assert found["embedding"]["pairs"] == 40
    assert found["embedding"]["score_at_float_threshold"] == 97.5


def test_the_best_threshold_decides_most() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        cosines = random.choice(np.linspace(-0.9, 0.9, 12), 15)
        same = random.random(15) < 0.5 + cosines / 2
        chosen = best_threshold(cosines, same)
        most = max(((cosines >= cut) == same).sum() for cut in [-1, *cosines, 1])
        assert ((cosines >= chosen) == same).sum() == most
