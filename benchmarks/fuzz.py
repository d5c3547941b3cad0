"""Damaged files through `edgeq inspect` and `edgeq verify`, damaged settings through `edgeq build --plan`.

    python benchmarks/fuzz.py --cases 10000          # prints, and writes benchmarks/results/fuzz.md
    python benchmarks/fuzz.py --cases 200 --seed 7 --print

A case damages one file of a finished build, or one TOML, and runs one command on it in a worker process. Wanted are an
exit code of edgeq's own and one line of what is wrong; a traceback, a worker that dies and one that is silent for
`PATIENCE` seconds of its processor time are failures (or for `WAIT` by the clock: others use the machine too). Builds
are of a small network with random weights, made here; same seed, same damage. Verdicts are kept in build/fuzz/: an
interrupted run goes on where it stopped, and failures run again.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cases import ROOT, commit
from latency import machine_line

from edgeq.files import write_atomic

CELLS = ROOT / "build" / "fuzz"
PATIENCE, WAIT = 60.0, 1200.0
FINE = {0, 1, 2, 3, 4, 5}
ARTIFACTS = ("model.tflite", "model.onnx", "integer.safetensors", "calibration.npz")
TOMLS = ("model.toml", "edgeq.toml", "target.toml")

NETWORK = """
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide = nn.Conv2d(8, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        y = self.wide(self.deep(x).clamp(0, 6))
        x = x + y * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.head(nn.functional.max_pool2d(x, 2).mean((2, 3)))

def small():
    return Small()
"""
MODEL = """
name = "small"
[network]
factory = "net.py:small"
weights = "net.safetensors"
[input]
shape = [3, 16, 16]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[output]
task = "classification"
classes = 5
labels = ["a", "b", "c", "d", "e"]
"""
SETTINGS = """
model = "model.toml"
method = "noise"
images = 4
seed = 3
bits = "w8a8"
"""


def prepare(folder: Path) -> None:
    """Both builds and the TOMLs that every case starts from."""
    import runpy

    import torch
    from safetensors.torch import save_file

    from edgeq.config.build import BuildConfig
    from edgeq.pipeline.build import build

    (folder / "net.py").write_text(NETWORK)
    (folder / "model.toml").write_text(MODEL)
    (folder / "edgeq.toml").write_text(SETTINGS)
    shutil.copyfile(ROOT / "targets" / "onnx-android.toml", folder / "target.toml")
    torch.manual_seed(0)
    net = runpy.run_path(str(folder / "net.py"))["small"]()
    save_file(net.state_dict(), folder / "net.safetensors")
    for kind, target in (("tflite", "tflite-arm"), ("onnx", "onnx-x86")):
        build(
            BuildConfig(
                model=str(folder / "model.toml"), targets=(target,), method="noise", images=4, metadata="yes",
                cache=folder / "cache", output=folder / kind,
            )
        )  # fmt: skip


def damage(data: bytes, random: np.random.Generator, text: bool) -> bytes:
    """Bytes changed, numbers made extreme, a stretch zeroed or repeated, or the end missing; a `text` stays one."""
    array = np.frombuffer(data, np.uint8).copy()
    size, how = len(array), random.integers(6)
    if text and how in (1, 2, 3):
        how = 0
    start = int(random.integers(size))
    stop = min(size, start + int(random.integers(1, 64)))
    if how <= 1:
        places = random.integers(size, size=int(random.integers(1, 12)))
        signs = np.frombuffer(b"0123456789.-+e[]{}\"'=#,\n aZ/\\", np.uint8) if text else np.arange(256, dtype=np.uint8)
        array[places] = random.choice(signs, len(places))
    elif how == 2:
        place = int(random.integers(max(1, size - 4)))
        extreme = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)[int(random.integers(5))]
        array[place : place + 4] = np.frombuffer(np.uint32(extreme).tobytes(), np.uint8)[: len(array) - place]
    elif how == 3:
        array[start:stop] = 0
    elif how == 4:
        return bytes(np.concatenate([array[:stop], array[start:stop], array[stop:]]))
    else:
        return bytes(array[:start])
    return bytes(array)


def cases(count: int, seed: int) -> list[dict[str, Any]]:
    """What to damage and what to run on it, evenly; the first ten are whole, and must be found so."""
    kinds = [
        ("inspect", "tflite", "model.tflite"), ("inspect", "onnx", "model.onnx"),
        ("verify", "tflite", "model.tflite"), ("verify", "onnx", "model.onnx"),
        ("verify", "tflite", "integer.safetensors"), ("verify", "tflite", "calibration.npz"),
        ("plan", "", "model.toml"), ("plan", "", "edgeq.toml"), ("plan", "", "target.toml"),
        ("inspect", "tflite", "model.tflite"),
    ]  # fmt: skip
    return [
        {"number": n, "seed": seed * 1_000_003 + n, "command": command, "build": build, "file": file, "whole": n < 10}
        for n, (command, build, file) in ((n, kinds[n % len(kinds)]) for n in range(count))
    ]


def hush() -> None:
    """One thread, and nothing said: what a worker's libraries print is no verdict."""
    os.environ["OMP_NUM_THREADS"] = "1"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)


