"""A sweep on this machine: what is computed twice, whether its files are those of single builds, and what kills cost.

    python benchmarks/fleet.py           prints the page; a quarter of an hour on two cores
    python benchmarks/fleet.py --write   also writes benchmarks/results/fleet.md

Twelve builds: three shipped networks, two bit widths, two targets, with few images and the least effort. The first run
is ended with SIGKILL in the middle, the next one goes on. A third finds everything in the cache. Then every build is
made again by itself, with a cache of its own, and its file compared byte for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cases import ROOT, commit
from latency import machine_line

PAGE = ROOT / "benchmarks" / "results" / "fleet.md"
SWEEP = """
[axes]
models = ["signs-mobilenetv2", "signs-fixup", "scenes-segmenter"]
bits = ["w8a8", "w4a8"]
targets = ["tflite-arm", "onnx-arm"]
[build]
effort = "fast"
images = 8
eval_limit = 50
"""
WORKERS = 2
SHARED = ("synthesize", "calibrate", "write", "verify", "measure")


def edgeq(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command, its words on standard error."""
    return subprocess.Popen([sys.executable, "-m", "edgeq", *words], stdout=subprocess.PIPE, text=True, **options)


def run(*words: str) -> tuple[dict[str, Any], float]:
    """A command's JSON, and its seconds."""
    started = time.monotonic()
    out, _ = edgeq(*words, "--json").communicate()
    return json.loads(out), time.monotonic() - started


def killed(seconds: float) -> int:
    """Begin the sweep, end it and all it started with SIGKILL, and count the builds that were finished."""
    process = edgeq("sweep", "run", "--workers", str(WORKERS), start_new_session=True)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return sum(one["word"] == "done" for one in run("sweep", "status")[0]["builds"])


def entries() -> Counter[str]:
    """Finished stages in the cache, by stage."""
    return Counter(path.name.split("-")[0] for path in Path(".edgeq-cache").iterdir() if path.name[0].isalpha())


def computed(builds: list[dict[str, Any]]) -> Counter[str]:
    return Counter(stage for one in builds for stage, word in one["stages"].items() if word == "computed")


def equal_alone(plan: dict[str, Any]) -> int:
    """How many builds come out with the same bytes when each is made by itself with an empty cache."""
    same = 0
    for one in plan["builds"]:
        words = [word for word in one["command"][1:] if word != "--output"]
        words.remove(str(Path(plan["output"]) / one["name"]))
        with tempfile.TemporaryDirectory() as alone:
            edgeq(*words, "--cache", f"{alone}/cache", "-o", f"{alone}/out", "--quiet").communicate()
            (mine,) = Path(alone, "out").glob("model.*")
            same += mine.read_bytes() == (Path(plan["output"]) / one["name"] / mine.name).read_bytes()
    return same


def main() -> None:
    """Run, kill, resume, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--kill-after", type=float, default=60.0, metavar="SECONDS")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("sweep.toml").write_text(SWEEP)
        plan, _ = run("sweep", "run", "--plan")
        total = len(plan["builds"])
        finished = killed(options.kill_after)
        before = entries()
        resumed, seconds = run("sweep", "run", "--workers", str(WORKERS))
        after, worked = entries(), computed(resumed["builds"])
        again, seconds_again = run("sweep", "run", "--workers", str(WORKERS))
        hits = [word for one in again["builds"] for stage, word in one["stages"].items() if stage in SHARED[:-1]]
        rows = [
            f"| {stage} | {total} | {after[stage]} | {before[stage]} | {worked[stage]} "
            f"| {worked[stage] - (after[stage] - before[stage])} |"
            for stage in SHARED[:-1]
        ]
        done = sum(one["state"] == "done" for one in resumed["builds"])
        same = equal_alone(plan)
    text = [
        "# A sweep on one machine",
        "",
        f"Printed by `benchmarks/fleet.py` on {machine_line()}; commit {commit()}; load {load:.1f} at the start.",
        f"{total} builds, {WORKERS} at once; the first run was ended with SIGKILL after {options.kill_after:.0f} s, "
        f"with {finished} builds finished.",
        "",
        f"- The next run finished {done} of {total} builds in {seconds:.0f} s, and the one after it took "
        f"{seconds_again:.0f} s, with {hits.count('cached')} of {len(hits)} shared stages found in the cache.",
        f"- {same} of {total} files equal, byte for byte, those of builds made one by one with empty caches.",
        "",
        "*Different* are the results of a stage that these builds need; *before* were made before the kill, *computed*",
        "after it. *Twice* is what was computed beyond that.",
        "",
        "| stage | builds | different | before | computed | twice |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    print("\n".join(text))
    if options.write:
        PAGE.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
