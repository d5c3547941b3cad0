"""From which size of network on more threads pay: forward and backward passes of a batch, by number of threads.

    python benchmarks/threads.py            networks of growing size, 1 thread up to all cores
    python benchmarks/threads.py --busy     the same beside one busy loop a core

Prints one row a network: multiply-accumulates of the batch, and milliseconds with each number of threads. The size from
which the second column is smaller than the first is what `SMALL` in `edgeq/threads.py` should be.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from edgeq.synth.memory import keep_freed_memory
from edgeq.threads import BATCH, SMALL, available, sleep_while_waiting

sleep_while_waiting(os.environ)  # as the command line does, before torch is imported

import torch  # noqa: E402
from torch import nn  # noqa: E402

SIZES = ((8, 8), (16, 16), (24, 16), (32, 16), (32, 20), (32, 24), (32, 32), (48, 32), (64, 32), (64, 64))
"""Channels and side of the square images of each network."""

DEPTH = 20
"""Layers of every network: the number of parallel regions stays alike while their size grows."""


def network(width: int) -> nn.Module:
    """Depthwise and pointwise convolutions in turns, with batch norms, as in networks for devices."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(DEPTH // 2):
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.BatchNorm2d(width), nn.ReLU6()]
        layers += [nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU6()]
    return nn.Sequential(*layers).eval()


def macs(width: int, side: int) -> int:
    """Multiply-accumulates of one image through `network`."""
    return side * side * (27 * width + DEPTH // 2 * (9 * width + width * width))


def milliseconds(module: nn.Module, images: torch.Tensor, threads: int) -> float:
    """The quickest of several passes, after one that warms up."""
    torch.set_num_threads(threads)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        torch.autograd.grad(module(images).sum(), images)
        best = min(best, time.perf_counter() - started)
    return 1000 * best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="run one busy loop a core meanwhile")
    options = parser.parse_args()
    keep_freed_memory()  # as synthesis and fine-tuning do; page faults would hide what threads gain
    numbers = sorted({1, *(n for n in (2, 4, 8) if n < available()), available()})
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy * available())]
    try:
        print(f"{available()} cores; SMALL is {SMALL / 1e6:.0f} million\n")
        print("| MACs of a batch, millions | " + " | ".join(f"{n} thread{'s' * (n > 1)}, ms" for n in numbers) + " |")
        print("|---" * (1 + len(numbers)) + "|")
        for width, side in SIZES:
            module, images = network(width), torch.rand(BATCH, 3, side, side, requires_grad=True)
            row = [milliseconds(module, images, n) for n in numbers]
            print(f"| {macs(width, side) * BATCH / 1e6:.0f} | " + " | ".join(f"{ms:.1f}" for ms in row) + " |")
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
