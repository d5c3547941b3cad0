"""Networks that strangers bring: which are captured, how near the float graph is, and what stops the others; resumable.

    python benchmarks/strangers.py                                   # all networks: capture and float agreement
    python benchmarks/strangers.py --exact --sources ultralytics     # and every value of the int8 TFLite file
    python benchmarks/strangers.py --networks resnet18 --again --write

It needs packages that edgeq does not: `pip install timm ultralytics segmentation-models-pytorch facenet-pytorch
torchcrepe efficientnet-lite-pytorch kornia facexlib torchreid spandrel easyocr python-doctr torchaudio speechbrain
torchvggish pytorch-tcn conformer openunmix transformers`, in an environment of one's own. (torchcrepe imports librosa
and resampy, which its network does not use: empty modules of these names do.)

Each network is captured in a process of its own, with limits of time and memory. Its weights are random, its batch
norms have the statistics of random pictures. A row is one JSON below build/benchmarks/strangers; it is not made again
unless `--again` says so. `--write` also writes benchmarks/results/strangers.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from cases import ROOT, ROWS, commit
from latency import machine_line
from strangers_networks import SOURCES, Stranger, calibrated, strangers
from torch import Tensor, nn

from edgeq.config.targets import load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import EdgeqError
from edgeq.formats.base import format_of
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.model.heads import cut_decoding
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from edgeq.versions import PACKAGES, package_versions

FOLDER = ROWS / "strangers"
PAGE = ROOT / "benchmarks" / "results" / "strangers.md"
BEYOND = (
    *("timm", "ultralytics", "segmentation-models-pytorch", "facenet-pytorch", "torchcrepe", "torchvision", "kornia"),
    *("facexlib", "torchreid", "spandrel", "easyocr", "python-doctr", "torchaudio", "speechbrain", "torchvggish"),
    *("pytorch-tcn", "conformer", "openunmix", "transformers"),
)
SECONDS = 240
"""Largest time for one network, from making it to its row."""
GIGABYTES = 14
"""Largest address space of the process of one network."""
AGREEMENT = 60.0
"""Smallest agreement of the captured graph with the network, in dB."""


def main() -> None:
    """Make the rows that are selected and missing, and print the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--networks", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--exact", action="store_true", help="also write, run and verify an int8 TFLite file")
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--refused", action="store_true", help="again only what was not accepted")
    parser.add_argument("--print", action="store_true", dest="printing", help="only print what rows there are")
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    everything = strangers()
    chosen = [one for one in everything if one.source in options.sources]
    if options.networks:
        chosen = [one for one in chosen if one.name in options.networks]
    torch.set_num_threads(1)
    if not options.printing:
        capture(nn.Conv2d(3, 4, 3).eval(), (3, 8, 8), "warm")  # what torch.export imports, once for all processes
        for one in chosen:
            measure(one, options)
    rows = [json.loads(path.read_text()) for one in everything if (path := FOLDER / f"{one.key}.json").exists()]
    page = table(rows, len(everything))
    print(page)
    if options.write:
        PAGE.write_text(page)


def measure(one: Stranger, options: argparse.Namespace) -> None:
    """Run one network in a process of its own and keep its row; nothing where it is there already."""
    path = FOLDER / f"{one.key}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    done = known and (not options.exact or "exact" in known or not known["accepted"])
    if done and not options.again and not (options.refused and not known["accepted"]):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _in_child(one, options.exact, path)
    status = _wait(child, started + SECONDS)
    if status != 0:
        why = f"longer than {SECONDS} s" if status is None else f"the process ended with status {status}"
        path.write_text(json.dumps(_head(one) | {"accepted": False, "refusal": why, "kind": "limit"}) + "\n")
    row = json.loads(path.read_text()) | {"seconds": round(time.monotonic() - started, 1)}
    path.write_text(json.dumps(row) + "\n")
    shown = f"{row['agreement_db']} dB {row.get('exact', '')}" if row["accepted"] else row["refusal"]
    print(f"{one.source} {one.name}: {shown} [{row['seconds']} s]", flush=True)