def work(pipe: Connection, folder: Path) -> None:
    """Answer cases until told to stop."""
    hush()
    import torch
    from click.testing import CliRunner

    from edgeq.cli import cli

    torch.export.export(torch.nn.Identity(), (torch.zeros(1),))  # imports a great deal, which is no case's silence
    os.chdir(folder)
    for name in ("tflite", "onnx"):
        shutil.rmtree(folder / f"{name}-damaged", ignore_errors=True)  # a worker that died left one damaged
        shutil.copytree(folder / name, folder / f"{name}-damaged")
    while (case := pipe.recv()) is not None:
        random = np.random.default_rng(case["seed"])
        source = folder / case["build"] / case["file"]
        data = source.read_bytes()
        damaged = data if case["whole"] else damage(data, random, case["file"].endswith(".toml"))
        place = folder / f"{case['build']}-damaged" / case["file"] if case["build"] else folder / f"x-{case['file']}"
        place.write_bytes(damaged)
        arguments = {
            "inspect": ["inspect", str(place), "--json"],
            "verify": ["verify", str(place.parent), "--json"],
            "plan": ["build", "--plan", "--json", "-q"],
        }[case["command"]]
        if case["command"] == "plan":
            flag = {"model.toml": [str(place)], "edgeq.toml": ["--config", str(place)],
                    "target.toml": ["model.toml", "--target", str(place)]}[case["file"]]  # fmt: skip
            arguments += flag
        result = CliRunner().invoke(cli, arguments, prog_name="edgeq")
        caught = None if isinstance(result.exception, SystemExit | None) else repr(result.exception)
        place.write_bytes(data)
        pipe.send({"code": result.exit_code, "caught": caught, "said": result.stderr[-300:], "same": damaged == data})
    pipe.close()


def processor_seconds(pid: int | None) -> float:
    """What a process has had of a processor, by Linux's count; elsewhere the clock's."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A process that runs `target` on a pipe of cases; a new one after a death."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self._target, self._arguments = target, arguments
        self._fresh = True
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=self._target, args=(theirs, *self._arguments))
        self._process.start()
        self._fresh = True
        theirs.close()

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        """The worker's answer, or how it failed to give one; the first case of a process pays for its imports too."""
        self._pipe.send(case)
        started, spent = time.monotonic(), processor_seconds(self._process.pid)
        patience, self._fresh = (3 if self._fresh else 1) * PATIENCE, False
        try:
            while processor_seconds(self._process.pid) - spent < patience and time.monotonic() - started < WAIT:
                if self._pipe.poll(5):
                    return dict(self._pipe.recv())
            waited = time.monotonic() - started
            verdict = {"code": None, "caught": f"silent for {waited:.0f} s", "said": ""}
        except EOFError:
            self._process.join()
            verdict = {"code": None, "caught": f"died with {self._process.exitcode}", "said": ""}
        self._process.kill()
        self._process.join()
        self._start()
        return verdict

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()


def remembered(path: Path) -> dict[int, dict[str, Any]]:
    """Verdicts of an earlier run by seed, one JSON a line; the last line may have been cut off. Failures run again."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {row["seed"]: row for row in rows if not failed(row)}


def judged(wanted: list[dict[str, Any]], path: Path, again: bool, worker: Callable[[], Worker]) -> list[dict[str, Any]]:
    """A verdict per case, known ones from `path`, failures printed as they come. No worker starts for none."""
    known = {} if again else remembered(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in known.values()))
    running = None
    with path.open("a") as kept:
        for case in wanted:
            if case["seed"] in known:
                continue
            running = running or worker()
            row = known[case["seed"]] = case | running.run(case)
            kept.write(json.dumps(row) + "\n")
            kept.flush()
            if failed(row):
                print(json.dumps(row), flush=True)
    if running is not None:
        running.stop()
    return [known[case["seed"]] for case in wanted]


def table(rows: list[dict[str, Any]], seed: int) -> str:
    """Markdown: what was damaged, and how the commands ended."""
    codes = sorted({row["code"] for row in rows if row["code"] is not None})
    lines = [
        "# Damaged files", "",
        f"Printed by `benchmarks/fuzz.py --cases {len(rows)} --seed {seed}`: each case damages one file and runs one",
        "command on it. A failure is a traceback, a process that dies, or one that says nothing for",
        f"{PATIENCE:.0f} s of its processor time.", "",
        f"Machine: {machine_line()}; printed at commit {commit()}; verdicts are kept between runs.", "",
        f"| command | damaged | cases | {' | '.join(f'exit {code}' for code in codes)} | failures |",
        "|---" * (len(codes) + 4) + "|",
    ]  # fmt: skip
    groups: dict[tuple[str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        groups[(row["command"], row["file"])].append(row)
    for (command, file), some in sorted(groups.items()):
        counts = " | ".join(str(sum(r["code"] == code and not r["caught"] for r in some)) for code in codes)
        lines.append(f"| {command} | {file} | {len(some)} | {counts} | {sum(failed(r) for r in some)} |")
    return "\n".join(lines) + "\n"


def failed(row: dict[str, Any]) -> bool:
    return bool(row["caught"]) or row["code"] not in ({0} if row["whole"] else FINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="forget earlier verdicts")
    parser.add_argument("--print", action="store_true", dest="printing", help="write no results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeq-fuzz-") as name:

        def worker() -> Worker:
            prepare(Path(name))
            return Worker(work, Path(name))

        path = CELLS / f"damaged-{options.seed}.jsonl"
        rows = judged(cases(options.cases, options.seed), path, options.again, worker)
    text = table(rows, options.seed)
    print(text)
    if not options.printing:
        write_atomic(ROOT / "benchmarks" / "results" / "fuzz.md", text)
    if any(failed(row) for row in rows):
        raise SystemExit("some cases failed")


if __name__ == "__main__":
    main()
