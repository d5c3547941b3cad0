"""Ways to compute a layer norm of int8 values in a TFLite file: what is left of the signal, and what it costs.

    python benchmarks/layer_norm.py        # prints, and writes benchmarks/results/layer_norm.md

The arithmetic is simulated: every value between two ops on the grid its kernel has, ranges of least squared error for
those that have a choice. The times are those of files that hold the ops and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from cases import ROOT, commit
from latency import machine_line

from edgeq.formats.tflite.emit.emitter import options_of
from edgeq.formats.tflite.flatbuffer import File, Operator, Tensor, serialize
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.integer.graph import Quantization

Array = npt.NDArray[np.float64]
RESULTS = ROOT / "benchmarks" / "results" / "layer_norm.md"
CHANNELS, PIXELS = (96, 768), 1000
SPREADS = ((0.0, 0.0), (0.7, 0.3), (1.0, 0.7))
"""Standard deviations of the logarithms of channels' and of pixels' sizes."""
SIDE, WIDTH, RUNS = 56, 96, 20
CODE = schema.BuiltinOperator


def grid(values: Array, levels: int = 255) -> Callable[[Array], Array]:
    """Rounds to the grid on which these values lose least."""
    low, high, best = min(values.min(), 0.0), max(values.max(), 0.0), (np.inf, 1.0, 0.0)
    for share in np.linspace(0.3, 1, 36):
        step = max(share * (high - low) / levels, 1e-12)
        zero = np.round(-share * low / step)
        held = (np.clip(np.round(values / step) + zero, 0, levels) - zero) * step
        error = float(((held - values) ** 2).mean())
        best = min(best, (error, step, zero))
    _, step, zero = best
    return lambda v: (np.clip(np.round(v / step) + zero, 0, levels) - zero) * step


def exact(x: Array) -> Array:
    centred = x - x.mean(1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12))


def centred(x: Array) -> Array:
    """``x`` less its mean, both int8."""
    mean = x.mean(1, keepdims=True)
    made = x - grid(mean)(mean)
    return grid(made)(made)


def by_l2(x: Array) -> Array:
    d = centred(x)
    length = np.sqrt((d**2).sum(1, keepdims=True)) + 1e-9
    return np.asarray(np.clip(np.round(128 * d / length), -128, 127) / 128 * np.sqrt(x.shape[1]))


def _scaled(d: Array, power: Array) -> Array:
    """`d` times the inverse root of `power`, all int8."""
    step = power.max() / 255
    root = 1 / np.sqrt(np.maximum(np.round(power / step) * step, step / 4))
    ceiling = np.quantile(root, 0.999) / 255
    made = d * np.clip(np.round(root / ceiling), 0, 255) * ceiling
    return grid(made)(made)


def by_squares(x: Array) -> Array:
    d = centred(x)
    squares = np.round(d**2 / ((d**2).max() / 255)) * ((d**2).max() / 255)
    return _scaled(d, squares.mean(1, keepdims=True))


def by_products(x: Array) -> Array:
    d = centred(x)
    return _scaled(d, (d**2).mean(1, keepdims=True))


def by_int16(x: Array) -> Array:
    """On 16-bit grids that hold whatever the int8 input's can become."""
    step = (x.max() - x.min()) / 255 / 128
    d = np.round((x - x.mean(1, keepdims=True)) / step)
    squares = np.minimum(np.round(d**2 / 2**15), 32767)
    power = np.round(4 * squares.mean(1, keepdims=True))
    root = np.round(32767 / np.sqrt(np.maximum(power, 1)))
    made = np.asarray(d * root / 32767 / 2**6.5)
    return grid(made)(made)


def signal(expected: Array, made: Array) -> float:
    """Median over pixels of the signal-to-noise ratio, dB."""
    noise = ((made - expected) ** 2).mean(1)
    return float(np.median(10 * np.log10((expected**2).mean(1) / noise)))


