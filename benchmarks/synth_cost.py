"""What calibration images cost: time until they are ready, cost per image, where the time goes, and what it buys.

    python benchmarks/synth_cost.py            # prints, and writes benchmarks/results/synth_cost.md

The last table needs cells of `zero_shot.py` at every effort and leaves out what is not there:

    for e in fast balanced best; do
      python benchmarks/zero_shot.py --effort $e --networks resnet20 mobilenetv1-0.25 --methods images gznq
      python benchmarks/zero_shot.py --effort $e --networks mobilenetv2-folded squeezenet1.1 --methods images inversion
    done
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from cases import COLUMNS, ROOT, commit, data_folder
from latency import machine_line
from subjects import Subject
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from zero_shot import FOLDER

from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.model.torchvision import import_torchvision
from edgeq.synth import SYNTHESIZERS, Request, teacher
from edgeq.synth.gznq import Settings, synthesize
from edgeq.synth.losses import Moments
from edgeq.synth.memory import keep_freed_memory

EFFORTS = ("fast", "balanced", "best")
STEPS = 4
"""Iterations per timing in the tables of shares and of batches."""

BUYS = (
    ("resnet20", "gznq"),
    ("mobilenetv1-0.25", "gznq"),
    ("mobilenetv2-folded", "inversion"),
    ("squeezenet1.1", "inversion"),
)


def _mobilenet() -> Graph:
    """MobileNetV2 at 224 with its batch norms, initial weights: how long it takes does not depend on what they say."""
    torch.manual_seed(0)
    return capture(import_torchvision().models.mobilenet_v2().eval(), (3, 224, 224), "mobilenet_v2")


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    wall, processor = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - wall, time.process_time() - processor


def _request(graph: Graph, like: Subject, images: int, effort: str = "balanced") -> Request:
    low, high = like.loaded.spec.channel_range()
    return Request(graph, low, high, like.loaded.spec.classes, images, 0, effort)


def _steps(request: Request, steps: int = STEPS) -> CalibrationSet:
    settings = Settings(coarse=0, fine=steps, batch=request.images, retries=0)
    return synthesize(request, settings, "gznq")


def ready(mobilenet: Graph, folded: Subject) -> list[str]:
    """Default effort and default number of images, two threads."""
    lines = ["| network | method | images | seconds | processor s |", "|---|---|---|---|---|"]
    for name, method, graph in (
        ("MobileNetV2 224, batch norms there", "gznq", mobilenet),
        ("MobileNetV2 224, batch norms folded", "inversion", folded.raw),
    ):
        request = _request(graph, folded, 32)
        wall, processor = _timed(lambda m=method, r=request: SYNTHESIZERS.get(m)(r))  # type: ignore[misc]
        lines.append(f"| {name} | {method} | {request.images} | {wall:.0f} | {processor:.0f} |")
        print(lines[-1], flush=True)
    return lines


def batches(mobilenet: Graph, folded: Subject, resnet: Subject) -> list[str]:
    """Milliseconds of processor per image and iteration, by batch."""
    sizes = (2, 8, 32, 64)
    lines = [f"| network | {' | '.join(f'batch {n}' for n in sizes)} |", f"|---|{'---|' * len(sizes)}"]
    for name, graph, subject in (("ResNet-20, 32 px", resnet.raw, resnet), ("MobileNetV2, 224 px", mobilenet, folded)):
        cells = []
        for size in sizes:
            request = _request(graph, subject, size)
            _steps(request, 1)
            steps = max(STEPS, 128 // size) if subject is resnet else STEPS
            once = min(_timed(lambda r=request, s=steps: _steps(r, s))[1] for _ in range(2))  # type: ignore[misc]
            cells.append(f"{1000 * once / steps / size:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def _plain_moments(value: Tensor) -> Moments:
    var, mean = torch.var_mean(value, [0, *range(2, value.dim())], correction=0)
    return Moments(mean, var)


@contextmanager
def _rows_first() -> Iterator[None]:
    """Images in torch's own order instead of channels-last."""
    run = teacher.GraphModule.run

    def contiguous(self: Any, images: Tensor, *rest: Any, **more: Any) -> Any:
        return run(self, images.contiguous(), *rest, **more)

    with mock.patch.object(teacher.GraphModule, "run", contiguous):
        yield


