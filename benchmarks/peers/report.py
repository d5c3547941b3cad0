"""What the peers' files are: size, ops, accuracy, latency against float.

``python benchmarks/peers/report.py [NETWORK ...]`` prints a Markdown table; no file of edgeq's takes part. What was
measured is kept under ``build/benchmarks`` until the file it is about changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cases import CASES, PEERS, ROWS, Case, PeerFile, data_folder
from foreign import ops, top1
from latency import machine_line, time_pair

from edgeq.data.evaluation import EvaluationSet, load_images
from edgeq.model.load import load_model
from edgeq.model.spec import ModelSpec

MADE = {
    PeerFile("litert-torch float", "litert_float_nhwc.tflite"): None,
    PeerFile("litert-torch PT2E int8", "litert_int8_nhwc.tflite"): "litert_float_nhwc.tflite",
    PeerFile("litert-torch PT2E int8, NCHW input", "litert_int8_nchw.tflite"): "litert_float_nchw.tflite",
    PeerFile("onnxruntime float", "ort_float.onnx"): None,
    PeerFile("onnxruntime u8s8", "ort_u8s8.onnx"): "ort_float.onnx",
}
"""The files `build.py` makes, each with the float file its latency is held against."""

HEAD = (
    "| network | file | bytes | top-1 % | float ops | int8 ms | int8 ÷ float | ops |\n|---|---|---|---|---|---|---|---|"
)


def measured(case: Case, *, retime: bool = False) -> list[dict[str, Any]]:
    """One record per peer file of `case` that exists: label, bytes, top1 by evaluation set, ops, float_ops, latency.

    With `retime`, timings that were taken while the machine was busy are taken again.
    """
    files = [(peer, PEERS / case.name / peer.path, baseline) for peer, baseline in MADE.items()]
    files += [(peer, data_folder() / peer.path, None) for peer in case.peer_files]
    files = [row for row in files if row[1].exists()]
    stored = [_stored(case, path, retime=retime) for _, path, _ in files]
    if None in stored:
        spec = load_model(str(case.toml)).spec
        sets = {label: load_images(data_folder() / images, spec) for label, images in case.evaluations.items()}
        stored = [
            old or _measure(case, peer, path, baseline, spec, sets)
            for old, (peer, path, baseline) in zip(stored, files, strict=True)
        ]
    return [record for record in stored if record is not None]


def _row(case: Case, path: Path) -> Path:
    return ROWS / f"{case.name}-peer-{path.stem}.json"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stored(case: Case, path: Path, *, retime: bool) -> dict[str, Any] | None:
    row = _row(case, path)
    record: dict[str, Any] | None = json.loads(row.read_text()) if row.exists() else None
    if record is None or record["sha256"] != _digest(path):
        return None
    doubtful = bool(record["latency"] and record["latency"]["doubts"])
    return None if doubtful and retime else record


def _measure(
    case: Case, peer: PeerFile, path: Path, baseline: str | None, spec: ModelSpec, sets: Mapping[str, EvaluationSet]
) -> dict[str, Any]:
    kinds, floats = ops(path)
    record = {
        "label": peer.label,
        "sha256": _digest(path),
        "bytes": path.stat().st_size,
        "top1": {
            label: top1(path, images, spec, pixels=peer.pixels, shift=peer.shift) for label, images in sets.items()
        },
        "ops": kinds,
        "float_ops": floats,
        "latency": time_pair(path, path.with_name(baseline)) if baseline else None,
        "machine": machine_line(),
    }
    ROWS.mkdir(parents=True, exist_ok=True)
    _row(case, path).write_text(json.dumps(record, indent=2) + "\n")
    return record


def line(network: str, record: Mapping[str, Any]) -> str:
    """A table row under `HEAD`."""
    scores = ", ".join(f"{label} {score:.2f}" for label, score in record["top1"].items())
    census = " ".join(f"{count} {kind}" for kind, count in record["ops"].items())
    timed = record["latency"]
    doubt = " (busy machine)" if timed and timed["doubts"] else ""
    speed = f"{timed['a_ms']:.3f} | {timed['ratio']:.3f}{doubt}" if timed else " | "
    size = f"{record['bytes']:,}"
    return f"| {network} | {record['label']} | {size} | {scores} | {record['float_ops']} | {speed} | {census} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(CASES)}; default all")
    names = parser.parse_args().networks or list(CASES)
    data_folder()
    print(f"{machine_line()}; 1 thread, interleaved, median of pair ratios\n\n{HEAD}")
    for name in names:
        for record in measured(CASES[name], retime=True):
            print(line(name, record), flush=True)


if __name__ == "__main__":
    main()
