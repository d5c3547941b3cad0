"""How long a build will take: every stage, in seconds of an idle machine, and how much longer a busy one takes.

The network's own forward and backward passes are timed here and now, because no table knows how fast a machine runs a
given network. The rest follows from counts: images, values and parameters. Its costs were measured on one core of a
server processor and are scaled by how fast this machine does plain arithmetic. `benchmarks/plan_estimate.py` compares
estimates with builds.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeq.config.build import BuildConfig
from edgeq.data.pictures import find_plain
from edgeq.errors import EdgeqError
from edgeq.finetune.budget import minutes_for, values_of
from edgeq.finetune.precision import training_device
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.limits import read_text
from edgeq.pipeline.recipe import synthesis_recipe, tuning_settings
from edgeq.quant.rounding import COMPENSATED
from edgeq.quant.scheme import Scheme
from edgeq.synth import passes_needed
from edgeq.synth.base import JOINED
from edgeq.threads import BATCH, Load, load

__all__ = ["Estimate", "estimate"]

VERIFIED = 32
"""How many images a build verifies; another number in `edgeq.pipeline.build` would be another estimate."""

SIMULATED = 500
"""How many images the exact reference answers where no runtime can."""

UNCOUNTED = 500
"""Evaluation images assumed where counting them would mean running the user's code."""

# Seconds of one core per value, multiply-accumulate or parameter, each with what the stage costs at least.
CALIBRATE_VALUE, CALIBRATE_PASSES, CALIBRATE_LEAST = 2.8e-8, 8.0, 0.3
ROUNDED_VALUE = 6e-7  # more, where the rounding of every weight is chosen
VERIFY_VALUE, VERIFY_MAC, VERIFY_LEAST = 6e-8, 5e-10, 0.2
WRITE, WRITE_LEAST = 5e-7, 0.15
RUNTIME = 1.0  # times a forward pass in torch: integer and float file over the evaluation images
LATENCY = 400  # pairs of timings of at least 2 ms each, or 4 s
PASS_COSTS = {"gznq": 2.2, "gznq-generator": 2.2, "gzsq": 1.4, "inversion": 1.0}
"""What a method's pass costs in plain forward and backward passes: its losses, and images that are made anew."""

PACE = 2.95e-3
"""Seconds that `_plain_arithmetic` took where the costs above were measured."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of each stage on an idle machine, and how many times as long the machine as it is now takes."""

    seconds: Mapping[str, float]
    slowdown: float

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def to_json(self) -> dict[str, Any]:
        """The rows of a plan."""
        busy = self.slowdown >= 1.25
        return {
            "estimated_seconds": round(self.total, 1),
            "estimated_stages": {name: round(value, 1) for name, value in self.seconds.items()},
            "machine": f"busy now: about {self.slowdown:.1f} times longer" if busy else "idle enough",
        }


def estimate(
    config: BuildConfig,
    raw: Graph,
    graph: Graph,
    method: str,
    scheme: Scheme,
    tuning: str,
    evaluation: str | None,
    *,
    capture_seconds: float,
    look: Callable[[], Load] = load,
) -> Estimate:
    """Estimate a build with nothing in its cache, from the captured network `raw` and its optimised form `graph`.

    `method` makes the images, `tuning` fine-tunes ("" for none), `evaluation` names labelled images, and
    `capture_seconds` is what capturing took just now. torch has the threads it will work with. Takes a second or two
    of passes through the network.
    """
    busy = look()
    threads, images = torch.get_num_threads(), config.images
    pace = _pace()
    forward, both = _pass_seconds(raw, min(images, BATCH), backward=_passes(method, config, images) > 0)
    values, macs = values_of(graph), graph.macs()
    rounded = scheme.fewest_weights <= COMPENSATED
    measured = _count(evaluation, config.eval_limit) if evaluation else 0
    seconds = {
        "capture": capture_seconds,
        "synthesize": both * _passes(method, config, images),
        "calibrate": pace * (CALIBRATE_LEAST + (CALIBRATE_VALUE + ROUNDED_VALUE * rounded) * images * values)
        + CALIBRATE_PASSES * forward * images,
    }
    if tuning:
        minutes = minutes_for(graph, tuning, tuning_settings(tuning, config, graph).steps)
        seconds["finetune"] = pace * 60 * minutes / (1 if threads == 1 else 0.9 * threads)
    reference = pace * (VERIFY_VALUE * values + VERIFY_MAC * macs)
    simulated = min(measured, SIMULATED) if scheme.fewest_activations < 8 else 0
    seconds |= {
        "write": pace * (WRITE_LEAST + WRITE * graph.parameters()),
        "verify": pace * VERIFY_LEAST + reference * min(images, VERIFIED),
        "measure": measured * forward * (1 + RUNTIME) + simulated * reference + _latency_seconds(forward),
    }
    return Estimate(seconds, busy.slowdown(threads))