def without(mobilenet: Graph, folded: Subject) -> list[str]:
    """What each thing found by profiling saves: processor seconds without it, over those with all of them."""
    request = _request(mobilenet, folded, 16)
    _steps(request, 1)
    before = min(_timed(lambda: _steps(request))[1] for _ in range(3))
    keep_freed_memory()
    _steps(request, 1)
    everything = min(_timed(lambda: _steps(request))[1] for _ in range(3))
    lines = ["| left out | time over the time with everything |", "|---|---|"]
    lines.append(f"| keeping freed memory | {before / everything:.2f} |")
    with mock.patch.object(teacher, "batch_moments", _plain_moments):
        _steps(request, 1)
        moments = min(_timed(lambda: _steps(request))[1] for _ in range(3))
    lines.append(f"| moments by the batch-norm kernel | {moments / everything:.2f} |")
    with _rows_first():
        _steps(request, 1)
        order = min(_timed(lambda: _steps(request))[1] for _ in range(3))
    lines.append(f"| channels-last order | {order / everything:.2f} |")
    print("\n".join(lines), flush=True)
    return lines


GROUPS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("convolution",),
    "moments and their gradients": ("native_batch_norm", "addcmul", "_Moments"),
    "batch norms and activations": ("hardtanh", "clamp", "aten::mul", "aten::add", "sub", "rsqrt"),
}


def shares(mobilenet: Graph, folded: Subject) -> list[str]:
    """Share of processor time by kind of kernel."""
    request = _request(mobilenet, folded, 16)
    _steps(request, 1)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        _steps(request)
    found = dict.fromkeys([*GROUPS, "everything else"], 0.0)
    for event in recorded.key_averages():
        group = next((g for g, keys in GROUPS.items() if any(key in event.key for key in keys)), "everything else")
        found[group] += event.self_cpu_time_total
    total = sum(found.values())
    lines = ["| kernels | share of processor time |", "|---|---|"]
    lines += [f"| {name} | {100 * micros / total:.0f} % |" for name, micros in found.items()]
    print("\n".join(lines), flush=True)
    return lines


def buys() -> list[str]:
    """Accuracy against seconds, from the cells of the protocol."""
    lines = [
        "| network | method | effort | seconds | w8a8 | w4a8 | real images w8a8 | w4a8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network, method in BUYS:
        for effort in EFFORTS:
            files = sorted((FOLDER / effort).glob(f"{network}--{method}--*.json"))
            rows = [json.loads(file.read_text()) for file in files]
            real = [json.loads(file.read_text()) for file in (FOLDER / effort).glob(f"{network}--images--*.json")]
            if not rows or not real:
                continue
            seconds = statistics.fmean(row["seconds"] for row in rows)
            scores = [
                f"{statistics.fmean(row['answers'][bits]['top1'] for row in some):.2f}"
                for some in (rows, real)
                for bits in ("w8a8", "w4a8")
            ]
            lines.append(f"| {network} | {method} | {effort} | {seconds:.0f} | {' | '.join(scores)} |")
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    data_folder()
    torch.set_num_threads(2)
    mobilenet = _mobilenet()
    folded, resnet = Subject(COLUMNS["mobilenetv2-folded"]), Subject(COLUMNS["resnet20"])
    saved = without(mobilenet, folded)  # first: freed memory is still given back
    parts = [
        "# What calibration images cost",
        "",
        "`python benchmarks/synth_cost.py`",
        "",
        f"{machine_line()}, 2 threads, commit {commit()}. The machine is shared: processor seconds (of both cores) are "
        "the steadier ones.",
        "",
        "## Until they are ready",
        "",
        "Default effort, default number of images.",
        "",
        *ready(mobilenet, folded),
        "",
        "## Per image and iteration, by batch",
        "",
        "Milliseconds of processor time, GZNQ, full resolution.",
        "",
        *batches(mobilenet, folded, resnet),
        "",
        "## Where the time goes",
        "",
        "GZNQ on MobileNetV2 at 224 px, 16 images.",
        "",
        *shares(mobilenet, folded),
        "",
        "What came from looking there; ratios of one run:",
        "",
        *saved,
        "",
        "## What effort buys",
        "",
        "32 images; exported .tflite on XNNPACK; top-1 in percent, mean of the seeds measured. Seconds on one thread.",
        "",
        *buys(),
        "",
    ]
    write_atomic(ROOT / "benchmarks" / "results" / "synth_cost.md", "\n".join(parts))


if __name__ == "__main__":
    main()