def _wait(child: int, until: float) -> int | None:
    """The exit status of a process, None where it had to be ended."""
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _in_child(one: Stranger, exact: bool, path: Path) -> None:
    """Make the row of one network, and end the process."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES * 2**30,) * 2)
    warnings.simplefilter("ignore")
    row = _head(one)
    try:
        row |= _facts(one, exact)
    except BaseException as error:
        traceback.print_exc()
        row |= {"accepted": False, "refusal": f"{type(error).__name__}: {str(error)[:200]}", "kind": "traceback"}
    row["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    path.write_text(json.dumps(row) + "\n")
    sys.stdout.flush()
    os._exit(0)


def _head(one: Stranger) -> dict[str, Any]:
    return {"source": one.source, "network": one.name, "commit": commit()}


def _facts(one: Stranger, exact: bool) -> dict[str, Any]:
    try:
        module, shape = _made(one)
    except Exception as error:
        return {
            "accepted": False,
            "refusal": f"not made: {type(error).__name__}: {str(error)[:200]}",
            "kind": "package",
        }
    facts: dict[str, Any] = {
        "shape": list(shape),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }
    started = time.monotonic()
    try:
        module, cut = cut_decoding(module)
        module = calibrated(module, shape) if one.decodes else module
        graph = optimize(capture(module, shape, one.name))
        facts |= {"capture_seconds": round(time.monotonic() - started, 1), "agreement_db": agreement(module, graph)}
        facts |= {"ops": len(graph.nodes), "outputs": len(graph.outputs), "cut": str(cut) if cut else ""}
        facts["varies"] = varies(module, shape)
        facts["accepted"] = facts["agreement_db"] >= AGREEMENT and facts["varies"]
        if not facts["accepted"]:
            why = (
                f"agreement of {facts['agreement_db']} dB"
                if facts["varies"]
                else "an answer is the same for any picture"
            )
            facts |= {"refusal": why, "kind": "agreement"}
    except EdgeqError as error:
        return facts | {
            "accepted": False,
            "refusal": str(error),
            "what": error.what,
            "why": error.why,
            "kind": "internal" if "internal error" in error.what else "refused",
        }
    if exact and facts["accepted"]:
        facts["exact"] = exactness(graph)
    return facts


def _made(one: Stranger) -> tuple[nn.Module, tuple[int, ...]]:
    """The network, calibrated, and the smallest of its shapes on which it runs."""
    for shape in one.shapes:
        torch.manual_seed(0)
        try:
            module = one.make(shape).eval()
            if not one.decodes:
                with torch.no_grad():
                    module(torch.rand(1, *shape))
                module = calibrated(module, shape)
            return module, shape
        except Exception:
            if shape == one.shapes[-1]:
                raise
    raise AssertionError("a network has at least one shape")


@torch.no_grad()
def varies(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether every answer is another for another picture: one that never changes proves nothing."""
    generator = torch.Generator().manual_seed(3)
    one, other = (pytree.tree_leaves(module.eval()(torch.randn(1, *shape, generator=generator))) for _ in range(2))
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if isinstance(a, Tensor)]
    return all(not torch.equal(a, b) for a, b in pairs)


@torch.no_grad()
def agreement(module: nn.Module, graph: Graph) -> float:
    """Signal to error of the optimised float graph against the network, in dB, on one random picture; 200 for none."""
    (shape,) = graph.input_shapes.values()
    picture = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    wanted = [leaf for leaf in pytree.tree_leaves(module.eval()(picture.clone())) if isinstance(leaf, Tensor)]
    answered = [leaf for leaf in pytree.tree_leaves(GraphModule(graph)(picture)) if isinstance(leaf, Tensor)]
    worst = 200.0
    for want, got in zip(wanted, answered, strict=True):
        error, signal_power = float((want - got).double().square().sum()), float(want.double().square().sum())
        if error > 0:
            worst = min(worst, 10 * math.log10(max(signal_power, 1e-300) / error))
    return round(worst, 1)


def exactness(graph: Graph) -> dict[str, Any]:
    """Every value of every op of the int8 TFLite file against LiteRT's reference kernels, or what stopped it."""
    (shape,) = graph.input_shapes.values()
    pixels = (-2.5, 2.5)
    inputs = np.random.default_rng(1).normal(0, 1, (2, *shape[1:])).astype(np.float32)
    images = CalibrationSet(np.clip(inputs, *pixels), np.full(2, -1, np.int64), "noise")
    try:
        target = load_target("tflite-arm")
        bits = target.bits_of_weights(vnni=False)
        integer = freeze(graph, calibrate(graph, images, pixels, scheme=Scheme.of("w8a8", widest=bits))).graph
        form = format_of(target, bits)
        data = form.write(integer, target.io, target.narrow_weights)
        result = form.verify(integer, data, images.inputs[:1])
        census = form.census(data)
    except EdgeqError as error:
        return {"refused": str(error)}
    return {
        "values": result.values,
        "equal": result.equal,
        "float_ops": census.float_ops,
        "transposes": census.transposes,
        "bytes": len(data),
    }


