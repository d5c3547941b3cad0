"""Time to convert: edgeq beside the official PyTorch-to-TFLite converter and onnxruntime's quantizer.

    python benchmarks/peers/export.py --files int8_nchw      # every network through all three, one after the other
    python benchmarks/conversion.py --write                  # print, write the results file

What was timed is in the folders that `peers/export.py` fills. What a person wrote in benchmarks/results/conversion.md
under the heading "Why" stays there.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from cases import ROOT
from peers.export import IMAGES, ORDER
from peers_export import WHY, row_of

RESULTS = ROOT / "benchmarks" / "results" / "conversion.md"
WANTED = 10.0
"""Times as fast as the official converter."""

Row = dict[str, Any]


def pairs_of(row: Row) -> dict[str, tuple[float, float]]:
    """Processor seconds from module to int8 file by kind of file: theirs, ours."""
    found = {}
    for kind, seconds in (
        ("tflite", row["litert"].get("int8_nchw_cpu_seconds")),
        ("onnx", row["ort"].get("cpu_seconds")),
    ):
        if seconds is not None and f"ours.{kind}" in row["ours"]:
            found[kind] = (seconds, row["ours"][f"ours.{kind}"]["seconds"])
    return found


def summary(rows: list[Row]) -> list[str]:
    lines = [
        "| conversion s, theirs ÷ ours | networks | geometric mean | wanted | least |",
        "|---|---|---|---|---|",
    ]
    for kind, who in (("tflite", "TFLite: PT2E"), ("onnx", "ONNX: `quantize_static`")):
        speeds = sorted((pair[0] / pair[1], row["name"]) for row in rows if (pair := pairs_of(row).get(kind)))
        if speeds:
            mean = math.exp(sum(math.log(value) for value, _ in speeds) / len(speeds))
            wanted = f"≥ {WANTED:.0f}" if kind == "tflite" else ""
            lines.append(f"| {who} | {len(speeds)} | {mean:.1f} | {wanted} | {speeds[0][1]} {speeds[0][0]:.1f} |")
    return lines


def line(row: Row) -> str:
    made, pairs = row["ours"], pairs_of(row)
    tflite, onnx = made.get("ours.tflite", {}), made.get("ours.onnx", {})
    cells = [row["name"]]
    for kind in ("tflite", "onnx"):
        theirs, ours = pairs.get(kind, (math.nan, math.nan))
        cells += [f"{theirs:.1f}", f"{ours:.2f}", f"{theirs / ours:.1f} x"] if kind in pairs else ["–"] * 3
    parts = (made.get("capture_seconds"), tflite.get("calibrate_seconds"), tflite.get("write_seconds"))
    cells.append(", ".join("–" if value is None else f"{value:.2f}" for value in (*parts, onnx.get("write_seconds"))))
    return f"| {' | '.join(cells)} |"


def table(rows: list[Row]) -> str:
    machines = sorted({row["ours"].get("machine", "unknown") for row in rows})
    commits = sorted({row["ours"]["commit"] for row in rows})
    peers = {
        k: v
        for row in rows
        for part in ("litert", "ort")
        for k, v in row[part].items()
        if k in ("litert-torch", "torch", "onnxruntime")
    }
    failed = [
        f"- {row['name']}: {part}: {row[part]['failed']}"
        for row in rows
        for part in ("ours", "litert", "ort")
        if "failed" in row[part]
    ]
    return "\n".join(
        [
            "# Time to convert",
            "",
            "`python benchmarks/peers/export.py --files int8_nchw && python benchmarks/conversion.py --write`",
            "",
            f"Machine: {'; '.join(machines)}. Commits: {', '.join(commits)}. "
            f"Peers: {', '.join(f'{k} {v}' for k, v in peers.items())}.",
            "",
            "Seconds of the processor on one thread, from module to int8 file, inside a process that has its libraries",
            f"loaded: capture, calibrate on {IMAGES} images, freeze, write. PT2E's are those of its default file,",
            "`quantize_static`'s with `torch.onnx.export`. Conditions beyond that are under Why.",
            "",
            *summary(rows),
            "",
            "| network | TFLite: PT2E s | ours | faster | ONNX: quantize_static s | ours | faster "
            "| ours: capture, calibrate and freeze, write TFLite, ONNX |",
            "|---|---|---|---|---|---|---|---|",
            *(line(row) for row in rows),
            "",
            "## Not made",
            "",
            *(failed or ["Nothing."]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/conversion.md")
    options = parser.parse_args()
    text = table([row for name in ORDER if (row := row_of(name)) is not None]) + "\n"
    print(text)
    if options.write:
        kept: Path = RESULTS
        _, _, why = kept.read_text().partition(WHY) if kept.exists() else ("", "", "")
        kept.write_text(text + (f"\n{WHY}{why}" if why else ""))


if __name__ == "__main__":
    main()
