"""Files that take pixels as they are: answers, in both formats, and what a build says of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.errors import EdgeqError
from edgeq.finetune.settings import settings_for
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.replay import replay
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.model.load import load_model
from edgeq.pipeline.build import build, plan
from edgeq.pipeline.ondevice import find_artifact, input_spec
from edgeq.report.schema import validate
from tests.tinymodel import keep, made, model_toml

NETWORK = """
from torch import nn

def tiny(padding=1):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=padding), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "padding": 1}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "padding": 1}
UNIT = {"mean": [0.0] * 3, "std": [1.0] * 3, "padding": 1}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildConfig:
    monkeypatch.chdir(tmp_path)
    keep(tmp_path, NETWORK, described_as(IMAGENET), made(NETWORK, seed=1))
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "test.npz", images=images, labels=np.arange(40) % 4)
    return BuildConfig(
        model="model.toml", images=4, method="noise", cache=tmp_path / "cache", output=tmp_path / "out", bits="w8a8"
    )


def described_as(way: dict[str, Any]) -> str:
    return model_toml(mean=way["mean"], std=way["std"], network=f"arguments = {{ padding = {way['padding']} }}")


def describe(way: dict[str, Any]) -> None:
    Path("model.toml").write_text(described_as(way))


def pixels() -> npt.NDArray[np.uint8]:
    with np.load("test.npz") as file:
        images: npt.NDArray[np.uint8] = file["images"]
    return images


