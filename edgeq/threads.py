"""How many threads the work takes, and how those threads wait.

torch takes a thread for every core it sees and lets idle ones spin. Beside another busy process, or in a container with
a quota, spinning threads wait for threads that do not run, and the work takes many times as long as on one thread. So
the number of threads is chosen from what the process may use and from what else is running, networks too small to gain
from a second thread get one, and on the command line idle threads sleep.

Nothing here changes the process by itself. Only the command line calls `sleep_while_waiting` and
`one_operation_at_a_time`, which cannot be undone; `threads_restored` undoes `work_with`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BATCH",
    "SMALL",
    "Choice",
    "Load",
    "available",
    "choose",
    "load",
    "one_operation_at_a_time",
    "sleep_while_waiting",
    "threads_restored",
    "work_with",
]

ROOT = Path("/")

SMALL = 100_000_000
"""Multiply-accumulates of one batch below which a second thread costs about what it saves.

A forward and backward pass of this size takes about 40 ms on one core, in some hundred parallel regions, and a
sleeping thread takes up to 0.1 ms to wake in each. Measured: benchmarks/results/threads.md.
"""

BATCH = 32
"""Images that synthesis and calibration pass through the network at once, at most."""

SAMPLE_SECONDS = 0.1

_WAITING = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_THREAD_TIMEOUT": "4",  # of 4 to 30: two to the power of this many clock cycles
}
"""Variables that OpenMP (GNU's and LLVM's) and OpenBLAS read once, when they are loaded."""


@dataclass(frozen=True)
class Choice:
    """A number of threads, and the reason for it in words."""

    threads: int
    why: str

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads != 1)} ({self.why})"


@dataclass(frozen=True)
class Load:
    """What other programs do: `busy` cores of the `cores` this process may use, and how many of their threads want to
    run on those cores, `waiting` included."""

    cores: int
    busy: float
    runnable: float

    @property
    def free(self) -> int:
        """Cores left to this process; one at least."""
        return max(1, min(self.cores, round(self.cores - self.busy)))

    def slowdown(self, threads: int) -> float:
        """How many times as long work on `threads` threads takes as on an idle machine; 1.0 when there is room."""
        if self.busy + threads <= self.cores + 0.25:
            return 1.0
        return max(1.0, (self.runnable + threads) / self.cores)


def sleep_while_waiting(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for work sleep instead of spin. Works only before torch and numpy are imported.

    Leaves every variable alone that the user has set.
    """
    for name, value in _WAITING.items():
        environment.setdefault(name, value)


def available(root: Path = ROOT) -> int:
    """Cores this process may use: those of its affinity, or fewer where a cgroup's quota gives it less; at least 1.

    `root` is where `proc` and `sys` are, for tests.
    """
    cores = len(_affinity())
    quota = _quota(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def load(root: Path = ROOT, *, sleep: Callable[[float], None] = time.sleep) -> Load:
    """What else runs now, from two looks at `/proc/stat`; from the load average where there is none (macOS).

    Takes `SAMPLE_SECONDS`.
    """
    cores = available(root)
    before = _processors(root)
    if before is None:
        average = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        return Load(cores, min(average, cores), average)
    own, start = time.process_time(), time.monotonic()
    sleep(SAMPLE_SECONDS)
    after = _processors(root) or before
    own, seconds = time.process_time() - own, time.monotonic() - start
    used = {cpu: _share(before.times[cpu], after.times.get(cpu)) for cpu in _affinity() & before.times.keys()}
    busy = max(0.0, sum(used.values()) - own / max(seconds, 1e-3))
    # Cores outside the affinity may run some of these; they are spread as if all cores were alike.
    others = max(0.0, (before.running + after.running) / 2 - 1) * len(used) / max(1, len(before.times))
    return Load(cores, min(busy, float(cores)), max(busy, others))


def choose(
    requested: int | None,
    macs: int,
    images: int,
    *,
    environment: MutableMapping[str, str] | None = None,
    look: Callable[[], Load] = load,
) -> Choice:
    """The number of threads for a network of `macs` multiply-accumulates an image that is given up to `images` at once.

    `requested` counts as it is, and so does `OMP_NUM_THREADS`. Else the answer depends on the network, on the cores
    this process may use, and on what other programs leave of them (`look`).
    """
    if requested:
        return Choice(requested, "as requested")
    variable = (os.environ if environment is None else environment).get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if variable.isdecimal() and int(variable) > 0:
        return Choice(int(variable), "OMP_NUM_THREADS")
    if macs * min(images, BATCH) < SMALL:
        return Choice(1, "the network is small")
    found = look()
    if found.cores == 1:
        return Choice(1, "one core may be used")
    if found.free < found.cores:
        return Choice(found.free, f"{found.cores} cores may be used, others keep about {found.busy:.1f} busy")
    return Choice(found.cores, f"{found.cores} cores may be used")


def work_with(choice: Choice) -> Choice:
    """Give torch this many threads within an operation. Returns `choice`."""
    import torch

    torch.set_num_threads(choice.threads)
    return choice


def one_operation_at_a_time() -> None:
    """Let torch run operations one after another, which is all edgeq asks of it, without threads to run several."""
    import torch

    with contextlib.suppress(RuntimeError):  # torch takes this once, before its first parallel work
        torch.set_num_interop_threads(1)


@contextlib.contextmanager
def threads_restored() -> Iterator[None]:
    """Give torch back the number of threads it has now. Also a decorator."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _quota(root: Path) -> float | None:
    """Cores' worth of time that this process's cgroup, or any group around it, may use; None where nothing limits it.

    In a container the groups around it are often not visible, and the path in `/proc/self/cgroup` may not exist there:
    what exists of it counts, up to the top of the tree.
    """
    limits: list[float] = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:  # version 2
            tops = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            tops = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu"]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            groups = (top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))
            limits += [limit for group in groups if (limit := _limit(group)) is not None]
    return min(limits, default=None)


def _limit(group: Path) -> float | None:
    """Cores' worth of time that one cgroup's own files give it."""
    words = " ".join(_lines(group / "cpu.max")).split()  # version 2: "max 100000" or "150000 100000"
    if not words:
        words = [*_lines(group / "cpu.cfs_quota_us"), *_lines(group / "cpu.cfs_period_us")]  # version 1, -1: no limit
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


@dataclass(frozen=True)
class _Processors:
    """Clock ticks each core was (busy, idle) since the start, and how many threads of all programs run or wait."""

    times: dict[int, tuple[int, int]]
    running: int


def _processors(root: Path) -> _Processors | None:
    times: dict[int, tuple[int, int]] = {}
    running = 1
    for line in _lines(root / "proc/stat"):
        name, *words = line.split()
        if name.startswith("cpu") and name[3:].isdecimal() and len(words) >= 8:
            user, nice, system, idle, wait, irq, soft, steal = map(int, words[:8])
            times[int(name[3:])] = user + nice + system + irq + soft + steal, idle + wait
        elif name == "procs_running":
            running = int(words[0])
    return _Processors(times, running) if times else None


def _share(before: tuple[int, int], after: tuple[int, int] | None) -> float:
    """Share of the time between that a core was busy."""
    busy, idle = (b - a for a, b in zip(before, after or before, strict=True))
    return busy / (busy + idle) if busy + idle > 0 else 0.0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
