"""Trains signs-mobilenetv2 from nothing: renders its own images, then about twenty minutes on one core.

Usage, from the repository root: ``.venv/bin/python models/signs-mobilenetv2/train.py``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "signs")]

from network import signs_mobilenetv2  # noqa: E402
from recipe import Settings, run  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    run(
        "signs-mobilenetv2",
        HERE,
        signs_mobilenetv2,
        Settings(options.epochs, seed=options.seed, threads=options.threads),
    )
