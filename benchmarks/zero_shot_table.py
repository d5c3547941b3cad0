"""Markdown from the cells `zero_shot.py` keeps: a table per bit width, then what making the images cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.measure.accuracy import Accuracy, Comparison, compare

Row = Mapping[str, Any]
Cells = Mapping[tuple[str, str], Sequence[Row]]
"""(network, method) to its seeds."""

REAL, NOISE = "images", "noise"
AUTO = ("gznq", "inversion")
"""What ``--method auto`` takes: batch norm first."""

NEAR = 0.3
"""Points below real images that still count as equal."""

LABELS = {
    "noise": "Gaussian noise",
    "uniform": "uniform noise",
    "images": "real images",
    "gznq": "GZNQ",
    "gznq-generator": "GZNQ, generator",
    "gzsq": "GZSQ, statistics of learned weights",
    "gzsq-literal": "GZSQ, as published",
    "inversion": "class inversion",
    "leaves": "random shapes (dead leaves)",
    "zeroq": "ZeroQ distillation",
}


def results(rows: Sequence[Row], networks: Sequence[str], methods: Sequence[str], widths: Sequence[str]) -> str:
    """The whole page for the cells in `rows`."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["network"], row["method"]), []).append(row)
    columns = [name for name in networks if any(network == name for network, _ in cells)]
    kinds = [name for name in methods if any(method == name for _, method in cells)]
    if not columns:
        return "Nothing measured yet.\n"
    parts = [_preamble(rows)]
    for bits in widths:
        parts.append(f"## {bits}\n\n{_measured_by(rows, columns, bits)}\n")
        parts.append(_table(cells, columns, kinds, bits))
        parts.append(_verdicts(cells, columns, kinds, bits))
    parts.append("## Cost of making the images\n\nSeconds, mean of the seeds, and peak memory of the whole process.\n")
    parts.append(_head(columns))
    parts += [_line(_label(kind), [_cost(cells.get((name, kind), ())) for name in columns]) for kind in kinds]
    return "\n".join(parts) + "\n"


def _preamble(rows: Sequence[Row]) -> str:
    def values(key: str) -> str:
        return ", ".join(sorted({str(row[key]) for row in rows}))

    packages = sorted({f"{name} {version}" for row in rows for name, version in row["packages"].items()})
    everywhere = any(row["all_layers"] for row in rows)
    edges = "few bits in every layer, first and last included" if everywhere else "first and last layer at 8 bits"
    flag = " --all-layers" if everywhere else ""
    return (
        "# Calibration images without data, under one protocol\n\n"
        f"`python benchmarks/zero_shot.py --effort {values('effort')}{flag} --write`\n\n"
        f"{values('images')} images, seeds {values('seed')}; edgeq's quantizer throughout (per-channel weights, MSE "
        f"ranges, bias correction; {edges}). Top-1 in percent, mean ± standard deviation over the seeds.\nBehind it: "
        "paired difference to real training images of the same seed, in points, with its 95 % interval (Bonett-Price; "
        "mean over the seeds of difference and of interval ends).\n\n"
        f"Machine: {values('machine')}; {values('threads')} thread(s). Commit: {values('commit')}. "
        f"{', '.join(packages)}.\n"
    )


def _measured_by(rows: Sequence[Row], columns: Sequence[str], bits: str) -> str:
    found = {
        row["network"]: row["answers"][bits] | {"total": len(row["float"]["labels"])}
        for row in rows
        if "answers" in row
    }
    shown = [name for name in columns if name in found]
    if all(found[name]["by"] != "reference" for name in shown):
        return f"The exported .tflite, run by {', '.join(sorted({found[name]['by'] for name in shown}))} (XNNPACK)."
    counts = ", ".join(f"{name} {found[name]['n']} of {found[name]['total']}" for name in shown)
    return (
        "No runtime saturates activations below 8 bits: answered by the exact integer reference, no claim about a "
        f"file. Images, evenly spaced: {counts}. Float is on the same images."
    )


def _table(cells: Cells, columns: Sequence[str], kinds: Sequence[str], bits: str) -> str:
    lines = [_head(columns), _line("float", [_float(cells, name, bits) for name in columns])]
    for kind in kinds:
        lines.append(_line(_label(kind), [_score(cells, name, kind, bits) for name in columns]))
    return "\n".join(lines) + "\n"


