"""Whether a file takes longer on one of several boards of a kind because of the board, or because of the file.

A two-way table: files by boards, the float file of a build beside the integer one. What other files take longer on a
board is the board's own slowness (a hot place, a weak supply); what is left is the file's. It is the additive model of
log times, fitted by medians (Tukey, *Exploratory Data Analysis*, 1977, chapter 10).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["NOTICEABLE", "beside_text", "compare_boards", "with_comparison"]

NOTICEABLE = 1.1
"""Factor that counts as a difference: the interval of a ratio that is still believed may be as wide."""

Facts = Mapping[str, Any]
Times = dict[str, dict[str, float]]
"""Milliseconds by file and board."""


def compare_boards(files: Sequence[str], results: Sequence[Facts]) -> list[dict[str, Any] | None]:
    """Each of `results` beside the fastest board of its kind; None where there is no other, or times are not valid.

    `results` are what `edgeq.device.job.bench` gives, with the name of the `device`, and `files` says which file each
    is of. Boards are of a kind where processor, runtime, kernels and threads are the same.

    Returns `fastest`, the name of that board, `boards`, how many of the kind there are, and factors of time: `total` of
    this file on the two boards, `board` of the other files (the lower median), `own` what is left. The last two are
    None where nothing else was timed on both. `cause` is ``none``, ``board``, ``file``, ``both`` or ``unknown``.
    """
    kinds: dict[tuple[Any, ...], Times] = defaultdict(lambda: defaultdict(dict))
    samples: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for file, result in zip(files, results, strict=True):
        if result["valid"] and result["latency"] is not None:
            for part, key in (("model", "integer_median_ms"), ("float", "float_median_ms")):
                if key in result["latency"]:
                    place = (_kind(result), f"{part} {file}", result["device"])
                    samples[place].append(result["latency"][key])
    for (kind, file, board), values in samples.items():
        kinds[kind][file][board] = statistics.median(values)
    return [
        _beside(f"model {file}", result["device"], kinds[_kind(result)])
        if result["valid"] and result["latency"] is not None
        else None
        for file, result in zip(files, results, strict=True)
    ]


def with_comparison(files: Sequence[str], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`results`, as `compare_boards` takes them, with `beside` and a note where there are several boards of a kind."""
    compared = []
    for result, beside in zip(results, compare_boards(files, results), strict=True):
        if beside is not None:
            result = {**result, "beside": beside, "notes": [*result.get("notes", ()), beside_text(beside)]}
        compared.append(result)
    return compared


def beside_text(beside: Facts) -> str:
    """One sentence about a file on a board."""
    total, board, own, fastest = (beside[key] for key in ("total", "board", "own", "fastest"))
    text = f"takes {total:.2f} times as long as on {fastest}, of the same kind"
    if board is None:
        return f"{text}; nothing else was timed on both, so board and file cannot be told apart"
    text += f", and other files {board:.2f} times"
    slower = "more" if own > 1 else "less"
    return text + {
        "none": ": no difference",
        "board": ": the board is slow, not this file",
        "file": f": the board is not slow, this file takes {slower} time there",
        "both": f": the board is slow, and this file takes {slower} time there than the board explains",
    }.get(beside["cause"], "")


def _kind(result: Facts) -> tuple[Any, ...]:
    machine = result["machine"]
    board = tuple(machine.get(key) for key in ("model", "cpu", "architecture", "cores"))
    return (*board, result["runtime"], result["kernels"], result["threads"])


def _beside(file: str, board: str, times: Times) -> dict[str, Any] | None:
    boards = {name for row in times.values() for name in row}
    others = [name for name in times[file] if name != board]
    if not others:
        return None
    whole = [row for row in times.values() if row.keys() == boards] or [times[file]]
    fastest = min(sorted(times[file]), key=lambda name: statistics.median(_relative(row, name) for row in whole))
    if board == fastest:
        return None
    factors = {name: row[board] / row[fastest] for name, row in times.items() if {board, fastest} <= row.keys()}
    total = factors.pop(file)
    shared = statistics.median_low(factors.values()) if factors else None
    own = total / shared if shared is not None else None
    return {
        "fastest": fastest,
        "boards": len(boards),
        "total": total,
        "board": shared,
        "own": own,
        "cause": _cause(shared, own),
    }


def _relative(row: Mapping[str, float], board: str) -> float:
    """Time on `board` as a multiple of the geometric mean of all boards."""
    return row[board] / statistics.geometric_mean(row.values())


def _cause(board: float | None, own: float | None) -> str:
    if board is None or own is None:
        return "unknown"
    slow, odd = board > NOTICEABLE, own > NOTICEABLE or own < 1 / NOTICEABLE
    return {(False, False): "none", (True, False): "board", (False, True): "file", (True, True): "both"}[slow, odd]