class Ops:
    """A file being put together, from one int8 input."""

    def __init__(self) -> None:
        self.file, self.shape = File(), (1, SIDE, SIDE, WIDTH)
        self.x = self.tensor(self.shape)
        self.file.inputs.append(self.x)

    def tensor(self, shape: tuple[int, ...], kind: str = "int8", scale: float = 0.02) -> int:
        q = Quantization(np.asarray(scale, np.float32), np.asarray(0, np.int32), kind)
        return self.file.add(Tensor(f"t{len(self.file.tensors)}", shape, kind, q))

    def numbers(self, *values: int) -> int:
        return self.file.add(Tensor("numbers", (len(values),), "int32", None, np.array(values, np.int32)))

    def op(
        self, code: int, version: int, inputs: tuple[int, ...], output: int, kind: str = "", **options: object
    ) -> int:
        chosen = options_of(kind, **options) if kind else None
        self.file.operators.append(Operator(code, version, inputs, (output,), chosen))
        return output

    def mean(self) -> int:
        ones, zero = np.full(1, 0.01, np.float32), np.zeros(1, np.int32)
        weight = np.full((1, 1, 1, WIDTH), -127, np.int8)
        w = self.file.add(Tensor("w", weight.shape, "int8", Quantization(ones, zero, "int8", 0), weight))
        b = self.file.add(Tensor("b", (1,), "int32", Quantization(ones * np.float32(0.02), zero, "int32", 0), zero))
        y = self.tensor((*self.shape[:3], 1))
        return self.op(
            CODE.CONV_2D,
            3,
            (self.x, w, b),
            y,
            "Conv2DOptions",
            padding=1,
            strideH=1,
            strideW=1,
            dilationHFactor=1,
            dilationWFactor=1,
        )

    def centred(self) -> int:
        return self.op(CODE.ADD, 2, (self.x, self.mean()), self.tensor(self.shape), "AddOptions")

    def milliseconds(self, output: int) -> tuple[float, float]:
        """With XNNPACK and with built-in kernels, best of `RUNS`."""
        self.file.outputs.append(output)
        data, found = serialize(self.file), []
        for kernels in ("xnnpack", "builtin"):
            session, times = LiteRTSession(data, kernels=kernels, channels=WIDTH), []
            drawn = np.random.default_rng(0).normal(0, 0.6, (1, WIDTH, SIDE, SIDE)).astype(np.float32)
            session.prepare(drawn)
            for _ in range(RUNS):
                started = time.process_time()
                session.invoke()
                times.append(time.process_time() - started)
            found.append(1000 * min(times))
        return found[0], found[1]


def time_l2() -> tuple[float, float]:
    ops = Ops()
    y = ops.tensor(ops.shape, scale=1 / 128)
    return ops.milliseconds(ops.op(CODE.L2_NORMALIZATION, 2, (ops.centred(),), y, "L2NormOptions"))


def time_squares() -> tuple[float, float]:
    ops = Ops()
    d, keep = ops.centred(), {"kind": "ReducerOptions", "keepDims": True}
    squares = ops.op(CODE.MUL, 2, (d, d), ops.tensor(ops.shape, scale=0.05), "MulOptions")
    pixel = (*ops.shape[:3], 1)
    power = ops.op(CODE.MEAN, 2, (squares, ops.numbers(3)), ops.tensor(pixel), **keep)  # type: ignore[arg-type]
    root = ops.op(CODE.RSQRT, 2, (power,), ops.tensor(pixel))
    return ops.milliseconds(ops.op(CODE.MUL, 2, (d, root), ops.tensor(ops.shape), "MulOptions"))


def time_products() -> tuple[float, float]:
    ops = Ops()
    d, pixel = ops.centred(), (*ops.shape[:3], 1)
    rows = (1, SIDE * SIDE, 1, WIDTH)
    row = ops.op(CODE.RESHAPE, 1, (d, ops.numbers(*rows)), ops.tensor(rows))
    total = ops.op(
        CODE.BATCH_MATMUL, 2, (row, row), ops.tensor((*rows[:3], 1), scale=1.0), "BatchMatMulOptions", adjY=True
    )
    power = ops.op(CODE.RESHAPE, 1, (total, ops.numbers(*pixel)), ops.tensor(pixel, scale=1 / WIDTH))
    root = ops.op(CODE.RSQRT, 2, (power,), ops.tensor(pixel))
    return ops.milliseconds(ops.op(CODE.MUL, 2, (d, root), ops.tensor(ops.shape), "MulOptions"))


