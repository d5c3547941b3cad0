"""ZS-CGAN on a tiny network: statistics and labels come closer, it resumes exactly, the generator is a file."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.errors import ArtifactError, UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.synth.base import SYNTHESIZERS, Request
from edgeq.synth.generatorfile import GENERATOR, generator_bytes, load_generator
from edgeq.synth.generators import Generator
from edgeq.synth.losses import Moments, gaussian_kl
from edgeq.synth.teacher import Teacher
from edgeq.synth.zs_cgan import Settings, sample, train, zs_cgan
from tests.tinymodel import use_settings

LOW, HIGH = np.full(3, -2.0, np.float32), np.full(3, 2.5, np.float32)
QUICK = Settings(steps=60, batch=24, latent=16, width=16, rate=3e-3)


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).train()
    with torch.no_grad():
        for _ in range(40):
            module(nn.functional.interpolate(torch.randn(16, 3, 3, 3), 12, mode="bilinear"))
        module[8].weight *= 4
    return capture(module.eval(), (3, 12, 12), "tiny")


def request(graph, **changes):
    base = Request(graph=graph, low=LOW, high=HIGH, classes=3, images=12, seed=5, effort="fast")
    return dataclasses.replace(base, **changes)


def divergence(teacher, images):
    seen, _ = teacher.look(images)
    return float(torch.stack([gaussian_kl(seen[name], want).mean() for name, want in teacher.stored.items()]).mean())


def test_training_brings_statistics_and_labels_closer(graph):
    teacher = Teacher(graph)
    labels = torch.arange(48) % 3
    before, after = (train(request(graph), dataclasses.replace(QUICK, steps=n)) for n in (0, 60))
    drawn = [sample(trained, teacher, labels, 1, retries=0) for trained in (before, after)]
    assert divergence(teacher, drawn[1][0]) < 0.7 * divergence(teacher, drawn[0][0])
    assert drawn[1][1]["rejected"] < drawn[0][1]["rejected"]


def test_images_of_another_class_are_drawn_anew(graph):
    trained, labels = train(request(graph), QUICK), torch.arange(48) % 3
    _, once = sample(trained, Teacher(graph), labels, 1, retries=0)
    _, often = sample(trained, Teacher(graph), labels, 1, retries=20)
    assert once["rejected"] == often["rejected"]
    assert often["wrong"] <= once["wrong"]


def test_set_is_balanced_inside_the_pixel_range_and_repeatable(graph, monkeypatch):
    use_settings(monkeypatch, "zs-cgan", dataclasses.replace(QUICK, steps=5))
    made, again = (SYNTHESIZERS.get("zs-cgan")(request(graph)) for _ in range(2))
    assert sorted(np.bincount(made.labels)) == [4, 4, 4]
    assert made.inputs.shape == (12, 3, 12, 12)
    assert made.inputs.min() >= LOW[0] - 1e-5
    assert made.inputs.max() <= HIGH[0] + 1e-5
    assert made.to_bytes() == again.to_bytes()


def test_interrupted_training_ends_with_the_same_bytes(graph, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeq.synth.zs_cgan._EVERY", 4)
    settings = dataclasses.replace(QUICK, steps=12)

    class StoppedError(Exception):
        pass

    class Impatient:
        def step(self, done, total, note=""):
            if done == 6:
                raise StoppedError

    with pytest.raises(StoppedError):
        train(request(graph, checkpoint=tmp_path, progress=Impatient()), settings)
    assert (tmp_path / "generator.pt").exists()
    resumed = train(request(graph, checkpoint=tmp_path), settings)
    assert generator_bytes(resumed) == generator_bytes(train(request(graph), settings))


def test_the_generator_is_a_file_that_draws_the_same(graph, tmp_path, monkeypatch):
    use_settings(monkeypatch, "zs-cgan", dataclasses.replace(QUICK, steps=3))
    zs_cgan(request(graph, products=tmp_path))
    trained = train(request(graph), dataclasses.replace(QUICK, steps=3))
    labels = torch.arange(6) % 3
    kept = load_generator(tmp_path / GENERATOR).draw(labels, torch.Generator().manual_seed(0))
    assert torch.equal(kept, trained.draw(labels, torch.Generator().manual_seed(0)))
    (tmp_path / "torn").write_bytes(b"no generator")
    with pytest.raises(ArtifactError, match="not a generator"):
        load_generator(tmp_path / "torn")


def test_class_conditional_norm_makes_different_images_of_one_latent():
    torch.manual_seed(0)
    made = Generator((3, 10, 14), latent=8, width=8, classes=4).eval()
    nn.init.normal_(made.first.gain.weight)
    images = made(torch.ones(2, 8), torch.tensor([0, 3]))
    assert images.shape == (2, 3, 10, 14)
    assert not torch.allclose(images[0], images[1])


def test_unconditional_ablation_ignores_labels(graph):
    trained = train(request(graph), dataclasses.replace(QUICK, steps=2, conditional=False))
    assert isinstance(trained.generator, Generator)


def test_gaussian_divergence_is_zero_exactly_when_equal():
    torch.manual_seed(0)
    have, want = (Moments(torch.randn(50), torch.rand(50) + 0.1) for _ in range(2))
    assert bool((gaussian_kl(have, want) > 0).all())
    assert float(gaussian_kl(have, have).abs().max()) < 1e-6
    still = Moments(torch.zeros(3), torch.zeros(3))
    assert bool(gaussian_kl(still, Moments(torch.zeros(3), torch.ones(3))).isfinite().all())


def test_refused_without_batch_norm_or_classes(graph):
    with pytest.raises(UnsupportedError, match="batch-norm"):
        train(request(optimize(graph)), QUICK)
    with pytest.raises(UnsupportedError, match="classes"):
        train(request(graph, classes=0), QUICK)
