"""The student is the PTQ network before it learns, and what it learned is what is frozen after."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import MeasurementError
from edgeq.finetune import loop
from edgeq.finetune.loop import Finetuned, Job, finetune
from edgeq.finetune.lsq import fake_quantize
from edgeq.finetune.objectives import AKD, ZAQ, objective_for
from edgeq.finetune.settings import METHODS, Settings, settings_for
from edgeq.finetune.student import Learned, Student, agreement
from edgeq.finetune.taps import feature_taps
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    RELU,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Reshape,
)
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.reference import run as run_reference
from edgeq.quant.calibrate import calibrate
from edgeq.quant.fakequant import quantize_weight
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme

RANGE = (-2.0, 2.0)


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)

    def weight(*shape):
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "a.w": weight(8, 3, 3, 3),
        "b.w": weight(8, 8, 3, 3),
        "b.b": rng.normal(0, 0.2, 8).astype(np.float32),
        "c.w": weight(8, 8, 1, 1),
        "fc.w": weight(4, 16),
        "fc.b": rng.normal(0, 0.2, 4).astype(np.float32),
        "n.g": np.ones(8, np.float32),
        "n.b": np.zeros(8, np.float32),
        "n.m": np.zeros(8, np.float32),
        "n.v": np.ones(8, np.float32),
    }
    same = (1, 1, 1, 1)
    nodes = (
        Node("a", Conv2d(padding=same), ("x", "a.w")),
        Node("n", BatchNorm(), ("a", "n.g", "n.b", "n.m", "n.v")),
        Node("r", RELU, ("n",)),
        Node("b", Conv2d(stride=(2, 2), padding=same, activation=RELU), ("r", "b.w", "b.b")),
        Node("c", Conv2d(), ("b", "c.w")),
        Node("sum", Add(RELU), ("c", "b")),
        Node("pool", MaxPool2d((2, 2), (2, 2)), ("sum",)),
        Node("cat", Concat(1), ("pool", "pool")),
        Node("mean", GlobalAvgPool(), ("cat",)),
        Node("flat", Reshape((16,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w", "fc.b")),
    )
    return Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 16, 16)})


@pytest.fixture(scope="module")
def images():
    inputs = np.clip(np.random.default_rng(1).normal(0, 1, (24, 3, 16, 16)), *RANGE).astype(np.float32)
    return CalibrationSet(inputs, np.full(24, -1, np.int64), "test")


def job(raw, images, settings, **more):
    graph = optimize(raw)
    decided = calibrate(graph, images, RANGE, scheme=Scheme.of("w4a4", all_layers=True))
    low, high = torch.full((3,), RANGE[0]), torch.full((3,), RANGE[1])
    return Job(graph, raw, decided, images, low, high, settings, **more)


def short(method, **more):
    return Settings(method, steps=4, batch=8, turns=2, warm_up=1, width=8, **more)


def test_rounding_passes_gradients_inside_the_range_and_none_outside():
    value = torch.tensor([-3.0, -1.1, 0.2, 0.9, 1.7, 5.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    made = fake_quantize(value, step, -2, 3)
    np.testing.assert_allclose(made.detach(), [-1.0, -1.0, 0.0, 1.0, 1.5, 1.5])
    made.sum().backward()
    np.testing.assert_array_equal(value.grad, [0, 1, 1, 1, 1, 0])
    # LSQ: level - ratio inside, the level itself outside, over sqrt(values x largest level)
    wanted = (-2) + (-2 + 2.2) + (0 - 0.4) + (2 - 1.8) + (3 - 3.4) + 3
    assert step.grad.item() == pytest.approx(wanted / np.sqrt(6 * 3), rel=1e-5)


def test_per_channel_steps_learn_each_from_its_own():
    value = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0.1, 0.2, 0.4], requires_grad=True)
    fake_quantize(value, steps, -7, 7, axis=0).square().sum().backward()
    for row in range(3):
        alone = steps.detach()[row].clone().requires_grad_()
        fake_quantize(value[row], alone, -7, 7).square().sum().backward()
        assert steps.grad[row].item() == pytest.approx(alone.grad.item(), rel=1e-5)


@pytest.mark.parametrize("bits", ["w8a8", "w4a8", "w4a4", "w3a5"])
def test_a_fresh_student_freezes_to_the_ptq_integers_and_the_reference_agrees(raw, images, bits):
    graph = optimize(raw)
    decided = calibrate(graph, images, RANGE, scheme=Scheme.of(bits, all_layers=True))
    student = Student(graph, decided)
    before, after = freeze(graph, decided).graph, freeze(*student.frozen()).graph
    for name, array in before.constants.items():
        if array.dtype == np.int8:
            np.testing.assert_array_equal(after.constants[name], array)
        else:  # a logarithm and back moves a step by one part in ten million
            np.testing.assert_allclose(after.constants[name], array, atol=2)
    found = agreement(student, after, images.inputs)
    assert (found.equal, found.equal_argmax, found.largest_step) == (1.0, 1.0, 0)


def test_sums_are_rounded_twice_as_the_kernels_do(raw, images):
    graph = optimize(raw)
    decided = calibrate(graph, images, RANGE, scheme=Scheme.of("w4a4", all_layers=True))
    student = Student(graph, decided)
    integer = freeze(*student.frozen()).graph
    kept = [node.name for node in integer.nodes]
    expected = run_reference(integer, integer.quantizations["x"].quantize(images.inputs))

    def missed(name):
        found = student.run(torch.from_numpy(images.inputs), keep=kept)[name].detach().numpy()
        return (integer.quantizations[name].quantize(found) != expected[name]).mean()

    assert missed("b") == missed("mean") == 0
    student._own_way = {}
    assert missed("b") > 0.005
    assert missed("mean") > 0.05


def test_shared_values_share_their_step(raw, images):
    student = Student(optimize(raw), job(raw, images, short("kd")).decided)
    assert len(student.steps) < len(student.calibration.activations)
    graph, decided = student.frozen()
    assert decided.activations["pool"] is decided.activations["cat"]
    assert freeze(graph, decided).graph.quantizations["pool"] == freeze(graph, decided).graph.quantizations["cat"]


def test_taps_stand_where_the_resolution_changes(raw):
    graph = optimize(raw)
    sizes = [graph.shapes[name][2:] for name in feature_taps(graph)]
    assert sizes == [(16, 16), (8, 8), (4, 4)]
    assert feature_taps(graph)[1] == "sum"  # behind the residual sum, not inside the branch


@pytest.mark.parametrize("method", ["zaq", "dfq-akd"])
def test_between_equals_a_generator_learns_from_its_regulariser_alone(raw, images, method):
    """With student = teacher the discrepancy is zero, and so is its gradient."""
    graph = optimize(raw)
    objective = objective_for(graph, raw, settings_for(method, "fast", graph))
    network = GraphModule(graph).eval().requires_grad_(False)
    x = torch.from_numpy(images.inputs[:4]).requires_grad_()
    teacher = network.run(x, keep=objective.taps)
    loss = objective.generator(x, teacher, network.run(x, keep=objective.taps))
    assert isinstance(objective, (ZAQ, AKD))
    alone = objective.warm_up(x, teacher)
    weight = 0.05 if method == "zaq" else 0.01
    (one,), (other,) = torch.autograd.grad(loss, x, retain_graph=True), torch.autograd.grad(alone, x)
    assert other.abs().max() > 0
    torch.testing.assert_close(one, weight * other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_moves_the_student_and_freezes(raw, images, method):
    made = finetune(job(raw, images, short(method)))
    assert isinstance(made, Finetuned)
    assert len(made.curves["student"]) == 4
    assert len(made.curves["generator"]) == (0 if method == "kd" else 3)
    integer = freeze(made.graph, made.decided).graph
    assert agreement(made.student, integer, images.inputs).equal == 1.0
    weights = optimize(raw).constants
    assert any(not np.array_equal(made.graph.constants[n], w) for n, w in weights.items())


def test_distillation_brings_the_student_closer(raw, images):
    settings = Settings("zaq", steps=60, batch=16, anchor=1.0, blend=0.0, shift=0.0, block_weight=0.0, step_rate=1e-3)
    given = job(raw, images, settings)
    # Weights rounded to nearest: compensated ones are near their best on these few images already.
    scheme = Scheme.of("w4a4", all_layers=True)
    made = finetune(
        dataclasses.replace(given, decided=calibrate(given.graph, images, RANGE, scheme=scheme, compensate=False))
    )
    losses = made.curves["student"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])


def test_what_shall_not_learn_does_not(raw, images):
    settings = short("kd", learned=Learned(weights=False, weight_steps=False, activation_steps=False))
    one = job(raw, images, settings)
    with pytest.raises(ValueError, match="empty parameter list"):
        finetune(one)
    made = finetune(job(raw, images, short("kd", learned=Learned(weights=False, activation_steps=False))))
    for name, grid in made.decided.activations.items():
        assert float(grid.scale) == pytest.approx(float(one.decided.activations[name].scale), rel=1e-6)


def test_a_relaxed_student_settles_closer_to_itself_than_nearest_rounding_brings_it(raw, images):
    given = job(raw, images, short("kd"))
    student = Student(given.graph, given.decided)
    inputs = torch.from_numpy(images.inputs)
    with torch.no_grad():
        student.relax()
        assert student.relaxed
        for weight in student.weights.values():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
        relaxed = student(inputs)
        graph, decided = student.frozen()
        trained = {name: bias.clone() for name, bias in student.biases.items()}
        student.round_weights(images.inputs)
        assert not student.relaxed
        assert all(torch.equal(student.biases[name], bias) for name, bias in trained.items())
        settled = student(inputs)
        nearest = dict(decided.weights)
        for node in graph.of_kind(Conv2d, Linear):
            nearest[node.inputs[1]] = quantize_weight(
                graph.constants[node.inputs[1]], nearest[node.inputs[1]].bits or 8
            )
        plain = Student(graph, dataclasses.replace(decided, weights=nearest))(inputs)
    assert not torch.equal(settled, relaxed)
    assert float((settled - relaxed).square().mean()) < 0.7 * float((plain - relaxed).square().mean())
    frozen = freeze(*student.frozen()).graph
    assert agreement(student, frozen, images.inputs).equal == 1.0


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("method", ["kd", "zaq"])
@pytest.mark.parametrize("stop", [1, 3])  # relaxed, and settled
def test_interrupted_training_continues_to_the_same_bytes(raw, images, tmp_path, monkeypatch, method, stop):
    whole = finetune(job(raw, images, short(method)))

    class Stop:
        def step(self, done, total, note=""):
            if done == stop:
                raise StoppedError

    with pytest.raises(StoppedError):
        finetune(job(raw, images, short(method), checkpoint=tmp_path, progress=Stop()))
    again = finetune(job(raw, images, short(method), checkpoint=tmp_path))
    assert again.facts["resumed_at"] == stop
    assert again.curves == whole.curves
    one, other = (freeze(made.graph, made.decided).graph.to_bytes() for made in (whole, again))
    assert one == other


@pytest.mark.parametrize("left", [b"", b"PK\x03\x04 cut short", None])
def test_a_checkpoint_that_cannot_be_continued_starts_anew(raw, images, tmp_path, left):
    state = tmp_path / "state.pt"
    if left is None:
        torch.save({"form": 1, "student": {}}, state)
    else:
        state.write_bytes(left)
    made = finetune(job(raw, images, short("kd"), checkpoint=tmp_path))
    assert made.facts["resumed_at"] == 0
    assert torch.load(state, weights_only=True)["best"][2] == made.facts["best_step"]


@pytest.mark.parametrize(
    ("gaps", "frozen"),
    [
        ([0.5, 0.4, 0.3, 0.45, 0.35], 2),
        ([0.5, 0.4, 0.3, 0.305, 0.308], 4),  # no further apart than held-out images can tell: the last
        ([0.5, 0.51, 0.505, 0.52, 0.501], 0),  # but no better than before is no reason to train
    ],
)
def test_what_is_frozen_is_the_best_student_seen_be_it_the_first(raw, images, monkeypatch, gaps, frozen):
    seen, coming = [], iter(gaps)

    def gap(self):
        seen.append({name: value.clone() for name, value in self.student.state_dict().items()})
        return next(coming)

    monkeypatch.setattr(loop._Run, "gap", gap)
    made = finetune(job(raw, images, short("kd", weight_rate=1e-2, relaxed=0.0)))
    assert (made.facts["best_step"], made.facts["gap_after"]) == (frozen, gaps[frozen])
    for name, value in made.student.state_dict().items():
        assert torch.equal(value, seen[frozen][name])
    assert any(not torch.equal(seen[2][name], seen[4][name]) for name in seen[2])


@pytest.mark.parametrize("hold", [True, False])
def test_settled_weights_stay_where_they_are_and_the_rest_learns(raw, images, monkeypatch, hold):
    """The last three looks are at step 2, when weights have settled, at 3 and at 4."""
    seen = []

    def gap(self):
        seen.append({name: value.clone() for name, value in self.student.state_dict().items()})
        return 1.0 / len(seen)

    monkeypatch.setattr(loop._Run, "gap", gap)
    finetune(job(raw, images, short("kd", weight_rate=1e-2, step_rate=1e-2, relaxed=0.5, hold=hold)))
    settled, last = seen[-3], seen[-1]
    moved = {name.split(".")[0] for name in settled if not torch.equal(settled[name], last[name])}
    assert moved == {"biases", "steps"} | (set() if hold else {"weights", "weight_steps"})


def test_relaxed_students_do_not_compete(raw, images, monkeypatch):
    gaps = iter([0.5, 0.1, 0.4, 0.4, 0.45, 0.45])
    monkeypatch.setattr(loop._Run, "gap", lambda self: next(gaps))
    made = finetune(job(raw, images, short("kd", relaxed=0.5)))
    assert made.facts["gap_after"] == 0.4
    assert made.facts["best_step"] == 2


def test_training_that_only_hurts_freezes_what_was_there(raw, images):
    hopeless = finetune(job(raw, images, short("kd", weight_rate=3e-1, step_rate=1.0)))
    assert hopeless.facts["best_step"] == 0
    assert hopeless.facts["gap_after"] == hopeless.facts["gap_before"]


def test_divergence_is_an_error_that_keeps_the_best(raw, images, tmp_path):
    settings = short("kd", weight_rate=float("inf"))
    with pytest.raises(MeasurementError, match="diverged") as caught:
        finetune(job(raw, images, settings, checkpoint=tmp_path))
    assert "best.pt" in str(caught.value)
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert kept["step"] == 0
    assert json.dumps(kept["gap"])
