"""`edgeq synth` on a tiny network: what the folder holds, that other tools take it, and that it is never half."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import calibration_from_images
from edgeq.errors import ArtifactError, ConfigError
from edgeq.model.load import load_model
from edgeq.pipeline.build import build
from edgeq.pipeline.synth import synth
from edgeq.synth import gznq
from tests.tinymodel import Spy, model_toml, use_settings

FILES = {"calibration.npz", "images.npz", "contact.png", "statistics.html", "statistics.json", "edgeq.lock", "png"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the tests that are not about one: their network and settings are the same."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def one_cache(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(kept))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["synth", *arguments], prog_name="edgeq")


def made(*more: str) -> tuple[dict[str, Any], Path]:
    """The facts and the folder of a fast run."""
    result = run("model.toml", "-n", "6", "--effort", "fast", "-o", "out", "--json", *more)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), Path("out")


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_help_imports_no_torch() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from edgeq.cli import cli\n"
        "for a in (['synth', '--help'], ['methods', '--help'], ['synth', '--seed', 'x']):\n"
        "    CliRunner().invoke(cli, a)\n"
        "print([m for m in ('torch', 'onnx', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    text = run("--help").output
    assert all(flag in text for flag in ("-n, --images", "-o, --output", "--method", "--weights", "--mean", "--cache"))
    assert not any(flag in text for flag in ("--target", "--io", "--observer", "--strict"))


def test_folder_holds_the_set_in_every_form(here: Path) -> None:
    facts, folder = made()
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "statistics.json").read_text()) | {"folder": "out"} == facts
    calibration = CalibrationSet.load(folder / "calibration.npz")
    assert calibration.inputs.shape == (6, 3, 16, 16)
    assert facts["sha256"] == calibration.digest()
    assert (facts["method"], facts["images"], facts["seed"]) == ("gznq", 6, 0)
    assert "batch norm" in facts["method_reason"]

    with np.load(folder / "images.npz") as file:
        images, labels = file["images"], file["labels"]
    assert (images.dtype, images.shape) == (np.uint8, (6, 16, 16, 3))
    assert labels.tolist() == calibration.labels.tolist()
    pixels = (calibration.inputs.transpose(0, 2, 3, 1) * 0.25 + 0.5) * 255
    assert np.abs(images - pixels).max() <= 0.5001  # within the pixel range, rounded to the nearest

    pictures = sorted((folder / "png").glob("*.png"))
    said = [f"label-{label}" if label >= 0 else "unlabelled" for label in labels]
    assert [path.name for path in pictures] == [f"{i:05d}-{words}.png" for i, words in enumerate(said)]
    for path, image in zip(pictures, images, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image)
    assert Image.open(folder / "contact.png").size[0] > 16


def test_statistics_say_what_was_measured(here: Path) -> None:
    facts, folder = made()
    (row,) = facts["layers"]
    assert (row["layer"], row["channels"], facts["reference"]) == ("1", 8, "batch norm")
    calibration = CalibrationSet.load(folder / "calibration.npz")
    network = load_model("model.toml").module
    assert isinstance(network, nn.Module)
    with torch.no_grad():
        value = network[0](torch.from_numpy(calibration.inputs))  # type: ignore[index]
        answers = network(torch.from_numpy(calibration.inputs)).argmax(1).numpy()
    var, mean = torch.var_mean(value, (0, 2, 3), correction=0)
    norm = network[1]  # type: ignore[index]
    gap = ((mean - norm.running_mean).abs() / norm.running_var.sqrt()).mean()
    spread = ((var.sqrt() - norm.running_var.sqrt()).abs() / norm.running_var.sqrt()).mean()
    assert row["mean_gap"] == pytest.approx(float(gap), abs=1e-4)
    assert row["std_gap"] == pytest.approx(float(spread), abs=1e-4)
    kept, labelled = int((answers == calibration.labels).sum()), int((calibration.labels >= 0).sum())
    assert 0 < labelled < 6  # a quarter is loose
    assert facts["answers"] == {
        "labelled": labelled,
        "kept": kept,
        "share": kept / labelled,
        "classes": len(set(answers.tolist())),
        "of": 4,
    }
    assert facts["gaps"]["noise_mean_gap"] > 0
    page = (folder / "statistics.html").read_text()
    assert "calibration set" in page
    assert f"{row['mean_gap']:.3f}" in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert str(here) not in page + (folder / "statistics.json").read_text() + (folder / "edgeq.lock").read_text()


@pytest.mark.parametrize("form", ["images.npz", "png/labels.csv"])
def test_edgeq_takes_its_own_pictures_back(here: Path, form: str) -> None:
    _, folder = made()
    spec = load_model("model.toml").spec
    if form.endswith("csv"):
        spec = replace(spec, resize=None, crop=None)  # picture files are resized as the model says
    again = calibration_from_images(folder / form, spec, 6)
    with np.load(folder / "images.npz") as file:
        assert np.array_equal(again.inputs, spec.normalise(file["images"]))
        assert again.labels.tolist() == file["labels"].tolist()
    result = run("model.toml", "-n", "4", "--method", "images:out/images.npz", "--cache", "cache", "-o", "b", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 4


def test_unlabelled_images_beyond_pixels_say_so(here: Path) -> None:
    facts, folder = made("--method", "noise")
    assert facts["answers"]["share"] is None
    assert facts["answers"]["labelled"] == 0
    assert facts["outside"] > 0.01
    assert (folder / "png" / "00000-unlabelled.png").is_file()
    page = (folder / "statistics.html").read_text()
    assert "none a pixel can have" in page
    assert "no better than Gaussian noise" in page or facts["gaps"]["mean_gap"] < facts["gaps"]["noise_mean_gap"]


def test_without_batch_norm_and_with_odd_channels(here: Path) -> None:
    text = model_toml(
        channels=2,
        network="arguments = { norm = false, channels = 2 }",
        picture="resize = 20\ncrop = 16",
        evaluation=False,
    )
    (here / "plain.toml").write_text(text)
    result = run(
        "plain.toml", "--weights", "random", "--method", "uniform", "-n", "5", "--cache", "cache", "-o", "o", "--json"
    )
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["reference"] == "weights"
    assert len(facts["layers"]) == 2
    assert {path.name for path in Path("o").iterdir()} == FILES - {"png"}  # two channels are no picture


def test_second_run_is_cached_and_equal(here: Path) -> None:
    config = BuildConfig(model="model.toml", images=6, effort="fast", cache=here / "cache", output=here / "out")
    synth(config)
    before, spy = bytes_in(here / "out"), Spy()
    synth(config, spy)
    assert spy.cached == {"capture": False, "synthesize": True, "statistics": True}
    assert bytes_in(here / "out") == before
    synth(replace(config, seed=1), spy)
    assert spy.cached["synthesize"] is False
    assert bytes_in(here / "out")["calibration.npz"] != before["calibration.npz"]


def test_a_build_has_the_same_images(here: Path, kept: Path) -> None:
    config = BuildConfig(model="model.toml", images=6, effort="fast", cache=kept, output=here / "out")
    facts, spy = synth(config), Spy()
    report = build(replace(config, output=here / "built"), spy)
    assert spy.cached["synthesize"] is True
    assert report["synthesis"]["sha256"] == facts["sha256"]
    with pytest.raises(ArtifactError, match="holds a build"):
        synth(replace(config, output=here / "built"))
    assert (here / "built" / "report.json").is_file()


def test_interrupted_synthesis_continues_to_the_same_bytes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = gznq.Settings(coarse=4, fine=6, batch=4)
    use_settings(monkeypatch, "gznq", quick)
    config = BuildConfig(model="model.toml", images=12, effort="fast", cache=here / "cache", output=here / "out")
    whole = replace(config, cache=here / "whole", output=here / "other")
    synth(whole)

    class Interrupt(Spy):
        def step(self, done: int, total: int, note: str = "") -> None:
            if done > total * 0.7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth(config, Interrupt())
    assert not (here / "out").exists()
    assert list((here / "cache" / "unfinished").rglob("batch-*.npy"))
    synth(config)
    timed = {"statistics.json", "statistics.html"}  # these say how long it took
    one, other = bytes_in(here / "out"), bytes_in(here / "other")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name] and name not in timed] == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failure_while_writing_keeps_the_previous_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    made()
    before = bytes_in(Path("out"))

    def fail(*_: object) -> str:
        raise failure

    monkeypatch.setattr("edgeq.pipeline.synth._write_pngs", fail)
    result = run("model.toml", "-n", "6", "--method", "noise", "--cache", "cache", "-o", "out")
    assert result.exit_code == (130 if failure is KeyboardInterrupt else 2)
    assert "Traceback" not in result.stderr
    assert bytes_in(Path("out")) == before
    assert [path.name for path in here.iterdir() if path.name.startswith(".out")] == []


def test_foreign_folders_and_evaluation_images_are_refused(here: Path) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "cat.png").write_bytes(b"cat")
    result = run("model.toml", "-n", "2", "--method", "noise", "--cache", "cache", "-o", "photos")
    assert result.exit_code == 2
    assert "would be replaced" in result.stderr
    assert (here / "photos" / "cat.png").read_bytes() == b"cat"
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    np.savez(here / "test.npz", images=images, labels=np.zeros(8, np.int64), prepared=np.array(True))
    with (here / "model.toml").open("a") as file:
        file.write('[evaluation]\nimages = "test.npz"\n')
    with pytest.raises(ConfigError, match="also evaluation images"):
        synth(BuildConfig(model="model.toml", method="images:test.npz", images=4, cache=here / "cache"))


def test_methods_are_known_before_anything_is_loaded(here: Path) -> None:
    for method, says in (("zaq", "makes none to keep"), ("gznk", "did you mean 'gznq'")):
        result = run("nowhere.toml", "--method", method)
        assert result.exit_code == 2
        assert says in result.stderr
    with pytest.raises(ConfigError, match="unknown synthesizer 'gznk'"):
        build(BuildConfig(model="nowhere.toml", method="gznk"))


def test_json_is_all_there_is_on_stdout_and_quiet_says_nothing(here: Path) -> None:
    result = run("model.toml", "-n", "2", "--method", "noise", "--cache", "cache", "-o", "out", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    result = run("model.toml", "-n", "2", "--method", "noise", "--cache", "cache", "-o", "out")
    assert (result.exit_code, "In edgeq:" in result.stdout, "In edgeq:" in result.stderr) == (0, True, False)
    told = "edgeq build model.toml --mean 0.5,0.5,0.5 --target tflite-arm --method images:out/images.npz --images 2\n"
    again = run("model.toml", "-n", "2", "--method", "noise", "--mean", ".5,.5,.5", "--cache", "cache", "-o", "out")
    assert told in again.stdout
    assert run("model.toml", "--method", "gznk", "--cache", "cache").exit_code == 2
    assert run("model.toml", "-n", "0").exit_code == 2


def test_methods_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.synth.base import SYNTHESIZERS

    def plugin(request: object) -> None:
        """Images from elsewhere.

        More about them.
        """

    list(SYNTHESIZERS)  # loaded before it is added to, so that what is added can be taken away again
    monkeypatch.setitem(SYNTHESIZERS._entries, "plugin", plugin)  # type: ignore[misc]
    result = CliRunner().invoke(cli, ["methods", "--json"])
    found = {method["name"]: method for method in json.loads(result.stdout)}
    assert found["gznq"]["batch_norm"] is True
    assert found["gzsq"]["batch_norm"] is False
    assert found["noise"]["data"] == "none"
    assert found["plugin"] == {
        "name": "plugin",
        "batch_norm": None,
        "labels": None,
        "data": "not stated",
        "what": "Images from elsewhere.",
    }
    lines = CliRunner().invoke(cli, ["methods"]).stdout.splitlines()
    assert lines[0].split("  ")[0] == "method"
    assert {line.split()[0] for line in lines[1:]} == set(found)
