"""What carrying torch's padding costs a TFLite file: the figures `edgeq.formats.tflite.layout` counts with.

    python benchmarks/layout_cost.py          # prints, and writes benchmarks/results/layout_cost.md

A strided convolution is written with the padding TensorFlow's SAME has, which costs nothing, and with torch's, carried
by taps of weight zero and by a PAD; a shortcut of stride 2 that starts at the second pixel, with what is in front cut
off, and with its pixels picked by a depthwise convolution. Each is timed in turns with the file that costs nothing, on
one thread: what it takes longer is what carrying costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cases import ROOT, commit
from latency import machine_line, time_pair
from torch import Tensor, nn

from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.formats.tflite import layout
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

RESULTS = ROOT / "benchmarks" / "results" / "layout_cost.md"
INTRODUCTION = f"""\
Printed by `benchmarks/layout_cost.py`. One thread, in turns, the least of 100, XNNPACK, which makes a PAD part of the
convolution behind it; *copied* is a PAD without a delegate, by the pixel in the last column. *ns*: of a
multiply-accumulate more, of {layout.NARROW} channels at least; of a depthwise convolution, of one value, without
the taps and with them."""


@dataclass(frozen=True)
class Case:
    """A convolution of stride 2; `outputs` None is a depthwise one."""

    channels: int
    outputs: int | None
    kernel: int
    side: int

    def __str__(self) -> str:
        kind = "depthwise" if self.outputs is None else f"to {self.outputs}"
        return f"{self.channels}x{self.side}x{self.side} {kind}, {self.kernel} x {self.kernel}"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.side, self.side

    def conv(self, kernel: int, stride: int = 2) -> nn.Conv2d:
        groups = self.channels if self.outputs is None else 1
        return nn.Conv2d(self.channels, self.outputs or self.channels, kernel, stride, groups=groups)


CASES = (
    Case(3, 32, 3, 224),
    Case(3, 64, 7, 224),
    Case(16, 32, 3, 112),
    Case(32, 64, 3, 56),
    Case(64, 128, 3, 56),
    Case(128, 256, 3, 28),
    Case(256, 512, 3, 14),
    Case(16, None, 3, 112),
    Case(96, None, 3, 112),
    Case(72, None, 5, 56),
    Case(144, None, 3, 56),
    Case(192, None, 3, 28),
    Case(240, None, 5, 28),
    Case(576, None, 3, 14),
)
SHORTCUTS = (
    Case(32, 48, 1, 112),
    Case(64, 128, 1, 56),
    Case(128, 256, 1, 28),
    Case(256, 512, 1, 14),
    Case(256, 512, 1, 56),
    Case(512, 1024, 1, 28),
    Case(1024, 2048, 1, 14),
)


class Strided(nn.Module):
    """`symmetric` is torch's padding, the other what SAME has."""

    def __init__(self, case: Case, *, symmetric: bool) -> None:
        super().__init__()
        self.conv = case.conv(case.kernel)
        half = case.kernel // 2
        self.sides = (half, half) * 2 if symmetric else ((case.kernel - 2) // 2, half) * 2

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(F.pad(x, self.sides))
        return made


class Shortcut(nn.Module):
    """Reads every other pixel from the first on, or from the second: `cut` in front, or `picked`."""

    def __init__(self, case: Case, way: str) -> None:
        super().__init__()
        self.way, self.conv = way, case.conv(1, 1 if way == "picked" else 2)

    def forward(self, x: Tensor) -> Tensor:
        x = {"first": x, "cut": x[:, :, 1:, 1:], "picked": x[:, :, 1::2, 1::2]}[self.way]
        made: Tensor = self.conv(x)
        return made


def written(module: nn.Module, shape: tuple[int, int, int]) -> bytes:
    inputs = np.random.default_rng(0).normal(0, 1, (1, *shape)).astype(np.float32)
    images = CalibrationSet(inputs, np.full(1, -1, np.int64), "noise")
    graph = optimize(capture(module.eval(), shape, "network"))
    return write_tflite(quantize(graph, images, (-2.0, 5.0), Scheme.of("w8a8")))


def padded(case: Case) -> Iterator[bytes]:
    """SAME, zero taps, PAD. The last two are forced by what a PAD is said to cost."""
    kept = layout.PADDED
    try:
        yield written(Strided(case, symmetric=False), case.shape)
        for layout.PADDED in (1e9, -1e9):
            yield written(Strided(case, symmetric=True), case.shape)
    finally:
        layout.PADDED = kept


def longer(plain: bytes, other: bytes, case: Case, kernels: str = "xnnpack") -> tuple[float, float]:
    """Microseconds: of `plain`, and what `other` takes more."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "plain.tflite", Path(folder) / "other.tflite"]
        for file, data in zip(files, (plain, other), strict=True):
            file.write_bytes(data)
        taken = time_pair(files[1], files[0], kernels=kernels)
    return 1e3 * taken["b_min_ms"], 1e3 * (taken["a_min_ms"] - taken["b_min_ms"])


def padding_row(case: Case) -> str:
    plain, taps, pad = padded(case)
    time, by_taps = longer(plain, taps, case)
    by_pad, copied = longer(plain, pad, case)[1], longer(plain, pad, case, "builtin")[1]
    places = (case.outputs or case.channels) * (case.side // 2) ** 2
    grown = ((case.kernel + 1) ** 2 - case.kernel**2) * max(case.channels, layout.NARROW)
    each = time / places if case.outputs is None else by_taps / places / grown
    cells = (
        str(case),
        f"{time:.1f}",
        f"{by_taps:.1f}",
        f"{1e3 * each:.4f}",
        f"{1e3 * (time + by_taps) / places:.2f}" if case.outputs is None else "",
        f"{by_pad:.1f}",
        f"{copied:.1f}",
        f"{1e3 * copied / (case.side + case.kernel - 2) ** 2:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def shortcut_row(case: Case) -> str:
    first, cut, picked = (written(Shortcut(case, way), case.shape) for way in ("first", "cut", "picked"))
    time, by_cut = longer(first, cut, case)
    per_byte = 1e3 * by_cut / case.channels / (case.side - 1) ** 2
    return f"| {case} | {time:.1f} | {by_cut:.1f} | {per_byte:.3f} | {longer(first, picked, case)[1]:.1f} |"


def main() -> None:
    torch.set_num_threads(1)
    layout.ORIENTATIONS = ((False, False),)
    lines = [
        "# What carrying torch's padding costs a TFLite file",
        "",
        INTRODUCTION,
        "",
        f"Machine: {machine_line()}; commit {commit()}.",
        "",
        "| convolution, stride 2 | SAME, µs | zero taps: µs more | ns | ns with taps | PAD: µs more | copied: µs more "
        "| ns a pixel |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for case in CASES:
        lines.append(padding_row(case))
        print(lines[-1], flush=True)
    heading = [
        "",
        "| shortcut, stride 2 | first pixels, µs | second, cut off in front: µs more | ns a byte | picked: µs more |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(heading))
    lines += heading
    for case in SHORTCUTS:
        lines.append(shortcut_row(case))
        print(lines[-1], flush=True)
    write_atomic(RESULTS, "\n".join(lines).encode() + b"\n")


if __name__ == "__main__":
    main()