def table(rows: list[dict[str, Any]], wanted: int) -> str:
    """The page: counts per source, refusals by reason, and one line a network."""
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    packages = ", ".join(f"{name} {version}" for name, version in package_versions((*PACKAGES, *BEYOND)).items())
    lines = [
        "# Networks that strangers bring",
        "",
        "Printed by `benchmarks/strangers.py`. Weights are random, batch norms have the statistics of random",
        f"pictures. *Accepted* networks are captured and agree with torch by at least {AGREEMENT:.0f} dB on a random",
        "picture, after the passes over the float graph and before quantization. *Exact*: every value of every op of",
        "the int8 TFLite file equals LiteRT's `BUILTIN_REF`. Each network has a process of its own, at most",
        f"{SECONDS} seconds and {GIGABYTES} GB of address space; its memory includes what torch and the packages take.",
        "",
        *_states(rows),
        f"{len(rows)} of {wanted} networks. Machine: {machine_line()}, one thread, beside other work. {packages}. "
        f"Commit: {commits}.",
        "",
        "| source | networks | accepted | exact | of verified | refused in one line | traceback or limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for source in [*SOURCES, "together"]:
        mine = [row for row in rows if source in (row["source"], "together")]
        lines.append(_count(source, mine)) if mine else None
    lines += ["", "## What stops the others", "", "| reason | networks | such as |", "|---|---|---|"]
    refused = [row for row in rows if not row["accepted"]]
    reasons = Counter(reason(row) for row in refused)
    for text, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        some = [row["network"] for row in refused if reason(row) == text]
        lines.append(f"| {_cell(text)} | {count} | {', '.join(some[:4])} |")
    lines += ["", "## Each network", "", "| source | network | input | parameters, M | result | s | MB | commit |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def _states(rows: list[dict[str, Any]]) -> list[str]:
    """How many accepted rows were made with which weights."""
    accepted = [row for row in rows if row["accepted"]]
    old = sum("varies" not in row for row in accepted)
    lines = [
        f"{len(accepted) - old} accepted networks have weights with which every answer varies from picture to picture,",
        "and batch norms that saw sixteen pictures. An agreement of 200 dB means that all bits are equal.",
    ]
    if old:
        lines += [
            f"{old} accepted networks are of earlier commits (last column): their batch norms saw four pictures, their",
            "heads and layer scales are as the packages make them, and whether the answers vary was not looked at.",
        ]
    return [*lines, ""]


def _count(source: str, rows: list[dict[str, Any]]) -> str:
    accepted = [row for row in rows if row["accepted"]]
    verified = [row["exact"] for row in accepted if "exact" in row]
    exact = [one for one in verified if one.get("equal") == one.get("values") and "refused" not in one]
    ended = [row for row in rows if not row["accepted"] and row["kind"] in ("traceback", "limit", "internal")]
    refused = len(rows) - len(accepted) - len(ended)
    return f"| {source} | {len(rows)} | {len(accepted)} | {len(exact)} | {len(verified)} | {refused} | {len(ended)} |"


def reason(row: dict[str, Any]) -> str:
    """What stopped a network, without the numbers and names of the one network."""
    text = ": ".join(part for part in (row.get("what", row["refusal"]), row.get("why", "")) if part)
    return re.sub(r"\[[-\d, ]*\]", "[…]", re.sub(r"\d+(\.\d+)?", "N", text))[:150]


def _line(row: dict[str, Any]) -> str:
    size = f"{row['parameters'] / 1e6:.1f}" if "parameters" in row else ""
    shape = "x".join(map(str, row.get("shape", [])))
    result = f"{row['agreement_db']:.0f} dB" if row["accepted"] else row["refusal"]
    if exact := row.get("exact"):
        done = exact.get("refused") or f"{exact['equal']:,} of {exact['values']:,} values exact"
        result += f"; {done}" + (f", {exact['transposes']} transposes" if exact.get("transposes") else "")
    memory, seconds = row.get("megabytes", ""), row["seconds"]
    start = f"| {row['source']} | {row['network']} | {shape} | {size} | {_cell(result)} |"
    return f"{start} {seconds} | {memory} | {row['commit']} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
