"""On a GPU: images, training and freezing give what a processor gives, up to the order of sums."""

import dataclasses

import numpy as np
import pytest
import torch
from small_job import Stop, StoppedError, job

from edgeq.finetune.loop import finetune
from edgeq.finetune.precision import whole_float32
from edgeq.finetune.sources import Drawn
from edgeq.finetune.student import agreement
from edgeq.measure.accuracy import logits_function
from edgeq.quant.freeze import freeze
from edgeq.synth import SYNTHESIZERS, Request, synthesizer_of
from edgeq.synth.distil import Pixel
from edgeq.synth.generators import Generator
from edgeq.synth.losses import squared_gaps
from edgeq.synth.teacher import Teacher

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


def bits(made):
    graph, decided = freeze(made.graph, made.decided).graph, made.facts["gap_after"]
    return graph.digest(), decided


@pytest.mark.parametrize("method", ["zaq", "dfq-akd", "kd"])
def test_training_starts_and_ends_about_where_it_does_on_a_processor(method):
    there, here = finetune(job(method)), finetune(job(method), torch.device("cpu"))
    assert there.curves["student"][0] == pytest.approx(here.curves["student"][0], rel=1e-3)
    assert there.facts["gap_before"] == pytest.approx(here.facts["gap_before"], rel=1e-3)
    assert there.facts["gap_after"] == pytest.approx(here.facts["gap_after"], rel=0.2)


def test_what_a_gpu_trained_is_what_is_frozen():
    made = finetune(job("zaq"))
    images = job("zaq").images.inputs
    same = agreement(made.student, freeze(made.graph, made.decided).graph, images)
    assert same.equal_argmax == 1.0
    assert same.equal > 0.99


@pytest.mark.parametrize("method", ["zaq", "dfq-akd", "kd"])
def test_an_interrupted_run_ends_with_the_same_bits(method, tmp_path):
    whole = finetune(job(method))
    with pytest.raises(StoppedError):
        finetune(dataclasses.replace(job(method), checkpoint=tmp_path, progress=Stop()))
    assert (tmp_path / "state.pt").exists()
    resumed = finetune(dataclasses.replace(job(method), checkpoint=tmp_path))
    assert resumed.facts["resumed_at"] > 0
    assert bits(resumed) == bits(whole)


def test_mixed_precision_trains():
    given = job("zaq")
    made = finetune(dataclasses.replace(given, settings=dataclasses.replace(given.settings, precision="mixed")))
    assert np.isfinite(made.curves["student"]).all()


def test_fresh_images_are_drawn_where_training_is():
    generator = Generator((3, 8, 8), latent=8, width=8, classes=4)
    source = Drawn(generator, Pixel(torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)))
    made = finetune(dataclasses.replace(job("kd"), source=source))
    assert next(generator.parameters()).is_cuda
    assert np.isfinite(made.curves["student"]).all()


def test_a_network_answers_wherever_it_is():
    network, images = torch.nn.Conv2d(3, 4, 8).eval(), np.ones((2, 3, 8, 8), np.float32)
    here = logits_function(network)(images)
    with whole_float32():
        assert logits_function(network.cuda())(images) == pytest.approx(here, rel=1e-4)


@pytest.mark.parametrize("method", ["noise", "uniform", "zeroq", "gzsq-literal"])
def test_what_computes_on_the_processor_does_so(method):
    raw = job("kd").raw
    low, high = np.full(3, -2.0, np.float32), np.full(3, 2.0, np.float32)
    made = Request(raw, low, high, 4, 8, 5, "fast", device=torch.device("cuda"))
    assert len(SYNTHESIZERS.get(method)(made)) == 8


@pytest.mark.parametrize(
    "method", ["gznq", "gznq-generator", "gzsq", "inversion", "leaves", "zs-cgan", "gznq+inversion"]
)
def test_images_made_there_are_as_good(method):
    raw = job("kd").raw
    low, high = np.full(3, -2.0, np.float32), np.full(3, 2.0, np.float32)
    base = Request(graph=raw, low=low, high=high, classes=4, images=24, seed=5, effort="fast")

    def gap(request):
        with whole_float32():
            made = synthesizer_of(method)(request)
        assert made.inputs.min() >= -2.0
        assert made.inputs.max() <= 2.0
        teacher = Teacher(raw)
        return float(squared_gaps(teacher.look(torch.from_numpy(made.inputs))[0], teacher.stored))

    here, there = gap(base), gap(dataclasses.replace(base, device=torch.device("cuda")))
    assert there == pytest.approx(here, rel=0.3)
