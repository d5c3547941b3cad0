"""The whole line on a tiny network: what is written, what is cached, and that a failure keeps what was there."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.errors import ArtifactError, ConfigError, EdgeqError, UnsupportedError
from edgeq.finetune.settings import Settings, settings_for
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.graph.ir import Graph
from edgeq.model.load import load_model
from edgeq.pipeline.build import build, plan
from edgeq.pipeline.choices import choose_method
from edgeq.report.schema import validate
from edgeq.synth import gznq, zs_cgan
from tests.tinymodel import Spy, use_settings


def test_tflite_build_writes_a_proven_folder(config: BuildConfig) -> None:
    report = build(replace(config, method="auto"))
    folder = config.output
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {
        "model.tflite",
        "float.tflite",
        "integer.safetensors",
        "answers.safetensors",
        "calibration.npz",
        "calibration.png",
        "report.json",
        "report.html",
        "edgeq.lock",
    }
    assert json.loads((folder / "report.json").read_text()) == report
    assert validate(report) == []
    data = (folder / "model.tflite").read_bytes()
    assert report["artifact"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    census = report["census"]
    assert [census[k] for k in ("float_ops", "transposes", "quantize", "dequantize", "spatial_pads")] == [0] * 5
    assert report["method"] == "gznq"
    unlike = report["synthesis"]["notes"]["wrong"] > 0.5
    assert any("another class than meant" in line for line in report["warnings"]) == unlike
    assert [row["reads"] for row in report["layers"][:2]] == [[], [report["layers"][0]["name"]]]
    assert report["accuracy"]["n"] == 24
    assert report["accuracy"]["float"]["top1"] == 100.0
    session = LiteRTSession(data)
    labels = np.load("test.npz")["labels"]
    inputs = ((np.load("test.npz")["images"] / np.float32(255) - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32)
    top1 = 100 * float((session.run(inputs)[0].argmax(1) == labels).mean())
    assert report["accuracy"]["integer"]["top1"] == pytest.approx(top1)


@pytest.mark.parametrize("target", ["onnx-arm", "onnx-x86"])
def test_onnx_build_fuses_everything(config: BuildConfig, target: str) -> None:
    report = build(replace(config, targets=(target,), method="noise"))
    assert report["census"]["float_ops"] == 0
    assert report["census"]["float_convolutions"] == 0
    exactness = report["exactness"]
    assert exactness["values"] > 0
    assert exactness["max_step"] <= 1
    assert config.output is not None
    assert OrtSession(config.output / "model.onnx").run(np.zeros((2, 3, 16, 16), np.float32))[0].shape == (2, 4)


def test_second_build_is_cached_and_equal(config: BuildConfig) -> None:
    first, spy = build(config), Spy()
    second = build(config, spy)
    assert second | {"seconds": None} == first | {"seconds": None}
    assert {name for name, cached in spy.cached.items() if cached} == {
        "synthesize",
        "calibrate",
        "write",
        "verify",
        "measure",
    }
    build(replace(config, force=("write",)), spy)
    assert spy.cached["write"] is False
    build(replace(config, seed=1), spy)
    assert spy.cached["synthesize"] is False


def test_same_settings_give_the_same_bytes_without_a_cache(config: BuildConfig, tmp_path: Path) -> None:
    one = build(config)["artifact"]["sha256"]
    assert build(replace(config, cache=tmp_path / "other"))["artifact"]["sha256"] == one


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failure_while_writing_keeps_the_previous_artifact(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    build(config)
    assert config.output is not None
    before = {path.name: path.read_bytes() for path in config.output.iterdir()}

    def fail(*_: object, **__: object) -> str:
        raise failure

    monkeypatch.setattr("edgeq.pipeline.page.render", fail)
    with pytest.raises((KeyboardInterrupt, ArtifactError)):
        build(replace(config, seed=3))
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == before
    assert [p.name for p in config.output.parent.iterdir() if p.name.startswith(("out", ".out"))] == ["out"]


def test_interrupted_synthesis_continues_to_the_same_bytes(
    config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = gznq.Settings(coarse=4, fine=6, batch=4)
    use_settings(monkeypatch, "gznq", quick)
    config = replace(config, method="gznq", images=12)  # three batches
    whole = build(replace(config, cache=tmp_path / "whole"))["synthesis"]["sha256"]

    class Interrupt(Spy):
        def step(self, done: int, total: int, note: str = "") -> None:
            if done > total * 0.7:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(config, Interrupt())
    kept = list((tmp_path / "cache" / "unfinished").rglob("batch-*.npy"))
    assert kept
    assert build(config)["synthesis"]["sha256"] == whole
    assert not list((tmp_path / "cache" / "unfinished").rglob("batch-*.npy"))


def test_calibration_on_evaluation_images_is_refused(config: BuildConfig) -> None:
    with pytest.raises(EdgeqError, match="also evaluation images"):
        build(replace(config, method="images:test.npz"))


def test_method_that_needs_batch_norm_says_so(config: BuildConfig, tmp_path: Path) -> None:
    text = (tmp_path / "model.toml").read_text().replace('py:tiny"', 'py:tiny"\narguments = { norm = false }')
    (tmp_path / "plain.toml").write_text(text)
    plain = replace(config, method="auto", model="plain.toml", weights="random")
    with pytest.raises(UnsupportedError, match="batch-norm statistics"):
        build(replace(plain, method="gznq"))
    assert config.output is not None
    assert not config.output.exists()
    assert plan(plain)["method"] != "gznq"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.pipeline.choices.IMAGES", 16)

    def quick(method: str, effort: str, graph: Graph) -> Settings:
        return replace(settings_for(method, effort, graph), steps=6, batch=8, warm_up=2, latent=8, width=8)

    monkeypatch.setattr("edgeq.pipeline.recipe.settings_for", quick)
    use_settings(monkeypatch, "gznq", gznq.Settings(coarse=4, fine=6, batch=8))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("how", "tuned", "images"),
    [
        ({"method": "zaq"}, "zaq", "gznq"),
        ({"method": "dfq-akd"}, "dfq-akd", "gznq"),
        ({"method": "noise", "finetune": "kd"}, "kd", "noise"),
        ({"method": "zs-cgan", "finetune": "kd"}, "kd", "drawn fresh"),
    ],
)
def test_fine_tuning_is_a_cached_stage_whose_student_is_what_was_frozen(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch, how: dict[str, str], tuned: str, images: str
) -> None:
    quick = zs_cgan.Settings(steps=3, batch=8, latent=8, width=8, retries=1)
    use_settings(monkeypatch, "zs-cgan", quick)
    told = replace(config, bits="w4a4", all_layers=True, **how)
    report = build(told)
    facts = report["finetune"]
    assert (facts["method"], facts["images"], facts["steps"]) == (tuned, images, 6)
    assert facts["agreement"]["equal"] == 1.0
    assert len(facts["curves"]["student"]) == 6
    assert bool(facts["curves"]["generator"]) == (tuned != "kd")
    assert report["seconds"]["finetune"] > 0
    assert config.output is not None
    assert 'id="finetune"' in (config.output / "report.html").read_text()
    assert ("zs-cgan" in how.values()) == (report["synthesis"]["method"] == "zs-cgan")
    spy = Spy()
    again = build(told, spy)
    assert spy.cached["finetune"]
    assert again["artifact"] == report["artifact"]


@pytest.mark.usefixtures("short")
def test_fine_tuning_makes_another_file(config: BuildConfig) -> None:
    few = replace(config, method="noise", bits="w4a4", all_layers=True)
    plain, tuned = build(replace(few, images=16)), build(replace(few, finetune="kd"))
    assert "finetune" not in plain
    assert plain["artifact"]["sha256"] != tuned["artifact"]["sha256"]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "bits",
    [
        {"bits": "w4a16"},
        {"bits": "w8a8", "layer_bits": ("3.*=w3a8",)},
        {"bits": "w4a8", "layer_bits": ("0=w8a16", "7=w8a16"), "io": "int8"},
    ],
)
def test_wide_activations_and_named_layers_fine_tune_too(config: BuildConfig, bits: dict[str, Any]) -> None:
    report = build(replace(config, method="noise", finetune="kd", **bits))
    found = report["finetune"]["agreement"]
    assert found["equal_argmax"] == 1.0
    assert found["largest_step"] <= (4 if "a16" in bits["bits"] else 1)  # of 65,536, in sums of float32
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0


def test_two_ways_to_fine_tune_at_once_are_refused(config: BuildConfig) -> None:
    with pytest.raises(ConfigError, match="both say how to fine-tune"):
        plan(replace(config, method="zaq", finetune="kd"))
    planned = plan(replace(config, method="zaq", effort="fast"))
    assert "finetune" in planned["stages"]
    assert planned["finetune"]["minutes"] == pytest.approx(2.0, rel=0.1)


def test_an_exported_program_builds(config: BuildConfig, tmp_path: Path) -> None:
    network = load_model("model.toml").module
    assert isinstance(network, torch.nn.Module)
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 16, 16),)), tmp_path / "tiny.pt2")
    report = build(replace(config, model="tiny.pt2", method="noise"))
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "edgeq build tiny.pt2 --target tflite-arm" in page  # the command that works again, not the network's name


def test_a_folder_no_build_made_is_refused_before_any_work(config: BuildConfig, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ArtifactError, match=r"a\.jpg in it is no part of a build"):
        build(replace(config, output=tmp_path / "photos"))
    with pytest.raises(ArtifactError, match="no part of a build"):
        plan(replace(config, output=tmp_path / "photos"))
    assert not (tmp_path / "cache").exists()


def test_plan_does_no_work(config: BuildConfig, tmp_path: Path) -> None:
    facts = plan(replace(config, method="auto"))
    assert facts["method"] == "gznq"
    assert facts["parameters"] > 0
    assert facts["macs"] > 0
    assert facts["unsupported"] == []
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()


def test_what_was_asked_for_is_not_second_guessed(config: BuildConfig) -> None:
    assert choose_method("noise", None)[0] == "noise"  # type: ignore[arg-type]


@pytest.mark.parametrize(("task", "method"), [("classification", "inversion"), ("regression", "gzsq")])
def test_without_batch_norm_the_task_decides(task: str, method: str) -> None:
    graph = Graph("net", ("x",), ("x",), (), {}, {"x": (1, 3, 8, 8)})
    assert choose_method("auto", graph, task)[0] == method


def test_a_build_of_a_factory_says_how_its_images_are_prepared(config: BuildConfig, tmp_path: Path) -> None:
    stated: dict[str, Any] = {"weights": "tiny.safetensors", "input_shape": (3, 16, 16), "mean": (0.5,) * 3}
    build(replace(config, model="network.py:tiny", method="noise", std=(0.25,) * 3, **stated))
    (tmp_path / "tiny.safetensors").unlink()  # answers come from the file
    words = ["eval", str(config.output), "--data", "test.npz", "--limit", "4", "--json"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["agreement"], found["metric"]) == (4, 1.0, "top-1")  # as the labels say
    lock = tmp_path / "out" / "edgeq.lock"
    lock.write_text("[]")
    assert "is not a lock" in CliRunner().invoke(cli, words).stderr
    lock.unlink()
    assert "how its images are prepared" in CliRunner().invoke(cli, words).stderr


def test_threads_of_the_work_do_not_change_those_that_latency_is_measured_with(config: BuildConfig) -> None:
    quick = replace(config, method="noise", images=2, eval_limit=2)
    assert build(replace(quick, threads=2))["latency"]["threads"] == 1  # the target's
    assert build(replace(quick, bench_threads=2))["latency"]["threads"] == 2
