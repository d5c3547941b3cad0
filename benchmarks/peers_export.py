"""Latency and bytes of edgeq's files beside the peers', for every network of `export_networks.py`.

    python benchmarks/peers/export.py                        # make the files, edgeq's and the peers'
    nice -n -10 python benchmarks/peers_export.py --write    # time what was not timed, print, write the results file

A timing is kept with the digests of its two files and taken again when one of them changes, or with `--doubtful` when
the machine was busy. What a person wrote in benchmarks/results/peers_export.md under the heading "Why" stays there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from cases import ROOT, commit
from latency import machine_line, time_pair
from peers.export import IMAGES, ORDER, folder_of

from edgeq.errors import EdgeqError
from edgeq.versions import package_versions

RESULTS = ROOT / "benchmarks" / "results" / "peers_export.md"
WHY = "## Why"

PAIRS = {
    "pt2e_nhwc": ("ours.tflite", "litert_int8_nhwc.tflite"),
    "pt2e_nchw": ("ours.tflite", "litert_int8_nchw.tflite"),
    "tflite_float": ("ours.tflite", "float.tflite"),
    "ort": ("ours.onnx", "ort_u8s8.onnx"),
    "onnx_float": ("ours.onnx", "float.onnx"),
}
"""Interleaved, the first ÷ the second."""

LIMITS = {
    "pt2e_nhwc": ("TFLite ÷ PT2E int8, NHWC", 1.0, 1.05),
    "pt2e_nchw": ("TFLite ÷ PT2E int8, NCHW (the converter's default)", 1.0, 1.05),
    "ort": ("ONNX ÷ `quantize_static` u8s8", 0.95, 1.03),
}
"""What each is, the most its geometric mean should be, and the most of any network."""

Row = dict[str, Any]


def time_files(name: str, *, doubtful: bool, again: bool) -> None:
    """Time the pairs of one network that exist and are not known yet."""
    folder = folder_of(name)
    kept = folder / "latency.json"
    known: Row = json.loads(kept.read_text()) if kept.exists() else {}
    for pair, files in PAIRS.items():
        a, b = (folder / file for file in files)
        if not (a.exists() and b.exists()):
            continue
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (a, b)]
        old = known.get(pair, {})
        if old.get("digests") == digests and not again and not (doubtful and old.get("doubts")):
            continue
        try:
            known[pair] = time_pair(a, b)
        except EdgeqError as error:
            known[pair] = {"failed": str(error)}
        known[pair] |= {"digests": digests, "commit": commit(), "machine": machine_line()}
        kept.write_text(json.dumps(known, indent=2) + "\n")
        print(f"{name}: {pair} {known[pair].get('ratio', 'failed')} {known[pair].get('doubts', '')}", flush=True)


def row_of(name: str) -> Row | None:
    """Everything known about one network."""
    folder = folder_of(name)
    found: Row = {"name": name, "bytes": {path.name: path.stat().st_size for path in _files(folder)}}
    parts = {"latency": ("latency",), "ours": ("ours-done",), "litert": ("litert-done", "litert"), "ort": ("ort-done",)}
    for part, files in parts.items():
        paths = [path for file in files if (path := folder / f"{file}.json").exists()]
        found[part] = json.loads(paths[0].read_text()) if paths else {}
    return found if found["ours"] else None


def _files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.tflite"), *folder.glob("*.onnx")])


def ratio(row: Row, pair: str) -> float | None:
    value: float | None = row["latency"].get(pair, {}).get("ratio")
    return value


def _shown(row: Row, pair: str) -> str:
    value = ratio(row, pair)
    return "–" if value is None else f"{value:.3f}" + (" (busy)" if row["latency"][pair]["doubts"] else "")


def _to_float(row: Row, pair: str, over: str) -> str:
    """Integer ÷ float, ours and theirs; theirs is the quotient of two measured ratios."""
    mine, pairs = ratio(row, over), ratio(row, pair)
    if mine is None:
        return "–"
    return f"{mine:.2f}, –" if pairs is None else f"{mine:.2f}, {mine / pairs:.2f}"


def _sizes(row: Row, mine: str, other: str) -> float | None:
    sizes = row["bytes"]
    return sizes[mine] / sizes[other] if mine in sizes and other in sizes else None


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def failures(row: Row) -> list[str]:
    """What could not be made or run, and why."""
    litert, found = row["litert"], [f"edgeq: {row['ours']['failed']}"] if "failed" in row["ours"] else []
    for key in ("int8_nhwc", "int8_nchw"):
        if f"{key}_seconds" not in litert:
            reason = litert.get(f"{key}_failed", litert.get("failed", "not run yet"))
            found.append(f"litert-torch {key.replace('_', ' ')}: {reason}")
    if "seconds" not in row["ort"]:
        found.append(f"onnxruntime: {row['ort'].get('failed', 'not run yet')}")
    return found + [f"{pair}: {kept['failed']}" for pair, kept in row["latency"].items() if "failed" in kept]


def summary(rows: list[Row]) -> list[str]:
    lines = [
        "| | networks | geometric mean | wanted | slowest | above the limit for one |",
        "|---|---|---|---|---|---|",
    ]
    for pair, (what, mean, most) in LIMITS.items():
        found = sorted((value, row["name"]) for row in rows if (value := ratio(row, pair)) is not None)
        if found:
            slowest = f"{found[-1][1]} {found[-1][0]:.3f}"
            above = ", ".join(f"{name} {value:.3f}" for value, name in reversed(found) if value > most) or "none"
            lines.append(
                f"| {what} | {len(found)} | {_mean([value for value, _ in found]):.3f} | ≤ {mean} | {slowest} "
                f"| {above} (limit {most}) |"
            )
    for what, mine, other in (
        ("bytes, TFLite ÷ PT2E NHWC", "ours.tflite", "litert_int8_nhwc.tflite"),
        ("bytes, ONNX ÷ `quantize_static`", "ours.onnx", "ort_u8s8.onnx"),
    ):
        sizes = sorted((value, row["name"]) for row in rows if (value := _sizes(row, mine, other)) is not None)
        if sizes:
            mean = _mean([value for value, _ in sizes])
            lines.append(f"| {what} | {len(sizes)} | {mean:.3f} | | {sizes[-1][1]} {sizes[-1][0]:.3f} | |")
    return lines


def _mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def table(rows: list[Row]) -> str:
    timed = [kept for row in rows for kept in row["latency"].values()]
    machines = sorted({kept["machine"] for kept in timed})
    commits = sorted({kept["commit"] for kept in timed} | {row["ours"]["commit"] for row in rows})
    packages = {
        k: v
        for row in rows
        for part in ("litert", "ort")
        for k, v in row[part].items()
        if k in ("litert-torch", "torch", "onnxruntime")
    }
    lines = [
        "# Every common network beside the peers: latency, bytes",
        "",
        "`python benchmarks/peers/export.py && nice -n -10 python benchmarks/peers_export.py --write`",
        "",
        f"Machine: {'; '.join(machines)}. Commits: {', '.join(commits)}. Peers: "
        f"{', '.join(f'{k} {v}' for k, v in packages.items())}. Here: "
        f"{', '.join(f'{k} {v}' for k, v in package_versions().items())}.",
        "",
        f"Random weights, the same for all; {IMAGES} images of noise to calibrate with, the same for all. Latency: one",
        "thread, interleaved, 100 pairs or more, median of pair ratios, ours ÷ theirs: below 1 ours is faster. *busy*:",
        "the machine did something else at the time, which the ratio of neighbours mostly does not see. Integer ÷",
        "float is against our float file of the network, for ours and for theirs.",
        "",
        *summary(rows),
        "",
        "## Latency",
        "",
        "| network | input | ms | ÷ PT2E NHWC | ÷ PT2E NCHW | int8 ÷ float: ours, PT2E | ONNX ms | ÷ quantize_static "
        "| int8 ÷ float: ours, quantize_static |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        times = {pair: kept["a_ms"] for pair, kept in row["latency"].items() if "a_ms" in kept}
        cells = (
            row["name"],
            "x".join(map(str, row["ours"]["shape"])),
            _number(times.get("tflite_float", times.get("pt2e_nhwc")), 3),
            _shown(row, "pt2e_nhwc"),
            _shown(row, "pt2e_nchw"),
            _to_float(row, "pt2e_nhwc", "tflite_float"),
            _number(times.get("onnx_float", times.get("ort")), 3),
            _shown(row, "ort"),
            _to_float(row, "ort", "onnx_float"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Bytes",
        "",
        "| network | TFLite bytes | ÷ PT2E | ONNX bytes | ÷ quantize_static |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row["name"],
            f"{row['bytes'].get('ours.tflite', 0):,}",
            _number(_sizes(row, "ours.tflite", "litert_int8_nhwc.tflite")),
            f"{row['bytes'].get('ours.onnx', 0):,}",
            _number(_sizes(row, "ours.onnx", "ort_u8s8.onnx")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    failed = [f"- {row['name']}: {reason}" for row in rows for reason in failures(row)]
    return "\n".join([*lines, "", "## Not made", "", *(failed or ["Nothing."])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ORDER, default=ORDER, metavar="NAME")
    parser.add_argument("--doubtful", action="store_true", help="time again what was timed on a busy machine")
    parser.add_argument("--again", action="store_true", help="time again, whatever is there")
    parser.add_argument("--table", action="store_true", help="time nothing")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/peers_export.md")
    options = parser.parse_args()
    for name in [] if options.table else options.networks:
        time_files(name, doubtful=options.doubtful, again=options.again)
    rows = [row for name in ORDER if (row := row_of(name)) is not None]
    text = table(rows)
    print(text)
    if options.write:
        _, _, why = RESULTS.read_text().partition(WHY) if RESULTS.exists() else ("", "", "")
        RESULTS.write_text(text + (f"\n{WHY}{why}" if why else ""))


if __name__ == "__main__":
    main()
