"""Trains signs-fixup from nothing: renders its own images, then about half an hour on one core that others share.

Usage, from the repository root: ``.venv/bin/python models/signs-fixup/train.py``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "signs")]

from network import SignsFixup, end_training, signs_fixup, start_training  # noqa: E402
from recipe import Settings, run  # noqa: E402


def build() -> SignsFixup:
    network = signs_fixup()
    start_training(network)
    return network


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(options.epochs, seed=options.seed, threads=options.threads, rate=3e-3)
    run("signs-fixup", HERE, build, settings, finish=end_training)
