"""A build whose file computes other values than it should is a failed build, and leaves what was there."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.formats.metadata import ModelMetadata
from edgeq.formats.onnx.format import ONNX
from edgeq.formats.tflite.format import TFLite
from edgeq.integer.graph import IntegerGraph
from edgeq.pipeline.build import build


@pytest.mark.parametrize(("target", "kind"), [("tflite-arm", TFLite), ("onnx-x86", ONNX)])
def test_a_file_of_other_values_is_not_released(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch, target: str, kind: type[TFLite | ONNX]
) -> None:
    config = replace(config, method="noise", targets=(target,))
    build(config)
    assert config.output is not None
    before = {path.name: path.read_bytes() for path in config.output.iterdir()}
    honest = kind.write

    def wrong(
        self: TFLite | ONNX, graph: IntegerGraph, io: str | None, weights: str, about: ModelMetadata | None
    ) -> bytes:
        bias = next(node.inputs[2] for node in graph.nodes if node.name == "3.pointwise")
        changed = {**graph.constants, bias: graph.constants[bias] + np.int32(20_000)}
        return honest(self, dataclasses.replace(graph, constants=changed), io, weights, about)

    monkeypatch.setattr(kind, "write", wrong)
    words = ["build", "model.toml", "--method", "noise", "--images", "8", "--effort", "fast", "--target", target]
    result = CliRunner().invoke(cli, [*words, "-o", "out", "--seed", "1", "--cache", "wrong", "--json"])
    assert result.exit_code == 1, (result.stderr, result.exception)
    line = result.stderr.strip().splitlines()[-1]
    assert "first 3.pointwise, " in line
    assert "of whose values differ by up to" in line
    assert "kept as wrong/write-" in line
    assert {path.name: path.read_bytes() for path in config.output.iterdir()} == before


def test_verify_and_build_judge_alike(config: BuildConfig) -> None:
    build(replace(config, method="noise", targets=("onnx-arm",)))
    told = json.loads(CliRunner().invoke(cli, ["verify", str(config.output), "--json"]).stdout)
    assert (told["passed"], told["allowed_steps"]) == (True, 1)
