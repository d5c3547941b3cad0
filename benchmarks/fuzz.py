"""Damaged and hostile files, reports and devices' answers through every command that reads them.

    python benchmarks/fuzz.py --cases 10000          # prints, and writes benchmarks/results/fuzz.md
    python benchmarks/fuzz.py --cases 200 --seed 7 --print

A case damages one thing, its bytes or its structure (`tests/mutants.py`), and runs one command on it in a worker
process. Wanted are an exit code of edgeq's own and one line, without control characters, of what is wrong. Failures are
a traceback, a worker that dies, one that is silent for `PATIENCE` seconds of its processor time (or for `WAIT` by the
clock: others use the machine too), and a success that should not be: `check` and `verify` of a file that is not the one
that was built, `eval` with a score that is none, outputs that a device has changed on the way, JSON that is none.

Builds are of a small network with random weights, made here; same seed, same damage. The agent runs in a process forked
from one that has its runtimes loaded, in place of a Python started anew. Verdicts are kept in build/fuzz/: an
interrupted run goes on where it stopped, and failures run again.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cases import ROOT, commit
from latency import machine_line

from edgeq.device.transport import Completed
from edgeq.errors import DeviceError
from edgeq.files import write_atomic

sys.path.append(str(ROOT))
from tests.mutants import damage, hostile_json, mutate_onnx, mutate_tflite

CELLS = ROOT / "build" / "fuzz"
PATIENCE, WAIT = 60.0, 1200.0
STUCK = 8.0
"""Seconds that edgeq itself waits for a file or a device that does nothing."""

FINE = {0, 1, 2, 3, 4, 5}
IMAGES = 4

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
    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(IMAGES, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "test.npz", images=pixels, labels=np.arange(IMAGES))
    shutil.copyfile(ROOT / "targets" / "onnx-android.toml", folder / "target.toml")
    torch.manual_seed(0)
    net = runpy.run_path(str(folder / "net.py"))["small"]()
    save_file(net.state_dict(), folder / "net.safetensors")
    for kind, target in (("tflite", "tflite-arm"), ("onnx", "onnx-x86")):
        build(
            BuildConfig(
                model=str(folder / "model.toml"),
                targets=(target,),
                method="noise",
                images=4,
                metadata="yes",
                evaluation=str(folder / "test.npz"),
                cache=folder / "cache",
                output=folder / kind,
            )
        )


KINDS = (
    *[("inspect", kind, f"model.{kind}", how) for kind in ("tflite", "onnx") for how in ("bytes", "structure")],
    *[("verify", kind, f"model.{kind}", how) for kind in ("tflite", "onnx") for how in ("bytes", "structure")],
    *[("eval", kind, f"model.{kind}", how) for kind in ("tflite", "onnx") for how in ("bytes", "structure")],
    *[("bench", kind, f"model.{kind}", how) for kind in ("tflite", "onnx") for how in ("bytes", "structure")],
    *[("check", kind, f"model.{kind}", "bytes") for kind in ("tflite", "onnx")],
    ("check", "tflite", "report.json", "bytes"),
    ("check", "onnx", "report.json", "json"),
    ("eval", "tflite", "report.json", "json"),
    ("eval", "onnx", "edgeq.lock", "json"),
    ("verify", "tflite", "integer.safetensors", "bytes"),
    ("verify", "tflite", "calibration.npz", "bytes"),
    ("plan", "", "model.toml", "bytes"),
    ("plan", "", "edgeq.toml", "bytes"),
    ("plan", "", "target.toml", "bytes"),
    *[(f"device {verb}", "tflite", "answer", how) for verb in ("probe", "bench") for how in ("json", "bytes")],
    *[("device eval", "tflite", "answer", how) for how in ("json", "outputs", "status", "job")],
)
"""Command, build, what is damaged, and how."""


def cases(count: int, seed: int) -> list[dict[str, Any]]:
    """What to damage and what to run on it, evenly; the first round is whole, and must be found so."""
    return [
        {"number": n, "seed": seed * 1_000_003 + n, "whole": n < len(KINDS)}
        | dict(zip(("command", "build", "file", "how"), KINDS[n % len(KINDS)], strict=True))
        for n in range(count)
    ]


def hush() -> None:
    """One thread, and nothing said: what a worker's libraries print is no verdict."""
    os.environ["OMP_NUM_THREADS"] = "1"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)


