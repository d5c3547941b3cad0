"""The one clock: whatever is timed, on this machine or another, is timed here. What to believe is not decided here."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

from .machine import moment

SHORTEST_TIMING = 0.002
"""Seconds. Short inferences are repeated until a timing lasts this long: neither the clock nor the call shows then."""


def timed_in_turns(
    runs: dict[str, Callable[[], object]], request: dict[str, Any], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Time each of `runs`, which are one inference each, in turns: what slows the machine slows them all alike.

    Who is first changes from pair to pair. Of `request`: each first runs for ``warmup`` seconds, and three times at
    least; ``least`` pairs are timed, and up to ``most`` while they fit into ``seconds``; after ``longest`` seconds it
    ends in any case. `clock` counts seconds.

    Returns ``samples`` (milliseconds of one inference, by name), ``inferences_per_run``, and what the machine did right
    ``before`` and ``after``.
    """

    def elapsed(name: str, inferences: int) -> float:
        started = clock()
        for _ in range(inferences):
            runs[name]()
        return clock() - started

    quickest = math.inf
    for name in runs:  # caches, clocks and lazy set-up settle
        warm: list[float] = []
        while len(warm) < 3 or sum(warm) < request["warmup"]:
            warm.append(elapsed(name, 1))
        quickest = min(quickest, max(sorted(warm)[len(warm) // 2], 1e-7))
    inferences = max(1, round(SHORTEST_TIMING / quickest))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    time.sleep(request["cooldown"])
    gc.disable()
    before, start = moment(), clock()
    for done in range(max(request["least"], request["most"])):
        passed = clock() - start
        # Of a very slow file there are too few pairs then, and the host does not accept them.
        if (done >= request["least"] and passed > request["seconds"]) or (done >= 3 and passed > request["longest"]):
            break
        for name in list(runs)[:: 1 if done % 2 == 0 else -1]:
            samples[name].append(elapsed(name, inferences) * 1000 / inferences)
    after = moment()
    gc.enable()
    return {"samples": samples, "inferences_per_run": inferences, "before": before, "after": after}
