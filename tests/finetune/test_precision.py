"""Mixed precision touches what asks and what answers, never the grids that will be frozen."""

import dataclasses

import numpy as np
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError
from edgeq.finetune.loop import Job, finetune
from edgeq.finetune.precision import check_precision, whole_float32
from edgeq.finetune.settings import Settings
from edgeq.finetune.student import Student, agreement
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme


@pytest.fixture(scope="module")
def job():
    rng = np.random.default_rng(0)

    def weight(*shape):
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    nodes = (
        Node("a", Conv2d(padding=(1, 1, 1, 1), activation=RELU), ("x", "a.w")),
        Node("b", Conv2d(stride=(2, 2), padding=(1, 1, 1, 1), activation=RELU), ("a", "b.w")),
        Node("mean", GlobalAvgPool(), ("b",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w")),
    )
    constants = {"a.w": weight(8, 3, 3, 3), "b.w": weight(8, 8, 3, 3), "fc.w": weight(4, 8)}
    graph = Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 8, 8)})
    images = CalibrationSet(rng.normal(0, 1, (32, 3, 8, 8)).astype(np.float32), np.full(32, -1, np.int64), "test")
    scheme = Scheme.of("w4a4", all_layers=True)
    decided = calibrate(graph, images, (-2.0, 2.0), scheme=scheme, compensate=False)
    settings = Settings("kd", steps=40, batch=8, shift=0.0, blend=0.0, relaxed=0.0)
    low, high = torch.full((3,), -2.0), torch.full((3,), 2.0)
    return Job(graph, graph, decided, images, low, high, settings)


def with_settings(job, **changes):
    return dataclasses.replace(job, settings=dataclasses.replace(job.settings, **changes))


def test_nothing_around_a_student_rounds_what_is_on_its_grids(job):
    student = Student(job.graph, job.decided)
    x = torch.from_numpy(job.images.inputs)
    alone = student.run(x, keep=["a", "b"])
    with torch.autocast("cpu", torch.bfloat16):
        surrounded = student.run(x, keep=["a", "b"])
        assert torch.nn.functional.linear(x.flatten(1), x.flatten(1)).dtype == torch.bfloat16
    for name, value in alone.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, surrounded[name]), name


def test_mixed_training_brings_the_student_closer_and_freezes_what_it_trained(job):
    plain, mixed = finetune(job), finetune(with_settings(job, precision="mixed"))
    assert mixed.facts["gap_after"] < mixed.facts["gap_before"]
    assert mixed.facts["gap_before"] == plain.facts["gap_before"]  # judged in float32
    assert mixed.curves["student"] != plain.curves["student"]
    assert mixed.curves["student"][0] == pytest.approx(plain.curves["student"][0], rel=0.05)
    assert {value.dtype for value in mixed.student.state_dict().values()} == {torch.float32}
    found = agreement(mixed.student, freeze(mixed.graph, mixed.decided).graph, job.images.inputs)
    assert found.equal_argmax > 0.9


@pytest.mark.parametrize("method", ["zaq", "dfq-akd"])
def test_a_game_in_mixed_precision_moves_both_players(job, method):
    more = {"method": method, "steps": 4, "turns": 2, "warm_up": 1, "width": 8, "latent": 8, "leash": 0.5}
    made = finetune(with_settings(job, precision="mixed", **more))
    assert len(made.curves["generator"]) == 3
    assert np.isfinite([*made.curves["generator"], *made.curves["student"]]).all()


def test_a_gpu_without_bfloat16_is_told_before_it_starts(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "an old one")
    with pytest.raises(ConfigError, match=r"an old one.*bfloat16.*--precision float32"):
        check_precision("mixed", torch.device("cuda"))
    check_precision("float32", torch.device("cuda"))
    check_precision("mixed", torch.device("cpu"))


@pytest.mark.parametrize("products", [True, False])
def test_float32_on_a_gpu_is_not_tf32(products):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    matmul.allow_tf32 = products  # what NVIDIA's containers set
    try:
        with whole_float32():
            assert not cudnn.allow_tf32
            assert not matmul.allow_tf32
            assert cudnn.deterministic
        assert (cudnn.allow_tf32, matmul.allow_tf32) == (before[0], products)
    finally:
        matmul.allow_tf32 = before[1]