class Agents:
    """Stands between edgeq and its agent on this machine: runs it quickly, or answers in its place."""

    def __init__(self, call: Callable[..., Completed]) -> None:
        self._call = call
        self._recorded: dict[str, tuple[bytes, bytes]] = {}
        self.whole = True
        """Whether the model is as it was built, so that the answer is one to change later."""
        self.change: Callable[[str, bytes, bytes], tuple[int, bytes, bytes]] | None = None
        """Makes of what was asked, the answer and the outputs, whole, an exit status and what is sent instead."""

    def __call__(self, command: list[str], **options: Any) -> Completed:
        words = shlex.split(command[-1])
        place = next((n for n, word in enumerate(words) if word.endswith("/agent.pyz")), None)
        if place is None or words[0] not in ("env", *words[place - 1 : place]):
            return self._call(command, **options)
        kind, token = words[place + 1], words[words.index("--job") + 1]
        settings = dict(word.split("=", 1) for word in words[1:place] if "=" in word)
        request = json.loads(Path(words[place + 2]).read_text()) if kind != "probe" else {}
        if self.change is None or kind not in self._recorded:
            done = self._run(words[place + 1 :], settings, options["timeout"])
            outputs = Path(request["outputs"]) if "outputs" in request else None
            made = outputs.read_bytes() if outputs is not None and outputs.exists() else b""
            if done.status == 0 and self.whole and kind not in self._recorded:
                self._recorded[kind] = done.stdout.replace(token.encode(), b"@job@"), made
            if self.change is None:
                return done
        status, answer, outputs = self.change(kind, *self._recorded[kind])
        if "outputs" in request:
            Path(request["outputs"]).write_bytes(outputs)
        return Completed(status, answer.replace(b"@job@", token.encode()), "")

    def _run(self, words: list[str], settings: dict[str, str], timeout: float) -> Completed:
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder) / "said"
            context = multiprocessing.get_context("forkserver")
            process = context.Process(target=run_agent, args=(words, settings, str(said)))
            process.start()
            process.join(timeout)
            if process.is_alive():
                process.kill()
                process.join()
                raise DeviceError("the device did not answer in time")
            return Completed(process.exitcode or 0, said.read_bytes() if said.exists() else b"", "")


