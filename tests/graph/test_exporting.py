"""Which exported programs can be read as they are, and that reading them so changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from graph_networks import same, settled
from torch import Tensor, nn

from edgeq.graph.capture import torch_export as exporting
from edgeq.graph.capture.torch_export import export, functionalize, writes_alone
from edgeq.graph.capture.walk import capture, capture_program


class Residual(nn.Module):
    """What torchvision's blocks do in place, and a dropout behind a view, which writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.end = nn.Sequential(nn.Flatten(), nn.Dropout(inplace=True), nn.Linear(100, 3), nn.Hardswish(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.conv(x)), inplace=True)
        y += x
        return self.end(F.relu_(y))


class ReadLater(nn.Module):
    """A view is taken before the whole, or the `part` that it is, is written."""

    def __init__(self, part: bool) -> None:
        super().__init__()
        self.conv, self.part = nn.Conv2d(3, 4, 1), part

    def forward(self, x: Tensor) -> Tensor:
        whole = self.conv(x)
        half = whole[:, :2]
        torch.relu_(half if self.part else whole)
        return torch.cat([whole, half], 1)


def test_writes_that_nobody_else_sees_need_no_functional_program() -> None:
    torch.manual_seed(0)
    module = settled(Residual())
    program = export(module, (4, 5, 5), "residual")
    assert writes_alone(program)
    graph, plain = (
        capture(module, (4, 5, 5), "residual"),
        capture_program(functionalize(program, "residual"), "residual"),
    )
    assert [node.op for node in graph.nodes] == [node.op for node in plain.nodes]
    assert list(graph.constants) == list(plain.constants)
    same(module, graph, (4, 5, 5))


def test_a_write_seen_through_a_view_does() -> None:
    torch.manual_seed(0)
    module = ReadLater(part=False).eval()
    assert not writes_alone(export(module, (3, 4, 4), "later"))
    same(module, capture(module, (3, 4, 4), "later"), (3, 4, 4))


def test_a_write_into_a_view_changes_the_whole() -> None:
    torch.manual_seed(0)
    module = ReadLater(part=True).eval()
    same(module, capture(module, (3, 4, 4), "part"), (3, 4, 4))


def test_a_write_to_the_input_does() -> None:
    assert not writes_alone(export(nn.ReLU(inplace=True), (4, 3, 3), "first"))


def test_a_torch_without_the_setting_exports_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.fx, "config", SimpleNamespace())
    with exporting._without_stack_traces():
        assert vars(torch.fx.config) == {}
