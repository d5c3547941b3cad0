"""Interleaved latency of two model files on the same runtime: ``python benchmarks/latency.py A B [A B ...]``.

One thread. A round times A and B back to back, the order alternating from round to round so that neither always runs on
the warmer clock; the result is the median of the rounds' ratios, which machine noise common to both cannot move. Files
end in .tflite (LiteRT with its default XNNPACK delegate) or .onnx (onnxruntime's CPU provider).

``--peers`` holds the peers' int8 files against their own float files, for every network whose files are there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cases import CASES, PEERS
from machine import conditions

MINIMUM_SAMPLE_SECONDS = 0.004
"""A sample repeats short inferences until it lasts about this long, so that the clock and the call do not count."""


@dataclass(frozen=True)
class Pair:
    """Medians in milliseconds, and A's time as a fraction of B's: median, and 10th and 90th percentile over rounds."""

    a_ms: float
    b_ms: float
    ratio: float
    low: float
    high: float
    rounds: int


def runner(path: Path, threads: int = 1) -> Callable[[], None]:
    """One inference of `path` on random input of its own type and shape, ready to be called again and again."""
    return _onnx(path, threads) if path.suffix == ".onnx" else _tflite(path, threads)


def _tflite(path: Path, threads: int) -> Callable[[], None]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _random(rng, detail["shape"], np.dtype(detail["dtype"])))
    return interpreter.invoke


def _onnx(path: Path, threads: int) -> Callable[[], None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}
    rng = np.random.default_rng(0)
    feeds = {
        value.name: _random(rng, [d if isinstance(d, int) else 1 for d in value.shape], np.dtype(types[value.type]))
        for value in session.get_inputs()
    }
    return lambda: session.run(None, feeds)


def _random(rng: np.random.Generator, shape: list[int], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def interleaved(a: Callable[[], None], b: Callable[[], None], rounds: int) -> Pair:
    """Time `a` and `b` in turn, `rounds` times each after a warm-up."""
    repeats = max(1, round(MINIMUM_SAMPLE_SECONDS / min(_warm(a), _warm(b))))

    def sample(call: Callable[[], None]) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats

    pairs = []
    for index in range(rounds):
        if index % 2:
            second = sample(b)
            pairs.append((sample(a), second))
        else:
            first = sample(a)
            pairs.append((first, sample(b)))
    ratios = [x / y for x, y in pairs]
    low, high = np.percentile(ratios, [10, 90])
    a_ms, b_ms = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return Pair(a_ms, b_ms, statistics.median(ratios), float(low), float(high), rounds)


def _warm(call: Callable[[], None], seconds: float = 0.3) -> float:
    """Run for a while; seconds of the fastest call."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def compare(a: Path, b: Path, rounds: int = 100, threads: int = 1) -> Pair:
    """`interleaved` over two files. Raises `ValueError` when they are for different runtimes."""
    if a.suffix != b.suffix:
        raise ValueError(f"{a.name} and {b.name} run on different runtimes")
    return interleaved(runner(a, threads), runner(b, threads), rounds)


def peer_pairs(names: list[str]) -> list[tuple[str, Path, Path]]:
    """(label, int8 file, float file) of the peers' files that exist."""
    kinds = [
        ("litert-torch PT2E int8, NHWC", "litert_int8_nhwc.tflite", "litert_float_nhwc.tflite"),
        ("litert-torch PT2E int8, NCHW", "litert_int8_nchw.tflite", "litert_float_nchw.tflite"),
        ("onnxruntime u8s8", "ort_u8s8.onnx", "ort_float.onnx"),
    ]
    found = [(f"{n}: {label}", PEERS / n / a, PEERS / n / b) for n in names for label, a, b in kinds]
    return [(label, a, b) for label, a, b in found if a.exists() and b.exists()]


def table(rows: list[tuple[str, Pair]], a: str = "A", b: str = "B") -> str:
    """A Markdown table of labelled pairs."""
    lines = [f"| | {a} ms | {b} ms | {a} ÷ {b} | 10–90 % |", "|---|---|---|---|---|"]
    for label, p in rows:
        lines.append(f"| {label} | {p.a_ms:.3f} | {p.b_ms:.3f} | {p.ratio:.3f} | {p.low:.3f}–{p.high:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="pairs of files: A B A B ...")
    parser.add_argument("--peers", action="store_true", help="the peers' int8 files against their float files")
    parser.add_argument("--networks", nargs="+", default=list(CASES), help="with --peers: only these")
    parser.add_argument("--rounds", type=int, default=100, help="pairs timed (default 100, at least 50 for a result)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if len(arguments.files) % 2:
        parser.error("files come in pairs")
    pairs = [(f"{a.name} / {b.name}", a, b) for a, b in zip(arguments.files[::2], arguments.files[1::2], strict=True)]
    pairs += peer_pairs(arguments.networks) if arguments.peers else []
    if not pairs:
        parser.error("nothing to time: give files, or --peers once benchmarks/peers/build.py has made them")
    rows = [(label, compare(a, b, arguments.rounds, arguments.threads)) for label, a, b in pairs]
    runtimes = f"ai-edge-litert {version('ai-edge-litert')}, onnxruntime {version('onnxruntime')}"
    print(f"{conditions()}; {runtimes}; {arguments.threads} thread; median of {arguments.rounds} interleaved pairs\n")
    print(table(rows, *(("int8", "float") if arguments.peers and not arguments.files else ("A", "B"))))


if __name__ == "__main__":
    main()
