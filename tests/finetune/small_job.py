"""A fine-tuning of a few steps, and a progress that interrupts it."""

import numpy as np
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.loop import Job
from edgeq.finetune.settings import Settings
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, BatchNorm, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.passes import optimize
from edgeq.quant.calibrate import calibrate
from edgeq.quant.scheme import Scheme

STEPS = 6


def job(method, **more):
    rng = np.random.default_rng(0)

    def weight(*shape):
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    nodes = (
        Node("a", Conv2d(padding=(1, 1, 1, 1)), ("x", "a.w")),
        Node("n", BatchNorm(), ("a", "n.g", "n.b", "n.m", "n.v")),
        Node("r", RELU, ("n",)),
        Node("b", Conv2d(stride=(2, 2), padding=(1, 1, 1, 1), activation=RELU), ("r", "b.w")),
        Node("mean", GlobalAvgPool(), ("b",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w")),
    )
    one, none = np.ones(8, np.float32), np.zeros(8, np.float32)
    constants = {"a.w": weight(8, 3, 3, 3), "b.w": weight(8, 8, 3, 3), "fc.w": weight(4, 8)}
    constants |= {"n.g": one, "n.b": none, "n.m": none, "n.v": one}
    raw = Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 8, 8)})
    images = CalibrationSet(rng.normal(0, 1, (24, 3, 8, 8)).astype(np.float32), np.full(24, -1, np.int64), "test")
    graph = optimize(raw)
    decided = calibrate(graph, images, (-2.0, 2.0), scheme=Scheme.of("w4a4", all_layers=True))
    settings = {"steps": STEPS, "batch": 8, "turns": 2, "warm_up": 1, "width": 8, "latent": 8} | more
    low, high = torch.full((3,), -2.0), torch.full((3,), 2.0)
    return Job(graph, raw, decided, images, low, high, Settings(method, **settings))


class StoppedError(Exception):
    pass


class Stop:
    def step(self, done, total, note=""):
        if done == 3:
            raise StoppedError