def _passes(method: str, config: BuildConfig, images: int) -> float:
    """Plain forward and backward passes that making the images is worth."""
    if JOINED in method and not method.startswith("images:"):
        parts = method.split(JOINED)
        return sum(_passes(part, config, round(images / len(parts))) for part in parts)
    return PASS_COSTS.get(method, 1.2) * passes_needed(method, config.effort, images, synthesis_recipe(method, config))


def _pass_seconds(raw: Graph, batch: int, *, backward: bool) -> tuple[float, float]:
    """Seconds an image takes forward, and forward and backward (0.0 unless `backward`), in batches of at most `batch`.

    One image tells how many make a batch that takes no minutes; its first pass only warms up. The quickest of several
    counts: whatever else the machine does only makes a pass slower.
    """
    device = training_device()
    module = GraphModule(raw).eval().to(device)
    shape = raw.shapes[raw.inputs[0]][1:]
    least = [float("inf"), float("inf") if backward else 0.0]

    def timed(images: torch.Tensor, gradient: bool) -> float:
        started, worked = time.monotonic(), time.thread_time()
        with torch.set_grad_enabled(gradient):
            output = module(images)
        total = sum(part.sum() for part in (output if isinstance(output, tuple) else (output,)))
        if gradient:
            (total,) = torch.autograd.grad(total, images)
        float(total.sum())  # a GPU has finished when it can be read
        # On one thread, the processor's time is what an idle machine would take.
        single = torch.get_num_threads() == 1 and device.type == "cpu"
        return time.thread_time() - worked if single else time.monotonic() - started

    one = torch.zeros(1, *shape, device=device)
    alone = min(timed(one, False) for _ in range(2))
    batch = max(1, min(batch, int(0.25 / max(alone, 1e-4))))
    images = torch.rand(batch, *shape, device=device).requires_grad_(backward)
    deadline = time.monotonic() + 1.5
    for turn in range(6):
        for index, gradient in enumerate((False, True)[: 1 + backward]):
            spent = timed(images, gradient) / batch
            least[index] = min(least[index], spent)
        if turn >= 1 and time.monotonic() > deadline:
            break
    return least[0], least[1]


def _latency_seconds(forward: float) -> float:
    pair = 2 * max(0.002, forward)
    return 2.5 + max(50 * pair, min(LATENCY * pair, 4.0))  # the runner starts and looks at the machine first


def _pace() -> float:
    """How many times as long as where the costs were measured this machine takes for plain arithmetic."""
    return min(_plain_arithmetic() for _ in range(5)) / PACE


def _plain_arithmetic() -> float:
    """Seconds of one core for what the reference and the calibration mostly do: passes over arrays."""
    values = np.linspace(-1, 1, 2**18, dtype=np.float32)
    started = time.thread_time()
    whole = np.floor(values * np.float32(127.0) + np.float32(0.5)).astype(np.int64)
    whole = (whole * 1_234_567_891 + (1 << 30)) >> 31
    np.clip(whole, -128, 127).astype(np.int8)
    return time.thread_time() - started


def _count(evaluation: str, limit: int | None) -> int:
    """Evaluation images there, without decoding one; `UNCOUNTED` where nothing says how many there are."""
    path = Path(evaluation)
    count: int | None = None
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive, archive.open("images.npy") as file:
                numpy_format: Any = np.lib.format
                version = numpy_format.read_magic(file)
                read = numpy_format.read_array_header_1_0 if version == (1, 0) else numpy_format.read_array_header_2_0
                count = int(read(file)[0][0])
        elif path.suffix == ".csv":
            count = len(read_text(path).splitlines()) - 1
        elif path.is_dir():
            count = sum(len(find_plain(folder)) for folder in (path, *path.iterdir()))
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile, EdgeqError):
        pass  # whoever reads the images says what is wrong with them
    count = UNCOUNTED if count is None else count
    return count if limit is None else min(count, limit)
