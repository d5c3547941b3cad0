"""Limits on real values and embeddings: the worst output decides, and what is missing holds nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.report.check import check
from edgeq.report.pages.report import render
from edgeq.report.schema import validate

Build = Callable[..., Path]

X = {
    "name": "x",
    "unit": "px",
    "mean_difference": 0.5,
    "p95_difference": 1.5,
    "max_difference": 4.0,
    "snr_db": 41.0,
    "low": -3.0,
    "high": 300.0,
    "beyond": 0.02,
    "float": {"mae": 2.0, "rmse": 2.5},
    "integer": {"mae": 2.1, "rmse": 2.6},
}
Y = X | {"name": "y", "p95_difference": 1.0, "snr_db": 38.0, "integer": {"mae": 2.4, "rmse": 2.6}}
REGRESSION = {"n": 200, "outputs": [X, Y], "images": "t.npz", "sha256": "0"}
EMBEDDING = {"n": 200, "values": 64, "cosine_mean": 0.999, "cosine_p5": 0.997, "cosine_min": 0.9}


def gate(folder: Path, **limit: float) -> Any:
    return check(folder, **limit).gates[-1]  # type: ignore[arg-type]


def test_the_worst_output_is_judged(build: Build) -> None:
    folder = build(accuracy=None, task="regression", regression=REGRESSION)
    for name, limit, value, held, worst in (
        ("max_error", 1.5, 1.5, True, "x (px)"),
        ("max_error", 1.4, 1.5, False, "x (px)"),
        ("max_mae", 2.4, 2.4, True, "y (px)"),
        ("min_snr_db", 38.0, 38.0, True, "y (px)"),
        ("min_snr_db", 39.0, 38.0, False, "y (px)"),
    ):
        found = gate(folder, **{name: limit})
        assert (found.value, found.held) == (value, held)
        assert worst in found.note
    drop = gate(folder, max_drop=1.0)
    assert not drop.held
    assert "--max-error" in drop.reason
    few = check(folder, min_snr_db=30.0, min_images=300)
    assert [row.name for row in few.gates if not row.held] == ["min-images"]


def test_embeddings(build: Build) -> None:
    folder = build(accuracy=None, task="embedding", embedding=EMBEDDING)
    assert gate(folder, min_cosine=0.997).held
    assert not gate(folder, min_cosine=0.998).held
    assert "pairs" in gate(folder, max_drop=1.0).reason


@pytest.mark.parametrize("limit", ["max_error", "max_mae", "min_snr_db", "min_cosine"])
def test_nothing_measured_holds_nothing(build: Build, limit: str) -> None:
    found = gate(build(), **{limit: 0.5})
    assert not found.held
    assert "--task" in found.reason


def test_unknown_truths_hold_no_error(build: Build) -> None:
    bare = {key: value for key, value in X.items() if key not in ("float", "integer")}
    folder = build(accuracy=None, regression=REGRESSION | {"outputs": [bare]})
    assert "no true values are known" in gate(folder, max_mae=9.0).reason
    assert gate(folder, max_error=9.0).held


def test_the_page_and_the_schema(report: Callable[..., dict[str, Any]]) -> None:
    whole = report(accuracy=None, task="regression", regression=REGRESSION)
    assert validate(whole) == []
    page = render(whole)
    assert all(text in page for text in ("Signal to noise", "38.0 dB", "300", "px", "2.00 %"))
    assert "no labelled images" not in page
    page = render(report(accuracy=None, task="embedding", embedding=EMBEDDING))
    assert "95 % of the images above 0.99700" in page
    contradiction = report(accuracy=None, regression=REGRESSION)
    contradiction["regression"]["outputs"][1]["max_difference"] = 0.1
    assert validate(contradiction) == ["regression.outputs[1].max_difference is not the largest difference"]
