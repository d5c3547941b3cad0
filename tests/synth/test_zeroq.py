"""ZeroQ's distillation: its loss written out, images closer than their start, bytes that repeat, refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.graph.run import GraphModule
from edgeq.synth import base
from edgeq.synth.base import SYNTHESIZERS, Request, passes_needed
from edgeq.synth.losses import Moments, stored_moments
from edgeq.synth.zeroq import ITERATIONS, image_gap, zeroq


def network(*, norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1, bias=not norm)]
    layers += [nn.BatchNorm2d(8)] if norm else []
    layers += [nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    layers += [nn.BatchNorm2d(8)] if norm else []
    module = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).train()
    with torch.no_grad():
        for _ in range(30):
            module(0.5 + 0.7 * torch.randn(16, 3, 12, 12))
    return module.eval()


def request(*, norm: bool = True, seed: int = 0, checkpoint: Path | None = None) -> Request:
    graph = capture(network(norm=norm), (3, 12, 12), "tiny")
    ends = np.array([3.0, 3.0, 3.0], np.float32)
    return Request(graph, -ends, ends, classes=4, images=40, seed=seed, effort="fast", checkpoint=checkpoint)


def total_gap(images: np.ndarray, of: Request) -> float:
    stored, gaps = stored_moments(of.graph), []

    def tap(name: str, value: torch.Tensor) -> None:
        if name in stored:
            gaps.append(float(image_gap(value, stored[name])))

    with torch.no_grad():
        GraphModule(of.graph).run(torch.from_numpy(images), visit=tap)
    assert len(gaps) == 2
    return sum(gaps)


def test_gap_is_the_published_sum_per_image() -> None:
    rng = np.random.default_rng(0)
    value = rng.normal(0.3, 1.7, (3, 5, 6, 7)).astype(np.float32)
    mean, var = rng.normal(0, 1, 5).astype(np.float32), rng.uniform(0.5, 2, 5).astype(np.float32)
    expected = np.mean(
        [
            np.sum((image.mean((1, 2)) - mean) ** 2) + np.sum((image.std((1, 2)) - np.sqrt(var)) ** 2)
            for image in value.astype(np.float64)
        ]
    )
    want = Moments(torch.from_numpy(mean), torch.from_numpy(var))
    for layout in (torch.contiguous_format, torch.channels_last):
        found = image_gap(torch.from_numpy(value).contiguous(memory_format=layout), want)
        assert float(found) == pytest.approx(expected, rel=1e-4)


def test_gap_has_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(1)
    value = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    want = Moments(torch.zeros(3, dtype=torch.float64), 2 * torch.ones(3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: image_gap(x, want), (value,), eps=1e-5, atol=1e-3)


def test_images_come_closer_than_noise_and_repeat() -> None:
    asked = replace(request(), images=8)
    made = zeroq(asked)
    assert (made.inputs.shape, made.method) == ((8, 3, 12, 12), "zeroq")
    start = np.random.default_rng(0).normal(0, 1, made.inputs.shape).astype(np.float32)
    assert total_gap(made.inputs, asked) < 0.5 * total_gap(start, asked)
    assert zeroq(asked).to_bytes() == made.to_bytes()
    assert zeroq(replace(asked, seed=1)).to_bytes() != made.to_bytes()


def test_images_do_not_depend_on_how_the_network_is_fed() -> None:
    """The same network behind another normalisation, its first layer scaled to match: the same pixels come out."""
    asked = replace(request(), images=4)
    weight = next(name for name in asked.graph.constants if asked.graph.constants[name].shape == (8, 3, 3, 3))
    scaled = {**asked.graph.constants, weight: asked.graph.constants[weight] / np.float32(64)}
    raw = replace(asked, graph=asked.graph.replace(constants=scaled), low=asked.low * 64, high=asked.high * 64)
    np.testing.assert_allclose(zeroq(raw).inputs / 64, zeroq(asked).inputs, rtol=1e-3, atol=1e-3)


def test_an_interrupted_run_continues_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ITERATIONS, "fast", 10)  # type: ignore[misc]
    whole = zeroq(request(checkpoint=tmp_path / "whole")).to_bytes()
    kept = sorted((tmp_path / "whole").glob("*.npy"))
    assert len(kept) == 2  # 40 images make two batches
    kept[1].unlink()
    assert zeroq(request(checkpoint=tmp_path / "whole")).to_bytes() == whole


def test_registered_and_counted() -> None:
    assert SYNTHESIZERS.get("zeroq") is zeroq
    assert passes_needed("zeroq", "best", 10) == 10 * ITERATIONS["best"] == 5000


def test_passes_are_counted_before_any_method_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unloaded:
        def __iter__(self) -> Iterator[str]:
            base.RECIPES["late"] = base.Recipe(lambda effort: None, lambda settings, images: 7 * images)
            yield "late"

    monkeypatch.setattr(base, "RECIPES", {})
    monkeypatch.setattr(base, "SYNTHESIZERS", Unloaded())
    assert passes_needed("late", "fast", 2) == 14
    assert passes_needed("another", "fast", 2) == 0


def test_without_batch_norm_it_says_so() -> None:
    with pytest.raises(UnsupportedError, match="zeroq needs batch-norm statistics"):
        zeroq(request(norm=False))