def raw_answers(folder: Path, fed: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Real values of the outputs for arrays ``(N, H, W, C)`` put into the file as they are."""
    if (folder / "model.tflite").is_file():
        litert = LiteRTSession(folder / "model.tflite")
        return litert.real_outputs(litert.run_raw(image[None] for image in fed))[0]
    ort = OrtSession(folder / "model.onnx")
    return ort.real_outputs(ort.run_raw(np.ascontiguousarray(fed.transpose(0, 3, 1, 2))))[0]


def usual_answers(folder: Path) -> npt.NDArray[np.float32]:
    inputs = load_model("model.toml").spec.normalise(pixels())
    made = folder / "model.tflite"
    return (LiteRTSession(made) if made.is_file() else OrtSession(folder / "model.onnx")).run(inputs)[0]


@pytest.mark.parametrize(
    ("target", "way", "form"),
    [
        ("tflite-arm", IMAGENET, "op"),
        ("onnx-x86", IMAGENET, "op"),
        ("onnx-arm", IMAGENET, "op"),
        ("tflite-arm", HALF, "grid"),
        ("onnx-x86", HALF, "grid"),
        ("tflite-arm", IMAGENET | {"padding": 0}, "weights"),
        ("onnx-x86", IMAGENET | {"padding": 0}, "weights"),
        ("tflite-arm", UNIT, "grid"),
        ("onnx-x86", UNIT, "grid"),
    ],
)
def test_bytes_of_a_camera_get_the_answers_of_normalised_images(
    config: BuildConfig, tmp_path: Path, target: str, way: dict[str, Any], form: str
) -> None:
    describe(way)
    config = replace(config, targets=(target,), metadata="no")  # it says what goes into the input
    usual = build(replace(config, io="uint8", output=tmp_path / "usual"))
    report = build(replace(config, raw_pixels="yes"))
    told = report["raw_pixels"]
    assert (told["form"], told["type"], told["input"]) == (form, "uint8", "pixels 0..255 as they are")
    assert told["macs"] == (9 * 16 * 16 if form == "op" else 0)
    assert told["border"] == (0.5 if way is HALF else 0)
    assert any("0.5 of a pixel off" in line for line in report["warnings"]) == (way is HALF)
    expected, found = usual_answers(tmp_path / "usual"), raw_answers(tmp_path / "out", pixels())
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9
    assert report["accuracy"]["agreement"] >= usual["accuracy"]["agreement"] - 0.1
    exactness = report["exactness"]
    assert exactness["max_step"] <= (0 if target.startswith("tflite") else 1)
    assert report["census"]["float_ops"] == report["census"]["dequantize"] == 0
    if way is UNIT:  # an integer was a pixel before
        assert report["artifact"]["sha256"] == usual["artifact"]["sha256"]
        assert np.array_equal(found, expected)
    assert replay(tmp_path / "out", 4).max_step == exactness["max_step"]
    assert validate(json.loads((tmp_path / "out" / "report.json").read_text())) == []
    with np.load(tmp_path / "out" / "calibration.npz") as file:
        inputs = file["inputs"]
    if form != "grid":
        assert np.array_equal(inputs, inputs.round())
        assert 0 <= inputs.min() < 100 < inputs.max() <= 255
    assert len(report["layers"]) == len(usual["layers"]) + (form == "op")
    assert min(row["sqnr_db"] for row in report["layers"][:1]) > 20


@pytest.mark.parametrize("target", ["tflite-arm", "onnx-x86"])
@pytest.mark.parametrize("way", [IMAGENET, HALF])
def test_other_types_of_input_take_pixels_too(
    config: BuildConfig, tmp_path: Path, target: str, way: dict[str, Any]
) -> None:
    describe(way)
    raw = replace(config, targets=(target,), raw_pixels="yes")
    build(replace(raw, output=tmp_path / "uint8"))
    wanted = raw_answers(tmp_path / "uint8", pixels())
    made = build(replace(raw, io="int8", output=tmp_path / "int8"))
    assert made["raw_pixels"]["input"] == "pixels 0..255 less 128"
    signed = (pixels().astype(np.int16) - 128).astype(np.int8)
    assert np.array_equal(raw_answers(tmp_path / "int8", signed), wanted)
    made = build(replace(raw, io="float32", output=tmp_path / "float32"))
    assert made["raw_pixels"]["form"] == "op"
    found = raw_answers(tmp_path / "float32", pixels().astype(np.float32))
    assert np.abs(found - wanted).max() < 0.1 * np.ptp(wanted)


def test_a_file_says_what_it_takes(config: BuildConfig, tmp_path: Path) -> None:
    describe(IMAGENET)
    build(replace(config, targets=("onnx-x86",), raw_pixels="yes", metadata="yes"))
    props = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx")).get_modelmeta().custom_metadata_map
    assert props["input"] == "pixels 0..255 as they are"
    assert json.loads(props["mean"]) == [0, 0, 0]
    assert json.loads(props["std"]) == pytest.approx([1 / 255] * 3)
    build(replace(config, targets=("tflite-arm",), raw_pixels="yes", metadata="yes"))
    assert b"pixels 0..255 as they are" in (tmp_path / "out" / "model.tflite").read_bytes()
    assert "pixels 0..255 as they are" in (tmp_path / "out" / "report.html").read_text()
    build(replace(config, targets=("tflite-arm",), metadata="yes"))
    assert b"pixels 0..255 as they are" not in (tmp_path / "out" / "model.tflite").read_bytes()


@pytest.mark.parametrize("way", [IMAGENET, HALF])
def test_eval_feeds_pixels_to_the_file_that_wants_them_and_to_no_other(
    config: BuildConfig, tmp_path: Path, way: dict[str, Any]
) -> None:
    describe(way)
    report = build(replace(config, raw_pixels="yes"))
    result = CliRunner().invoke(cli, ["eval", "out", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["host_accuracy"]["score"] == report["accuracy"]["integer"]["score"]
    assert facts["outputs"]["equal"] == 1
    spec = load_model("model.toml").spec
    out = tmp_path / "out"
    fed = input_spec(find_artifact(out), spec)
    assert fed.mean == pytest.approx(report["raw_pixels"]["mean"])
    assert fed.std == pytest.approx(report["raw_pixels"]["std"])
    assert fed != spec
    assert input_spec(find_artifact(out / "model.tflite"), spec) == input_spec(find_artifact(out), spec)
    assert input_spec(find_artifact(out / "float.tflite"), spec) == spec  # takes what the network takes
    (out / "report.json").write_text("[")
    assert input_spec(find_artifact(out), spec) == spec
    result = CliRunner().invoke(cli, ["eval", "out", "--json", "--raw-pixels"])
    assert json.loads(result.stdout)["host_accuracy"] == facts["host_accuracy"]


def test_eval_feeds_pixels_to_files_of_others_when_told(config: BuildConfig, tmp_path: Path) -> None:
    describe(UNIT)
    for target, io in (("tflite-arm", "uint8"), ("onnx-x86", "int8"), ("onnx-x86", "float32")):
        build(replace(config, targets=(target,), io=io))
        found = find_artifact(tmp_path / "out")
        fed = input_spec(found, load_model("model.toml").spec, raw=True)
        assert (fed.mean, fed.std) == ((0.0,) * 3, pytest.approx((1 / 255 if io == "float32" else 1.0,) * 3))
    build(replace(config, bits="w8a16"))
    with pytest.raises(EdgeqError, match="raw pixels for out: its input is int16"):
        input_spec(find_artifact(tmp_path / "out"), load_model("model.toml").spec, raw=True)


def test_a_target_may_ask_for_it_and_keeps_its_own_type(config: BuildConfig, tmp_path: Path) -> None:
    describe(HALF)
    shipped = Path(__file__).parents[2] / "targets" / "tflite-arm.toml"
    (tmp_path / "camera.toml").write_text(shipped.read_text() + "\nraw_pixels = true\n")
    asked = replace(config, targets=("camera.toml",))
    assert build(asked)["raw_pixels"]["type"] == "int8"
    assert "raw_pixels" not in build(replace(asked, raw_pixels="no"))
    assert build(replace(asked, raw_pixels="free"))["raw_pixels"]["type"] == "uint8"


def test_a_student_trained_on_normalised_images_takes_pixels_behind_an_op(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.pipeline.choices.IMAGES", 16)
    monkeypatch.setattr(
        "edgeq.pipeline.recipe.settings_for",
        lambda *asked: replace(settings_for(*asked), steps=4, batch=8, warm_up=2),
    )
    describe(IMAGENET | {"padding": 0})
    report = build(replace(config, finetune="kd", bits="w4a8", raw_pixels="yes"))
    assert report["raw_pixels"]["form"] == "op"
    assert "trained on normalised images" in report["raw_pixels"]["why"]
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"raw_pixels": "free"}, "raw pixels without an op more at tiny: .*0 pads with the mean"),
        ({"raw_pixels": "yes", "bits": "w8a16"}, "raw pixels with w8a16"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    config: BuildConfig, tmp_path: Path, asked: dict[str, Any], match: str
) -> None:
    describe(IMAGENET)
    for run in (build, plan):
        with pytest.raises(EdgeqError, match=match):
            run(replace(config, **asked))
    assert not (tmp_path / "cache").exists()
    planned = plan(replace(config, raw_pixels="yes"))
    assert planned["raw_pixels"].startswith("in a 1 x 1 convolution in front (channels differ")
    assert "raw_pixels" not in plan(config)
