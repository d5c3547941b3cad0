"""The agent's command line.

    agent.pyz probe
    agent.pyz eval  REQUEST.json
    agent.pyz bench REQUEST.json

What it finds goes to standard output, one JSON object per line, each with the key ``edgeq`` and, as ``job``, the word
given by --job; other lines come from libraries and mean nothing. It opens no socket, and with --tied ends when its
standard input does: then whoever started it is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

from . import MARK, RUNTIMES
from .machine import machine, moment, pin, text
from .power import power
from .runtimes import load, runtime_version
from .timing import timed_in_turns

SPARE = 4 << 30
"""Bytes of address space beyond the machine's memory: libraries and threads reserve more than they use."""

job = ""


def say(kind: str, **facts: Any) -> None:
    """One line for whoever started this."""
    sys.stdout.write("\n" + json.dumps({MARK: kind, "job": job, **facts}) + "\n")
    sys.stdout.flush()


def peak_memory() -> int:
    """The most memory that this process ever held, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def evaluate(request: dict[str, Any]) -> None:
    """Every row of a batch through the file; its raw outputs one after another into a file beside."""
    import numpy

    batch = numpy.load(request["inputs"], mmap_mode="r", allow_pickle=False)
    before = moment()
    session = load(request, request["model"])
    rows = []
    last_report = time.monotonic()
    for place in range(len(batch)):
        session.prepare(numpy.ascontiguousarray(batch[place : place + 1]))
        session.invoke()
        rows.append([numpy.array(value) for value in session.answer()])
        if time.monotonic() - last_report > 1:
            last_report = time.monotonic()
            say("progress", done=place + 1, total=len(batch))
    outputs = [numpy.concatenate([row[n] for row in rows]) for n in range(len(rows[0]))]
    if any(array.dtype.kind not in "biuf" for array in outputs):
        raise ValueError("an output is of no numbers")
    digest = hashlib.sha256()
    with open(request["outputs"], "wb") as file:
        for array in outputs:
            content = array.tobytes()
            file.write(content)
            digest.update(content)
    say(
        "result",
        images=len(rows),
        sha256=digest.hexdigest(),
        arrays=[{"dtype": array.dtype.name, "shape": list(array.shape)} for array in outputs],
        ops=session.ran(),
        peak_bytes=peak_memory(),
        before=before,
        after=moment(),
        machine=machine(),
        runtime=runtime_version(request["runtime"]),
        kernels=request["kernels"],
    )


def bench(request: dict[str, Any]) -> None:
    """One file, or two in turns, timed. Whether to believe the times is for the host to say."""
    import numpy

    facts = machine()
    if facts["emulated"]:  # then nobody is shown the times
        request = dict(request, least=1, most=1, warmup=0)
    affinity = pin(request["threads"])
    sessions = {name: load(request, request[name]) for name in ("float", "model") if request.get(name)}
    for session in sessions.values():
        session.prepare(session.empty(numpy))
    runs = {name: session.invoke for name, session in sessions.items()}
    timed = timed_in_turns(runs, request)
    drawn = power(runs, request["energy"]) if request["energy"] and not facts["emulated"] else None
    say(
        "result",
        **timed,
        power=drawn,
        threads=request["threads"],
        machine=facts,
        affinity=affinity,
        ops=sessions["model"].ran(),
        peak_bytes=peak_memory(),
        runtime=runtime_version(request["runtime"]),
        kernels=request["kernels"],
    )


def probe() -> None:
    """What is here. A runtime is there when it loads beside its numpy, not when its folder is."""
    runtimes: dict[str, dict[str, Any]] = {}
    for name, (module, package) in RUNTIMES.items():
        # Each in a process of its own: two TFLite runtimes do not live in one, and a wrong build may crash.
        script = (
            "import json, numpy, %s as runtime; from importlib import metadata\n"
            "old = runtime.__name__.startswith('tflite_runtime') and numpy.__version__ >= '2'\n"
            "assert not old, 'tflite-runtime needs numpy below 2'\n"
            "print(json.dumps([metadata.version(%r), numpy.__version__]))" % (module, package)
        )
        runtimes[name] = {"works": False, "version": None, "numpy": None, "why": ""}
        try:
            done = subprocess.run(
                [*interpreter(), "-c", script], capture_output=True, text=True, timeout=120, env=surroundings(name)
            )
        except subprocess.TimeoutExpired:
            runtimes[name]["why"] = "took more than 120 s"
            continue
        lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
        if done.returncode == 0 and lines:
            version, numpy = json.loads(lines[-1])
            runtimes[name].update(works=True, version=version, numpy=numpy)
        elif done.returncode in (-4, 132):
            runtimes[name]["why"] = "uses instructions this processor lacks"
        else:
            runtimes[name]["why"] = plainly(lines[-1]) if lines else "ended with %d" % done.returncode
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(sys.argv[0]))).free
    say("result", machine=machine(), moment=moment(), runtimes=runtimes, free_bytes=free)


def plainly(message: str) -> str:
    """Return `message`, or words for a library that a loader refused because it is another processor's."""
    named = re.search(
        r"(/\S+?\.so[\w.]*): (cannot open shared object file|wrong ELF class|invalid ELF header)", message
    )
    if named and os.path.exists(named.group(1)):
        return "%s is built for another processor than this %s" % (os.path.basename(named.group(1)), platform.machine())
    return message


def surroundings(runtime: str) -> dict[str, str]:
    """The environment in which `runtime` is found where edgeq has put it."""
    provisioned = os.path.join(os.environ.get("EDGEQ_RUNTIMES", ""), runtime)
    paths = [provisioned, os.environ.get("PYTHONPATH", "")]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in paths if path))


def interpreter() -> list[str]:
    """The command that starts this very Python; under an emulator, sys.executable alone may not."""
    named: list[str] | None = json.loads(os.environ.get("EDGEQ_PYTHON", "null"))
    return named or [sys.executable]


def guard() -> None:
    """Limit this process, so that a file that makes its runtime take all memory ends only it, without a core file."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found = re.search(r"MemTotal:\s+(\d+) kB", text("/proc/meminfo") or "")
    if found and sys.maxsize > 2**32:  # an address space of 32 bits is a limit already
        total = int(found.group(1)) * 1024
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (total + SPARE, resource.RLIM_INFINITY))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def tie() -> None:
    """End when standard input ends: the connection is gone, and nobody will read what follows."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    parser = argparse.ArgumentParser(description="edgeq's agent")
    parser.add_argument("what", choices=["probe", "eval", "bench"])
    parser.add_argument("request", nargs="?")
    parser.add_argument("--job", default="")
    parser.add_argument("--tied", action="store_true")
    arguments = parser.parse_args()
    global job
    job = arguments.job
    guard()
    if arguments.tied:
        tie()
    try:
        if arguments.what == "probe":
            probe()
        else:
            with open(arguments.request) as file:
                request = json.load(file)
            (evaluate if arguments.what == "eval" else bench)(request)
    except Exception as error:
        say("error", error=type(error).__name__, message=plainly(str(error))[:500])
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a runtime's threads may not keep a finished agent alive
