"""How close `--plan` comes: estimates beside builds, stage by stage.

    python benchmarks/plan_estimate.py                     the networks of models/, on an idle machine
    python benchmarks/plan_estimate.py --effort fast NAME

Each network is planned and built, with an empty cache, by the command itself. Prints a table, and ends with 1 when a
whole build takes less than half or more than twice its estimate.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CASES = (
    ("signs-mobilenetv2", ()),
    ("signs-mobilenetv2", ("--target", "onnx-x86", "--method", "noise")),
    ("signs-mobilenetv2", ("--bits", "w4a4", "--method", "noise", "--eval-limit", "500")),
    ("signs-fixup", ()),
    ("scenes-segmenter", ()),
    ("scenes-detector", ()),
)
"""Networks and what is said beside the effort."""


def edgeq(*words: str) -> dict[str, Any]:
    """What `edgeq build` prints as JSON."""
    command = [sys.executable, "-m", "edgeq", "build", "--json", "--quiet", *words]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks [default: those of models/]")
    parser.add_argument("--effort", default="fast", choices=("fast", "balanced", "best"))
    options = parser.parse_args()
    cases = [(name, ()) for name in options.names] or CASES
    print("| network | stage | estimated, s | took, s | ratio |\n|---|---|---|---|---|")
    worst = 1.0
    for name, more in cases:
        words = [name, "--effort", options.effort, *more]
        plan = edgeq(*words, "--plan")
        with tempfile.TemporaryDirectory() as folder:
            report = edgeq(*words, "--output", str(Path(folder) / "out"), "--cache", str(Path(folder) / "cache"))
        told = plan["estimated_stages"]
        took = {stage: seconds for stage, seconds in report["seconds"].items() if seconds is not None}
        shown = " ".join([name, *more])
        for stage in told:
            print(f"| {shown} | {stage} | {told[stage]:.1f} | {took[stage]:.1f} | {_ratio(told[stage], took[stage])} |")
        one, other = sum(told.values()), sum(took.values())
        print(f"| **{shown}** | all; {plan['machine']} | {one:.1f} | {other:.1f} | {_ratio(one, other)} |", flush=True)
        worst = max(worst, one / other, other / one)
    print(f"\nA whole build is off by a factor of {worst:.2f} at most.")
    return int(worst > 2.0)


def _ratio(told: float, took: float) -> str:
    return f"{took / told:.2f}" if told else "-"


if __name__ == "__main__":
    sys.exit(main())