def run_agent(words: list[str], settings: dict[str, str], said: str) -> None:
    """What a Python started anew would do."""
    from edgeq.device.runners.agent import __main__ as agent

    os.environ.update(settings)
    file = os.open(said, os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    sys.stdout = os.fdopen(1, "w")
    sys.argv = ["agent.pyz", *(word for word in words if word != "--tied")]
    status = agent.main()
    sys.stdout.flush()
    os._exit(status)


def altered(
    case: dict[str, Any], random: np.random.Generator
) -> Callable[[str, bytes, bytes], tuple[int, bytes, bytes]]:
    """A device's answer with the damage of `case`."""

    def change(kind: str, answer: bytes, outputs: bytes) -> tuple[int, bytes, bytes]:
        if case["whole"]:
            return 0, answer, outputs
        if case["how"] == "json":
            lines = answer.split(b"\n")
            place = next(n for n, line in enumerate(lines) if line.startswith(b'{"edgeq": "result"'))
            lines[place] = hostile_json(lines[place].decode(), random).encode()
            return 0, b"\n".join(lines), outputs
        if case["how"] == "bytes":
            return 0, damage(answer, random), outputs
        if case["how"] == "outputs":
            changed = bytearray(outputs)
            changed[int(random.integers(len(changed)))] ^= int(random.integers(1, 256))
            return 0, answer, bytes(changed[: int(random.integers(1, len(changed) + 1))])
        if case["how"] == "status":
            return int(random.integers(1, 256)), answer, outputs
        return 0, answer.replace(b"@job@", b"0" * 32), outputs

    return change


def work(pipe: Connection, folder: Path) -> None:
    """Answer cases until told to stop."""
    hush()
    import torch
    from click.testing import CliRunner

    from edgeq import isolation
    from edgeq.cli import cli
    from edgeq.device.transports import local

    isolation.PATIENCE = STUCK
    preload = [
        "edgeq.device.runners.agent.__main__",
        "edgeq.formats.replay",
        "edgeq.formats.onnx.read",
        "edgeq.formats.tflite.read",
        "edgeq.formats.foreign",
        "ai_edge_litert.interpreter",
    ]
    multiprocessing.get_context("forkserver").set_forkserver_preload(preload)
    forkserver.ensure_running()
    torch.export.export(torch.nn.Identity(), (torch.zeros(1),))  # imports a great deal, which is no case's silence
    os.chdir(folder)
    os.environ["EDGEQ_DEVICE_CACHE"], os.environ["XDG_CACHE_HOME"] = str(folder / "device"), str(folder / "locks")
    agents = local.call = Agents(local.call)
    for name in ("tflite", "onnx"):
        shutil.rmtree(folder / f"{name}-damaged", ignore_errors=True)  # a worker that died left one damaged
        shutil.copytree(folder / name, folder / f"{name}-damaged")
    while (case := pipe.recv()) is not None:
        random = np.random.default_rng(case["seed"])
        agents.change = None
        if case["file"] == "answer":
            agents.change = altered(case, random)
            name, place = "whole" if case["whole"] else case["how"], folder / "tflite-damaged" / "model.tflite"
            data, damaged = b"", b"" if case["whole"] else b"changed"
        else:
            data = (folder / case["build"] / case["file"]).read_bytes()
            name, damaged = ("whole", data) if case["whole"] else changed(case, data, random)
            place = (
                folder / f"{case['build']}-damaged" / case["file"] if case["build"] else folder / f"x-{case['file']}"
            )
            place.write_bytes(damaged)
        agents.whole = not data or damaged == data
        result = CliRunner().invoke(cli, arguments(case, place), prog_name="edgeq")
        row = {
            "code": result.exit_code,
            "said": result.stderr[-300:],
            "same": damaged == data,
            "done": name,
            "caught": None if isinstance(result.exception, SystemExit | None) else repr(result.exception),
        }
        row["caught"] = row["caught"] or fault(case | row, result.stdout, result.stderr, place)
        if data:
            place.write_bytes(data)
        pipe.send(row)
    pipe.close()


def changed(case: dict[str, Any], data: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """The name of what was done to a file, and its new content."""
    if case["how"] == "structure":
        return (mutate_onnx if case["build"] == "onnx" else mutate_tflite)(data, random)
    if case["how"] == "json":
        return "json", hostile_json(data.decode(), random).encode()
    return "bytes", damage(data, random, case["file"].endswith(".toml"))


def arguments(case: dict[str, Any], place: Path) -> list[str]:
    """The command line of a case."""
    folder = str(place.parent)
    limits = ["--max-drop", "100", "--max-bytes", "4M", "--min-agreement", "0", "--min-images", "1"]
    quick = ["--seconds", "0.001", "--timeout", str(STUCK), "--json"]
    if case["command"] == "plan":
        flag = {
            "model.toml": [str(place)],
            "edgeq.toml": ["--config", str(place)],
            "target.toml": ["model.toml", "--target", str(place)],
        }[case["file"]]
        return ["build", "--plan", "--json", "-q", *flag]
    return {
        "inspect": ["inspect", str(place), "--json"],
        "verify": ["verify", folder, "-n", "2", "--json"],
        "check": ["check", folder, *limits, "--json"],
        "eval": ["eval", folder, "--model", "model.toml", "--data", "test.npz", "--timeout", str(STUCK), "--json"],
        "bench": ["bench", str(place), *quick],
        "device probe": ["device", "probe", "local", "--json"],
        "device bench": ["bench", str(place), *quick],
        "device eval": ["eval", folder, "--model", "model.toml", "--data", "test.npz", "--json"],
    }[case["command"]]


def fault(row: dict[str, Any], stdout: str, stderr: str, place: Path) -> str | None:
    """What is wrong with the way a command ended, exit codes aside; None where nothing is."""
    if not all(sign.isprintable() or sign in "\n\t" for sign in stdout + stderr):
        return "control characters were printed"
    if row["code"] not in (0, 1):
        lines = [line for line in stderr.splitlines() if line.startswith(("edgeq: ", "Error: "))]
        return None if len(lines) == 1 or row["command"] == "device probe" else "no one line of what is wrong"
    if row["command"] != "plan" or stdout:
        try:
            found = json.loads(stdout, parse_constant=lambda name: float("nan") if name else None)
            json.dumps(found, allow_nan=False)
        except ValueError:
            return "its JSON is none"
    if row["code"] == 1 or row["same"]:
        return None
    if row["command"] in ("check", "verify") and row["file"].startswith("model."):
        return "passed, though the file is another"
    if row["done"] in ("external", "outputs", "status", "job"):
        return "passed, though it must not"
    if row["file"] == "integer.safetensors" and not same_integers(place):
        return "passed, though its integers are others"
    if row["command"].endswith("eval") and not (
        all(0 <= found[side]["score"] <= 100 for side in ("device_accuracy", "host_accuracy"))
        and found["images"] == IMAGES
    ):
        return "a score that is none"
    return None


def same_integers(place: Path) -> bool:
    """Whether a graph that was damaged says what it said before."""
    from edgeq.integer.graph import IntegerGraph

    one, other = (IntegerGraph.load(path) for path in (place, place.parent.parent / "tflite" / place.name))
    return one.nodes == other.nodes and all(
        np.array_equal(one.constants[name], array) for name, array in other.constants.items()
    )


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
        "# Damaged and hostile files",
        "",
        f"Printed by `benchmarks/fuzz.py --cases {len(rows)} --seed {seed}`: each case damages one thing and runs one",
        "command on it. A failure is a traceback, a process that dies, one that says nothing for",
        f"{PATIENCE:.0f} s of its processor time, control characters in what is printed, and a success that should not",
        "be: `check` or `verify` of another file than was built, a score that is none, outputs changed on the way.",
        "",
        f"Machine: {machine_line()}; printed at commit {commit()}; verdicts are kept between runs.",
        "",
        f"| command | damaged | cases | {' | '.join(f'exit {code}' for code in codes)} | failures |",
        "|---" * (len(codes) + 4) + "|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    for row in rows:
        groups[(row["command"], f"{row['file']} ({row['how']})")].append(row)
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