def time_int16() -> tuple[float, float]:
    ops = Ops()
    pixel, keep = (*ops.shape[:3], 1), {"kind": "ReducerOptions", "keepDims": True}
    axis, fine = ops.numbers(3), 0.02 / 128
    x = ops.op(CODE.QUANTIZE, 2, (ops.x,), ops.tensor(ops.shape, "int16", fine))
    mean = ops.op(CODE.MEAN, 3, (x, axis), ops.tensor(pixel, "int16", fine), **keep)  # type: ignore[arg-type]
    d = ops.op(CODE.SUB, 3, (x, mean), ops.tensor(ops.shape, "int16", fine), "SubOptions", potScaleInt16=False)
    squares = ops.op(CODE.MUL, 4, (d, d), ops.tensor(ops.shape, "int16", fine**2 * 2**15), "MulOptions")
    scale = fine**2 * 2**13
    power = ops.op(CODE.MEAN, 3, (squares, axis), ops.tensor(pixel, "int16", scale), **keep)  # type: ignore[arg-type]
    root = ops.op(CODE.RSQRT, 2, (power,), ops.tensor(pixel, "int16", scale**-0.5 / 32767))
    y = ops.op(CODE.MUL, 4, (d, root), ops.tensor(ops.shape, "int16", 2.5e-4), "MulOptions")
    return ops.milliseconds(ops.op(CODE.QUANTIZE, 2, (y,), ops.tensor(ops.shape, scale=0.032)))


FORMS: dict[str, tuple[Callable[[Array], Array], Callable[[], tuple[float, float]] | None]] = {
    "float norm of the int8 input, int8": (lambda x: grid(exact(x))(exact(x)), None),
    "16 bits inside (QUANTIZE, MEAN, SUB, MUL, MEAN, RSQRT, MUL, QUANTIZE)": (by_int16, time_int16),
    "**sum of products** (CONV_2D, ADD, BATCH_MATMUL, RSQRT, MUL)": (by_products, time_products),
    "int8 squares (CONV_2D, ADD, MUL, MEAN, RSQRT, MUL)": (by_squares, time_squares),
    "L2_NORMALIZATION (CONV_2D, ADD, L2_NORMALIZATION)": (by_l2, time_l2),
}


def main() -> None:
    rng = np.random.default_rng(0)
    rows: dict[str, list[str]] = {name: [] for name in FORMS}
    for channels in CHANNELS:
        for spread, length in SPREADS:
            x = rng.normal(0, 1, (PIXELS, channels)) * np.exp(rng.normal(0, spread, channels))
            x = x * np.exp(rng.normal(0, length, (PIXELS, 1))) + rng.normal(0, 0.3, channels)
            held = grid(x)(x)
            for name, (form, _) in FORMS.items():
                rows[name].append(f"{signal(exact(x), form(held)):.1f}")
    cases = [f"{channels}, {spread:g}, {length:g}" for channels in CHANNELS for spread, length in SPREADS]
    lines = [
        "# Layer norm of int8 values in TFLite",
        "",
        "Signal-to-noise ratio of the norm against a float one of the values before they were int8, dB, median over",
        f"{PIXELS:,} pixels; simulated. Columns: channels, spread of channels' sizes, of pixels' (standard deviations",
        f"of logarithms). Milliseconds: {SIDE} x {SIDE} x {WIDTH}, one thread, best of {RUNS}, processor time.",
        "",
        f"Printed by `benchmarks/layer_norm.py` on {machine_line()}; commit {commit()}.",
        "",
        f"| form | {' | '.join(cases)} | ms, XNNPACK | ms, built-in |",
        "|---" * (len(cases) + 3) + "|",
    ]
    for name, (_, timed) in FORMS.items():
        times = timed() if timed else None
        shown = ["–", "–"] if times is None else [f"{t:.2f}" for t in times]
        lines.append(f"| {' | '.join([name, *rows[name], *shown])} |")
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
