"""Interleaved latency of two model files on the same runtime: ``python benchmarks/latency.py A B [A B ...]``.

The two are timed in turns on one thread; the result is the median of the pairs' ratios A ÷ B, which noise common to
both cannot move. Files end in .tflite (LiteRT with XNNPACK) or .onnx (onnxruntime's CPU provider).

``--peers`` holds the peers' int8 files against their own float files, for every network whose files are there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from cases import CASES, PEERS

from edgeq.device.job import Pace, bench_here
from edgeq.measure.conditions import this_machine
from edgeq.measure.validity import ENOUGH_RUNS
from edgeq.pipeline.ondevice import find_artifact, setup_for

ROUNDS = 100

Record = dict[str, Any]
"""a_ms, b_ms, ratio, interval [low, high] of the median ratio, runs, threads, runtime, doubts."""


def time_pair(a: Path, b: Path, rounds: int = ROUNDS, threads: int = 1, kernels: str | None = None) -> Record:
    """Time `a` against `b`, with the kernels their users have unless `kernels` names others."""
    if a.suffix != b.suffix:
        raise SystemExit(f"{a.name} and {b.name} run on different runtimes")
    setup = setup_for(find_artifact(a), threads=threads)
    facts = bench_here(a, b, replace(setup, kernels=kernels or setup.kernels), Pace(least=rounds))
    latency = facts["latency"]
    return {
        "a_ms": latency["integer_median_ms"],
        "b_ms": latency["float_median_ms"],
        "a_min_ms": latency["min_ms"],
        "b_min_ms": latency["float_min_ms"],
        "ratio": latency["ratio"],
        "interval": latency["ratio_interval"],
        "runs": latency["runs"],
        "threads": latency["threads"],
        "runtime": facts["runtime"],
        "doubts": facts["doubts"],
    }


def ratio_text(record: Record) -> str:
    """The ratio of a pair with its interval."""
    low, high = record["interval"]
    return f"{record['ratio']:.2f} ({low:.2f} to {high:.2f}{', doubtful' if record['doubts'] else ''})"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="pairs of files: A B A B ...")
    parser.add_argument("--peers", action="store_true", help="the peers' int8 files against their float files")
    parser.add_argument("--networks", nargs="+", default=list(CASES), help="with --peers: only these")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"pairs, at least (default {ROUNDS})")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if len(arguments.files) % 2:
        parser.error("files come in pairs")
    if arguments.rounds < ENOUGH_RUNS:
        parser.error(f"fewer than {ENOUGH_RUNS} rounds are no result")
    files = zip(arguments.files[::2], arguments.files[1::2], strict=True)
    pairs = [(f"{a.name} / {b.name}", a, b) for a, b in files]
    if arguments.peers:
        pairs += [(label, a, b) for _, label, a, b in peer_pairs(arguments.networks)]
    if not pairs:
        parser.error("nothing to time: give files, or --peers once benchmarks/peers/build.py has made them")
    print(f"{machine_line()}; {arguments.threads} thread\n")
    print("| A ÷ B | A ms | B ms | ratio | 95 % interval | pairs | doubts |\n|---|---|---|---|---|---|---|")
    for label, a, b in pairs:
        print(line(label, time_pair(a, b, arguments.rounds, arguments.threads)), flush=True)


if __name__ == "__main__":
    main()
