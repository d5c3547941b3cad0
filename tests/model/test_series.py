"""Networks of series (N, C, L): their shape, range and calibration, and files in which nothing is transposed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.errors import ConfigError
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.capture.walk import capture
from edgeq.graph.ops import Permute, Reshape
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.model.load import wrap_module
from edgeq.model.spec import ModelSpec, as_picture, is_series
from edgeq.pipeline.choices import choose_method
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.synth.base import SYNTHESIZERS, Request
from edgeq.synth.losses import batch_moments, squared_gaps, stored_moments
from tests.host import WIDEST


class Block(nn.Module):
    """A residual block of a temporal network."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(channels, outputs, 5, 2, 2, bias=False), nn.BatchNorm1d(outputs)
        self.skip = nn.Sequential(nn.Conv1d(channels, outputs, 1, 2, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)) + self.skip(x))


class Temporal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(5, 8, 3, padding=1), Block(8, 12), nn.MaxPool1d(2), Block(12, 16))
        self.last = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.adaptive_avg_pool1d(self.body(x), 1).squeeze(2))


def temporal() -> nn.Module:
    torch.manual_seed(0)
    net = Temporal().train()
    with torch.no_grad():
        for _ in range(30):
            net(torch.randn(16, 5, 40))
    return net.eval()


def test_a_network_of_series_is_one_of_pictures_one_row_high() -> None:
    net = temporal()
    loaded = wrap_module(net, "temporal", (5, 40))
    assert loaded.spec.input_shape == (5, 1, 40)
    assert (loaded.spec.mean, loaded.spec.std) == ((0.5,) * 5, (0.125,) * 5)
    assert loaded.spec.input_range() == (-4.0, 4.0)
    assert loaded.spec.classes == 6
    x = torch.randn(2, 5, 40)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x.unsqueeze(2)), net(x))  # type: ignore[operator]


def test_what_takes_pictures_one_row_high_is_left_alone() -> None:
    loaded = wrap_module(
        nn.Sequential(nn.Conv2d(2, 6, (1, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "net", (2, 1, 9)
    )
    assert isinstance(loaded.module, nn.Sequential)


def test_one_mean_stands_for_all_channels() -> None:
    spec = ModelSpec("net", (4, 1, 9), (0.25,), (0.5,))
    assert (spec.mean, spec.std) == ((0.25,) * 4, (0.5,) * 4)
    with pytest.raises(ConfigError, match="must be 4 finite numbers"):
        ModelSpec("net", (4, 1, 9), (0.25, 0.5), (0.5,))


def test_shapes() -> None:
    assert as_picture((40, 101)) == (40, 1, 101)
    assert as_picture([3, 8, 8]) == (3, 8, 8)
    assert is_series((40, 1, 101))
    assert not is_series((3, 8, 8))
    assert not is_series((3, 1, 1))


def request(iterations: int) -> Request:
    loaded = wrap_module(temporal(), "temporal", (5, 40))
    graph = capture(loaded.module, loaded.spec.input_shape, "temporal")  # type: ignore[arg-type]
    low, high = loaded.spec.channel_range()
    recipe = {"series": {"iterations": iterations}}
    return Request(graph, low, high, 6, 24, seed=1, effort="fast", recipe=recipe)


def gap(made: Request, inputs: np.ndarray) -> float:  # type: ignore[type-arg]
    stored = stored_moments(made.graph)
    values = GraphModule(made.graph).run(torch.from_numpy(inputs), keep=stored)
    return float(squared_gaps({name: batch_moments(values[name]) for name in stored}, stored))


def test_series_match_what_batch_norms_remember_and_have_their_class() -> None:
    made = request(60)
    drawn = SYNTHESIZERS.get("series")(made)
    assert drawn.inputs.shape == (24, 5, 1, 40)
    assert np.abs(drawn.inputs).max() <= 4
    assert np.array_equal(drawn.inputs, SYNTHESIZERS.get("series")(made).inputs)
    noise = np.random.default_rng(0).uniform(-4, 4, drawn.inputs.shape).astype(np.float32)
    assert gap(made, drawn.inputs) < 0.2 * gap(made, noise)
    answers = GraphModule(made.graph)(torch.from_numpy(drawn.inputs)).argmax(1).numpy()  # type: ignore[union-attr]
    assert np.mean(answers == drawn.labels) > 0.5
    assert choose_method("auto", made.graph)[0] == "series"


def test_a_network_of_series_is_exact_and_moves_nothing() -> None:
    made = request(1)
    graph = optimize(made.graph)
    assert not list(graph.of_kind(Permute))
    assert len(list(graph.of_kind(Reshape))) == 1  # to the linear layer
    drawn = SYNTHESIZERS.get("series")(made)
    integer = quantize(graph, drawn, (-4.0, 4.0), Scheme.of("w8a8", widest=WIDEST))
    data = write_tflite(integer)
    assert census(data).clean
    assert verify_tflite(integer, data, drawn.inputs[:3]).exact
    onnx = write_onnx(integer, activations="uint8")
    assert verify_onnx(integer, onnx, drawn.inputs[:3], "uint8").max_step <= 1
