"""Promises of `edgeq tune`, and what their builds do on evaluation images that the search never saw; resumable.

    python benchmarks/tune.py                               three shipped networks, three promises; prints the page
    python benchmarks/tune.py --networks signs-vit --write  one of them; also writes benchmarks/results/tune.md

A row is one JSON below build/benchmarks/tune; it is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from cases import ROOT, ROWS, commit
from latency import machine_line

from edgeq.config.build import BuildConfig
from edgeq.pipeline.build import build
from edgeq.pipeline.tune import Promise, tune

FOLDER = ROWS / "tune"
PAGE = ROOT / "benchmarks" / "results" / "tune.md"
NETWORKS = ("signs-mobilenetv2", "signs-fixup", "signs-vit")
PROMISES = {
    "--max-drop 2": Promise(max_drop=2.0),
    "--max-drop 5": Promise(max_drop=5.0),
    "--min-snr-db 20": Promise(min_snr_db=20.0),
}


def measure(network: str) -> None:
    """Every promise for one network, and a plain build beside them."""
    wanted = {words: FOLDER / f"{network}{words.replace(' ', '')}.json" for words in PROMISES}
    if all(path.exists() for path in wanted.values()):
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = BuildConfig(model=network, output=Path(folder, "plain"), cache=Path(folder, "plain-cache"))
        started = time.process_time()
        report = build(plain)
        usual = time.process_time() - started
        for words, path in wanted.items():
            config = dataclasses.replace(plain, output=None, cache=Path(folder, path.stem))
            started = time.process_time()
            found = tune(config, PROMISES[words])
            seconds = time.process_time() - started
            chosen = dataclasses.replace(config, **found["choice"]["config"], output=Path(folder, "chosen"))
            made = build(chosen)
            row = {
                "network": network,
                "promise": words,
                "kept": found["kept"],
                "what": found["choice"]["what"],
                "tried": len(found["tried"]),
                "same": found["choice"]["same_answers"],
                "db": found["choice"]["answers_db"],
                "accuracy": made["accuracy"],
                "bytes": made["artifact"]["bytes"],
                "plain_bytes": report["artifact"]["bytes"],
                "times": seconds / usual,
                "commit": commit(),
                "machine": machine_line(),
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(row) + "\n")
            print(line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    accuracy = row["accuracy"]
    before, after = accuracy["float"]["top1"], accuracy["integer"]["top1"]
    cells = (
        row["network"],
        f"`{row['promise']}`",
        "kept" if row["kept"] else "cannot",
        row["what"],
        f"{row['same']:.1%}, {row['db']:.1f} dB",
        f"{before - after:+.2f}",
        f"{accuracy['agreement']:.1%}",
        f"{row['bytes']:,}",
        f"{row['bytes'] / row['plain_bytes']:.0%}",
        str(row["tried"]),
        f"{row['times']:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure what is missing, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    for network in options.networks:
        measure(network)
    rows = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    page = [
        "# Promises, and what became of them",
        "",
        f"Printed by `benchmarks/tune.py` on {'; '.join(sorted({row['machine'] for row in rows}))}; "
        f"commit {', '.join(sorted({row['commit'] for row in rows}))}.",
        "A promise is held on synthetic images and blends of them (*there*). *Drop* and *as float* are of the written",
        "TFLite file on all evaluation images, which the search never saw. *Of w8a8*: bytes beside a plain build's.",
        "*Times*: processor seconds of the search, images included, beside those of a plain build and its measuring.",
        "",
        "| network | promise | | choice | there | drop, points | as float | bytes | of w8a8 | tried | times |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(line, rows),
    ]
    print("\n".join(page))
    if options.write:
        PAGE.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