def _head(columns: Sequence[str]) -> str:
    return f"| images from | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}"


def _line(label: str, texts: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(texts)} |"


def _label(kind: str) -> str:
    return LABELS.get(kind, kind)


def _float(cells: Cells, network: str, bits: str) -> str:
    row = next((r for (name, _), rows in cells.items() if name == network for r in rows if "answers" in r), None)
    if row is None:
        return "–"
    places = row["answers"][bits]["places"]
    right = np.equal(row["float"]["predictions"], row["float"]["labels"])[places]
    return f"{100 * right.mean():.2f}"


def _answers(row: Row, bits: str) -> Accuracy:
    found = row["answers"][bits]
    labels = np.array(row["float"]["labels"], np.int64)[found["places"]]
    return Accuracy(np.array(found["predictions"], np.int64), labels, None)


def _top1(cells: Cells, network: str, kind: str, bits: str) -> list[float]:
    return [_answers(row, bits).top1 for row in cells.get((network, kind), ()) if "answers" in row]


def _against_real(cells: Cells, network: str, kind: str, bits: str) -> list[Comparison]:
    """Each seed against the real images of the same seed."""
    real = {row["seed"]: row for row in cells.get((network, REAL), ()) if "answers" in row}
    mine = [row for row in cells.get((network, kind), ()) if "answers" in row and row["seed"] in real]
    return [compare(_answers(real[row["seed"]], bits), _answers(row, bits)) for row in mine]


def _score(cells: Cells, network: str, kind: str, bits: str) -> str:
    rows = cells.get((network, kind), ())
    if not rows:
        return ""
    scores = _top1(cells, network, kind, bits)
    if not scores:
        return "cannot"
    text = f"{statistics.fmean(scores):.2f}"
    if len(scores) > 1:
        text += f" ± {statistics.stdev(scores):.2f}"
    pairs = [] if kind == REAL else _against_real(cells, network, kind, bits)
    if pairs:
        points, low, high = (statistics.fmean(getattr(p, key) for p in pairs) for key in ("points", "low", "high"))
        text += f" ({points:+.2f} [{low:+.2f}, {high:+.2f}])"
    return text


def _verdicts(cells: Cells, columns: Sequence[str], kinds: Sequence[str], bits: str) -> str:
    """Which methods keep up with real images everywhere they work, and which lose to noise somewhere."""
    lines = []
    choices = {_label(kind): dict.fromkeys(columns, kind) for kind in kinds if kind not in (REAL, NOISE, "uniform")}
    if set(AUTO) <= set(kinds):
        auto = {name: next((k for k in AUTO if _top1(cells, name, k, bits)), AUTO[-1]) for name in columns}
        choices = {f"`auto` ({', '.join(_label(k) for k in AUTO)}: the first that can)": auto, **choices}
    for label, chosen in choices.items():
        far, beaten, refused = [], [], []
        for name in columns:
            kind = chosen[name]
            scores = _top1(cells, name, kind, bits)
            if not scores:
                refused += [name] if cells.get((name, kind), ()) else []
                continue
            pairs = _against_real(cells, name, kind, bits)
            if pairs and statistics.fmean(p.points for p in pairs) < -NEAR:
                far.append(name)
            noise = _top1(cells, name, NOISE, bits)
            if noise and statistics.fmean(scores) < statistics.fmean(noise):
                beaten.append(name)
        lines.append(
            f"- {label}: more than {NEAR} below real images on {_listed(far)}; below Gaussian noise on "
            f"{_listed(beaten)}" + (f"; cannot work on {_listed(refused)}: no batch norm" if refused else "")
        )
    return "\n".join(lines) + "\n"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _cost(rows: Sequence[Row]) -> str:
    timed = [row for row in rows if "seconds" in row]
    if not timed:
        return "cannot" if rows else ""
    peaks = [row["peak_mib"] for row in timed if row["peak_mib"] is not None]
    memory = f", {max(peaks)} MiB" if peaks else ""
    return f"{statistics.fmean(row['seconds'] for row in timed):.1f} s{memory}"
