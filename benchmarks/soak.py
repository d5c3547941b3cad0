"""A thousand times to one device and back: ``python benchmarks/soak.py > results/soak.md``.

Every round is a command of its own: it connects, pushes a tiny network and a batch nobody has seen, runs them there,
fetches the outputs and compares them with this machine's. What is left behind is counted afterwards: files on the
device outside its cache of pushed files, processes, and file descriptors and temporary files of this process. The board
is a real sshd on the loopback; the phone is the tests' own behind the real adb client, and a stand-in plays its
benchmark_model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cases import ROOT, commit

sys.path.insert(0, str(ROOT))

from edgeq.device.job import Setup, evaluate
from edgeq.device.open import open_device
from edgeq.errors import EdgeqError
from edgeq.measure.conditions import this_machine
from edgeq.runtime.litert import LiteRTSession
from tests.device.loopback import adb_environment, board_at, connected, executable
from tests.device.tiny import tiny_model

IMAGES = 4


@contextmanager
def board(folder: Path) -> Iterator[tuple[str, Path, Setup]]:
    """Name, cache folder and way to run files of a board on the loopback."""
    with board_at(folder) as found:
        os.environ["EDGEQ_SSH_CONFIG"] = str(found.config)
        yield found.host, found.cache, Setup("litert", "xnnpack")


@contextmanager
def phone(folder: Path) -> Iterator[tuple[str, Path, Setup]]:
    """The same of a phone."""
    with adb_environment(folder / "home") as settings:
        for name, value in settings.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        found = connected(folder / "phone")
        standin = ROOT / "tests/device/standin.py"
        program = executable(folder / "benchmark_model", f'exec {sys.executable} {standin} "$@"')
        try:
            yield (
                f"adb:{found.serial}",
                found.root / "data/local/tmp/edgeq",
                Setup("litert", "xnnpack", program=program),
            )
        finally:
            found.close()


def processes(sign: str) -> int:
    """How many processes have `sign` among their arguments, this one not counted."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(sign in line for line in found if line.split()[0] != str(os.getpid()))


def left_over(folder: Path, cache: Path) -> dict[str, int]:
    """What a round must not leave: on the device, among processes, in this process."""
    own = [path for path in Path(tempfile.gettempdir()).glob("edgeq-*") if path != folder]
    return {
        "files": sum(1 for _ in (cache / "jobs").glob("*")) + sum(1 for _ in cache.rglob("*.part")),
        "processes": processes(str(folder)),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "temporary": len(own),
    }


def soak(name: str, cache: Path, setup: Setup, rounds: int, folder: Path, seed: int) -> str:
    """`rounds` rounds on the device `name`; a row of the table."""
    model = tiny_model(folder / "tiny") / "model.tflite"
    here = LiteRTSession(model)
    rng = np.random.default_rng(seed)
    failed = wrong = 0
    before: dict[str, int] = {}
    started = time.monotonic()
    for place in range(rounds):
        real = rng.normal(size=(IMAGES, *here.input_shape[1:])).astype(np.float32)
        batch = np.concatenate([here.file_input(sample[None]) for sample in real])
        try:
            with open_device(name) as device:
                there, _ = evaluate(device, model, batch, setup, timeout=60)
            wrong += not np.array_equal(there[0], here.run_integers(real)[0])
        except EdgeqError as error:
            failed += 1
            print(f"round {place}: {error}", file=sys.stderr)
        if place == 0:
            before = left_over(folder, cache)  # what the first use opens for good is no leak
        if place % 50 == 49:
            print(f"{name}: {place + 1} rounds", file=sys.stderr)
    seconds = (time.monotonic() - started) / rounds
    after = left_over(folder, cache)
    pushed = sum(1 for path in (cache / "files").rglob("*") if path.is_file())
    grown = [str(after[key] - before[key]) for key in ("files", "processes", "descriptors", "temporary")]
    cells = [name.partition(":")[0], f"{rounds:,}", str(failed), str(wrong), *grown, f"{pushed:,}", f"{seconds:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--only", choices=["ssh", "adb"])
    asked = parser.parse_args()
    print("# Push, run, pull, and again\n")
    print(f"`python benchmarks/soak.py --rounds {asked.rounds}`, commit {commit()}. Host: {this_machine().line}.")
    print(
        f"Each round connects anew, pushes a batch of {IMAGES} images not seen before, runs it there and compares every"
    )
    print(
        "output with LiteRT here. Left over is counted against what was there after the first round; pushed files are"
    )
    print("kept on purpose, one batch a round, until nobody has used them for 30 days.\n")
    print("| device | rounds | failed | wrong outputs | job files left | processes left | descriptors left "
          "| temporary files left | pushed files kept | seconds a round |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, made in (("ssh", board), ("adb", phone)):
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="edgeq-soak-") as made_here:
                folder = Path(made_here)
                with made(folder / name) as (device, cache, setup):
                    print(soak(device, cache, setup, asked.rounds, folder, seed=len(name)), flush=True)


if __name__ == "__main__":
    main()
