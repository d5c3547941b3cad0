"""What a device needs to know of a model file before it runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.read import read_entry
from tests.device.tiny import tiny_model
from tests.formats.residual import frozen, residual_network


@pytest.mark.parametrize(("activations", "signed"), [("int8", True), ("uint8", False)])
def test_signed_activations_are_known_whatever_the_input_is(activations: str, signed: bool, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(write_onnx(frozen(residual_network()), activations=activations, io="float32"))
    found = read_entry(model)
    assert (found.type, found.scale, found.zero_point, found.signed) == ("float32", 1.0, 0, signed)


def test_an_integer_input_says_what_its_integers_mean(tmp_path: Path) -> None:
    found = read_entry(tiny_model(tmp_path / "build") / "model.tflite")
    assert (found.type, found.signed) == ("int8", False)
    assert found.scale > 0
