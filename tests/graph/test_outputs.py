"""Answers that are no single tensor: taken apart where they hold tensors, one line where they hold none."""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from odd_networks import Net
from torch import Tensor, nn

from edgeq.errors import ConfigError, EdgeqError, UnsupportedError
from edgeq.graph.capture.walk import capture

SHAPE = (3, 8, 8)
Pair = namedtuple("Pair", "scores features")


@dataclass
class Answer:
    scores: Tensor
    features: Tensor | None = None


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (lambda s, x: {"y": s.conv(x), "deep": [s.fc(s.conv(x).mean((2, 3))), None, 3]}, 2),
        (lambda s, x: [s.conv(x), [torch.relu(s.conv(x))]], 2),
        (lambda s, x: Pair(s.conv(x), s.conv(x)), 2),
        (lambda s, x: Answer(s.conv(x), torch.relu(s.conv(x))), 2),
        (lambda s, x: (s.fc.bias, s.conv(x)), 1),
        (lambda s, x: (7, "text", s.conv(x), torch.arange(3)), 1),
    ],
)
def test_tensors_are_found_in_any_answer(body: Callable[[Any, Tensor], Any], outputs: int) -> None:
    assert len(capture(Net(body).eval(), SHAPE, "net").outputs) == outputs


@pytest.mark.parametrize("answer", [None, 3, "text", (), torch.Size([1, 2])])
def test_answers_without_a_value_of_the_image_are_one_line(answer: object) -> None:
    with pytest.raises(UnsupportedError, match="at net"):
        capture(Net(lambda s, x: answer).eval(), SHAPE, "net")


def leave(s: Any, x: Tensor) -> Tensor:
    sys.exit(4)


def mismatched(s: Any, x: Tensor) -> Tensor:
    out: Tensor = s.fc(s.conv(x).flatten(1))
    return out


class NoEval(nn.Module):
    def eval(self) -> Any:
        raise RuntimeError("this network has no eval")


def without_signature() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    network.forward = None  # type: ignore[method-assign,assignment]
    return network


def hooked() -> nn.Module:
    def fail(module: nn.Module, given: Any, answer: Any) -> None:
        raise KeyError("a hook\nof two lines")

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    network[1].register_forward_hook(fail)
    return network


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Net(leave).eval(), "does not run"),
        (lambda: Net(mismatched).eval(), r"does not run .* at net\.fc: mat1 and mat2"),
        (hooked, r"does not run .* at net\.1: 'a hook"),
        (NoEval, "no eval"),
        (without_signature, "does not run"),
    ],
)
def test_whatever_a_network_raises_is_one_line(make: Callable[[], nn.Module], why: str) -> None:
    with pytest.raises(EdgeqError, match=why) as caught:
        capture(make(), SHAPE, "net")
    assert isinstance(caught.value, ConfigError)
    assert "\n" not in str(caught.value)
