"""GZNQ on a tiny network: the same bytes for the same seed, statistics approached, wrong images made anew."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ArtifactError, UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.synth.base import SYNTHESIZERS, Request, passes_needed
from edgeq.synth.distil import Stall, schedule, smooth
from edgeq.synth.gznq import GeneratorSettings, Settings, generator_settings, settings_for, synthesize
from edgeq.synth.losses import answer_spread, batch_moments, squared_gaps, stored_moments
from edgeq.synth.sources import Generator, Pixels, colour_axes
from edgeq.synth.teacher import RunningMoments, Teacher, resize_input, round_weight, swing

LOW, HIGH = np.full(3, -2.0, np.float32), np.full(3, 2.5, np.float32)
QUICK = Settings(coarse=4, fine=8, batch=6)
METHODS = {"pixels": QUICK, "generator": GeneratorSettings(fine=12, batch=6, latent=16, width=16)}


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.body(x))


def tiny():
    """Weights at random, batch norms that remember smooth pictures rather than noise."""
    torch.manual_seed(3)
    module = Tiny().train()
    with torch.no_grad():
        for _ in range(60):
            coarse = torch.randn(16, 3, 3, 3)
            module(nn.functional.interpolate(coarse, 12, mode="bilinear"))
        module.head.weight *= 4
    return capture(module.eval(), (3, 12, 12), "tiny")


@pytest.fixture(scope="module")
def graph():
    return tiny()


def request(graph, **changes):
    base = Request(graph=graph, low=LOW, high=HIGH, classes=3, images=12, seed=5)
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_same_seed_same_bytes_another_seed_other_images(graph, settings):
    first, second = (synthesize(request(graph), settings, "gznq").to_bytes() for _ in range(2))
    assert first == second
    assert synthesize(request(graph, seed=6), settings, "gznq").to_bytes() != first


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_labels_are_balanced_and_pixels_stay_in_range(graph, settings):
    made = synthesize(request(graph), settings, "gznq")
    assert sorted(np.bincount(made.labels)) == [4, 4, 4]
    assert made.inputs.shape == (12, 3, 12, 12)
    assert made.inputs.min() >= LOW[0]
    assert made.inputs.max() <= HIGH[0]


@pytest.mark.parametrize("method", METHODS)
def test_moments_come_closer_than_noise_is(graph, method):
    settings = dataclasses.replace(METHODS[method], coarse=20 if method == "pixels" else 0, fine=60, batch=12)
    noise = SYNTHESIZERS.get("noise")(request(graph))
    made = synthesize(request(graph), settings, "gznq")
    teacher = Teacher(graph)

    def gap(calibration):
        return float(
            squared_gaps(teacher.measure_moments(torch.from_numpy(calibration.inputs)).moments, teacher.stored)
        )

    assert gap(made) < 0.5 * gap(noise)


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("aggregate", [False, True])
def test_interrupted_run_ends_with_the_same_bytes(graph, settings, aggregate, tmp_path):
    settings = dataclasses.replace(settings, aggregate=aggregate)
    whole = synthesize(request(graph), settings, "gznq")

    class StoppedError(Exception):
        pass

    class Impatient:
        def step(self, done, total, note=""):
            if done > total * 0.6:
                raise StoppedError

    with pytest.raises(StoppedError):
        synthesize(request(graph, checkpoint=tmp_path, progress=Impatient()), settings, "gznq")
    assert [path.name for path in sorted(tmp_path.glob("*.npy"))] == ["batch-0000.npy"]
    again = synthesize(request(graph, checkpoint=tmp_path), settings, "gznq")
    assert again.to_bytes() == whole.to_bytes()


def test_progress_only_grows_and_ends_at_its_total(graph):
    seen = []

    class Listening:
        def step(self, done, total, note=""):
            seen.append((done, total))
            assert "gap" in note

    synthesize(request(graph, progress=Listening()), QUICK, "gznq")
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (24, 24)


def test_images_of_the_wrong_class_are_made_anew(graph):
    """Without a pull to their class most images are wrong; making them anew is told, and changes only those."""
    idle = dataclasses.replace(QUICK, pull=dataclasses.replace(QUICK.pull, class_weight=0.0), batch=12)
    once = synthesize(request(graph), dataclasses.replace(idle, retries=0), "gznq")
    again = synthesize(request(graph), dataclasses.replace(idle, retries=3), "gznq")
    assert once.notes["rejected"] == once.notes["wrong"] > 0
    assert again.notes["rejected"] == once.notes["rejected"]
    assert again.notes["wrong"] < once.notes["wrong"]
    changed = (once.inputs != again.inputs).any((1, 2, 3))
    wrong = Teacher(graph).classes(torch.from_numpy(once.inputs)).numpy() != once.labels
    assert (changed == wrong).all()


def test_pull_to_the_class_lowers_the_rejection(graph):
    def rejected(weight):
        pull = dataclasses.replace(QUICK.pull, class_weight=weight)
        settings = dataclasses.replace(QUICK, coarse=0, fine=40, retries=0, pull=pull)
        return synthesize(request(graph), settings, "gznq").notes["rejected"]

    assert rejected(3.0) < rejected(0.0)


def test_network_without_classes_has_no_labels_and_no_rejection(graph):
    made = synthesize(request(graph, classes=0), QUICK, "gznq")
    assert (made.labels == -1).all()
    assert set(made.notes) == {"iterations"}


def test_network_without_batch_norm_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    bare = capture(module.eval(), (3, 12, 12), "bare")
    for method in ("gznq", "gznq-generator"):
        with pytest.raises(UnsupportedError, match="batch-norm"):
            SYNTHESIZERS.get(method)(request(bare))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 4, 5, 7), (2, 2, 1, 6)])
def test_swing_keeps_shape_and_moves_by_at_most_one_pixel(shape):
    random = torch.Generator().manual_seed(0)
    value = torch.randn(shape)
    moved = [swing(value, random) for _ in range(30)]
    assert all(m.shape == value.shape for m in moved)
    if min(shape[2:]) > 2:
        inside = value[..., 1:-1, 1:-1]
        height, width = inside.shape[2:]
        windows = [value[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
        assert all(any(torch.equal(m[..., 1:-1, 1:-1], w) for w in windows) for m in moved)
        assert len({m.numpy().tobytes() for m in moved}) > 3


def test_swinging_teacher_leaves_moments_before_the_stride_alone(graph):
    images = torch.randn(4, 3, 12, 12)
    plain, _ = Teacher(graph).look(images)
    swung, _ = Teacher(graph, swung=True).look(images, torch.Generator().manual_seed(1))
    first, *_, last = plain
    torch.testing.assert_close(swung[first].mean, plain[first].mean)
    assert not torch.equal(swung[last].var, plain[last].var)


def test_ensemble_of_compressed_copies_differs_from_the_network_and_from_call_to_call(graph):
    images = torch.randn(4, 3, 12, 12)
    teacher, random = Teacher(graph, bits=(2, 4)), torch.Generator().manual_seed(0)
    looks = {teacher.look(images, random)[1].numpy().tobytes() for _ in range(12)}
    assert len(looks) == 3  # two copies and the network itself
    plain = Teacher(graph).look(images)[1].numpy().tobytes()
    assert plain in looks
    assert teacher.look(images)[1].numpy().tobytes() == plain
    ensemble = synthesize(request(graph), dataclasses.replace(QUICK, teacher_bits=(4, 6, 8)), "gznq")
    assert ensemble.digest() != synthesize(request(graph), QUICK, "gznq").digest()


def test_rounded_weights_lie_on_the_grid():
    weight = torch.randn(5, 3, 3, 3)
    coarse = round_weight(weight, 4)
    for channel, exact in zip(coarse, weight, strict=True):
        assert len(torch.unique(channel)) <= 15
        assert float((channel - exact).abs().max()) <= float(exact.abs().max()) / 7 / 2 + 1e-6


def test_merged_moments_are_the_moments_of_all_images():
    old, new = torch.randn(5, 4, 3, 3) + 2, torch.randn(3, 4, 3, 3) * 2
    together = RunningMoments(5, {"x": batch_moments(old)}).merge({"x": batch_moments(new)}, 3)["x"]
    whole = batch_moments(torch.cat([old, new]))
    torch.testing.assert_close((together.mean, together.var), (whole.mean, whole.var), rtol=1e-4, atol=1e-5)


def test_running_moments_do_not_depend_on_how_images_are_split(graph):
    images, teacher = torch.randn(10, 3, 12, 12), Teacher(graph)
    parts, whole = teacher.measure_moments(images, part=3), teacher.measure_moments(images, part=10)
    assert parts.images == whole.images == 10
    for name, moments in whole.moments.items():
        torch.testing.assert_close(parts.moments[name].var, moments.var, rtol=1e-4, atol=1e-5)


def test_half_size_where_the_graph_allows_it_and_only_there(graph):
    smaller = resize_input(graph, 2)
    assert smaller is not None
    assert smaller.shapes[smaller.inputs[0]] == (1, 3, 6, 6)
    rigid = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    rigid_graph = capture(rigid.eval(), (3, 12, 12), "rigid")
    assert resize_input(rigid_graph, 2) is None
    made = synthesize(request(rigid_graph), QUICK, "gznq")  # a half-size canvas, enlarged for the network
    assert made.inputs.shape == (12, 3, 12, 12)


def test_odd_sides_and_grey_images():
    module = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    grey = capture(module.eval(), (1, 9, 15), "grey")
    for settings in METHODS.values():
        made = synthesize(request(grey, low=LOW[:1], high=HIGH[:1], classes=4), settings, "gznq")
        assert made.inputs.shape == (12, 1, 9, 15)


@pytest.mark.parametrize("side", [8, 32, 96, 224])
def test_generator_reaches_every_size_with_few_weights(side):
    random = torch.Generator().manual_seed(0)
    generator = Generator((3, side, side), 64, 64, random)
    assert generator(torch.randn(2, 64, generator=random)).shape == (2, 3, side, side)
    assert sum(p.numel() for p in generator.parameters()) < 2_000_000


def test_enlarging_goes_on_with_the_same_images():
    random = torch.Generator().manual_seed(0)
    small = Pixels.noise((2, 3, 6, 6), random, depth=2, chroma=0.5)
    large = small.enlarged((12, 12)).images()
    assert large.shape == (2, 3, 12, 12)
    back = nn.functional.avg_pool2d(large, 2)
    pair = torch.stack([back.flatten(), small.images().flatten()]).detach()
    assert float(torch.corrcoef(pair)[0, 1]) > 0.95


@pytest.mark.parametrize("depth", [1, 2, 9])
def test_any_depth_of_the_pyramid(graph, depth):
    made = synthesize(request(graph), dataclasses.replace(QUICK, depth=depth), "gznq")
    assert np.isfinite(made.inputs).all()


def test_light_axis_is_grey():
    axes = colour_axes(3, 0.4)
    assert axes is not None
    assert torch.linalg.matrix_rank(axes) == 3
    assert torch.equal(axes @ torch.tensor([1.0, 0.0, 0.0]), torch.ones(3))
    assert colour_axes(1, 0.4) is None


def test_stall_is_seen_after_two_equal_windows_only():
    falling, flat = Stall(3), Stall(3)
    assert not any(falling(1.0 / (step + 1)) for step in range(12))
    assert [flat(1.0) for _ in range(6)] == [False] * 5 + [True]
    assert not any(Stall(0)(1.0) for _ in range(50))


def test_rate_rises_stays_and_falls():
    pull = dataclasses.replace(QUICK.pull, warm_up=5, cooling=0.5)
    rates = [schedule(step, 40, pull) for step in range(40)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:20] == [1.0] * 15
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 0.02


def test_low_pass_keeps_flat_and_dampens_grain():
    flat, grain = torch.full((1, 2, 9, 9), 0.3), torch.randn(1, 2, 32, 32)
    torch.testing.assert_close(smooth(flat, 1.0), flat)
    assert float(smooth(grain, 1.0).var()) < 0.3 * float(grain.var())


def test_more_effort_is_more_iterations():
    for of in (settings_for, generator_settings):
        fast, balanced, best = (of(effort) for effort in ("fast", "balanced", "best"))
        assert fast.fine < balanced.fine < best.fine


def test_a_share_of_the_set_stays_loose_and_is_spread(graph):
    whole = synthesize(request(graph, images=12), dataclasses.replace(QUICK, loose=0.25), "gznq")
    free = np.flatnonzero(whole.labels == -1)
    assert len(whole) == 12
    assert len(free) == 3
    assert np.diff(free).min() > 1
    pulled = synthesize(request(graph, images=9), QUICK, "gznq")
    np.testing.assert_array_equal(np.delete(whole.inputs, free, axis=0), pulled.inputs)
    low, high = (end.numpy() for end in request(graph).limits())
    assert (whole.inputs >= low).all()
    assert (whole.inputs <= high).all()
    assert len(synthesize(request(graph, images=1), dataclasses.replace(QUICK, loose=0.25), "gznq")) == 1


def test_passes_are_those_of_images_that_are_pulled():
    assert passes_needed("gznq", "fast", 32) == 24 * passes_needed("gznq", "fast", 1)


def test_notes_travel_with_the_set(graph, tmp_path):
    made = synthesize(request(graph), QUICK, "gznq")
    (tmp_path / "set.npz").write_bytes(made.to_bytes())
    assert CalibrationSet.load(tmp_path / "set.npz").notes == made.notes
    bare = CalibrationSet(made.inputs, made.labels, "x")
    (tmp_path / "bare.npz").write_bytes(bare.to_bytes())
    assert CalibrationSet.load(tmp_path / "bare.npz").notes == {}
    with (tmp_path / "bad.npz").open("wb") as file:
        np.savez(file, inputs=made.inputs, labels=made.labels, method=np.array("x"), notes=np.array("[1]"))
    with pytest.raises(ArtifactError):
        CalibrationSet.load(tmp_path / "bad.npz")


def test_real_values_have_varied_answers_at_the_same_statistics(graph):
    def made(values):
        images = synthesize(request(graph, classes=0, values=values), METHODS["pixels"], "gznq").inputs
        seen, answers = Teacher(graph).look(torch.from_numpy(images))
        return float(answer_spread(answers)), float(squared_gaps(seen, stored_moments(graph)))

    (varied, gap), (plain, before) = made(True), made(False)
    assert varied > plain + 0.2
    assert gap < 2 * before
