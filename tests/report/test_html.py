"""The page: well formed, sufficient to itself, deaf to markup in names, and saying only what was measured."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.report.advice import steps
from edgeq.report.pages.charts import BINS, HEIGHT, histogram
from edgeq.report.pages.figures import signed_text
from edgeq.report.pages.layers import layer_strip
from edgeq.report.pages.report import render

Report = Callable[..., dict[str, Any]]

VOID = {"meta", "img", "br", "link", "input", "hr"}
ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Elements with their attributes, text, and whether every tag was closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page(report: dict[str, Any], **options: Any) -> Page:
    made = Page(render(report, **options))
    assert made.open == []
    return made


def test_every_part_is_there(report: Report, png: bytes) -> None:
    made = page(report(), calibration=png)
    ids = [a["id"] for a in made.all("section") if "id" in a]
    assert ids == ["warnings", "accuracy", "layers", "images", "latency", "census", "conditions", "time", "next"]
    for said in ("signs64", "w8a8 for tflite-arm", "2,000 images", "2.40 MB", "3.8 times smaller", "100 %", "CONV_2D"):
        assert said in made.words
    assert "edgeq check build/signs64-tflite-arm --max-drop 1.0" in made.words


def test_it_needs_nothing_else(report: Report, png: bytes) -> None:
    text = render(report(), calibration=png)
    made = Page(text)
    for tag, attributes in made.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "xlink:href"):
                assert str(value).startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"https?://|@import|url\(|file:", text)
    (policy,) = (a["content"] for a in made.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")


def test_pictures_arrive_whole_and_must_be_png(report: Report, png: bytes) -> None:
    differing = [{"image": 3, "truth": "stop", "float": "stop", "integer": "yield"}]
    accuracy = report()["accuracy"] | {"disagreements": differing}
    made = page(report(accuracy=accuracy), calibration=png, disagreements=png)
    pictures = made.all("image")
    assert [picture["id"] for picture in pictures] == ["sheet-disagreements", "sheet-calibration"]
    assert all(base64.b64decode(str(picture["href"]).split(",")[1]) == png for picture in pictures)
    assert all(tile["aria-label"] for tile in made.all("svg") if tile.get("class") == "picture")
    assert "image 3, stop: float stop, integer yield" in made.words
    with pytest.raises(ValueError, match="PNG"):
        render(report(), calibration=b"<svg onload=alert(1)>")


def test_evaluation_images_stay_out_of_the_page_unless_given(report: Report, png: bytes) -> None:
    """They are the user's, perhaps of a patient: the page names them by number."""
    differing = [{"image": 3, "truth": "stop", "float": "stop", "integer": "yield"}]
    made = page(report(accuracy=report()["accuracy"] | {"disagreements": differing}), calibration=png)
    assert [picture["id"] for picture in made.all("image")] == ["sheet-calibration"]
    assert "--show-images" in made.words
    assert "image 3" in made.words


def test_a_confusion_says_what_became_worse(report: Report) -> None:
    confusion = {"classes": ["stop", ATTACK], "float": [[9, 1], [0, 10]], "integer": [[8, 2], [0, 10]]}
    made = page(report(accuracy=report()["accuracy"] | {"confusion": confusion}))
    cells = [a for a in made.all("td") if "answered" in str(a.get("title"))]
    assert [cell.get("class") for cell in cells] == ["worse", "worse", None, "right"]
    assert cells[1]["title"] == f"stop, answered {ATTACK}: float 1, integer 2"
    assert made.all("script") == []
    alike = confusion | {"integer": confusion["float"]}
    assert (
        "Every count is that of the float network"
        in page(report(accuracy=report()["accuracy"] | {"confusion": alike})).words
    )


def test_the_numbers_are_those_of_the_report(report: Report) -> None:
    """Every number with a key on the page is the one that report.json has there."""
    told = report()
    text = render(told)
    found = dict(re.findall(r'data-key="([\w.]+)">([^<]*)<', text))
    accuracy = told["accuracy"]
    before, after = (accuracy[which].get("score", accuracy[which].get("top1")) for which in ("float", "integer"))
    assert found["accuracy.float.score"].removesuffix(" %") == f"{before:.2f}"
    assert found["accuracy.integer.score"].removesuffix(" %") == f"{after:.2f}"
    assert found["accuracy.difference.points"] == f"{after - before:+.2f}".replace("-", "−")
    assert found["artifact.bytes"] == f"{told['artifact']['bytes']:,}"
    assert float(found["latency.ratio"].split(" ")[0]) == pytest.approx(told["latency"]["ratio"], abs=1e-3)
    assert found["exactness"] == "100 %"


