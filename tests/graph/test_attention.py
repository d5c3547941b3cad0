"""Attention and what comes with it: products of activations, constants as operands, and a batch that moves about."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Affine, Constant, MatMul, Permute, Softmax
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule


class Forward(nn.Module):
    """A network of one function; `shape` is that of an image."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor) -> None:
        super().__init__()
        self.function = function
        for name, tensor in parameters.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def captured(network: nn.Module, *shape: int) -> Graph:
    """The optimised graph, which answers a batch of images as the network answers each of them."""
    graph = optimize(capture(network.eval(), shape, "net"))
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = GraphModule(graph)(x)
        assert isinstance(whole, Tensor)
        for image, answer in zip(x, whole, strict=True):
            wanted = network(image[None])
            assert torch.allclose(answer.reshape(wanted.shape), wanted, atol=1e-4)
    return graph


def heads(x: Tensor, count: int = 2) -> Tensor:
    """``(1, N, C)`` to query, key and value ``(3, 1, count, N, C / 3 / count)``."""
    n, length, size = x.shape
    return x.reshape(n, length, 3, count, size // 3 // count).permute(2, 0, 3, 1, 4)


def by_hand(net: Forward, x: Tensor) -> Tensor:
    q, k, v = heads(F.linear(x, net.weight)).unbind(0)
    scores = (q * 0.5) @ k.transpose(-2, -1)
    return (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, x.shape[1], -1)


def in_one_call(net: Forward, x: Tensor) -> Tensor:
    q, k, v = heads(F.linear(x, net.weight))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def scaled_behind(net: Forward, x: Tensor) -> Tensor:
    q, k, v = heads(F.linear(x, net.weight))
    return ((q @ k.mT * 0.3).softmax(-1) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("function", [by_hand, in_one_call, scaled_behind])
def test_attention_is_two_products_and_its_scale_is_no_op(function: Callable[..., Tensor]) -> None:
    graph = captured(Forward(function, weight=torch.randn(24, 8) / 3), 5, 8)
    products = list(graph.of_kind(MatMul))
    assert len(products) == 2
    assert products[0].op == MatMul(transposed=True)
    assert not list(graph.of_kind(Affine))
    assert sum(1 for _ in graph.layers()) == 1
    assert sum(1 for _ in graph.of_kind(Softmax)) == 1


def test_a_mask_is_a_constant_and_what_it_hides_stays_hidden() -> None:
    def causal(net: Forward, x: Tensor) -> Tensor:
        q, k, v = heads(F.linear(x, net.weight))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).flatten(2)

    def masked(net: Forward, x: Tensor) -> Tensor:
        q, k, v = heads(F.linear(x, net.weight))
        hidden = torch.full((5, 5), float("-inf")).triu(1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=hidden).flatten(2)

    for function in (causal, masked):
        graph = captured(Forward(function, weight=torch.randn(24, 8) / 3), 5, 8)
        (mask,) = (graph.constants[node.inputs[0]] for node in graph.of_kind(Constant))
        (soft,) = graph.of_kind(Softmax)
        assert mask.min() * soft.op.beta == pytest.approx(-30)  # type: ignore[attr-defined]


def windows(net: Forward, x: Tensor) -> Tensor:
    """Attention within windows of 2 x 2 pixels, which torch takes for images."""
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
    q, k, v = F.linear(parts, net.weight).chunk(3, -1)
    mixed = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)) / 2, -1), v)
    return mixed.view(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


FORMS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "windows": (windows, (4, 4, 6)),
    "the batch in the middle": (lambda s, x: F.linear(x.transpose(0, 1), s.weight).relu().transpose(0, 1), (5, 4)),
    "no batch": (lambda s, x: F.gelu(F.linear(x.squeeze(0), s.weight))[None], (5, 4)),
    "softmax of rows": (lambda s, x: torch.softmax(x, 3), (4, 3, 5)),
    "softmax of tokens": (lambda s, x: torch.softmax(x, 1) * x, (4, 5)),
    "pooled by attention": (lambda s, x: torch.softmax(x[..., :1], 1).transpose(1, 2) @ x, (5, 4)),
    "a product of maps": (lambda s, x: x.flatten(2) @ x.flatten(2).transpose(1, 2), (4, 3, 5)),
    "a constant matrix behind": (lambda s, x: x @ s.weight.t(), (5, 4)),
    "a constant matrix in front": (lambda s, x: s.square @ x, (5, 4)),
    "a token in front": (lambda s, x: torch.cat([s.token.expand(x.shape[0], -1, -1), x], 1).relu(), (5, 4)),
    "a sum per place": (lambda s, x: (x + s.places).relu(), (5, 4)),
    "a product per place": (lambda s, x: x * s.places, (5, 4)),
    "a constant minus a value": (lambda s, x: s.places - x, (5, 4)),
    "a picture's grid": (lambda s, x: x * torch.arange(15.0).view(3, 5) + 1, (4, 3, 5)),
    "fewer dimensions": (lambda s, x: x[:, :1, 0] + x, (4, 3, 5)),
    "an empty part": (lambda s, x: torch.cat([x, torch.zeros(1, 0, 4)], 1).relu(), (5, 4)),
    "a linear layer without a batch": (lambda s, x: F.linear(x.reshape(-1), torch.ones(3, 20) / 9), (5, 4)),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    function, shape = FORMS[name]
    random = torch.Generator().manual_seed(1)
    parameters = {"weight": (12, 4), "square": (5, 5), "token": (1, 1, 4), "places": (1, 5, 4)}
    drawn = {key: torch.randn(size, generator=random) for key, size in parameters.items()}
    captured(Forward(function, **drawn), *shape)


def test_moves_of_a_constant_are_made_once() -> None:
    graph = captured(Forward(lambda s, x: x + s.places.transpose(1, 2), places=torch.randn(1, 4, 5)), 5, 4)
    assert not list(graph.of_kind(Permute))


def test_a_scale_that_another_reader_would_see_stays() -> None:
    """Half of the channels are scaled, and all of them are read elsewhere, too."""

    def function(net: Forward, x: Tensor) -> Tensor:
        y = F.linear(x, net.weight)
        return torch.cat([y[..., :2] * 3, y], -1)

    captured(Forward(function, weight=torch.randn(4, 4)), 5, 4)


def test_multihead_attention_of_torch() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    torch.manual_seed(0)
    graph = captured(Encoder(), 5, 8)
    assert sum(1 for _ in graph.of_kind(MatMul)) == 2
