"""What a plain `edgeq build MODEL --evaluation IMAGES` gets: accuracy of the written file, by seed; resumable.

    python benchmarks/defaults.py                                          # all networks, seeds 0 1 2; prints the table
    python benchmarks/defaults.py --networks mobilenetv1-0.25 --efforts fast balanced --write
    python benchmarks/defaults.py --networks mobilenetv2-folded --methods gzsq --seeds 0 --write
    python benchmarks/defaults.py --networks squeezenet1.1 --bits w4a8 --seeds 0 --write

Every setting but the named ones is the default that a user gets. `--write` also writes benchmarks/results/defaults.md.
The page keeps its lines about what was not measured here, with their commits.
`efficientnet-lite0` needs two packages beside edgeq's own (benchmarks/networks/efficientnet_lite0.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from cases import COLUMNS, ROOT, ROWS, commit, data_folder
from latency import machine_line

FOLDER = ROWS / "defaults"
PAGE = ROOT / "benchmarks" / "results" / "defaults.md"
HEAD = (
    "| network | bits | method | effort | seeds | float | integer | drop, points | drop of each seed | as float "
    "| s: images | processor s: whole build |"
)


def main() -> None:
    """Build what is selected and missing, and print the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tabled = [name for name in COLUMNS if name != "efficientnet-lite0"]
    parser.add_argument("--networks", nargs="+", choices=list(COLUMNS), default=tabled)
    parser.add_argument("--bits", nargs="+", default=["w8a8"])
    parser.add_argument("--methods", nargs="+", default=["auto"])
    parser.add_argument("--efforts", nargs="+", default=["balanced"], choices=("fast", "balanced", "best"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    data_folder()
    for network in options.networks:
        for bits, method, effort in itertools.product(options.bits, options.methods, options.efforts):
            for seed in options.seeds:
                measure(network, bits, method, effort, seed)
    before = PAGE.read_text().splitlines() if PAGE.exists() else []
    page = "\n".join(table((json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))), before))
    print(page)
    if options.write:
        PAGE.write_text(page + "\n")


def measure(network: str, bits: str, method: str, effort: str, seed: int) -> None:
    """Build once, with an empty cache, and keep the row; nothing where it is there already."""
    from edgeq.config.build import BuildConfig
    from edgeq.pipeline.build import build

    few = "" if bits == "w8a8" else f"--{bits}"
    path = FOLDER / f"{network}{few}--{method}--{effort}--{seed}.json"
    if path.exists():
        return
    column = COLUMNS[network]
    folder = FOLDER / "builds" / path.stem
    config = BuildConfig(
        model=str(column.model),
        bits=bits,
        method=method,
        effort=effort,
        seed=seed,
        evaluation=column.evaluation_images(),
        output=folder,
        cache=folder.with_name(f"{folder.name}.cache"),
    )
    started = time.process_time()
    report = build(config)
    row = {
        "network": network,
        "bits": bits,
        "method": report["synthesis"]["method"],
        "effort": effort,
        "seed": seed,
        "accuracy": report["accuracy"],
        "exactness": report["exactness"],
        "seconds": report["seconds"],
        "processor": time.process_time() - started,
        "commit": commit(),
        "machine": machine_line(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n")
    print(f"{path.stem}: {row['accuracy']['integer']['top1']:.2f}", flush=True)


def table(rows: Iterable[dict[str, Any]], before: Sequence[str]) -> list[str]:
    """The page: one line for each network, bits, method and effort. `before` is the page as it was."""
    from edgeq.quant.scheme import parse_bits

    cells: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        bits = row.get("bits", "w8a8")
        cells.setdefault((row["network"], bits, row["method"], row["effort"]), []).append(row)
    known = [row for seeds in cells.values() for row in seeds]
    kept = {cell: line for line in before if (cell := _cell(line)) is not None and cell not in cells}
    earlier = re.findall(r"\b[0-9a-f]{7}\b", next((line for line in before if "Commit: " in line), "")) if kept else []
    lines = [
        "# What a plain build gets",
        "",
        "Printed by `benchmarks/defaults.py`: `edgeq build MODEL --evaluation IMAGES --bits BITS`, 32 images, no data.",
        "Top-1 in percent of the written TFLite file, run by its own runtime, on every evaluation image; *as float*:",
        "share of them with the float network's answer. Mean and standard deviation of the seeds. Seconds of the stage",
        "that makes the images, and of the processor for the whole build (without child processes), beside other work.",
        "",
        f"Machine: {'; '.join(sorted({row['machine'] for row in known}))}. "
        f"Commit: {', '.join(sorted({*earlier, *(row['commit'] for row in known)}))}.",
        "",
        HEAD,
        "|---" * (HEAD.count("|") - 1) + "|",
    ]
    order = {name: index for index, name in enumerate(COLUMNS)}

    def place(cell: tuple[str, str, str, str]) -> tuple[Any, ...]:
        weights, activations = parse_bits(cell[1])
        return -weights, -activations, order[cell[0]], cell

    for cell in sorted({*cells, *kept}, key=place):
        if cell in kept:
            lines.append(kept[cell])
            continue
        (network, bits, method, effort), seeds = cell, cells[cell]
        accuracy = [row["accuracy"] for row in seeds]
        tops = np.array([one["integer"]["top1"] for one in accuracy])
        whole = accuracy[0]["float"]["top1"]
        agreed = np.mean([one["agreement"] for one in accuracy])
        images = np.mean([row["seconds"].get("synthesize", 0.0) for row in seeds])
        processor = np.mean([row["processor"] for row in seeds])
        drops = ", ".join(f"{whole - top:+.2f}" for top in tops)
        named = (network, bits, method, effort, len(seeds), f"{whole:.2f}", f"{tops.mean():.2f} ± {tops.std():.2f}")
        measured = (f"{whole - tops.mean():+.2f}", drops, f"{100 * agreed:.1f} %", f"{images:.0f}", f"{processor:.0f}")
        lines.append(f"| {' | '.join(map(str, (*named, *measured)))} |")
    return lines


def _cell(line: str) -> tuple[str, str, str, str] | None:
    """What a line of the page is about: network, bits, method, effort."""
    words = [word.strip() for word in line.strip("|").split("|")]
    return (words[0], words[1], words[2], words[3]) if words[0] in COLUMNS and len(words) > 4 else None


if __name__ == "__main__":
    main()
