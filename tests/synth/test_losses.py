"""Statistics losses: moments equal to the definition, KL a divergence, gaps zero exactly where they should be."""

import numpy as np
import pytest
import torch

from edgeq.synth.losses import Moments, answer_spread, batch_moments, gaussian_kl, squared_gaps, total_variation


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_moments_and_their_gradient_are_the_definition(memory_format):
    value = (torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1).to(
        memory_format=memory_format
    )
    ours, theirs = value.clone().requires_grad_(), value.clone().requires_grad_()
    have = batch_moments(ours)
    want = (theirs.mean((0, 2, 3)), theirs.var((0, 2, 3), correction=0))
    torch.testing.assert_close((have.mean, have.var), want, rtol=1e-4, atol=1e-5)
    weights = torch.arange(5.0)
    (have.mean @ weights + have.var.square() @ weights).backward()
    (want[0] @ weights + want[1].square() @ weights).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_constant_channel_has_zero_variance_and_a_finite_gradient():
    value = torch.full((2, 1, 3, 3), 7.0, requires_grad=True)
    moments = batch_moments(value)
    assert moments.mean.item() == pytest.approx(7.0)
    assert moments.var.item() == pytest.approx(0.0, abs=1e-6)
    (moments.mean.sum() + moments.var.sum()).backward()
    assert torch.isfinite(value.grad).all()


def test_gaussian_kl_is_zero_only_where_equal():
    same = Moments(torch.tensor([0.5, -2.0]), torch.tensor([1.0, 4.0]))
    torch.testing.assert_close(gaussian_kl(same, same), torch.zeros(2))
    other = Moments(torch.tensor([0.5, -2.5]), torch.tensor([1.1, 4.0]))
    assert (gaussian_kl(other, same) > 0).all()
    dead = Moments(torch.zeros(1), torch.zeros(1))
    assert torch.isfinite(gaussian_kl(dead, Moments(torch.ones(1), torch.ones(1)))).all()


def test_squared_gaps_are_in_units_of_the_stored_variance():
    stored = {"bn": Moments(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 100.0]))}
    assert float(squared_gaps(stored, stored)) == 0.0
    one = {"bn": Moments(torch.tensor([1.0, 0.0]), stored["bn"].var)}
    ten = {"bn": Moments(torch.tensor([0.0, 10.0]), stored["bn"].var)}
    assert float(squared_gaps(one, stored)) == pytest.approx(float(squared_gaps(ten, stored)))


def test_total_variation_is_zero_for_a_flat_picture_only():
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert float(total_variation(flat)) == 0.0
    flat[0, 0, 4, 4] = 1.0
    assert float(total_variation(flat)) > 0.0


def test_answer_spread_is_alike_for_every_unit() -> None:
    answers = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)).double()
    spread = answer_spread(answers)
    assert float(answer_spread(2 * answers) - spread) == pytest.approx(np.log(2), abs=1e-6)
    assert float(answer_spread(answers + 100)) == pytest.approx(float(spread), abs=1e-6)
    scaled = answers * torch.tensor([1.0, 30.0, 1.0])
    gain = [
        float(answer_spread(scaled * torch.tensor(by)) - answer_spread(scaled)) for by in ([2.0, 1, 1], [1.0, 2, 1])
    ]
    assert gain == pytest.approx([np.log(2) / 3] * 2, rel=0.2)


def test_answer_spread_leaves_constant_outputs_alone() -> None:
    answers = torch.stack([torch.arange(8.0), torch.full((8,), 3.0)], 1).requires_grad_()
    answer_spread(answers).backward()
    gradient = answers.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert float(gradient[:, 1].abs().max()) < 1e-4 < float(gradient[:, 0].abs().max())
