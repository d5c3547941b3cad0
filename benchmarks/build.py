"""The benchmark table: every network, target and calibration method through ``edgeq build``, beside its peers.

    python benchmarks/build.py                    # whatever is missing, then the table
    python benchmarks/build.py --networks resnet20 --targets tflite-arm --methods gznq
    python benchmarks/build.py --table --write    # no building: print, and write benchmarks/results/build.md

One row is one build. A finished row is kept as JSON under ``build/benchmarks`` and not built again (``--again`` does),
so that a long table can be made in pieces; a row that fails is reported and leaves the others alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from cases import CASES, PEERS, ROOT, ROWS, Case, commit, data_folder
from latency import machine_line, time_pair
from table import results
from torch import nn

from edgeq.config.build import BuildConfig
from edgeq.errors import EdgeqError
from edgeq.model.load import load_model

TARGETS = ("tflite-arm", "onnx-x86", "onnx-arm")
PEER_OF = {"tflite-arm": ("litert_int8_nhwc.tflite", "litert_int8_nchw.tflite"), "onnx-x86": ("ort_u8s8.onnx",)}
"""The peers' files each target's file is timed against, where they exist."""


def row_path(case: Case, target: str, method: str) -> Path:
    return ROWS / f"{case.name}-{target}-{method}.json"


def build_row(case: Case, target: str, method: str, *, measure_again: bool) -> dict[str, Any]:
    """Build once per evaluation set (the stages before measuring come from the cache), then time against the peers."""
    from edgeq.pipeline.build import build  # heavy, and not needed to print the table

    folder = ROWS / "artifacts" / f"{case.name}-{target}-{method}"
    source = f"images:{data_folder() / case.training}" if method == "images" else method
    start = time.perf_counter()
    reports, seconds = {}, 0.0
    for label, images in case.evaluations.items():
        config = BuildConfig(
            model=str(case.toml),
            targets=(target,),
            method=source,
            evaluation=str(data_folder() / images),
            output=folder,
            cache=ROOT / ".edgeq-cache",
            force=("measure",) if measure_again else (),
        )
        reports[label] = build(config)
        seconds = seconds or time.perf_counter() - start
    report = next(iter(reports.values()))
    artifact = _artifact(folder, report)
    return {
        "network": case.name,
        "target": target,
        "method": method,
        "accuracy": {label: r["accuracy"] for label, r in reports.items()},
        "exactness": report["exactness"],
        "census": report["census"],
        "bytes": artifact.stat().st_size,
        "budget": size_budget(case, report["census"]["ops"]),
        "float_bytes": report["float"]["bytes"],
        "latency": report["latency"],
        "against_peers": against_peers(case, target, artifact),
        "seconds": report["seconds"],
        "wall_seconds": seconds,
        "commit": commit(),
        "machine": machine_line(),
    }


def _artifact(folder: Path, report: dict[str, Any]) -> Path:
    """The integer file of a finished build; reports name it relative to their folder."""
    stated = Path(report["artifact"]["path"])
    return stated if stated.is_absolute() else folder / stated


def size_budget(case: Case, ops: int) -> float:
    """1.03 × (a byte per weight, 4 per bias, 2 kB per 10 ops)."""
    module = load_model(str(case.toml)).module
    assert isinstance(module, nn.Module)
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    weights = sum(layer.weight.numel() for layer in layers)
    biases = sum(layer.weight.shape[0] for layer in layers)
    return 1.03 * (weights + 4 * biases + 2000 * ops / 10)


def against_peers(case: Case, target: str, artifact: Path) -> dict[str, dict[str, Any]]:
    """Interleaved latency of our file (A) and each peer's (B) on one thread."""
    files = [PEERS / case.name / name for name in PEER_OF.get(target, ())]
    return {path.stem: time_pair(artifact, path) for path in files if path.exists()}


def doubtful(path: Path) -> bool:
    """Whether a kept row says that one of its timings is not to be believed."""
    row = json.loads(path.read_text())
    return not row["latency"]["valid"] or any(pair["doubts"] for pair in row["against_peers"].values())


def run_rows(arguments: argparse.Namespace) -> list[str]:
    """Build what is selected and missing; names of rows that failed."""
    failed = []
    for name in arguments.networks:
        case = CASES[name]
        for target in arguments.targets:
            for method in [m for m in case.methods if m in arguments.methods]:
                path = row_path(case, target, method)
                if path.exists() and not (arguments.again or (arguments.doubtful and doubtful(path))):
                    continue
                print(f"{path.stem} ...", file=sys.stderr, flush=True)
                try:
                    row = build_row(case, target, method, measure_again=path.exists())
                except EdgeqError as error:
                    print(f"{path.stem}: {error}", file=sys.stderr)
                    failed.append(path.stem)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(row, indent=2) + "\n")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument(
        "--methods", nargs="+", choices=("gznq", "noise", "images"), default=["gznq", "noise", "images"]
    )
    parser.add_argument("--again", action="store_true", help="selected rows anew, whatever is there")
    parser.add_argument("--doubtful", action="store_true", help="measure again what was timed on a busy machine")
    parser.add_argument("--table", action="store_true", help="build nothing")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/build.md")
    arguments = parser.parse_args()
    data_folder()
    failed = [] if arguments.table else run_rows(arguments)
    text = results([CASES[name] for name in arguments.networks], ROWS)
    print(text)
    if arguments.write:
        (ROOT / "benchmarks" / "results" / "build.md").write_text(text)
    if failed:
        raise SystemExit(f"not built: {', '.join(failed)}")


if __name__ == "__main__":
    main()
