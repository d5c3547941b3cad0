"""The checks that would catch a wrong discrepancy: symmetry, bounds, invariance, and zero between equals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeq.finetune.discrepancy import (
    attention_relation_gap,
    channel_relations,
    feature_gap,
    output_gap,
    relation_gap,
    soft_divergence,
)


def features(seed=0, shape=(2, 6, 5, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).relu()


def test_relation_map_is_symmetric_with_ones_and_bounded():
    value = features()
    value[:, 3] = 0  # a dead channel is related to nothing, not even itself
    relations = channel_relations(value)
    torch.testing.assert_close(relations, relations.transpose(1, 2))
    diagonal = relations.diagonal(dim1=1, dim2=2)
    alive = [0, 1, 2, 4, 5]
    torch.testing.assert_close(diagonal[:, alive], torch.ones(2, 5))
    assert (diagonal[:, 3] == 0).all()
    assert relations.min() >= 0
    assert relations.max() <= 1 + 1e-6


@given(st.floats(1e-3, 1e3))
def test_relation_map_does_not_see_a_channel_s_scale(scale):
    value = features()
    scaled = value.clone()
    scaled[:, 2] *= scale
    torch.testing.assert_close(channel_relations(scaled), channel_relations(value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gap", [relation_gap, attention_relation_gap, soft_divergence])
def test_no_gap_between_equals_and_some_between_others(gap):
    one, other = features(0), features(1)
    assert float(gap(one, one)) == pytest.approx(0, abs=1e-7)
    assert float(gap(one, other)) > 1e-3


def test_output_gap_counts_every_output_once_and_relative_ones_by_the_teacher():
    teacher, student = (
        [torch.full((2, 3), 4.0), torch.zeros(2, 8, 4, 4)],
        [torch.full((2, 3), 5.0), torch.ones(2, 8, 4, 4)],
    )
    assert float(output_gap(teacher, student)) == pytest.approx(1.0)


@pytest.mark.parametrize("omega", ["equal", "softmax", "inverse"])
def test_weights_of_taps_sum_to_one_and_carry_no_gradient(omega):
    teacher = {"a": features(0), "b": features(2)}
    student = {"a": features(1).requires_grad_(), "b": features(2)}
    gap = feature_gap(teacher, student, ["a", "b"], omega=omega)
    alone = relation_gap(teacher["a"], student["a"])
    share = float(gap.detach() / alone.detach())
    (gradient,) = torch.autograd.grad(gap, student["a"])
    (whole,) = torch.autograd.grad(alone, student["a"])
    assert 0 < share <= 1
    torch.testing.assert_close(gradient, share * whole, rtol=1e-3, atol=1e-7)
    assert float(feature_gap(teacher, teacher, ["a", "b"], omega=omega)) == pytest.approx(0, abs=1e-7)
    assert float(feature_gap(teacher, student, [])) == 0


def test_a_dead_channel_does_not_drown_the_gradient_of_the_others():
    torch.manual_seed(0)
    teacher = torch.rand(2, 4, 5, 5) + 0.1
    student = torch.rand(2, 4, 5, 5) + 0.1
    student[:, 1] = 0
    for gap in (relation_gap, attention_relation_gap):
        leaf = student.clone().requires_grad_()
        gap(teacher, leaf).backward()
        slopes = leaf.grad.abs().amax((0, 2, 3))
        assert bool(slopes.isfinite().all())
        assert float(slopes[1]) < 1e3 * float(slopes[[0, 2, 3]].max())
