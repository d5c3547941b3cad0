"""What the peers' files are: size, ops, accuracy. ``python benchmarks/peers/report.py [NETWORK ...]``.

Prints a Markdown table; no edgeq file takes part.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cases import CASES, PEERS, Case, PeerFile, data_folder
from foreign import ops, predictions
from machine import conditions

MADE = (
    PeerFile("litert-torch float", "litert_float_nhwc.tflite"),
    PeerFile("litert-torch PT2E int8, NHWC", "litert_int8_nhwc.tflite"),
    PeerFile("litert-torch PT2E int8, NCHW", "litert_int8_nchw.tflite"),
    PeerFile("onnxruntime float", "ort_float.onnx"),
    PeerFile("onnxruntime u8s8", "ort_u8s8.onnx"),
)


def rows(case: Case) -> list[str]:
    """One table row per peer file of `case` that exists."""
    from edgeq.data import load_images
    from edgeq.zoo import load_model

    spec = load_model(str(case.toml)).spec
    sets = {label: load_images(data_folder() / path, spec) for label, path in case.evaluations.items()}
    files = [(peer, PEERS / case.name / peer.path) for peer in MADE]
    files += [(peer, data_folder() / peer.path) for peer in case.peer_files]
    lines = []
    for peer, path in files:
        if not path.exists():
            continue
        kinds, floats = ops(path)
        scores = []
        for label, images in sets.items():
            found = predictions(path, images.images, spec.mean, spec.std, pixels=peer.pixels, shift=peer.shift)
            scores.append(f"{label} {100 * (found == images.labels).mean():.2f}")
        census = " ".join(f"{count} {kind}" for kind, count in kinds.items())
        size = f"{path.stat().st_size:,}"
        lines.append(f"| {case.name} | {peer.label} | {size} | {', '.join(scores)} | {floats} | {census} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(CASES)}; default all")
    names = parser.parse_args().networks or list(CASES)
    data_folder()
    print(conditions() + "\n")
    print("| network | file | bytes | top-1 % | float ops | ops |\n|---|---|---|---|---|---|")
    for name in names:
        print("\n".join(rows(CASES[name])), flush=True)


if __name__ == "__main__":
    main()
