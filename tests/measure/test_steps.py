"""Steps in a series of builds: a real one is found where it is, and noise is none."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.measure.steps import accuracy_steps, latency_steps


def _answers(shares: list[float], images: int = 10_000, near: float = 0.02) -> list[np.ndarray]:
    """Answers of which a share `near` is decided anew by each build, and the rest is only right where `shares` say."""
    random = np.random.default_rng(1)
    place = np.linspace(0, 1, images)
    coins = random.random((len(shares), images)) < 0.5
    return [np.where(place > 1 - near, coin, place < share) for share, coin in zip(shares, coins, strict=True)]


@pytest.mark.parametrize("points", [-1, 1])
def test_a_step_of_one_point_is_found_once_and_measured(points: int) -> None:
    steps = accuracy_steps(_answers([0.7] * 12 + [0.7 + points / 100] * 12))
    assert len(steps) == 1
    assert 12 <= steps[0].at <= 14
    assert steps[0].points == pytest.approx(points, abs=0.5)


def test_noise_of_accuracy_is_no_step() -> None:
    assert accuracy_steps(_answers([0.7] * 60)) == []


def test_small_losses_add_up_to_a_step() -> None:
    assert accuracy_steps(_answers([0.7 - 0.001 * i for i in range(25)]))[0].points < 0


def test_latency_steps_are_found_where_they_are() -> None:
    random = np.random.default_rng(2)
    noise = 1 + 0.02 * random.standard_normal(60)
    assert latency_steps(list(0.5 * noise)) == []
    noise[30:] *= 1.1
    assert latency_steps(list(0.5 * noise)) == [30]
    assert latency_steps([0.5] * 40) == []
    assert latency_steps([0.5, 0.6]) == []
