"""An effort buys the same arithmetic on every machine, whatever the network."""

import numpy as np
import pytest

from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.budget import EFFORTS, FEWEST, VALUES, batch_for, minutes_for, steps_for, values_of
from edgeq.finetune.loop import hold_out
from edgeq.finetune.settings import METHODS, settings_for
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU
from edgeq.pipeline.choices import IMAGES, with_images


def network(side: int, layers: int = 4) -> Graph:
    nodes = tuple(Node(f"r{n}", RELU, (f"r{n - 1}" if n else "x",)) for n in range(layers))
    return Graph("net", ("x",), (nodes[-1].name,), nodes, {}, {"x": (1, 16, side, side)})


def test_values_are_those_of_every_node() -> None:
    assert values_of(network(8, layers=3)) == 3 * 16 * 64


@pytest.mark.parametrize(("side", "batch"), [(32, 64), (512, 4), (1024, 2), (4096, 2)])
def test_batches_shrink_with_the_network(side: int, batch: int) -> None:
    graph = network(side)
    assert batch_for(graph) == batch
    assert batch == 2 or batch * values_of(graph) <= VALUES


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("effort", EFFORTS)
def test_steps_fill_the_minutes(method: str, effort: str) -> None:
    graph = network(64)
    steps = steps_for(graph, method, effort)
    assert minutes_for(graph, method, steps) == pytest.approx(EFFORTS[effort], rel=0.1)
    assert settings_for(method, effort, graph).steps == steps
    assert steps_for(network(128), method, effort) < steps


def test_however_large_a_network_some_steps_are_taken() -> None:
    assert steps_for(network(4096), "zaq", "fast") == FEWEST


def test_warming_up_takes_a_fifth_at_most() -> None:
    settings = settings_for("dfq-akd", "fast", network(1024))
    assert settings.warm_up == settings.steps // 5


@pytest.mark.parametrize(("asked", "judging", "making"), [(320, 64, 256), (160, 32, 128), (1000, 64, 936), (5, 1, 4)])
def test_a_fifth_of_the_images_judges_and_never_more_than_a_batch(asked: int, judging: int, making: int) -> None:
    images = CalibrationSet(np.zeros((asked, 1, 1, 1), np.float32), np.full(asked, -1), "noise")
    assert [len(part) for part in hold_out(images)] == [judging, making]


def test_a_build_that_trains_makes_images_to_be_judged_by_as_well() -> None:
    config, small, large = BuildConfig(images=32), network(8), network(1024)
    assert with_images(config, "", small).images == 32
    assert with_images(config, "zaq", small).images == IMAGES
    assert with_images(config, "zaq", large).images == max(32, 5 * batch_for(large)) < IMAGES
    assert with_images(BuildConfig(images=500), "zaq", small).images == 500
