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
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from cases import ROOT, commit

sys.path.insert(0, str(ROOT))

from edgeq.device.job import Setup, evaluate
from edgeq.device.open import open_device
from edgeq.errors import EdgeqError
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.measure.conditions import this_machine
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


@dataclass(frozen=True)
class Outcome:
    """Rounds that failed or answered wrongly, what they left behind, files they pushed, seconds they took."""

    failed: int
    wrong: int
    left: dict[str, int]
    pushed: int
    seconds: float


def processes(sign: str) -> int:
    """How many processes have `sign` among their arguments, this one not counted."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return sum(sign in line for line in found if line.split()[0] != str(os.getpid()))


def left_over(folder: Path, cache: Path) -> dict[str, int]:
    """What a round must not leave: on the device, among processes, in this process."""
    return {
        "job files": sum(1 for _ in (cache / "jobs").glob("*")) + sum(1 for _ in cache.rglob("*.part")),
        "processes": processes(str(folder)),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "temporary files": len(list(Path(tempfile.gettempdir()).iterdir())),
    }


def soak(kind: str, rounds: int, seed: int) -> Outcome:
    """`rounds` rounds on a device of this process alone."""
    with tempfile.TemporaryDirectory(prefix="edgeq-") as made:
        folder = Path(made)
        (folder / "tmp").mkdir()
        tempfile.tempdir = str(folder / "tmp")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # every board here is called the same: locks of its own
        with DEVICES[kind](folder / "device") as (name, cache, setup):
            return _rounds(name, cache, setup, rounds, folder, seed)


def _rounds(name: str, cache: Path, setup: Setup, rounds: int, folder: Path, seed: int) -> Outcome:
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
            print(f"{name}: {place + 1} rounds", file=sys.stderr, flush=True)
    after = left_over(folder, cache)
    return Outcome(
        failed,
        wrong,
        {key: after[key] - before[key] for key in after},
        sum(1 for path in (cache / "files").rglob("*") if path.is_file()),
        time.monotonic() - started,
    )


DEVICES = {"ssh": board, "adb": phone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000, help="in all, of each kind of device")
    parser.add_argument("--at-once", type=int, default=4, help="devices, each with a share of the rounds")
    parser.add_argument("--only", choices=list(DEVICES))
    asked = parser.parse_args()
    each = -(-asked.rounds // asked.at_once)
    print("# Push, run, pull, and again\n")
    print(f"`python benchmarks/soak.py --rounds {asked.rounds} --at-once {asked.at_once}`, commit {commit()}.")
    print(f"Host: {this_machine().line}. Each round connects anew, pushes a batch")
    print(f"of {IMAGES} images not seen before, runs it there and compares every output with LiteRT here. Left over is")
    print(
        "counted against what was there after the first round; pushed files are kept on purpose until nobody has used"
    )
    print("them for 30 days.\n")
    shown = list(left_over(Path(tempfile.gettempdir()) / "none", Path("none")))
    print(
        f"| device | at once | rounds | failed | wrong outputs | {' | '.join(f'{key} left' for key in shown)} "
        "| pushed files kept | seconds a round |"
    )
    print("|" + "---|" * (7 + len(shown)))
    for kind in DEVICES:
        if asked.only not in (None, kind):
            continue
        with ProcessPoolExecutor(asked.at_once, mp_context=get_context("spawn")) as pool:
            lanes = list(pool.map(soak, [kind] * asked.at_once, [each] * asked.at_once, range(asked.at_once)))
        cells = [
            kind,
            asked.at_once,
            f"{each * len(lanes):,}",
            sum(o.failed for o in lanes),
            sum(o.wrong for o in lanes),
        ]
        cells += [sum(lane.left[key] for lane in lanes) for key in shown]
        cells += [
            f"{sum(lane.pushed for lane in lanes):,}",
            f"{sum(lane.seconds for lane in lanes) / each / len(lanes):.2f}",
        ]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
