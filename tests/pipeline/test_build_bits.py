"""Builds with fewer or more bits than eight, for all layers or for some: what is written, stored and refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.errors import ConfigError, EdgeqError
from edgeq.formats.replay import replay
from edgeq.formats.tflite.read import read_tflite
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.storage import drop_unstorable_bits, reference_run
from edgeq.pipeline.build import build, plan
from edgeq.report.schema import validate


def built_with(layers: str, folder: Path) -> dict[str, Any]:
    """The report of a build on the command line whose edgeq.toml gives `layers` bits of their own."""
    told = f'model = "model.toml"\nimages = 8\nmethod = "noise"\noutput = "out"\n[layer_bits]\n{layers}\n'
    (folder / "edgeq.toml").write_text(told)
    result = CliRunner().invoke(cli, ["build", "--json"])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    assert validate(report) == []
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0
    return report


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
    integer = IntegerGraph.load(config.output / "simulated.safetensors")
    assert report["simulated"]["values"] == len(integer.narrow()) > 0
    assert report["exactness"]["equal"] == report["exactness"]["values"] > 0  # the file is exact in what it can say
    assert any("4-bit activations are simulated" in line for line in report["warnings"])
    page = (config.output / "report.html").read_text()
    assert "exact reference" in page
    assert report["equalized"] > 0
    assert f"the weights of {report['equalized']} layers" in page
    written = IntegerGraph.load(config.output / "integer.safetensors")
    assert written.to_bytes() == drop_unstorable_bits(integer).to_bytes()
    assert written.narrow() == ()
    assert written.nodes == integer.nodes
    assert replay(config.output, 4).exact
    (config.output / "integer.safetensors").write_bytes(integer.to_bytes())  # what edgeq 0.1.0 left there
    assert replay(config.output, 4).exact
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
    report = built_with('"3.*" = "w4a8"', tmp_path)
    rows = {row["name"]: (row.get("weight_bits"), row.get("weight_storage")) for row in report["layers"]}
    few = {name for name, row in rows.items() if row == (4, "int4")}
    assert few == {"3.depthwise", "3.pointwise"}
    assert {row for name, row in rows.items() if name not in few} == {(8, "int8"), (None, None)}
    assert any("8 bits in 2 layers, 4 bits in 2 layers" in line for line in report["warnings"])
    with pytest.raises(ConfigError, match="called that"):
        plan(replace(config, layer_bits=("3.deepwise=w4a8",)))


def test_some_layers_have_sixteen_bits_and_the_report_says_which(config: BuildConfig, tmp_path: Path) -> None:
    report = built_with('"3.*" = "w8a16"', tmp_path)
    rows = {row["name"]: (row["op"], row["activation_bits"]) for row in report["layers"]}
    wide = {name for name, (_, bits) in rows.items() if bits == 16}
    assert {"3.depthwise", "3.pointwise"} < wide
    assert "7" not in wide
    copies = [name for name, (op, _) in rows.items() if op == "Requantize"]
    assert report["census"]["requantize"] == len(copies) == report["census"]["kinds"]["QUANTIZE"]
    assert report["census"]["quantize"] == report["census"]["float_ops"] == 0
    assert any(f"16 bits in {len(wide)} of {len(rows)} ops" in line for line in report["warnings"])
    assert not any(
        "see the census" in line or "transpose" in line or "no smaller for it" in line for line in report["warnings"]
    )
    assert replay(Path("out"), 4, seed=1).exact
    shown = CliRunner().invoke(cli, ["inspect", "out/model.tflite"])
    assert f"{len(copies)} QUANTIZE between 8 and 16 bits" in shown.output
    assert "between 8 and 16 bits" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    ("asked", "ends"),
    [
        ({}, ("int8", "int16")),
        ({"io": "int8"}, ("int8", "int8")),
        ({"io": "uint8"}, ("uint8", "uint8")),
        ({"io": "int16"}, ("int16", "int16")),
        ({"io": "float32"}, ("float32", "float32")),
        ({"raw_pixels": "yes", "layer_bits": ("0=w8a16",)}, ("uint8", "uint8")),
    ],
)
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