def test_markup_in_names_stays_text(report: Report) -> None:
    layers = [{"name": ATTACK, "op": ATTACK, "sqnr_db": 3.0}]
    conditions = report()["conditions"] | {"machine": ATTACK, "platform": ATTACK, "packages": {ATTACK: ATTACK}}
    hostile = report(
        model=ATTACK,
        target=ATTACK,
        method=ATTACK,
        method_reason=ATTACK,
        layers=layers,
        warnings=[ATTACK],
        conditions=conditions,
        synthesis={"method": ATTACK, "images": 1, "seconds": 1.0},
        census={"ops": 1, "kinds": {ATTACK: 1}, "float_ops": 0, "transposes": 0, "quantize": 0, "dequantize": 0},
        exactness={"reference": ATTACK, "values": 2, "equal": 1, "max_step": 2, "first_difference": ATTACK},
        baselines=[{"method": ATTACK, "images": 1, "top1": 1.0}],
        artifact={"path": ATTACK, "bytes": 1, "sha256": ATTACK},
    )
    made = page(hostile)
    assert made.all("script") == []
    assert made.all("img") == []
    assert made.text.count("<script>alert(1)</script>") > 10
    assert not [a for _, a in made.elements for name in a if name.startswith("on")]


def test_what_was_not_measured_is_said(report: Report) -> None:
    bare = report(accuracy=None, latency=None, exactness=None, census=None, layers=[], baselines=[], warnings=[])
    made = page(bare)
    assert made.all("svg") == []
    assert "not measured, no images" in made.words
    assert "--evaluation IMAGES" in made.words
    assert "as fast" not in made.words
    assert "None" not in made.words
    assert "nan" not in made.words


def test_doubtful_latency_is_not_praised(report: Report) -> None:
    made = report()
    made["latency"] |= {"valid": False, "reason": "other work kept 2.0 of 2 cores busy"}
    words = page(made).words
    assert words.count("other work kept 2.0 of 2 cores busy") == 1, "one warning, once"
    assert "Do not believe these timings" in words
    assert "as fast on this machine" not in words
    assert "--force measure" in words


def test_without_optional_keys(report: Report) -> None:
    made = report(network=None, method_reason=None, edgeq=None)
    del made["accuracy"]["difference"]
    for key in ("ratio_interval", "samples", "min_ms", "float_min_ms", "float_p90_ms", "reason"):
        made["latency"].pop(key)
    assert "Error per layer" in page(made).words


def test_top5_shows_only_where_there_is_one(report: Report) -> None:
    made = report()
    assert "top-5" in page(made).words
    made["accuracy"]["float"]["top5"] = made["accuracy"]["integer"]["top5"] = None
    made["baselines"] = []
    assert "top-5" not in page(made).words


def test_almost_all_never_shows_as_all(report: Report) -> None:
    exactness = {"reference": "x", "values": 10_000_000, "equal": 9_999_999, "max_step": 1}
    words = page(report(exactness=exactness)).words
    assert "99.99 %" in words
    assert "100 %" not in words


def test_what_a_method_tells_is_in_words(report: Report) -> None:
    notes = {"iterations": 150.0, "rejected": 0.875, "wrong": 0.25}
    words = page(report(synthesis={"method": "gznq", "images": 8, "seconds": 1.0, "notes": notes})).words
    assert "Iterations: 150." in words
    assert "87.50 % were made anew" in words
    assert "25.00 % still show it another class." in words


def test_half_a_report_is_refused(report: Report) -> None:
    made = report()
    del made["artifact"]
    with pytest.raises(ValueError, match="artifact is missing"):
        render(made)


def test_a_confusion_that_is_no_square_is_refused(report: Report) -> None:
    confusion = {"classes": ["a", "b"], "float": [[1, 0], [0, 1]], "integer": [[1, 0]]}
    made = report()
    made["accuracy"]["confusion"] = confusion
    with pytest.raises(ValueError, match=r"accuracy\.confusion\.integer has not 2 rows of 2 counts"):
        render(made)


def test_no_folder_of_the_machine_is_shown(report: Report) -> None:
    text = render(report(), folder="/home/someone/out")
    assert "/home" not in text
    assert "edgeq check out " in text


def test_commands_are_quoted_for_a_shell(report: Report) -> None:
    found = steps(report(), "out; rm -rf x", "edgeq build m --target t")
    assert found[-1].command is not None
    assert found[-1].command.startswith("edgeq check 'out; rm -rf x' --max-drop")


def test_no_setting_is_promised_to_be_better(report: Report) -> None:
    """Nothing but what was measured is said of a loss: settings that nobody tried made one worse."""
    poor = [{"name": "a", "op": "Conv2d", "sqnr_db": 4.0}, {"name": "b", "op": "Add", "sqnr_db": 30.0}]
    for method in ("gznq", "noise", "images:photos"):
        made = report(layers=poor, method=method, accuracy=scores(93.4, 15.2))
        found = steps(made, "out", "edgeq build m")
        assert "The largest error is in a (Conv2d): 4.0 dB" in found[0].why
        told = " ".join(f"{step.why} {step.command}" for step in found)
        for setting in ("--method", "--effort", "--layer-bits", "16 bits"):
            assert setting not in told
        assert found[0].command == "edgeq diagnose out"
    assert len(steps(report(layers=poor, accuracy=scores(93.4, 93.3)), "out", "edgeq build m")) == 1


