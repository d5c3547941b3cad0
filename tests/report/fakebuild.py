"""A finished build on disk as `edgeq check` sees it, made of the real pieces with made-up numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.formats.census import Census
from edgeq.measure.accuracy import Accuracy, compare
from edgeq.measure.answers import ANSWERS
from edgeq.measure.conditions import Machine
from edgeq.measure.latency import host_section, latency_facts
from edgeq.measure.per_image import answers_of
from edgeq.report.schema import build_report

ARTIFACT = b"an integer model" * 150_000
FILES = {"float.tflite": b"float", "integer.safetensors": b"integers", "calibration.npz": b"images"}
MACHINE = Machine(
    cpu="Some Board, Cortex-A76",
    architecture="aarch64",
    cores=4,
    flags=("asimd", "asimddp"),
    governor="performance",
    platform="Linux 6.6",
    python="3.11.9",
    virtual=False,
    container=None,
    emulated=False,
)
KINDS = {"CONV_2D": 35, "DEPTHWISE_CONV_2D": 17, "ADD": 10, "MEAN": 1, "FULLY_CONNECTED": 1}
SECONDS = {"capture": 3.1, "synthesize": 95.2, "calibrate": 8.4, "write": 0.4, "verify": 21.7, "measure": 31.0}


def sample(**changes: Any) -> dict[str, Any]:
    """A whole report; `changes` replace arguments of `build_report`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 2000)
    right = rng.random(2000) < 0.955
    before = np.where(right, labels, (labels + 1) % 20)
    after = np.where(rng.random(2000) < 0.012, (before + 3) % 20, before)
    accuracy = compare(Accuracy(before, labels, 99.4), Accuracy(after, labels, 99.35))
    times = rng.gamma(4.0, 0.05, (2, 120))
    samples = {"float": (6.1 + times[0]).tolist(), "model": (3.9 + times[1]).tolist()}
    quiet = {
        "clock": 0.0,
        "own": 0.0,
        "busy": 0.0,
        "stolen": 0.0,
        "load": 0.2,
        "frequency_khz": {"0": 2_400_000},
        "governors": {},
        "temperature_c": 48.0,
        "throttled": None,
        "heat_events": 0,
        "affinity": [0],
    }
    timed = {
        "latency": latency_facts(samples["float"], samples["model"], inferences=1, threads=1, doubts=()),
        "samples": samples,
        "machine": {"cores": 4},
        "runtime": "ai-edge-litert 2.3.0",
        "kernels": "xnnpack",
        "before": quiet,
        "after": quiet | {"clock": 4.0, "own": 4.0, "busy": 4.2, "temperature_c": 51.0},
    }
    latency = host_section(timed, MACHINE)
    layers = [
        {
            "name": f"features.{i // 3}.conv.{i % 3}",
            "op": "Conv2d" if i % 3 else "Add",
            "sqnr_db": 38 - 14 * i / 52 + 7 * math.sin(i) - (16 if i in (17, 18) else 0),
            "saturated": 0.001 * (i % 5),
        }
        for i in range(53)
    ]
    given: dict[str, Any] = {
        "model": "signs64",
        "target": "tflite-arm",
        "method": "gznq",
        "method_reason": "auto: the network has 52 batch norms whose statistics images can match",
        "bits": "w8a8",
        "seed": 0,
        "edgeq": "0.1.0",
        "network": {"input": (3, 64, 64), "parameters": 2_251_412, "macs": 25_400_000, "nodes": 66},
        "artifact": {
            "path": "signs64.tflite",
            "bytes": len(ARTIFACT),
            "sha256": hashlib.sha256(ARTIFACT).hexdigest(),
        },
        "float_bytes": 9_050_000,
        "accuracy": accuracy,
        "exactness": {
            "reference": "LiteRT's reference kernels",
            "values": 39_183_360,
            "equal": 39_183_360,
            "max_step": 0,
            "images": 32,
        },
        "census": Census(KINDS, 0, 0, 0, 0),
        "latency": latency,
        "synthesis": {"method": "gznq", "images": 128, "seconds": 95.2},
        "seconds": SECONDS,
        "conditions": MACHINE.to_json() | {"packages": {"torch": "2.13.0", "ai-edge-litert": "2.3.0"}},
        "layers": layers,
        "dead_channels": 14,
        "baselines": [
            {"method": "images:photos", "images": 128, "top1": 95.1, "top5": 99.4, "agreement": 0.991},
            {"method": "noise", "images": 128, "top1": 61.3, "top5": 88.0, "agreement": 0.63},
        ],
        "warnings": ["The input range was taken from mean and std, which nobody stated for this model."],
    }
    return build_report(**(given | changes))


def write_build(
    folder: Path,
    spoil: Callable[[dict[str, Any]], Any] = lambda _: None,
    answers: bytes | None = None,
    lock: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a finished build into `folder` and return it; `spoil` may change its report, `changes` are `sample`'s.

    `answers` are the contents of answers.safetensors, `lock` more entries of the lock.
    """
    made = json.loads(json.dumps(sample(**changes)))
    artifact = dict(made["artifact"])
    spoil(made)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(made))
    contents = {**FILES, artifact["path"]: ARTIFACT} | ({} if answers is None else {ANSWERS: answers})
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = {name: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for name, d in contents.items()}
    facts = {"schema": 1, "artifact": artifact, "files": files, **(lock or {})}
    (folder / "edgeq.lock").write_text(json.dumps(facts))
    return folder


def write_answered(folder: Path, wrong: Iterable[int], n: int = 200, images: str = "ab" * 32, **others: Any) -> Path:
    """A build that answered `n` images of ten classes, those of the numbers `wrong` falsely."""
    labels = np.arange(n) % 10
    predictions = labels.copy()
    predictions[list(wrong)] = (labels[list(wrong)] + 1) % 10
    before, after = Accuracy(labels, labels, 100.0), Accuracy(predictions, labels, 100.0)
    answers = answers_of(before, after, images)
    assert answers is not None
    accuracy = {"metric": "top-1", "sha256": images} | compare(before, after).to_json()
    return write_build(folder, answers=answers.to_bytes(), accuracy=accuracy, **others)
