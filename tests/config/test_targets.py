"""Target files: the shipped ones are whole, and a wrong one says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.config.resources import data_folder
from edgeq.config.targets import load_target, target_names, targets
from edgeq.errors import ConfigError


def test_the_shipped_targets() -> None:
    assert target_names() == [
        "onnx-android",
        "onnx-arm",
        "onnx-pi5",
        "onnx-x86",
        "tflite-android",
        "tflite-arm",
        "tflite-pi4",
        "tflite-pi5",
        "tflite-x86",
    ]
    found = {target.name: target for target in targets()}
    assert {t.format for t in found.values() if t.name.startswith("tflite")} == {"tflite"}
    assert all(t.activations == "int8" and t.io == "int8" for t in found.values() if t.format == "tflite")
    for name in ("onnx-android", "onnx-arm", "onnx-pi5", "tflite-android", "tflite-arm", "tflite-pi4", "tflite-pi5"):
        assert (found[name].machine, found[name].activations, found[name].weight_bits) == ("aarch64", "int8", 8)
    assert found["onnx-arm"].session == {"session.qdqisint8allowed": "1"}
    assert found["onnx-x86"].activations == "uint8"
    assert [found["onnx-x86"].bits_of_weights(vnni=v) for v in (True, False)] == [8, 7]
    assert [found["tflite-x86"].bits_of_weights(vnni=v) for v in (True, False)] == [8, 8]


def test_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown target 'tflite-amr' \(did you mean 'tflite-arm'\?\)"):
        load_target("tflite-amr")
    with pytest.raises(ConfigError, match=r"unknown target '\.\./tflite-arm'"):
        load_target("../tflite-arm")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('format = "tflite"', 'format = "tflit"', "did you mean 'tflite'"),
        ("weight_bits = 8", "weight_bits = 9", "weight_bits = 9 .*must be an integer from 2 to 8"),
        ("weight_bits = 8", "weigth_bits = 8", "unknown key 'weigth_bits'"),
        ("threads = 1", "threads = 0", "an integer of at least 1"),
        ('runtime = "litert"', 'runtime = "onnxruntime"', "format tflite has litert"),
        ('kernels = "xnnpack"', 'kernels = "mlas"', "format tflite has xnnpack or builtin"),
        ('activations = "int8"', 'activations = "uint8"', "format tflite has int8"),
        ("threads = 1", "", "key 'threads' is missing"),
    ],
)
def test_own_target_files(tmp_path: Path, before: str, after: str, message: str) -> None:
    text = (data_folder("targets") / "tflite-arm.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert load_target(str(path)).name == "mine"
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=message) as caught:
        load_target(str(path))
    assert "mine.toml" in str(caught.value)
