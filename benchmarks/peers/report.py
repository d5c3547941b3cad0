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
from foreign import ops, predictions
from latency import compare
from machine import conditions

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


def measured(case: Case) -> list[dict[str, Any]]:
    """One record per peer file of `case` that exists: label, bytes, top1 by evaluation set, ops, float_ops, latency."""
    files = [(peer, PEERS / case.name / peer.path, baseline) for peer, baseline in MADE.items()]
    files += [(peer, data_folder() / peer.path, None) for peer in case.peer_files]
    return [
        _record(case, peer, path, path.with_name(baseline) if baseline else None)
        for peer, path, baseline in files
        if path.exists()
    ]


def _record(case: Case, peer: PeerFile, path: Path, baseline: Path | None) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    stored = ROWS / f"{case.name}-peer-{path.stem}.json"
    if stored.exists():
        record: dict[str, Any] = json.loads(stored.read_text())
        if record["sha256"] == digest:
            return record
    kinds, floats = ops(path)
    record = {
        "label": peer.label,
        "sha256": digest,
        "bytes": path.stat().st_size,
        "top1": _accuracy(case, peer, path),
        "ops": kinds,
        "float_ops": floats,
        "latency": vars(compare(path, baseline)) if baseline is not None and baseline.exists() else None,
        "conditions": conditions(),
    }
    ROWS.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(record, indent=2) + "\n")
    return record


def _accuracy(case: Case, peer: PeerFile, path: Path) -> dict[str, float]:
    from edgeq.data import load_images
    from edgeq.zoo import load_model

    spec = load_model(str(case.toml)).spec
    scores = {}
    for label, images in case.evaluations.items():
        labelled = load_images(data_folder() / images, spec)
        found = predictions(path, labelled.images, spec.mean, spec.std, pixels=peer.pixels, shift=peer.shift)
        scores[label] = round(100 * float((found == labelled.labels).mean()), 2)
    return scores


def line(network: str, record: Mapping[str, Any]) -> str:
    """A table row under `HEAD`."""
    scores = ", ".join(f"{label} {score:.2f}" for label, score in record["top1"].items())
    census = " ".join(f"{count} {kind}" for kind, count in record["ops"].items())
    timed = record["latency"]
    speed = f"{timed['a_ms']:.3f} | {timed['ratio']:.3f}" if timed else " | "
    size = f"{record['bytes']:,}"
    return f"| {network} | {record['label']} | {size} | {scores} | {record['float_ops']} | {speed} | {census} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(CASES)}; default all")
    names = parser.parse_args().networks or list(CASES)
    data_folder()
    print(f"{conditions()}; 1 thread, median of 100 interleaved pairs\n\n{HEAD}")
    for name in names:
        for record in measured(CASES[name]):
            print(line(name, record), flush=True)


if __name__ == "__main__":
    main()
