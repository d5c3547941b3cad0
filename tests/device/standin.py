"""Plays `benchmark_model` where the real one cannot run: its flags, its words, its files; LiteRT computes the outputs.

LiteRT is loaded where outputs are asked for, which takes half a second; where a file is only timed, `Untold` is.
Runs alone: it needs numpy and LiteRT. What it prints is the layout of LiteRT 2.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any


class Untold:
    """A file whose outputs nobody asks for: inferences of a tenth of a millisecond, and a few ops."""

    ops = ("CONV_2D",) * 3 + ("ADD", "FULLY_CONNECTED")

    def __init__(self, path: str) -> None:
        with open(path, "rb") as file:
            data = file.read()
        if data[4:8] != b"TFL3":
            raise ValueError
        self.outputs = b""

    def invoke(self) -> None:
        until = time.perf_counter() + 1e-4
        while time.perf_counter() < until:
            pass


class Computed:
    """A file in LiteRT, its input set."""

    def __init__(self, asked: dict[str, str]) -> None:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        xnnpack = asked.get("use_xnnpack") == "true"
        kind = OpResolverType.BUILTIN if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        path, threads = asked["graph"], int(asked["num_threads"])
        self.session = Interpreter(path, num_threads=threads, experimental_op_resolver_type=kind)
        self.session.allocate_tensors()
        self.ops = tuple(op["op_name"] for op in self.session._get_ops_details() if op["op_name"] != "DELEGATE")
        detail = self.session.get_input_details()[0]
        fed = np.zeros(detail["shape"], detail["dtype"])
        if "input_layer_value_files" in asked:
            name, _, path = asked["input_layer_value_files"].replace("::", "\0").partition(":")
            assert name.replace("\0", ":") == asked["input_layer"] == detail["name"]
            assert asked["input_layer_shape"] == ",".join(map(str, detail["shape"]))
            with open(path, "rb") as file:
                data = file.read()
            if len(data) != fed.nbytes:
                _line(f"FATAL: The size of {path} is {len(data)} bytes. It should be {fed.nbytes} bytes.", sys.stderr)
                os.abort()
            fed = np.frombuffer(data, detail["dtype"]).reshape(detail["shape"])
        self.session.set_tensor(detail["index"], fed)

    def invoke(self) -> None:
        self.session.invoke()

    @property
    def outputs(self) -> bytes:
        details = self.session.get_output_details()
        return b"".join(self.session.get_tensor(made["index"]).tobytes() for made in details)


def main(words: list[str]) -> int:
    asked = dict(word[2:].partition("=")[::2] for word in words)
    _line("INFO: STARTING!", sys.stderr)
    if not asked.get("graph"):
        _line("ERROR: Please specify the name of your TF Lite input file with --graph", sys.stderr)
        return 1
    started = time.perf_counter()
    try:
        session = Computed(asked) if asked.get("output_filepath") else Untold(asked["graph"])
    except (ValueError, RuntimeError):
        _line(f"ERROR: Failed to load model {asked['graph']}", sys.stderr)
        return 1
    init = (time.perf_counter() - started) * 1e6
    _info(f"Graph: [{asked['graph']}]")
    if asked.get("use_xnnpack") == "true":
        _info("Created TensorFlow Lite XNNPACK delegate for CPU.")
        _info("Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.")
    _info(f"The input model file size (MB): {os.path.getsize(asked['graph']) / 1e6:g}")
    _info(f"Initialized session in {init / 1e3:g}ms.")

    def phase(least: int, seconds: float) -> list[float]:
        _info(
            f"Running benchmark for at least {least} iterations and at least {seconds:g} seconds but terminate if "
            f"exceeding {asked['max_secs']} seconds."
        )
        return _timed(session.invoke, least, seconds)

    warm = phase(int(asked["warmup_runs"]), float(asked["warmup_min_secs"]))
    times = phase(int(asked["num_runs"]), float(asked["min_secs"]))
    mean = statistics.fmean(times)
    _info(
        f"Inference timings in us: Init: {int(init)}, First inference: {int((warm or [0])[0])}, "
        f"Warmup (avg): {sum(warm) / max(1, len(warm)):g}, Inference (avg): {mean:g}"
    )
    if asked.get("report_peak_memory_footprint") == "true":
        _info("Memory footprint delta from the start of the tool (MB): init=2.5 overall=8.25")
        _info("Overall peak memory footprint (MB) via periodic monitoring: 13.5")
    if asked.get("enable_op_profiling") == "true":
        _info("Operator-wise Profiling Info for Regular Benchmark Runs:")
        _line("============================== Summary by node type ==============================")
        _line("  [Node type]  [count]  [avg ms]  [avg %]  [cdf %]  [mem KB]  [times called]")
        share = mean / 1000 / len(session.ops)
        for name in sorted(set(session.ops)):
            count = session.ops.count(name)
            _line(f"  {name}  {count}  {share * count:.3f}  1.000%  1.000%  0.000  {count}")
        _line("\nTimings (microseconds): count=3 first=1 curr=1 min=1 max=1 avg=1 std=0")
    if asked.get("output_filepath"):
        with open(asked["output_filepath"], "wb") as file:
            file.write(session.outputs)
    return 0


def _timed(invoke: Callable[[], None], least: int, seconds: float) -> list[float]:
    """Microseconds of each inference; what the tool prints of them is printed."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or (seconds and time.perf_counter() < until):
        begun = time.perf_counter()
        invoke()
        times.append((time.perf_counter() - begun) * 1e6)
    whole = [int(each) for each in times] or [0]
    if len(times) < 2:
        _info(f"count={len(times)}" + f" curr={whole[-1]}" * bool(times))
    else:
        low, middle, high = (sorted(whole)[round(share * (len(whole) - 1))] for share in (0.05, 0.5, 0.95))
        _info(
            f"count={len(times)} first={whole[0]} curr={whole[-1]} min={min(whole)} max={max(whole)} "
            f"avg={statistics.fmean(whole):g} std={int(statistics.pstdev(whole))} p5={low} median={middle} "
            f"p95={high}\n"
        )
    return times


def _line(text: str, to: Any = sys.stdout) -> None:
    to.write(text + "\n")
    to.flush()


def _info(text: str) -> None:
    _line(f"INFO: {text}")


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
