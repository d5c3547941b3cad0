"""Functions of the Python API on a small network: what they take, give and refuse."""

import dataclasses
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgeq
from edgeq.cli import cli
from edgeq.integer.graph import IntegerGraph
from tests.cli.console import run

PIXELS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


@pytest.fixture(scope="module")
def model() -> edgeq.Model:
    return edgeq.trace(network(), (3, 8, 8), classes=4, name="tiny", **PIXELS)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (8, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def net(model: edgeq.Model, images: np.ndarray) -> IntegerGraph:
    return edgeq.quantize(model, images, bits="w6a4")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_tracing_leaves_the_network_as_it_is(model: edgeq.Model) -> None:
    mine = network().double().train()
    found = edgeq.trace(mine, (3, 8, 8))
    assert mine.training
    assert next(mine.parameters()).dtype == torch.float64
    assert found.spec.assumed == ("mean", "std", "task")
    assert found.spec.classes == model.spec.classes == 4
    with pytest.raises(edgeq.ConfigError, match="its spec says classes = 5"):
        edgeq.trace(mine, (3, 8, 8), classes=5)
    with pytest.raises(edgeq.ConfigError, match=r"no torch\.nn\.Module"):
        edgeq.trace("resnet20", (3, 8, 8))  # type: ignore[arg-type]


def test_integers_are_those_of_a_build(model: edgeq.Model) -> None:
    images = edgeq.synthesize(model, "noise", count=8)
    net = edgeq.quantize(model, images, bits="w4a8")
    report = edgeq.build(model, bits="w4a8", method="noise", images=8, output=Path("out"), cache="cache")
    assert IntegerGraph.load(Path("out/integer.safetensors")).digest() == net.digest()
    edgeq.write(net, "net.tflite")
    with_metadata = edgeq.build(
        model, bits="w4a8", method="noise", images=8, output="again", cache="cache", metadata="no"
    )
    assert Path("net.tflite").read_bytes() == with_metadata.file.read_bytes()
    assert dict(edgeq.Report.read("out")) == dict(report)
    assert edgeq.build(model, locked="out", output="locked", cache="cache")["artifact"] == report["artifact"]
    assert "edgeq.build(model, target=" in Path("out/report.html").read_text()
    assert edgeq.check(report, max_bytes=10).held is False
    assert edgeq.check("out", max_bytes="1M").held


def test_a_file_holds_what_it_can_of_few_bits(model: edgeq.Model, net: IntegerGraph, images: np.ndarray) -> None:
    assert net.narrow()
    edgeq.write(net, "net.tflite")
    assert edgeq.verify("net.tflite", net, images).exact
    other = edgeq.quantize(model, images * 0.5)
    assert not edgeq.verify("net.tflite", other, images).held


def test_what_cannot_be_is_refused_in_one_line(model: edgeq.Model, net: IntegerGraph, images: np.ndarray) -> None:
    for wrong, what in (
        (lambda: edgeq.quantize(model, images[:, :1]), r"takes \(N, C, H, W\)"),
        (lambda: edgeq.quantize(model, images * np.nan), "not finite"),
        (lambda: edgeq.quantize(model, images, target="tflite-amr"), "did you mean 'tflite-arm'"),
        (lambda: edgeq.build(model, bit="w4a8"), "did you mean 'bits'"),  # type: ignore[call-arg]
        (lambda: edgeq.build(model, mean=(0.5,)), "mean of a loaded model"),
        (lambda: edgeq.build(model, target=["a", "b"]), "one is built at a time"),  # type: ignore[typeddict-item]
        (lambda: edgeq.check("out", max_dorp=1.0), "did you mean 'max_drop'"),  # type: ignore[call-arg]
        (lambda: edgeq.write(net, "net.bin"), r"end it in \.tflite or \.onnx"),
        (lambda: edgeq.write(net, "net.onnx", target="tflite-arm"), r"its files end in \.tflite"),
        (lambda: edgeq.write(net, "missing/net.tflite"), "create the folder first"),
        (lambda: edgeq.verify("missing.tflite", net, images), "no such file"),
        (lambda: edgeq.evaluate(net, (np.zeros((1, 8, 8, 3), np.uint8), [0])), "no model"),
        (lambda: edgeq.evaluate(model), "no labelled images"),
        (lambda: edgeq.load("resnet21"), "unknown model"),
    ):
        with pytest.raises(edgeq.ConfigError, match=what):
            wrong()


def test_arrays_are_evaluated_as_the_file_of_them_is(model: edgeq.Model, net: IntegerGraph) -> None:
    rng = np.random.default_rng(1)
    pixels, labels = rng.integers(0, 256, (12, 8, 8, 3), np.uint8), rng.integers(0, 4, 12)
    np.savez("test.npz", images=pixels, labels=labels)
    edgeq.write(net, "net.tflite")
    for what in (model, net, "net.tflite"):
        one, other = (edgeq.evaluate(what, data, model=model) for data in ((pixels, labels), "test.npz"))
        assert one.predictions.tolist() == other.predictions.tolist()
    assert edgeq.evaluate(model, "test.npz", limit=4).n == 4
    with torch.no_grad():
        inputs = torch.from_numpy(model.spec.normalise(pixels))
        assert edgeq.evaluate(model, "test.npz").predictions.tolist() == network().eval()(inputs).argmax(1).tolist()


def test_progress_goes_to_the_logger_and_nowhere_else(
    model: edgeq.Model, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    random.seed(0)
    with caplog.at_level(logging.INFO, "edgeq"):
        edgeq.synthesize(model, "noise", count=2, seed=7)
    assert {record.name for record in caplog.records} == {"edgeq"}
    assert any("synthesize" in record.getMessage() for record in caplog.records)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_build_finds_gradients_where_the_caller_has_none(model: edgeq.Model, without: type) -> None:
    with without():
        images = edgeq.synthesize(model, "gzsq", count=2, effort="fast")
        assert not torch.is_grad_enabled()
    assert np.isfinite(images.inputs).all()


def test_show_prints_the_table_of_a_graph(net: IntegerGraph) -> None:
    Path("integer.safetensors").write_bytes(net.to_bytes())
    result = run("show", ".")
    assert result.exit_code == 0
    assert result.stdout == f"{net}\n"
    rows = {line.split()[0]: line for line in str(net).splitlines()}
    assert "w6a4" in rows["3"] or "w6a8" in rows["3"]
    assert "1x8x4x4" in rows["0"]
    assert "show" in cli.list_commands(None)  # type: ignore[arg-type]
    assert "\x1b" not in str(dataclasses.replace(net, name="\x1b[2J"))
