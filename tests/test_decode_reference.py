"""The face detector's boxes from our decoding are those its own record holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeq.decode import count_matches, detect, priors
from edgeq.model.load import load_model

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EDGEQ_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.skipif(not (DATA / "face_detection").is_dir(), reason="EDGEQ_DATA has no face detector")
def test_boxes_of_the_face_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_DATA", str(DATA))
    loaded = load_model(str(ROOT / "benchmarks" / "networks" / "face-detector.toml"))
    anchors = priors(
        (240, 320), ((30, 40), (15, 20), (8, 10), (4, 5)), ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
    )
    record = json.loads((DATA / "face_detection" / "fp32_reference_boxes.json").read_text())
    for name in sorted(record)[:3]:
        pixels = np.asarray(Image.open(DATA / "face_detection" / "images" / name).convert("RGB"))
        with torch.inference_mode():
            logits, deltas = loaded.module.eval()(torch.from_numpy(loaded.spec.normalise(pixels[None])))
        found = detect(logits[0].numpy(), deltas[0].numpy(), anchors, score=0.7, overlap=0.3)
        expected = np.array(record[name]["boxes"])
        assert len(found.boxes) == len(expected)
        assert count_matches(found.boxes, expected, 0.99) == len(expected)
