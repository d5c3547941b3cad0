"""Shuffles of channels and pixels, captured as moves."""

from __future__ import annotations

import pytest
from graph_networks import same
from torch import nn

from edgeq.graph.capture.walk import capture
from edgeq.graph.ops import Permute


@pytest.mark.parametrize("part", [nn.PixelShuffle(2), nn.PixelUnshuffle(3), nn.ChannelShuffle(4)], ids=str)
def test_shuffles_are_torchs(part: nn.Module) -> None:
    shape = (8, 6, 9)
    graph = capture(part, shape, "shuffle")
    assert len(list(graph.of_kind(Permute))) == 1
    same(part, graph, shape)