def test_a_diagnosis_takes_the_place_of_its_advice(report: Report) -> None:
    answers = {"answers_db": 3.7, "same_answers": 0.75, "bytes": 1000}
    remedy = answers | {"why": ATTACK, "command": "edgeq build m --bits w4a8", "same_answers": 1.0, "time": "the same"}
    cause = {"where": ATTACK, "kind": "few weight bits", "text": "2 bits are too few", "share": 0.4}
    found = answers | {"images": 32, "sound": False, "tried": 3, "causes": [cause], "remedies": [remedy]}
    made = report(accuracy=scores(93.4, 15.2), diagnosis=found)
    first, second, *others = steps(made, "out", "edgeq build m")
    assert "75% of answers as float, answers at 3.7 dB" in first.why
    assert "(40% of the noise): 2 bits are too few" in first.why
    assert second.command == "edgeq build m --bits w4a8"
    assert "+0 bytes" in second.why
    assert not any("diagnose" in f"{step.why} {step.command}" for step in others)
    assert page(made).all("script") == []
    (nothing, *_) = steps(report(diagnosis=found | {"remedies": []}), "out", "edgeq build m")
    assert "3 other settings were simulated, and none helps" in nothing.why
    (sound, *_) = steps(report(diagnosis=found | {"sound": True}), "out", "edgeq build m")
    assert sound.why.startswith("A diagnosis found the build sound, so it tried nothing: 75% of answers as float")


def scores(before: float, after: float, n: int = 1000) -> dict[str, Any]:
    """An accuracy section of two scores without counted images."""
    return {
        "n": n,
        "float": {"score": before},
        "integer": {"score": after},
        "agreement": 0.5,
        "difference": {"points": after - before},
    }


@pytest.mark.parametrize(
    ("before", "after", "high", "grade"),
    [
        (93.4, 15.2, -70.0, "poor"),
        (93.4, 15.2, None, "poor"),
        (93.4, 93.2, -0.1, "fair"),
        (93.4, 92.0, 0.5, "fair"),
        (93.4, 93.3, 0.4, "good"),
        (93.4, 93.4, 0.4, "good"),
        (93.4, 94.0, 1.0, "good"),
        (93.4, 93.2, None, "good"),
    ],
)
def test_the_loss_stands_first_in_its_colour(
    report: Report, before: float, after: float, high: float | None, grade: str
) -> None:
    section = scores(before, after)
    if high is not None:
        section["difference"] |= {"low": -99.0, "high": high}
    made = page(report(accuracy=section))
    (shown,) = (a for a in made.all("p") if "loss" in str(a.get("class")))
    assert shown["class"] == f"lead loss {grade}"
    assert f"{before:.2f} % in float, {after:.2f} % in integers" in made.words.split("File")[0]
    assert ("too few images to tell" in made.words) == (high == 0.5)


rows = st.lists(st.floats(-40, 120).map(lambda db: {"name": "n", "op": "o", "sqnr_db": db}), min_size=1, max_size=300)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows)
def test_every_layer_has_a_block_of_the_strip(layers: list[dict[str, Any]]) -> None:
    strip = layer_strip(layers)
    assert [block.number for block in strip] == list(range(1, len(layers) + 1))
    for block, row in zip(strip, layers, strict=True):
        assert 0 < block.height <= 100
        assert f"{row['sqnr_db']:.1f} dB" in block.text
        assert block.tone == ("poor" if row["sqnr_db"] < 10 else "fair" if row["sqnr_db"] < 20 else "good")
    highest, lowest = (by(layers, key=lambda row: float(row["sqnr_db"])) for by in (max, min))
    heights = [block.height for block in strip]
    assert heights[layers.index(highest)] == max(heights)
    assert heights[layers.index(lowest)] == min(heights)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=100), st.lists(st.floats(1e-4, 1e5), max_size=100))
def test_histograms_count_everything_once(one: list[float], other: list[float]) -> None:
    chart = histogram([("integer", "integer", one), ("float", "float", other)])
    assert chart is not None
    for tone, values in (("integer", one), ("float", other)):
        counts = [int(re.findall(r": (\d+) of", bar.text)[0]) for bar in chart.bars if bar.tone == tone]
        assert sum(counts) == len(values)
        assert len(counts) <= BINS
    for bar in chart.bars:
        assert chart.left - 1e-6 <= bar.x <= bar.x + bar.width <= chart.right + 1e-6
        assert chart.top - 1e-6 <= bar.y <= bar.y + bar.height <= HEIGHT
    assert len(chart.lines) == 1 + bool(other)
    assert all(chart.left - 1e-6 <= tick.at <= chart.right + 1e-6 for tick in chart.across)


def test_no_numbers_no_chart() -> None:
    assert layer_strip([]) == []
    assert histogram([("integer", "integer", [])]) is None
    assert histogram([("integer", "integer", [2.0] * 50)]) is not None


def test_a_difference_that_rounds_to_nothing_has_no_minus() -> None:
    assert [signed_text(value) for value in (-0.001, 0.0, -0.006, 1.234)] == ["+0.00", "+0.00", "−0.01", "+1.23"]
