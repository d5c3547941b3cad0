"""Interleaved latency of two model files on the same runtime: ``python benchmarks/latency.py A B [A B ...]``.

The two are timed in turns on one thread; the result is the median of the pairs' ratios A ÷ B, which noise common to
both cannot move. Files end in .tflite (LiteRT with XNNPACK) or .onnx (onnxruntime's CPU provider).

``--peers`` holds the peers' int8 files against their own float files, for every network whose files are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, PEERS
from foreign import open_file

from edgeq.measure.conditions import this_machine
from edgeq.measure.latency import ENOUGH_RUNS, Latency, measure_latency

ROUNDS = 100

Record = dict[str, Any]
"""a_ms, b_ms, ratio, interval [low, high] of the median ratio, runs, threads, runtime, doubts."""


def time_pair(a: Path, b: Path, shape: tuple[int, ...], rounds: int = ROUNDS, threads: int = 1) -> Record:
    """Time `a` against `b` on one random image ``(C, H, W)``."""
    if a.suffix != b.suffix:
        raise SystemExit(f"{a.name} and {b.name} run on different runtimes")
    sample = np.random.default_rng(0).random((1, *shape), np.float32)
    return _record(measure_latency(open_file(b, threads), open_file(a, threads), sample, runs=rounds))


def _record(latency: Latency) -> Record:
    facts = latency.to_json()
    return {
        "a_ms": facts["integer_median_ms"],
        "b_ms": facts["float_median_ms"],
        "ratio": facts["ratio"],
        "interval": facts["ratio_interval"],
        "runs": facts["runs"],
        "threads": facts["threads"],
        "runtime": latency.runtime,
        "doubts": list(latency.doubts),
    }


def machine_line() -> str:
    """The machine and its instruction sets that matter, without names or paths."""
    machine = this_machine()
    return f"{machine.line}, {' '.join(machine.flags)}, governor {machine.governor or 'not visible'}"


def peer_pairs(names: list[str]) -> list[tuple[str, str, Path, Path]]:
    """(network, label, int8 file, float file) of the peers' files that exist."""
    kinds = [
        ("litert-torch PT2E int8, NHWC", "litert_int8_nhwc.tflite", "litert_float_nhwc.tflite"),
        ("litert-torch PT2E int8, NCHW", "litert_int8_nchw.tflite", "litert_float_nchw.tflite"),
        ("onnxruntime u8s8", "ort_u8s8.onnx", "ort_float.onnx"),
    ]
    found = [(n, f"{n}: {label}", PEERS / n / a, PEERS / n / b) for n in names for label, a, b in kinds]
    return [row for row in found if row[2].exists() and row[3].exists()]


def line(label: str, record: Record) -> str:
    """A row of the table `main` prints."""
    low, high = record["interval"]
    doubts = "; ".join(record["doubts"])
    times = f"{record['a_ms']:.3f} | {record['b_ms']:.3f}"
    return f"| {label} | {times} | {record['ratio']:.3f} | {low:.3f}–{high:.3f} | {record['runs']} | {doubts} |"


def _shape(network: str) -> tuple[int, ...]:
    return tuple(np.load(PEERS / network / "calibration.npy", mmap_mode="r").shape[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="pairs of files: A B A B ...")
    parser.add_argument("--shape", type=int, nargs=3, metavar=("C", "H", "W"), help="of one image, for FILES")
    parser.add_argument("--peers", action="store_true", help="the peers' int8 files against their float files")
    parser.add_argument("--networks", nargs="+", default=list(CASES), help="with --peers: only these")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"pairs, at least (default {ROUNDS})")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if len(arguments.files) % 2 or (arguments.files and arguments.shape is None):
        parser.error("files come in pairs, with --shape")
    if arguments.rounds < ENOUGH_RUNS:
        parser.error(f"fewer than {ENOUGH_RUNS} rounds are no result")
    files = zip(arguments.files[::2], arguments.files[1::2], strict=True)
    pairs = [(f"{a.name} / {b.name}", a, b, tuple(arguments.shape)) for a, b in files]
    if arguments.peers:
        pairs += [(label, a, b, _shape(network)) for network, label, a, b in peer_pairs(arguments.networks)]
    if not pairs:
        parser.error("nothing to time: give files, or --peers once benchmarks/peers/build.py has made them")
    print(f"{machine_line()}; {arguments.threads} thread\n")
    print("| A ÷ B | A ms | B ms | ratio | 95 % interval | pairs | doubts |\n|---|---|---|---|---|---|---|")
    for label, a, b, shape in pairs:
        print(line(label, time_pair(a, b, shape, arguments.rounds, arguments.threads)), flush=True)


if __name__ == "__main__":
    main()
