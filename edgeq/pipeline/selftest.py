"""A tiny network, quantized and run by every runtime: whether what is installed here computes what it should."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.config.formats import FORMATS
from edgeq.config.targets import load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.formats.base import format_of
from edgeq.formats.replay import verify_against
from edgeq.graph import ops
from edgeq.graph.ir import Graph, Node
from edgeq.integer.graph import IntegerGraph
from edgeq.isolation import run_isolated
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.scratch import scratch

__all__ = ["Answer", "try_runtime"]

IMAGES, CHANNELS, SIDE = 4, 3, 6


@dataclass(frozen=True)
class Answer:
    """What a format's runtime made of the network. `runtime` is package and version, `kernels` those that are timed.

    `equal` of `values` integers are the reference's; `held` says whether that is as many as the format promises.
    `answered`: the kernels that are timed gave outputs of the right shape, all finite.
    """

    runtime: str
    kernels: str
    equal: int
    values: int
    held: bool
    answered: bool


def try_runtime(name: str) -> Answer:
    """Write the network in the format called `name`, load it in a process of its own and compare every integer.

    Raises `EdgeqError` where the runtime is missing, refuses the file or dies of it.
    """
    facts = FORMATS.get(name)
    target = load_target(facts.target)
    integer, images = _network()
    with scratch() as folder:
        file = folder / f"model{facts.suffix}"
        file.write_bytes(format_of(target, 8).write(integer, target.io, "int8"))
        runtime, kernels, answered = run_isolated(_run, facts.target, str(file), images)
        exactness = verify_against(integer, file, images)
    return Answer(runtime, kernels, exactness.equal, exactness.values, exactness.held, answered)


def _run(target: str, file: str, images: npt.NDArray[np.float32]) -> tuple[str, str, bool]:
    session = format_of(load_target(target), 8).open(Path(file), 1)
    (output,) = session.run(images)
    return session.runtime, session.kernels, output.shape == (IMAGES, 2) and bool(np.isfinite(output).all())


def _network() -> tuple[IntegerGraph, npt.NDArray[np.float32]]:
    """A convolution, pooling and a linear layer as integers, and images ``(4, 3, 6, 6)`` for it."""
    draw = np.random.default_rng(0)
    images = draw.uniform(-1, 1, (IMAGES, CHANNELS, SIDE, SIDE)).astype(np.float32)
    shapes = {"kernel": (4, CHANNELS, 3, 3), "shift": (4,), "weight": (2, 4), "bias": (2,)}
    constants = {key: draw.uniform(-0.5, 0.5, shape).astype(np.float32) for key, shape in shapes.items()}
    nodes = (
        Node("conv", ops.Conv2d(padding=(1, 1, 1, 1)), ("x", "kernel", "shift")),
        Node("pool", ops.GlobalAvgPool(), ("conv",)),
        Node("flat", ops.Reshape((4,)), ("pool",)),
        Node("linear", ops.Linear(), ("flat", "weight", "bias")),
    )
    graph = Graph("selftest", ("x",), ("linear",), nodes, constants, {"x": (1, CHANNELS, SIDE, SIDE)})
    calibration = CalibrationSet(images, np.full(IMAGES, -1, np.int64), "noise")
    return quantize(graph, calibration, (-1.0, 1.0), Scheme(8, 8)), images
