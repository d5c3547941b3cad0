"""The whole line on a tiny network: what is written, what is cached, and that a failure keeps what was there."""

import functools
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
from edgeq.graph.ir import Graph
from edgeq.inspection.tflite import read_tflite
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.latency import measure_latency
from edgeq.measure.replay import replay
from edgeq.measure.simulated import reference_run, storable
from edgeq.pipeline.build import build, choose_method, plan
from edgeq.report.schema import validate
from edgeq.runtime.litert import LiteRTSession
from edgeq.runtime.ort import OrtSession
from edgeq.synth import zs_cgan
from tests.tinymodel import Spy, keep, made, model_toml

NETWORK = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU6()
    def forward(self, x):
        return x + self.norm2(self.pointwise(self.relu(self.norm(self.depthwise(x)))))

def tiny(norm=True):
    first = [nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=not norm)] + ([nn.BatchNorm2d(8)] if norm else [])
    body = [Block(8)] if norm else [nn.Conv2d(8, 8, 3, padding=1)]
    return nn.Sequential(*first, nn.ReLU(), *body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildConfig:
    monkeypatch.chdir(tmp_path)
    quick = functools.partial(measure_latency, runs=3, seconds=0.05, warmup=0.01)
    monkeypatch.setattr("edgeq.pipeline.build.measure_latency", quick)
    network = made(NETWORK)
    network.train()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16, 3), np.uint8)
    with torch.no_grad():
        for _ in range(20):
            network(torch.from_numpy((images / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2))
        labels = network.eval()(torch.from_numpy((images / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2)).argmax(1)
    keep(tmp_path, NETWORK, model_toml(), network)
    np.savez(tmp_path / "test.npz", images=images, labels=labels.numpy())
    return BuildConfig(model="model.toml", images=8, effort="fast", cache=tmp_path / "cache", output=tmp_path / "out")


def test_tflite_build_writes_a_proven_folder(config: BuildConfig) -> None:
    report = build(config)
    folder = config.output
    assert folder is not None
    assert {path.name for path in folder.iterdir()} == {
        "model.tflite", "float.tflite", "integer.safetensors", "calibration.npz", "calibration.png",
        "report.json", "report.html", "edgeq.lock",
    }  # fmt: skip
    assert json.loads((folder / "report.json").read_text()) == report
    assert validate(report) == []
    data = (folder / "model.tflite").read_bytes()
    assert report["artifact"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    census = report["census"]
    assert [census[k] for k in ("float_ops", "transposes", "quantize", "dequantize", "spatial_pads")] == [0] * 5
    assert report["method"] == "gznq"
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
        "synthesize", "calibrate", "write", "verify", "measure",
    }  # fmt: skip
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

    monkeypatch.setattr("edgeq.pipeline.artifact.render", fail)
    with pytest.raises((KeyboardInterrupt, ArtifactError)):
        build(replace(config, seed=3))
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == before
    assert [p.name for p in config.output.parent.iterdir() if p.name.startswith(("out", ".out"))] == ["out"]


def test_interrupted_synthesis_continues_to_the_same_bytes(config: BuildConfig, tmp_path: Path) -> None:
    config = replace(config, images=96)  # more than one batch
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
    plain = replace(config, model="plain.toml", weights="random")
    with pytest.raises(UnsupportedError, match="batch-norm statistics"):
        build(replace(plain, method="gznq"))
    assert config.output is not None
    assert not config.output.exists()
    assert plan(plain)["method"] != "gznq"


def test_few_bit_weights_make_an_exact_file_that_says_how_they_are_stored(config: BuildConfig) -> None:
    report = build(replace(config, bits="w4a8"))
    assert report["bits"] == "w4a8"
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    assert any("4 bits" in line and "first and last layer 8" in line for line in report["warnings"])
    everywhere = build(replace(config, bits="w4a8", all_layers=True))
    assert everywhere["artifact"]["sha256"] != report["artifact"]["sha256"]


def test_few_bit_activations_are_simulated_and_the_file_says_so(config: BuildConfig) -> None:
    report = build(replace(config, bits="w6a4", method="noise"))
    assert config.output is not None
    integer = IntegerGraph.load(config.output / "integer.safetensors")
    assert report["simulated"]["values"] == len(integer.narrow()) > 0
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0  # the file is exact in what it can say
    assert any("4-bit activations are simulated" in line for line in report["warnings"])
    assert "exact reference" in (config.output / "report.html").read_text()
    wide = storable(integer)
    assert wide.narrow() == ()
    assert wide.nodes == integer.nodes
    assert replay(config.output, 4).equal == replay(config.output, 4).values
    with np.load("test.npz") as file:
        inputs = ((file["images"] / 255 - 0.5) / 0.25).astype(np.float32).transpose(0, 3, 1, 2)
        right = reference_run(integer)(inputs).reshape(24, -1).argmax(1) == file["labels"]
    assert report["accuracy"]["integer"]["top1"] == pytest.approx(100 * right.mean())


def test_weights_of_four_bits_take_half_a_byte_unless_asked_otherwise(config: BuildConfig) -> None:
    small = build(replace(config, bits="w4a8"))
    large = build(replace(config, bits="w4a8", weight_storage="int8"))
    assert small["artifact"]["bytes"] < large["artifact"]["bytes"]
    assert small["exactness"]["equal"] == small["exactness"]["values"]
    assert any("int4, two a byte" in line for line in small["warnings"])
    assert any("no smaller for it" in line for line in large["warnings"])
    with pytest.raises(ConfigError, match="--weight-storage int4 for onnx-x86"):
        build(replace(config, bits="w4a8", weight_storage="int4", targets=("onnx-x86",)))


def test_sixteen_bit_activations_build_on_the_command_line(config: BuildConfig) -> None:
    asked = ["build", "model.toml", "--images", "8", "--bits", "w4a16", "--method", "noise", "-o", "out", "--json"]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert validate(report) == []
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    assert report["census"]["float_ops"] == report["census"]["quantize"] == 0
    found = read_tflite(Path("out/model.tflite").read_bytes())
    assert {t.type for t in (*found.inputs, *found.outputs)} == {"int16"}
    assert any("stored as int8" in line for line in report["warnings"])
    assert replay(Path("out"), 4, seed=1).exact
    assert build(replace(config, bits="w4a16", method="noise", io="float32"))["exactness"]["first_difference"] is None


def test_layers_have_the_bits_edgeq_toml_gives_them_and_the_report_says_so(config: BuildConfig, tmp_path: Path) -> None:
    told = 'model = "model.toml"\nimages = 8\nmethod = "noise"\noutput = "out"\n[layer_bits]\n"3.*" = "w4a8"\n'
    (tmp_path / "edgeq.toml").write_text(told)
    result = CliRunner().invoke(cli, ["build", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert validate(report) == []
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    rows = {row["name"]: (row.get("weight_bits"), row.get("weight_storage")) for row in report["layers"]}
    few = {name for name, row in rows.items() if row == (4, "int4")}
    assert few == {"3.depthwise", "3.pointwise"}
    assert {row for name, row in rows.items() if name not in few} == {(8, "int8"), (None, None)}
    assert any("8 bits in 2 layers, 4 bits in 2 layers" in line for line in report["warnings"])
    with pytest.raises(ConfigError, match="called that"):
        plan(replace(config, layer_bits=("3.deepwise=w4a8",)))


def test_some_layers_have_sixteen_bits_and_the_report_says_which(config: BuildConfig, tmp_path: Path) -> None:
    told = 'model = "model.toml"\nimages = 8\nmethod = "noise"\noutput = "out"\n[layer_bits]\n"3.*" = "w8a16"\n'
    (tmp_path / "edgeq.toml").write_text(told)
    result = CliRunner().invoke(cli, ["build", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert validate(report) == []
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    rows = {row["name"]: (row["op"], row["activation_bits"]) for row in report["layers"]}
    wide = {name for name, (_, bits) in rows.items() if bits == 16}
    assert {"3.depthwise", "3.pointwise"} < wide
    assert "7" not in wide
    copies = [name for name, (op, _) in rows.items() if op == "Requantize"]
    assert report["census"]["requantize"] == len(copies) == report["census"]["kinds"]["QUANTIZE"]
    assert report["census"]["quantize"] == report["census"]["float_ops"] == 0
    assert any(f"16 bits in {len(wide)} of {len(rows)} ops" in line for line in report["warnings"])
    assert not any("see the census" in line or "no smaller for it" in line for line in report["warnings"])
    assert replay(Path("out"), 4, seed=1).exact
    shown = CliRunner().invoke(cli, ["inspect", "out/model.tflite"])
    assert f"{len(copies)} QUANTIZE between 8 and 16 bits" in shown.output
    assert "between 8 and 16 bits" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    ("asked", "ends"),
    [({}, ("int8", "int16")), ({"io": "int8"}, ("int8", "int8")), ({"io": "uint8"}, ("uint8", "uint8")),
     ({"io": "int16"}, ("int16", "int16")), ({"io": "float32"}, ("float32", "float32")),
     ({"raw_pixels": "yes", "layer_bits": ("0=w8a16",)}, ("uint8", "uint8"))],
)  # fmt: skip
def test_ends_of_a_mixture_are_their_ops_or_as_asked(
    config: BuildConfig, asked: dict[str, Any], ends: tuple[str, str]
) -> None:
    report = build(replace(config, **{"method": "noise", "layer_bits": ("7=w8a16",), **asked}))
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    assert config.output is not None
    found = read_tflite((config.output / "model.tflite").read_bytes())
    assert (found.inputs[0].type, found.outputs[0].type) == ends
    assert report["accuracy"]["agreement"] > 0.5


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"targets": ("onnx-x86",)}, "16-bit activations for onnx-x86"),
        ({"targets": ("onnx-x86",), "bits": "w8a8", "layer_bits": ("7=w8a16",)}, "16-bit activations for onnx-x86"),
        ({"io": "uint8"}, "--io uint8 with w8a16"),
        ({"weight_storage": "int4"}, "--weight-storage int4 with w8a16"),
        ({"io": "int16", "bits": "w8a8"}, "--io int16 with w8a8"),
    ],
)
def test_what_does_not_go_with_16_bits_is_refused_before_any_work(
    config: BuildConfig, tmp_path: Path, asked: dict[str, Any], match: str
) -> None:
    for run in (build, plan):
        with pytest.raises(EdgeqError, match=match):
            run(replace(config, **{"bits": "w8a16", "model": "no such model", **asked}))
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.pipeline.finetuning.IMAGES", 16)

    def quick(method: str, effort: str, graph: Graph) -> Settings:
        return replace(settings_for(method, effort, graph), steps=6, batch=8, warm_up=2, latent=8, width=8)

    monkeypatch.setattr("edgeq.pipeline.finetuning.settings_for", quick)


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
    monkeypatch.setattr("edgeq.synth.zs_cgan.settings_for", lambda effort: quick)
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
    plain = build(replace(config, bits="w4a4", all_layers=True, images=16))
    assert "finetune" not in plain
    assert plain["artifact"]["sha256"] != report["artifact"]["sha256"]


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
    network = made(NETWORK).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 16, 16),)), tmp_path / "tiny.pt2")
    report = build(replace(config, model="tiny.pt2", method="noise"))
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "edgeq build tiny.pt2 --target tflite-arm" in page  # the command that works again, not the network's name


def test_a_folder_no_build_made_is_refused_before_any_work(config: BuildConfig, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ArtifactError, match="was not made by a build"):
        build(replace(config, output=tmp_path / "photos"))
    assert not (tmp_path / "cache").exists()


def test_plan_does_no_work(config: BuildConfig, tmp_path: Path) -> None:
    facts = plan(config)
    assert facts["method"] == "gznq"
    assert facts["parameters"] > 0
    assert facts["macs"] > 0
    assert facts["unsupported"] == []
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()


def test_what_was_asked_for_is_not_second_guessed(config: BuildConfig) -> None:
    assert choose_method("noise", None)[0] == "noise"  # type: ignore[arg-type]
