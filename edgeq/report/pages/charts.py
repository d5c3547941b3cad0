"""Geometry of the report's charts: numbers in, shapes in SVG user units out. The template only draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Bar",
    "Chart",
    "Comparison",
    "Curve",
    "Tick",
    "Timed",
    "comparison_chart",
    "curve_chart",
    "gap_chart",
    "histogram",
]

WIDTH, HEIGHT = 640.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 8.0, 12.0, 38.0
LINE, BAR, VALUE = 15.0, 10.0, 70.0
"""Sizes in a comparison: height of a line of text and of a bar, and room behind the longest bar for its value."""

BINS = 48
TAIL = 0.98
"""Timings beyond this percentile are gathered in the last bin, so that one straggler does not flatten the rest."""


@dataclass(frozen=True)
class Bar:
    """A rectangle with the text a pointer shows over it. `tone` is a class name of the style sheet."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    text: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in user units, and what to write there."""

    at: float
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Chart:
    """Bars between axes. `lines` are vertical marks (medians), drawn over the bars."""

    bars: tuple[Bar, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    lines: tuple[tuple[float, str, str], ...] = ()
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    base: float = HEIGHT - BOTTOM


LEAST, MOST = 0.01, 1000.0
"""Ends of the logarithmic axis of gaps, in standard deviations; what lies beyond is drawn at the end, and the axis ends
at the power of ten, from 10 on, that holds all."""


def gap_chart(layers: Sequence[dict[str, Any]], kind: str) -> Chart | None:
    """Two columns per layer in execution order: the set's gap in front of noise's; None without layers.

    `kind` is ``mean`` or ``std``; the rows hold ``{kind}_gap`` and ``noise_{kind}_gap`` in standard deviations.
    """
    if not layers:
        return None
    floor, room = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    step = (WIDTH - LEFT - RIGHT) / len(layers)
    widest = max(max(row[f"{kind}_gap"], row[f"noise_{kind}_gap"]) for row in layers)
    decades = math.ceil(math.log10(min(max(widest, 10.0), MOST) / LEAST) - 1e-9)

    def height(value: float) -> float:
        share = math.log10(min(max(value, LEAST), MOST) / LEAST) / decades
        return max(room * share, 1.5)

    bars = []
    for number, row in enumerate(layers):
        ours, noise = row[f"{kind}_gap"], row[f"noise_{kind}_gap"]
        text = f"{row['layer']}: {ours:.3g}, noise {noise:.3g}"
        for value, tone, start, width in ((noise, "float", 0.06, 0.88), (ours, "integer", 0.24, 0.52)):
            tall = height(value)
            bars.append(Bar(LEFT + step * (number + start), floor - tall, max(step * width, 0.6), tall, tone, text))
    powers = [LEAST * 10**n for n in range(decades + 1)]
    up = tuple(Tick(floor - room * n / decades, f"{v:g}" if v < 999 else "10³", n == 2) for n, v in enumerate(powers))
    every = max(1, math.ceil(len(layers) / 16))
    across = tuple(Tick(LEFT + step * (n + 0.5), str(n + 1)) for n in range(0, len(layers), every))
    return Chart(tuple(bars), across, up)


def histogram(named: Sequence[tuple[str, str, Sequence[float]]]) -> Chart | None:
    """Distributions on one axis. Each of `named` is (tone, label, values), values in milliseconds; None without any."""
    series = [(tone, label, sorted(values)) for tone, label, values in named if values]
    if not series:
        return None
    low = min(values[0] for _, _, values in series)
    high = max(values[min(int(TAIL * len(values)), len(values) - 1)] for _, _, values in series)
    if high <= low:
        low, high = low * 0.95, low * 1.05 + 1e-9
    counts = [(tone, label, values, _counts(values, low, high)) for tone, label, values in series]
    most = max(max(binned) for _, _, _, binned in counts)
    floor, room, step = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP, (WIDTH - LEFT - RIGHT) / BINS
    bars, lines = [], []
    for tone, label, values, binned in counts:
        for number, count in enumerate(binned):
            if count:
                start, end = (low + (high - low) * edge / BINS for edge in (number, number + 1))
                beyond = " or more" if number == BINS - 1 else f" to {end:.3g}"
                height = room * count / most
                text = f"{label}: {count} of {len(values)} at {start:.3g}{beyond} ms"
                bars.append(Bar(LEFT + step * number, floor - height, step, height, tone, text))
        middle = values[len(values) // 2]
        lines.append((_place(min(middle, high), low, high), tone, f"{label}: median {middle:.3g} ms"))
    ticks = tuple(Tick(_place(value, low, high), f"{value:g}") for value in _round_values(low, high))
    return Chart(tuple(bars), ticks, (), tuple(lines))


@dataclass(frozen=True)
class Timed:
    """A line of a comparison: milliseconds of the integer and the float file, None where there are none.

    A file that is timed alone, whatever its type, stands in the place of the integer one. `doubt` says why the times
    must not be believed, or why there are none.
    """

    label: str
    integer: float | None
    floating: float | None
    doubt: str = ""


@dataclass(frozen=True)
class Comparison:
    """Lying bars from a common zero. `texts` are (x, y, what): the label above each pair, the value behind each bar."""

    bars: tuple[Bar, ...]
    texts: tuple[tuple[float, float, str], ...]
    ticks: tuple[Tick, ...]
    height: float
    base: float
    width: float = WIDTH


def comparison_chart(rows: Sequence[Timed]) -> Comparison | None:
    """Milliseconds side by side, in the order given; bars not to be believed are paler. None where nothing is timed."""
    longest = max((value for row in rows for value in (row.integer, row.floating) if value is not None), default=0.0)
    if not longest:
        return None
    room = WIDTH - RIGHT - VALUE
    bars: list[Bar] = []
    texts: list[tuple[float, float, str]] = []
    y = 0.0
    for row in rows:
        y += LINE
        texts.append((0.0, y, row.label))
        y += 4.0
        own = "file" if row.floating is None else "integer"
        for tone, name, value in (("integer", own, row.integer), ("float", "float", row.floating)):
            if value is None:
                continue
            wide = max(room * value / longest, 1.0)
            label = f"{name} {value:.3g} ms" + (f" ({row.doubt})" if row.doubt else "")
            bars.append(Bar(0.0, y, wide, BAR, f"{tone} doubted" if row.doubt else tone, f"{row.label}: {label}"))
            texts.append((wide + 5.0, y + BAR - 2.0, f"{value:.3g} ms"))
            y += BAR + 2.0
        if row.integer is None and row.floating is None:
            texts.append((5.0, y + BAR - 2.0, row.doubt or "no times"))
            y += BAR + 2.0
        y += 6.0
    ticks = tuple(Tick(room * value / longest, f"{value:g}") for value in _round_values(0.0, longest))
    return Comparison(tuple(bars), tuple(texts), ticks, y + 32.0, y)


@dataclass(frozen=True)
class Curve:
    """A line through `points` (SVG's ``x,y x,y``), with what it shows; `low` and `high` are the ends of its axis."""

    points: str
    text: str
    low: str
    high: str


def curve_chart(text: str, values: Sequence[float]) -> Curve | None:
    """A course over time from the first value to the last, on its own axis; None for fewer than two values."""
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    reach = (high - low) or 1.0
    across, room = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - TOP
    places = (
        (LEFT + across * n / (len(values) - 1), TOP + room * (high - value) / reach) for n, value in enumerate(values)
    )
    return Curve(" ".join(f"{x:.1f},{y:.1f}" for x, y in places), text, f"{low:.3g}", f"{high:.3g}")


def _counts(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
    return counts


def _place(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def _round_values(low: float, high: float, about: int = 7) -> list[float]:
    """About so many values between `low` and `high` that people like to read: steps of 1, 2 or 5."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]
