"""Block reconstruction and blended images: edgeq's own additions, each of which a setting turns off."""

import numpy as np
import torch

from edgeq.finetune.discrepancy import block_gap
from edgeq.finetune.sources import ImageSet
from edgeq.finetune.taps import block_ends
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize


def test_gap_is_zero_between_equals_and_in_units_of_the_teacher():
    torch.manual_seed(0)
    teacher = {"a": torch.randn(2, 3, 4, 4), "y": torch.randn(2, 5)}
    assert float(block_gap(teacher, teacher, ["a"], ["y"])) == 0
    student = {name: value * 1.1 for name, value in teacher.items()}
    np.testing.assert_allclose(float(block_gap(teacher, student, ["a"], ["y"])), 2 * 0.01, rtol=1e-3)
    larger = [{name: value * 100 for name, value in side.items()} for side in (teacher, student)]
    np.testing.assert_allclose(float(block_gap(*larger, ["a"], ["y"])), 2 * 0.01, rtol=1e-3)


def test_blocks_end_in_their_sums_or_else_in_convolutions():
    class Residual(torch.nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Conv2d(4, 4, 3, padding=1) for _ in range(depth))

        def forward(self, x):
            for layer in self.layers:
                x = torch.relu(x + layer(x))
            return x

    deep = optimize(capture(Residual(4).eval(), (4, 8, 8), "deep"))
    shallow = optimize(capture(Residual(2).eval(), (4, 8, 8), "shallow"))
    assert len(block_ends(deep)) == 4
    assert {type(deep.shapes[name]) for name in block_ends(deep)} == {tuple}
    kinds = {node.name: type(node.op).__name__ for node in (*deep.nodes, *shallow.nodes)}
    assert [kinds[name] for name in block_ends(shallow)] == ["Conv2d"] * 2


def test_every_second_image_is_a_blend_and_the_rest_are_the_set_s_own():
    inputs = torch.stack([torch.full((1, 2, 2), float(n)) for n in (0, 10, 20, 30)])
    random = torch.Generator().manual_seed(0)
    made = ImageSet(inputs, 0.0, blend=0.5).images(64, random)[:, 0, 0, 0]
    assert set(made[::2].tolist()) <= {0.0, 10.0, 20.0, 30.0}
    assert len(set(made[1::2].tolist())) > 10
    assert float(made.max()) <= 30.0
