"""Random small networks through both writers: torch's values, exact integers, no float op, no crash.

    python benchmarks/fuzz_networks.py --networks 500      # prints, and writes benchmarks/results/fuzz_networks.md
    python benchmarks/fuzz_networks.py --seeds 37 --print  # one that failed, alone

A seed is a network of four to ten steps out of gates, sums, layers and moves, and its noise (`tests/formats/chance.py`,
which also says what is checked). A worker process that dies or falls silent (`fuzz.py`) is a failure like a wrong
value. A network that edgeq refuses is counted with the reason. Verdicts are kept in build/fuzz/: an interrupted run
goes on where it stopped, and failures run again.
"""

from __future__ import annotations

import argparse
import collections
from multiprocessing.connection import Connection
from typing import Any

from cases import ROOT, commit
from fuzz import CELLS, Worker, failed, hush, judged
from latency import machine_line

from edgeq.errors import UnsupportedError
from edgeq.files import write_atomic
from edgeq.model.pycode import import_callable
from edgeq.versions import package_versions

GENERATOR = ROOT / "tests" / "export" / "chance.py"


def work(pipe: Connection) -> None:
    """Answer seeds until told to stop; code 3 is a refusal."""
    hush()
    check, network = (import_callable(f"{GENERATOR}:{name}") for name in ("check", "Chance"))
    while (case := pipe.recv()) is not None:
        found = {"code": 0, "caught": None, "said": "", "steps": network(case["seed"]).steps}
        try:
            check(case["seed"])
        except UnsupportedError as error:
            found |= {"code": 3, "said": str(error)}
        except Exception as error:
            found |= {"code": None, "caught": type(error).__name__, "said": str(error)[:600]}
        pipe.send(found)
    pipe.close()


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: how many networks held, what each step occurs in, and what was refused or wrong."""
    packages = ", ".join(f"{k} {v}" for k, v in package_versions().items())
    refused = [row for row in rows if row["code"] == 3]
    wrong = [row for row in rows if failed(row)]
    steps = collections.Counter(step for row in rows for step in set(row.get("steps", [])))
    lines = [
        "# Random networks",
        "",
        f"Printed by `benchmarks/fuzz_networks.py --networks {len(rows)}`: four to ten random steps each, float files",
        "in both formats against torch, w8a8 and w8a16 TFLite against LiteRT's reference kernels (every value of every",
        "op), w8a8 ONNX (u8s8, s8s8) op by op within a step, no float op and no conversion in any integer file.",
        "",
        f"Machine: {machine_line()}; printed at commit {commit()}; {packages}.",
        "Verdicts are kept between runs: those of networks that held may be of an earlier commit.",
        "",
        "| networks | held | refused | failed |",
        "|---|---|---|---|",
        f"| {len(rows)} | {len(rows) - len(refused) - len(wrong)} | {len(refused)} | {len(wrong)} |",
        "",
    ]
    lines += [f"- seed {row['seed']} refused: {row['said']}" for row in refused]
    lines += [f"- seed {row['seed']} failed: {row['caught']}: {row['said'].splitlines()[-1:]}" for row in wrong]
    lines += ["", "| step | networks |", "|---|---|", *(f"| {step} | {count} |" for step, count in steps.most_common())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", help="these only; printed, not kept")
    parser.add_argument("--again", action="store_true", help="forget earlier verdicts")
    parser.add_argument("--print", action="store_true", dest="printing", help="write no results")
    options = parser.parse_args()
    seeds = options.seeds or range(options.networks)
    wanted = [{"seed": seed, "whole": False} for seed in seeds]
    path = CELLS / ("networks-some.jsonl" if options.seeds else "networks.jsonl")
    rows = judged(wanted, path, options.again or bool(options.seeds), lambda: Worker(work))
    text = table(rows)
    print(text)
    if not (options.printing or options.seeds):
        write_atomic(ROOT / "benchmarks" / "results" / "fuzz_networks.md", text)
    if any(failed(row) for row in rows):
        raise SystemExit("some networks failed")


if __name__ == "__main__":
    main()
