"""A small share of what `benchmarks/fuzz.py` does at length: mutants are read or refused, and none shows a bug."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.errors import ArtifactError, EdgeqError
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.writer import write_tflite
from edgeq.isolation import Isolated
from edgeq.report.check import check
from edgeq.report.schema import SCHEMA
from tests.formats.residual import frozen, residual_network
from tests.mutants import ONNX, TFLITE, Reader, damage, hostile_json, mutate_onnx, mutate_tflite


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    integers = frozen(residual_network())
    return {"tflite": write_tflite(integers, io="int8"), "onnx": write_onnx(integers, activations="int8", io="int8")}


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_mutants_are_read_and_run_or_refused(
    kind: str, models: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.isolation.PATIENCE", 5.0)
    path = tmp_path / f"model.{kind}"
    said = []
    seeds = iter(range(12))
    while (seed := next(seeds, None)) is not None:
        try:
            with Isolated(Reader) as reader:
                while seed is not None:
                    random = np.random.default_rng(seed)
                    mutate = mutate_onnx if kind == "onnx" else mutate_tflite
                    path.write_bytes(mutate(models[kind], random)[1] if seed % 3 else damage(models[kind], random))
                    said.append(str(reader.call("read", path)))
                    seed = next(seeds, None)
        except ArtifactError as error:  # a runtime crashed, or got stuck
            said.append(str(error))
    assert len(said) == 12
    assert len(set(said)) > 3
    assert all(line.isprintable() for line in said)


def test_there_are_mutants_of_every_kind(models: dict[str, bytes]) -> None:
    """A mutation that can never be drawn, or changes nothing, would prove nothing."""
    for kind, mutate, known in (("onnx", mutate_onnx, ONNX), ("tflite", mutate_tflite, TFLITE)):
        made = [mutate(models[kind], np.random.default_rng(seed)) for seed in range(80)]
        assert {name for name, _ in made} == set(known)
        assert len({data for _, data in made}) > 50


@pytest.mark.parametrize("place", ["../../../etc/passwd", "/etc/passwd", "weights.bin"])
def test_no_other_file_is_read_for_a_models_weights(place: str, models: dict[str, bytes], tmp_path: Path) -> None:
    import onnx

    proto = onnx.ModelProto.FromString(models["onnx"])
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (tmp_path / "weights.bin").write_bytes(bytes(10_000))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    for words in (["inspect", str(path)], ["bench", str(path)], ["eval", str(path), "--model", "x", "--data", "y"]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 2, done.output
        assert "keeps its values in another file" in done.stderr


def test_ops_that_wait_for_each_other_are_refused(models: dict[str, bytes], tmp_path: Path) -> None:
    import onnx

    proto = onnx.ModelProto.FromString(models["onnx"])
    proto.graph.node[0].input[0] = proto.graph.node[-1].output[0]
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    for words in (["inspect", str(path)], ["bench", str(path)]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 2, done.output
        assert "waits for its own output" in done.stderr


def _verdict(folder: Path) -> str:
    try:
        found = check(folder, max_drop=5, min_agreement=0.5, max_bytes=10, max_latency_ratio=1, max_device_ms=9)
    except EdgeqError as error:
        return str(error)
    return "passed" if found.held else "failed"


def test_hostile_reports_are_judged_or_refused(tmp_path: Path) -> None:
    whole = {
        "schema": SCHEMA,
        "model": "net",
        "target": "tflite-arm",
        "artifact": {"path": "model.tflite", "sha256": "0"},
        "accuracy": {"n": 10, "float": {"score": 90.0}, "integer": {"score": 89.0}, "agreement": 0.99, "sha256": "0"},
        "latency": {"ratio": 0.5, "valid": True},
        "exactness": {"values": 9, "equal": 9},
        "devices": [{"name": "local", "latency": {"ratio": 0.5}, "valid": True, "doubts": [], "accuracy": None}],
    }
    text = json.dumps(whole)
    (tmp_path / "model.tflite").write_bytes(b"")
    for seed in range(300):
        random = np.random.default_rng(seed)
        damaged = hostile_json(text, random) if seed % 2 else damage(text.encode(), random, True).decode()
        (tmp_path / "report.json").write_text(damaged)
        verdict = _verdict(tmp_path)
        assert verdict != "passed"
        assert verdict.isprintable()
