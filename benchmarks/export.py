"""Every common network through both writers: exactness at every op, census, time to write; failures with their reason.

    python benchmarks/export.py [--timm] [--networks mobilenet_v2 ...] [--again] [--write-time] [--print]

Weights are random (`export_networks.py`), images are noise. A cell is a network and a format: one JSON below
build/export/, not run again unless it failed or `--again` says so. `--write-time` adds the seconds from integer graph
to file, best of three. `--print` only prints. The table goes to benchmarks/results/export.md. `--timm` does the same
for timm's networks (`export_timm.py`) where timm is installed, and writes export_timm.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import ROOT, commit
from export_networks import SUBJECTS, Subject, sane
from export_timm import TIMM
from latency import machine_line

from edgeq.config.targets import load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import EdgeqError
from edgeq.files import write_atomic
from edgeq.formats.base import format_of
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.conditions import this_machine
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from edgeq.versions import PACKAGES, package_versions


@dataclass(frozen=True)
class Group:
    """Networks that share a table: what they are called there, where their cells and the table stand."""

    title: str
    subjects: dict[str, Subject]
    cells: Path
    results: Path
    packages: tuple[str, ...] = PACKAGES


COMMON = Group(
    "Every common network, both writers", SUBJECTS, ROOT / "build" / "export", ROOT / "benchmarks/results/export.md"
)
OF_TIMM = Group(
    "Networks of timm, both writers",
    TIMM,
    ROOT / "build" / "export-timm",
    ROOT / "benchmarks/results/export_timm.md",
    (*PACKAGES, "timm"),
)
TARGETS = ("tflite-arm", "onnx-x86")
PIXELS = (-2.5, 2.5)
IMAGES, VERIFIED = 4, 2


def noise(subject: Subject, images: int = IMAGES) -> CalibrationSet:
    inputs = np.random.default_rng(1).normal(0, 1, (images, *subject.shape)).astype(np.float32)
    return CalibrationSet(np.clip(inputs, *PIXELS), np.full(images, -1, np.int64), "noise")


class Line:
    """One network on its way to a file, each step taken once for both formats."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.images = subject, noise(subject)
        self._graph: Graph | None = None
        self._frozen: dict[int, IntegerGraph] = {}

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            module = sane(self.subject.make(), self.subject.shape)
            self._graph = optimize(capture(module, self.subject.shape, "network"))
        return self._graph

    def integer(self, bits: int) -> IntegerGraph:
        if bits not in self._frozen:
            decided = calibrate(self.graph, self.images, PIXELS, scheme=Scheme.of("w8a8", widest=bits))
            self._frozen[bits] = freeze(self.graph, decided).graph
        return self._frozen[bits]


def cell(line: Line, name: str, cells: Path, options: argparse.Namespace) -> None:
    """Write, verify and count one network in one format, and keep what was found or what stopped it."""
    path = cells / f"{line.subject.name.replace(' ', '-').replace(',', '')}-{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    done = "exactness" in known and (not options.write_time or "write_seconds" in known)
    if done and not options.again:
        return
    row = {"network": line.subject.name, "shape": line.subject.shape, "target": name, "commit": commit()}
    started = time.monotonic()
    try:
        row |= measured(line, name, options.write_time)
    except EdgeqError as error:
        row |= {"failed": ": ".join(part for part in (error.where, error.what, error.why) if part)}
    row["seconds"] = time.monotonic() - started
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(row).encode())
    shown = {k: row[k] for k in row if k not in ("exactness", "census")} | row.get("exactness", {})
    print(json.dumps({k: v for k, v in shown.items() if k != "per_op"}), flush=True)


def measured(line: Line, name: str, write_time: bool) -> dict[str, Any]:
    target = load_target(name)
    bits = target.bits_of_weights(vnni=this_machine().vnni)
    integer, form = line.integer(bits), format_of(target, bits)
    data = form.write(integer, target.io, target.narrow_weights)
    row: dict[str, Any] = {"bytes": len(data), "nodes": len(integer.nodes)}
    if write_time:
        row["write_seconds"] = min(_timed(lambda: form.write(integer, target.io, target.narrow_weights)) for _ in "123")
    exactness = asdict(form.verify(integer, data, line.images.inputs[:VERIFIED]))
    ops = exactness.pop("per_op")
    worst = max(ops, key=lambda op: (ops[op][2], ops[op][0] - ops[op][1]))
    census = form.census(data)
    return row | {"exactness": exactness | {"worst": f"{worst} {ops[worst]}"}, "census": asdict(census)}


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def table(group: Group, rows: list[dict[str, Any]]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in package_versions(group.packages).items())
    flag = " --timm" * (group is OF_TIMM)
    lines = [
        f"# {group.title}",
        "",
        f"Random weights, calibrated on {IMAGES} images of noise, verified on {VERIFIED}. TFLite: every value of every",
        "op against LiteRT's `BUILTIN_REF`. ONNX (u8s8): every op, fed from the exact reference, in onnxruntime's",
        "fused kernels; *beyond* is what is more than one step away. Input sizes are small, as the column says:",
        "structure is that of any size. *Write* is from integer graph to file, best of three. Inner: QUANTIZE and",
        "DEQUANTIZE that are not at an input or output. ONNX transposes are those onnxruntime leaves after",
        "its own change of layout.",
        "",
        f"Printed by `benchmarks/export.py{flag}` on {machine_line()}; {packages}.",
        "",
        "| network | input | format | equal | of values | beyond a step | float ops | transposes | inner Q/DQ "
        "| spatial pads | ops | MB | write s | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['network']} | {'x'.join(map(str, row['shape']))} | {row['target']} "
        if "failed" in row:
            lines.append(f"{start}| not written: {row['failed']} |" + " |" * 9 + f" {row['commit']} |")
            continue
        exact, census = row["exactness"], row["census"]
        share = 100 * exact["equal"] / exact["values"]
        equal = "100 %" if exact["equal"] == exact["values"] else f"{min(share, 99.9999):.4f} %"
        write = f"{row['write_seconds']:.2f}" if "write_seconds" in row else "-"
        lines.append(
            f"{start}| {equal} | {exact['values']:,} | {exact['beyond']} | {census['float_ops']} "
            f"| {census['transposes']} | {census['quantize'] + census['dequantize']} | {census['spatial_pads']} "
            f"| {sum(census['kinds'].values())} | {row['bytes'] / 1e6:.2f} | {write} | {row['commit']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timm", action="store_true", help="timm's networks instead")
    parser.add_argument("--networks", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--write-time", action="store_true", help="time the writers")
    parser.add_argument("--print", action="store_true", dest="printing", help="only print what cells there are")
    options = parser.parse_args()
    group = OF_TIMM if options.timm else COMMON
    if options.timm and find_spec("timm") is None:
        print("skipped: timm is not installed (pip install timm)")
        return
    if unknown := set(options.networks) - set(group.subjects):
        parser.error(f"unknown networks: {', '.join(sorted(unknown))}; there are {', '.join(group.subjects)}")
    torch.set_num_threads(1)
    for name in [] if options.printing else options.networks or group.subjects:
        line = Line(group.subjects[name])
        for target in options.targets:
            cell(line, target, group.cells, options)
    order = list(group.subjects)
    rows = [json.loads(path.read_text()) for path in group.cells.glob("*.json")]
    rows.sort(key=lambda row: (order.index(row["network"]), TARGETS.index(row["target"])))
    text = table(group, rows)
    print(text)
    group.results.write_text(text)


if __name__ == "__main__":
    main()
