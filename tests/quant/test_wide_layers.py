"""Linear layers of very many inputs: their weights are tiny beside an output step, and their sums may leave 32 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import onnxruntime.quantization as peer
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.tflite.session import KERNELS, LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST
from tests.quant.test_extreme_scales import sqnr

Array = npt.NDArray[np.float32]


def meter(side: int) -> nn.Module:
    """Brightness of an image and of its upper half: all weights are small and of one sign."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 2))
    weight = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.8
    weight[1, :, side // 2 :] *= 0.05
    network[1].weight.data = (weight / weight[0].sum()).reshape(2, -1)
    network[1].bias.data = torch.tensor([0.0, 0.01])
    return network.eval()


def pictures(count: int, side: int, seed: int) -> Array:
    random = np.random.default_rng(seed)
    levels = random.uniform(0.05, 0.95, (count, 1, 1, 1)) + random.normal(0, 0.05, (count, 3, side, side))
    return np.clip(levels, 0, 1).astype(np.float32)


class Reader(peer.CalibrationDataReader):
    def __init__(self, name: str, images: Array) -> None:
        self.left = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)


def peer_answers(data: bytes, images: Array, inputs: Array, folder: Path) -> Array:
    """Of onnxruntime's own quantizer; weights of 7 bits, which no processor's sums saturate on."""
    (folder / "float.onnx").write_bytes(data)
    name = ort.InferenceSession(data).get_inputs()[0].name
    peer.quantize_static(
        folder / "float.onnx",
        folder / "peer.onnx",
        Reader(name, images),
        per_channel=True,
        reduce_range=True,
        activation_type=peer.QuantType.QUInt8,
        weight_type=peer.QuantType.QInt8,
    )
    session = ort.InferenceSession(folder / "peer.onnx")
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in inputs])


@pytest.mark.parametrize("side", [48, 112])
def test_weights_far_below_an_output_step_keep_their_levels(side: int, tmp_path: Path) -> None:
    network, images, inputs = meter(side), pictures(16, side, 1), pictures(8, side, 2)
    graph = optimize(capture(network, (3, side, side), "net"))
    calibration = CalibrationSet(images, np.full(16, -1, np.int64), "test")
    decided = calibrate(graph, calibration, (0.0, 1.0), scheme=Scheme.of("w8a8", widest=WIDEST))
    made = freeze(graph, decided)
    assert not made.dead_channels
    assert not made.notes
    with torch.no_grad():
        want = network(torch.from_numpy(inputs)).numpy()
    least = sqnr(want, peer_answers(write_onnx_float(graph), images, inputs, tmp_path)) - 3
    assert least > 35
    data = write_tflite(made.graph)
    answers = [LiteRTSession(data, kernels=kernels).run(inputs)[0] for kernels in KERNELS]
    answers.append(OrtSession(write_onnx(made.graph, activations="uint8")).run(inputs)[0])
    for got in answers:
        assert sqnr(want, got) > least


def test_sums_that_would_leave_32_bits_cost_levels_of_weights_and_a_note() -> None:
    side = 224
    network = meter(side)
    graph = optimize(capture(network, (3, side, side), "net"))
    images = pictures(8, side, 1)
    images[0] = 1.0  # 150,528 inputs of 255 steps, times weights of up to 127
    calibration = CalibrationSet(images, np.full(8, -1, np.int64), "test")
    made = freeze(graph, calibrate(graph, calibration, (0.0, 1.0), scheme=Scheme()))
    (layer,) = (node for node in made.graph.nodes if node.name in str(made.notes))
    assert "the weights of 1 of its channels have fewer levels" in made.notes[0]
    levels = np.abs(made.graph.constants[layer.inputs[1]].astype(int)).max(1)
    assert 55 < levels[0] < 80 < 110 < levels[1]
    data = write_tflite(made.graph)
    assert verify_tflite(made.graph, data, images[:2]).exact
    with torch.no_grad():
        want = network(torch.from_numpy(images)).numpy()
    for kernels in KERNELS:
        assert sqnr(want, LiteRTSession(data, kernels=kernels).run(images)[0]) > 40
