"""A normalisation at the end of an embedding: left to the app where angles count, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.walk import capture, unsupported_calls
from edgeq.graph.run import GraphModule


class Embedding(nn.Module):
    """Six values per image, then `end`."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.end = end
        self.conv = nn.Conv2d(3, 6, 4)
        self.weight = nn.Parameter(torch.linspace(0.5, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.conv(x).flatten(1))


NORMALIZED = {
    "normalize": lambda row: F.normalize(row),
    "norm": lambda row: row / row.norm(dim=1, keepdim=True),
    "vector_norm": lambda row: row / torch.linalg.vector_norm(row, dim=-1, keepdim=True).clamp(min=1e-6),
    "rsqrt": lambda row: row * row.square().sum(1, keepdim=True).rsqrt(),
    "sqrt": lambda row: row / torch.sqrt((row * row).sum(1, keepdim=True)),
}


@pytest.mark.parametrize("form", NORMALIZED)
def test_a_normalisation_is_left_to_the_app(form: str) -> None:
    torch.manual_seed(0)
    network = Embedding(NORMALIZED[form]).eval()
    graph = capture(network, (3, 4, 4), "face", angles=True)
    assert unsupported_calls(network, (3, 4, 4), angles=True) == []
    image = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        vector = GraphModule(graph).eval()(image)
        torch.testing.assert_close(F.normalize(vector), network(image), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vector, network.conv(image).flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "end",
    [
        lambda row: row / 3.0,
        lambda row: row * torch.sigmoid(row),
        lambda row: row.relu(),
    ],
)
def test_other_endings_stay(end: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    network = Embedding(end).eval()
    graph = capture(network, (3, 4, 4), "face", angles=True)
    image = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(GraphModule(graph).eval()(image), network(image), rtol=1e-4, atol=1e-5)


def test_what_only_resembles_one_is_refused() -> None:
    torch.manual_seed(0)
    network = Embedding(lambda row: row / row.square().sum(1, keepdim=True)).eval()
    with pytest.raises(UnsupportedError, match="answers otherwise"):
        capture(network, (3, 4, 4), "face", angles=True)
