"""Plays `benchmark_model` where the real one cannot run: its flags, its words, its files; LiteRT computes the outputs.

Runs alone, also under an emulated Arm's Python: it needs numpy and LiteRT. What it prints is the layout of LiteRT 2.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def main(words: list[str]) -> int:
    asked = dict(word[2:].partition("=")[::2] for word in words)
    _line("INFO: STARTING!", sys.stderr)
    if not asked.get("graph"):
        _line("ERROR: Please specify the name of your TF Lite input file with --graph", sys.stderr)
        return 1
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    xnnpack = asked.get("use_xnnpack") == "true"
    kind = OpResolverType.BUILTIN if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    started = time.perf_counter()
    try:
        session = Interpreter(asked["graph"], num_threads=int(asked["num_threads"]), experimental_op_resolver_type=kind)
        session.allocate_tensors()
    except (ValueError, RuntimeError):
        _line(f"ERROR: Failed to load model {asked['graph']}", sys.stderr)
        return 1
    init = (time.perf_counter() - started) * 1e6
    say = _info
    say(f"Graph: [{asked['graph']}]")
    ops = [op["op_name"] for op in session._get_ops_details()]
    real = [name for name in ops if name != "DELEGATE"]
    if xnnpack:
        say("Created TensorFlow Lite XNNPACK delegate for CPU.")
        say("Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.")
    say(f"The input model file size (MB): {os.path.getsize(asked['graph']) / 1e6:g}")
    say(f"Initialized session in {init / 1e3:g}ms.")
    detail = session.get_input_details()[0]
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

    def phase(least: int, seconds: float) -> list[float]:
        say(f"Running benchmark for at least {least} iterations and at least {seconds:g} seconds but terminate if "
            f"exceeding {asked['max_secs']} seconds.")  # fmt: skip
        times: list[float] = []
        until = time.perf_counter() + seconds
        while len(times) < least or (seconds and time.perf_counter() < until):
            session.set_tensor(detail["index"], fed)
            begun = time.perf_counter()
            session.invoke()
            times.append((time.perf_counter() - begun) * 1e6)
        whole = np.array(times or [0.0]).astype(int)
        if len(times) < 2:
            say(f"count={len(times)}" + f" curr={whole[-1]}" * bool(times))
        else:
            low, middle, high = np.percentile(whole, [5, 50, 95]).astype(int)
            say(f"count={len(times)} first={whole[0]} curr={whole[-1]} min={whole.min()} max={whole.max()} "
                f"avg={whole.mean():g} std={int(whole.std())} p5={low} median={middle} p95={high}\n")  # fmt: skip
        return times

    warm = phase(int(asked["warmup_runs"]), float(asked["warmup_min_secs"]))
    times = phase(int(asked["num_runs"]), float(asked["min_secs"]))
    mean = sum(times) / len(times)
    say(f"Inference timings in us: Init: {int(init)}, First inference: {int((warm or [0])[0])}, "
        f"Warmup (avg): {sum(warm) / max(1, len(warm)):g}, Inference (avg): {mean:g}")  # fmt: skip
    if asked.get("report_peak_memory_footprint") == "true":
        say("Memory footprint delta from the start of the tool (MB): init=2.5 overall=8.25")
        say("Overall peak memory footprint (MB) via periodic monitoring: 13.5")
    if asked.get("enable_op_profiling") == "true":
        say("Operator-wise Profiling Info for Regular Benchmark Runs:")
        _line("============================== Summary by node type ==============================")
        _line("  [Node type]  [count]  [avg ms]  [avg %]  [cdf %]  [mem KB]  [times called]")
        share = mean / 1000 / len(real)
        for name in sorted(set(real)):
            count = real.count(name)
            _line(f"  {name}  {count}  {share * count:.3f}  1.000%  1.000%  0.000  {count}")
        _line("\nTimings (microseconds): count=3 first=1 curr=1 min=1 max=1 avg=1 std=0")
    if asked.get("output_filepath"):
        with open(asked["output_filepath"], "wb") as file:
            for made in session.get_output_details():
                file.write(session.get_tensor(made["index"]).tobytes())
    return 0


def _line(text: str, to: Any = sys.stdout) -> None:
    to.write(text + "\n")
    to.flush()


def _info(text: str) -> None:
    _line(f"INFO: {text}")


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
