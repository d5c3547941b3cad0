"""Every op with random parameters, shapes and values, against torch in both float files and both integer files.

    python benchmarks/op_sweep.py --cases 3000      # prints, and writes benchmarks/results/op_sweep.md
    python benchmarks/op_sweep.py --case Conv2d 17  # one case, alone

A case is an op kind and a seed (`tests/ops/sweep.py`); what is compared, and how closely, is in
`tests/ops/sweep_check.py`. A worker process that dies or falls silent (`fuzz.py`) is a failure like a wrong value. What
edgeq refuses is counted with the reason. Besides, nearest resizing is compared for all sizes to 130 and 260 pixels.
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from cases import ROOT, commit
from fuzz import CELLS, Worker, failed, hush, judged
from latency import machine_line

from edgeq.errors import UnsupportedError
from edgeq.files import write_atomic
from edgeq.graph.ops.nearest import NEAREST_MODES, is_certain, nearest_pixels
from edgeq.versions import package_versions

sys.path.insert(0, str(ROOT))

SIZES, OUTS = range(1, 131), range(1, 261)


def work(pipe: Connection) -> None:
    """Answer cases until told to stop; code 3 is a refusal."""
    hush()
    from tests.ops.sweep_check import judge

    while (case := pipe.recv()) is not None:
        found: dict[str, Any] = {"code": 0, "caught": None, "said": ""}
        kind, seed = case["seed"].split()
        try:
            judge(kind, int(seed))
        except UnsupportedError as error:
            found |= {"code": 3, "said": str(error)}
        except Exception as error:
            found |= {"code": None, "caught": type(error).__name__, "said": str(error)[:900]}
        pipe.send(found)
    pipe.close()


def nearest() -> dict[str, tuple[int, int, int]]:
    """By mode: pairs of sizes, those refused, and those of the rest where torch takes other pixels."""
    import torch
    import torch.nn.functional as F

    row = torch.arange(float(SIZES[-1])).view(1, 1, 1, -1)
    counts = {}
    for mode in NEAREST_MODES:
        refused = wrong = 0
        for size in SIZES:
            for out in OUTS:
                if not is_certain(size, out, mode):
                    refused += 1
                    continue
                taken = F.interpolate(row[..., :size], size=(1, out), mode=mode).numpy().reshape(-1)
                wrong += not np.array_equal(taken, nearest_pixels(size, out, mode))
        counts[mode] = (len(SIZES) * len(OUTS), refused, wrong)
    return counts


def table(rows: list[dict[str, Any]], pairs: dict[str, tuple[int, int, int]]) -> str:
    """Markdown: by op kind, how many cases held, were refused and failed; then the reasons."""
    packages = ", ".join(f"{k} {v}" for k, v in package_versions().items())
    by_kind: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    reasons: collections.Counter[str] = collections.Counter()
    for row in rows:
        verdict = "refused" if row["code"] == 3 else "failed" if failed(row) else "held"
        by_kind[row["seed"].split()[0]][verdict] += 1
        if verdict == "refused":
            reasons[_reason(row["said"])] += 1
    total = sum((counter for counter in by_kind.values()), collections.Counter())
    lines = [
        "# Sweep over ops",
        "",
        f"Printed by `benchmarks/op_sweep.py --cases {len(rows)}`: networks of one to three random layers around each",
        "op kind. Compared with torch: the graph, float.tflite and float.onnx, to float rounding. The integer",
        "reference: every op against its exact value. model.tflite: every value equal to the reference. model.onnx,",
        "with int8 and uint8 activations: every op within a step, the whole file equal to its ops one by one.",
        "",
        f"Machine: {machine_line()}; printed at commit {commit()}; {packages}.",
        "Verdicts are kept between runs: those of cases that held may be of an earlier commit.",
        "",
        "| op | cases | held | refused | failed |",
        "|---|---|---|---|---|",
    ]
    for kind, counter in [*sorted(by_kind.items()), ("all", total)]:
        cells = [counter.total(), counter["held"], counter["refused"], counter["failed"]]
        lines.append(f"| {kind} | {' | '.join(map(str, cells))} |")
    lines += ["", "| refused because | cases |", "|---|---|"]
    lines += [f"| {reason} | {count} |" for reason, count in reasons.most_common()]
    lines += ["", *(f"- {row['said']}" for row in rows if failed(row))]
    lines += ["", f"Nearest resizing, 1 to {SIZES[-1]} pixels to 1 to {OUTS[-1]}:", ""]
    lines += ["| mode | pairs of sizes | refused | other pixels than torch |", "|---|---|---|---|"]
    lines += [f"| {mode} | {' | '.join(map(str, counts))} |" for mode, counts in pairs.items()]
    return "\n".join(lines) + "\n"


def _reason(said: str) -> str:
    """A refusal without where it happened, and without its numbers."""
    where = re.sub(r" at [\w.]+(?=:)", "", said.split(" (")[0])
    return re.sub(r"-?\d+(\.\d+)?", "N", where).replace("|", "/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--case", nargs=2, metavar=("KIND", "SEED"), help="this one only; raises where it fails")
    parser.add_argument("--again", action="store_true", help="forget earlier verdicts")
    parser.add_argument("--print", action="store_true", dest="printing", help="write no results")
    options = parser.parse_args()
    from tests.ops.sweep import GENERATORS, case
    from tests.ops.sweep_check import judge

    if options.case:
        kind, seed = options.case[0], int(options.case[1])
        print(case(kind, seed))
        print(sorted(judge(kind, seed)))
        return
    kinds = sorted(GENERATORS)
    wanted = [
        {"seed": f"{kinds[n % len(kinds)]} {options.first + n // len(kinds)}", "whole": False}
        for n in range(options.cases)
    ]
    rows = judged(wanted, CELLS / "ops.jsonl", options.again, lambda: Worker(work))
    text = table(rows, nearest())
    print(text)
    if not options.printing:
        write_atomic(ROOT / "benchmarks" / "results" / "op_sweep.md", text)
    if any(failed(row) for row in rows):
        raise SystemExit("some cases failed")


if __name__ == "__main__":
    main()
