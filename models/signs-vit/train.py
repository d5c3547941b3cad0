"""Trains signs-vit behind the first layers of signs-mobilenetv2: about five minutes on one core, after rendering.

Usage, from the repository root: ``.venv/bin/python models/signs-vit/train.py``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "signs")]

from network import SignsViT, signs_vit, start_training  # noqa: E402
from recipe import Settings, run  # noqa: E402

from edgeq.model.load import load_model  # noqa: E402


def build() -> SignsViT:
    network = signs_vit()
    start_training(network, load_model("signs-mobilenetv2").module)
    return network


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(options.epochs, seed=options.seed, threads=options.threads, batch=64, rate=1.5e-3, decay=0.05)
    run("signs-vit", HERE, build, settings)
