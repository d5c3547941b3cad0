"""statistics.html: charts in proportion, nothing of a stranger's unescaped, warnings where they are due."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from edgeq.report.pages.charts import Chart, gap_chart
from edgeq.report.pages.statistics import render_statistics


def row(name: str, gap: float, noise: float) -> dict[str, Any]:
    gaps = {"mean_gap": gap, "std_gap": gap, "worst_mean_gap": gap, "worst_std_gap": gap}
    return {"layer": name, "channels": 8, "silent": 0, "noise_mean_gap": noise, "noise_std_gap": noise, **gaps}


def facts(**changes: Any) -> dict[str, Any]:
    gaps = {"mean_gap": 0.1, "std_gap": 0.2, "noise_mean_gap": 1.0, "noise_std_gap": 2.0}
    answers = {"labelled": 8, "kept": 8, "share": 1.0, "classes": 4, "of": 4}
    whole = {
        "schema": 1,
        "edgeq": "0",
        "model": "net",
        "input": [3, 8, 8],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "assumed": [],
        "method": "gznq",
        "method_reason": "as asked",
        "images": 8,
        "seed": 0,
        "effort": "fast",
        "seconds": 1.0,
        "sha256": "0" * 64,
        "notes": {"rejected": 0.25},
        "reference": "batch norm",
        "reference_why": "",
        "gaps": gaps,
        "layers": [row("bn1", 0.1, 1.0)],
        "answers": answers,
        "outside": 0.0,
    }
    return whole | changes


@pytest.fixture(scope="module")
def sheet() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def drawn(*rows: dict[str, Any]) -> Chart:
    chart = gap_chart(rows, "mean")
    assert chart is not None
    return chart


def test_bars_are_logarithmic_and_stay_inside() -> None:
    chart = drawn(row("a", 0.1, 1.0), row("b", 10.0, 0.0))
    heights = {(bar.text.split(":")[0], bar.tone): bar.height for bar in chart.bars}
    room = chart.base - chart.top
    assert heights["a", "integer"] == pytest.approx(room / 3)  # 0.01 to 10 are three decades
    assert heights["a", "float"] == pytest.approx(2 * room / 3)
    assert heights["b", "integer"] == pytest.approx(room)
    assert 0 < heights["b", "float"] < 3
    assert [tick.text for tick in chart.up] == ["0.01", "0.1", "1", "10"]


@pytest.mark.parametrize(("widest", "ends"), [(0.5, "10"), (10.0, "10"), (11.0, "100"), (500.0, "10³"), (9e9, "10³")])
def test_axis_ends_where_the_widest_gap_fits(widest: float, ends: str) -> None:
    chart = drawn(row("a", 0.1, widest))
    assert chart.up[-1].text == ends
    assert min(bar.y for bar in chart.bars) >= chart.top - 1e-9


def test_no_layers_no_chart(sheet: bytes) -> None:
    assert gap_chart([], "mean") is None
    why = "gzsq cannot carry statistics through Softmax at head"
    page = render_statistics(facts(layers=[], gaps=None, reference=None, reference_why=why), sheet, "out")
    assert "<svg" not in page
    assert why in page


def test_page_escapes_and_names_no_folder_of_the_machine(sheet: bytes) -> None:
    nasty = "<script>alert(1)</script>"
    page = render_statistics(facts(model=nasty, layers=[row(nasty, 1, 1)]), sheet, "/home/someone/sets/mine")
    assert "<script" not in page
    assert "/home/someone" not in page
    assert "mine/images.npz" in page
    assert "rejected" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"assumed": ["mean", "std"]}, "Nobody stated mean and std"),
        ({"outside": 0.2}, "20.0 % of the values"),
        ({"answers": {"labelled": 8, "kept": 1, "share": 0.125, "classes": 4, "of": 4}}, "another class"),
        (
            {"gaps": {"mean_gap": 2.0, "std_gap": 2.0, "noise_mean_gap": 1.0, "noise_std_gap": 2.0}},
            "Gaussian noise does",
        ),
    ],
)
def test_warnings_where_they_are_due(sheet: bytes, changes: dict[str, Any], said: str) -> None:
    assert said in render_statistics(facts(**changes), sheet, "out")
    assert said not in render_statistics(facts(), sheet, "out")


def test_a_sheet_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        render_statistics(facts(), b"<svg onload=alert(1)>", "out")
