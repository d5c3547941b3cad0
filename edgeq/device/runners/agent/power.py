"""What the board draws, idle and under load, where it can tell: Raspberry Pi 5, through `vcgencmd pmic_read_adc`.

Its power controller prints a line for the current and one for the voltage of each rail it feeds. Reading it costs a
little power too, and is done at the same pace in both phases. What an inference costs is not decided here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from typing import Any, Callable

PERIOD = 0.1
"""Seconds between two readings."""

LONGEST = 1 << 16
"""Bytes of an answer that are read."""

PATIENCE = 5.0
"""Seconds that a reading may take."""

_ROW = r"^\s*([A-Z0-9_]{1,40})_([AV]) (?:current|volt)\([0-9]{1,3}\)=([0-9]{1,6}(?:\.[0-9]{1,12})?)[AV]\s*$"


class UnreadableError(Exception):
    """Why the board's power cannot be read."""


def rails(printed: str) -> dict[str, float]:
    """Watts by rail, of those that have both a current and a voltage. Raises `UnreadableError`."""
    values = {"A": {}, "V": {}}  # type: dict[str, dict[str, float]]
    for name, kind, value in re.findall(_ROW, printed[:LONGEST], re.MULTILINE):
        values[kind][name] = float(value)
    found = {name: amperes * values["V"][name] for name, amperes in values["A"].items() if name in values["V"]}
    if not found:
        lines = printed.strip().splitlines()
        raise UnreadableError("vcgencmd pmic_read_adc: %s" % (lines[0][:200] if lines else "no answer"))
    return found


def read_rails() -> dict[str, float]:
    """Watts by rail, now. Raises `UnreadableError`."""
    try:
        process = subprocess.Popen(
            ["vcgencmd", "pmic_read_adc"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise UnreadableError("vcgencmd: %s" % error.strerror) from error
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        with process:
            printed = process.stdout.read(LONGEST) if process.stdout else b""
            process.kill()
    finally:
        timer.cancel()
    return rails(printed.decode(errors="replace"))


def power(
    runs: dict[str, Callable[[], object]], seconds: float, read: Callable[[], dict[str, float]] = read_rails
) -> dict[str, Any]:
    """Draw at rest for half of `seconds`, then while each of `runs`, one inference each, is repeated for `seconds`.

    Returns ``why`` it cannot be read; or ``rails``, readings at rest in watts (``idle``), and ``loads`` by name with
    ``watts``, ``inferences`` and ``seconds``.
    """
    if not shutil.which("vcgencmd") and read is read_rails:
        return {"why": "the board has no power sensor that edgeq can read"}
    try:
        names = sorted(read())
        idle = []  # type: list[float]
        start = time.perf_counter()
        while time.perf_counter() - start < seconds / 2 or len(idle) < 3:
            idle.append(sum(read().values()))
            time.sleep(PERIOD)
        loads = {name: _load(run, seconds, read) for name, run in runs.items()}
    except UnreadableError as error:
        return {"why": str(error)}
    return {"rails": names, "idle": idle, "loads": loads}


def _load(run: Callable[[], object], seconds: float, read: Callable[[], dict[str, float]]) -> dict[str, Any]:
    watts = []  # type: list[float]
    failed = []  # type: list[UnreadableError]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(PERIOD):
            try:
                watts.append(sum(read().values()))
            except UnreadableError as error:
                failed.append(error)
                return

    thread = threading.Thread(target=sample, daemon=True)
    inferences, start = 0, time.perf_counter()
    thread.start()
    try:
        while (time.perf_counter() - start < seconds or len(watts) < 3) and not failed:
            run()
            inferences += 1
        elapsed = time.perf_counter() - start
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
    return {"watts": watts, "inferences": inferences, "seconds": elapsed}
