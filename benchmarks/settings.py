"""The suite under settings that change how a processor computes and how much of it there is.

    python benchmarks/settings.py                         every setting, the whole suite: hours of one core
    python benchmarks/settings.py --numeric               only the rooms that compute: minutes a setting
    python benchmarks/settings.py --numeric --today       one setting, another one every day: what CI runs
    python benchmarks/settings.py --only "one core" tests/quant

One line a setting: how many tests passed, failed and were skipped, and the names of those that failed. Ends with 1 when
any did. No test may depend on the processor's instruction sets, on its number of cores, or on what else it does.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NUMERIC = tuple(f"tests/{room}" for room in ("finetune", "quant", "integer", "ops", "formats", "graph"))
"""Rooms whose results could depend on how floats are summed."""


@dataclass(frozen=True)
class Setting:
    """Variables for the suite, whether it keeps to one core, and whether a busy loop runs on every core beside it."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    one_core: bool = False
    busy: bool = False


SETTINGS = (
    Setting("torch without vector instructions", {"ATEN_CPU_CAPABILITY": "default"}),
    Setting("torch with AVX2", {"ATEN_CPU_CAPABILITY": "avx2"}),
    Setting("oneDNN with AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Setting("oneDNN with SSE4.1", {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Setting("one thread", {"OMP_NUM_THREADS": "1"}),
    Setting("two threads", {"OMP_NUM_THREADS": "2"}),
    Setting("one core", one_core=True),
    Setting("a busy machine", busy=True),
)


def main() -> int:
    """Parse the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="tests to run [default: all]")
    parser.add_argument("--numeric", action="store_true", help=f"run {' '.join(NUMERIC)}")
    parser.add_argument("--only", action="append", choices=[setting.name for setting in SETTINGS])
    parser.add_argument("--today", action="store_true", help="the setting whose turn it is today")
    parser.add_argument("-n", dest="processes", default="0", help="processes of pytest-xdist [default: none]")
    parser.add_argument("--list", action="store_true", help="print the settings' names")
    options = parser.parse_args()
    chosen = [setting for setting in SETTINGS if not options.only or setting.name in options.only]
    if options.today:
        chosen = [SETTINGS[datetime.datetime.now(datetime.timezone.utc).date().toordinal() % len(SETTINGS)]]
    if options.list:
        print("\n".join(setting.name for setting in chosen))
        return 0
    tests = [*options.paths, *(NUMERIC if options.numeric else ())]
    return max(run(setting, tests, options.processes) for setting in chosen)


def run(setting: Setting, tests: list[str], processes: str) -> int:
    """Run the tests in one setting and print its line. Returns 1 where one failed or none ran."""
    command = [sys.executable, "-m", "pytest", "-rfE", "--tb=no", *tests]
    command += ["-n", processes, "--dist", "worksteal"] if processes != "0" else []
    started = time.monotonic()
    with _busy(len(os.sched_getaffinity(0)) if setting.busy else 0):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | setting.variables,
            capture_output=True,
            text=True,
            preexec_fn=_keep_to_one_core if setting.one_core else None,
        )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", done.stdout)}
    line = ", ".join(f"{number} {word}" for word, number in counts.items()) or f"pytest ended with {done.returncode}"
    print(f"{setting.name}: {line} in {time.monotonic() - started:.0f} s", flush=True)
    for name in re.findall(r"^(?:FAILED|ERROR) (\S.*)$", done.stdout, re.MULTILINE):
        print(f"    {name}", flush=True)
    if not counts:
        print("\n".join((done.stdout + done.stderr).splitlines()[-20:]), flush=True)
    return 0 if done.returncode == 0 and counts.get("passed") else 1


def _keep_to_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@contextlib.contextmanager
def _busy(cores: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
