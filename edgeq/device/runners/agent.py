"""The one file that runs on a device: Python 3.9 or later, numpy and one runtime. It imports nothing of edgeq.

    agent.py probe
    agent.py eval  REQUEST.json
    agent.py bench REQUEST.json

What it finds goes to standard output, one JSON object per line, each with the key ``edgeq`` and, as ``job``, the word
given by --job; other lines come from libraries and mean nothing. It opens no socket, and with --tied ends when its
standard input does: then whoever started it is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
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

MARK = "edgeq"

RUNTIMES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
}

# From the manuals of the Linux `Features` line and of Raspberry Pi's firmware (`vcgencmd get_throttled`).
DOT_PRODUCT = ("asimddp", "avx_vnni", "avx512_vnni")
THROTTLED_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_BOOT = 16

# Beyond these a timing is not to be believed; the same limits as measuring on the host has.
MOST_SPREAD = 0.5
MOST_OTHERS = 0.25
MOST_CLOCK_CHANGE = 0.1
LEAST_PAIRS = 20

SPARE = 4 << 30
"""Bytes of address space beyond the machine's memory: libraries and threads reserve more than they use."""


job = ""


def say(kind: str, **facts: Any) -> None:
    """One line for whoever started this."""
    sys.stdout.write("\n" + json.dumps({MARK: kind, "job": job, **facts}) + "\n")
    sys.stdout.flush()


def text(path: str) -> str | None:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ") or None
    except OSError:
        return None


def number(path: str) -> int | None:
    found = text(path)
    return int(found) if found and re.fullmatch(r"-?\d+", found) else None


def per_core(name: str, root: str = "/") -> dict[int, int]:
    """Values of a file of every core's folder, by core number; cores that lack it are left out."""
    found = {}
    for path in glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*", name)):
        value = number(path)
        core = re.search(r"/cpu(\d+)/", path)
        if value is not None and core:
            found[int(core.group(1))] = value
    return dict(sorted(found.items()))


def big_cores(root: str = "/") -> list[int]:
    """Core numbers of the fastest kind: those of highest capacity, else of highest clock; all when none is said."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        found = per_core(name, root)
        if found:
            return [core for core, value in found.items() if value == max(found.values())]
    return []


def pin(threads: int, root: str = "/") -> list[int]:
    """Keep to the fastest cores, when they are enough for `threads`. Returns the cores used."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    wanted = set(big_cores(root)) & allowed
    if len(wanted) >= threads and wanted != allowed:
        with contextlib.suppress(OSError):  # a container may forbid it; then it is recorded as it is
            os.sched_setaffinity(0, wanted)
    return sorted(os.sched_getaffinity(0))


def emulated(root: str = "/") -> str | None:
    """The processor this pretends to be, where another kind of processor does the work; else None."""
    named = os.environ.get("EDGEQ_EMULATED")
    if named:
        return named
    real, seen = text(os.path.join(root, "proc/sys/kernel/arch")), platform.machine()
    same = real is None or real == seen or {real, seen} <= {"aarch64", "armv7l", "armv8l"}
    return None if same or {real, seen} == {"x86_64", "amd64"} else "another processor"


def processor(cpuinfo: str) -> dict[str, Any]:
    """What the text of /proc/cpuinfo says: a name if any, the parts of its cores, the instructions that matter."""
    facts: dict[str, str] = {}
    parts: dict[str, None] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
        if key.strip() == "CPU part":
            parts[value.strip()] = None
    flags = (facts.get("Features") or facts.get("flags") or "").split()
    return {
        "name": facts.get("model name") or facts.get("Hardware"),
        "parts": list(parts),
        "flags": [flag for flag in flags if flag.startswith(("asimd", "i8mm", "sve", "avx", "crc32", "fphp"))],
        "dot_product": any(flag in flags for flag in DOT_PRODUCT),
    }


def machine(root: str = "/") -> dict[str, Any]:
    """What does not change while measuring."""
    found = processor(text(os.path.join(root, "proc/cpuinfo")) or "")
    board = text(os.path.join(root, "proc/device-tree/model"))
    return {
        "cpu": board or found["name"] or platform.machine(),
        "parts": found["parts"],
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "big_cores": big_cores(root),
        "flags": found["flags"],
        "dot_product": found["dot_product"],
        "system": "%s %s" % (platform.system(), platform.release().split("-")[0]),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "emulated": emulated(root),
    }


def throttled() -> int | None:
    """Raspberry Pi's word on heat and power, or None."""
    if not shutil.which("vcgencmd"):
        return None
    try:
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", done.stdout)
    return int(found.group(1), 16) if found else None


def moment(root: str = "/") -> dict[str, Any]:
    """What the machine is doing now."""
    temperatures = [number(p) for p in glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*/temp"))]
    degrees = [value / 1000 for value in temperatures if value is not None]
    governors = {}
    for path in glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")):
        governors[path.split("/")[-3]] = text(path)
    first = (text(os.path.join(root, "proc/stat")) or "").split("\n")[0].split()[1:9]
    busy = None
    if len(first) == 8 and all(word.isdigit() for word in first):
        user, nice, system, _idle, _wait, irq, soft, _steal = map(int, first)
        busy = (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")
    return {
        "clock": time.monotonic(),
        "own": time.process_time(),
        "busy": busy,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "frequency_khz": per_core("cpufreq/scaling_cur_freq", root),
        "governors": dict(sorted(governors.items())),
        "temperature_c": max(degrees) if degrees else None,
        "throttled": throttled(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    }


def doubts(
    before: dict[str, Any],
    after: dict[str, Any],
    float_ms: list[float],
    integer_ms: list[float],
    cores: int | None,
    pretends: str | None,
) -> list[str]:
    """Why these timings must not be believed, a sentence each; empty when they may be."""
    found = []
    if pretends:
        found.append("emulated: integers and accuracy are an Arm's, times are nobody's")
    if len(integer_ms) < LEAST_PAIRS:
        found.append("only %d pairs of timings, %d are needed" % (len(integer_ms), LEAST_PAIRS))
    for name, values in (("float", float_ms), ("integer", integer_ms)):
        if spread(values) > MOST_SPREAD:
            found.append("timings of the %s file spread too wide" % name)
    return found + disturbances(before, after, cores)


def spread(values: list[float]) -> float:
    """How wide the middle half of `values` is, in medians; 0 for none."""
    ordered = sorted(values)
    if not ordered or not ordered[len(ordered) // 2]:
        return 0.0
    return (ordered[(3 * len(ordered)) // 4] - ordered[len(ordered) // 4]) / ordered[len(ordered) // 2]


def disturbances(before: dict[str, Any], after: dict[str, Any], cores: int | None) -> list[str]:
    """What the machine did between two moments that must not happen while measuring, a sentence each."""
    found = []
    then, now = before["throttled"] or 0, after["throttled"] or 0
    new = now | ((now & ~then) >> SINCE_BOOT)
    names = [name for bit, name in THROTTLED_BITS.items() if (new | then) >> bit & 1]
    if names:
        found.append("the board reports " + ", ".join(names))
    if before["governors"] != after["governors"]:
        found.append("the governor changed")
    used = set(after["affinity"])
    pairs = [
        (before["frequency_khz"][c], after["frequency_khz"][c])
        for c in before["frequency_khz"]
        if c in after["frequency_khz"] and (not used or c in used)
    ]
    if any(now < (1 - MOST_CLOCK_CHANGE) * then for then, now in pairs):
        found.append("the clock fell while measuring")
    passed = after["clock"] - before["clock"]
    if before["busy"] is not None and after["busy"] is not None and passed > 0:
        others = (after["busy"] - before["busy"]) - (after["own"] - before["own"])
        if others > MOST_OTHERS * passed * (cores or 1):
            found.append("other programs kept the processor busy")
    return found


class Tflite:
    """A TFLite file under LiteRT or tflite-runtime."""

    def __init__(self, name: str, path: str, threads: int, kernels: str) -> None:
        import importlib

        module = importlib.import_module(RUNTIMES[name][0])
        kind = module.OpResolverType
        resolver = {
            "xnnpack": kind.AUTO,
            "builtin": kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": kind.BUILTIN_REF,
        }[kernels]
        self.interpreter = module.Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
        self.interpreter.allocate_tensors()
        self.index = self.interpreter.get_input_details()[0]["index"]
        self.detail = self.interpreter.get_input_details()[0]
        self.outputs = [detail["index"] for detail in self.interpreter.get_output_details()]

    def empty(self, numpy: Any) -> Any:
        return numpy.zeros(self.detail["shape"], self.detail["dtype"])

    def prepare(self, sample: Any) -> None:
        self.interpreter.set_tensor(self.index, sample)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def answer(self) -> list[Any]:
        return [self.interpreter.get_tensor(index) for index in self.outputs]

    def ran(self) -> dict[str, int]:
        """Ops as the interpreter lists them; a DELEGATE is what XNNPACK took over."""
        found: dict[str, int] = {}
        for op in getattr(self.interpreter, "_get_ops_details", list)():
            found[op["op_name"]] = found.get(op["op_name"], 0) + 1
        return found


class Onnx:
    """An ONNX file under onnxruntime's CPU kernels."""

    def __init__(self, path: str, threads: int, settings: dict[str, str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.fed: dict[str, Any] = {}
        self.made: list[Any] = []

    def empty(self, numpy: Any) -> Any:
        kinds = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}
        shape = [size if isinstance(size, int) else 1 for size in self.input.shape]
        return numpy.zeros(shape, kinds[self.input.type])

    def prepare(self, sample: Any) -> None:
        self.fed = {self.input.name: sample}

    def invoke(self) -> None:
        self.made = self.session.run(None, self.fed)

    def answer(self) -> list[Any]:
        return self.made

    def ran(self) -> dict[str, int]:
        return {}


def load(request: dict[str, Any], path: str) -> Any:
    name = request["runtime"]
    if name == "onnxruntime":
        return Onnx(path, request["threads"], request.get("session", {}))
    return Tflite(name, path, request["threads"], request["kernels"])


def runtime_version(name: str) -> str:
    from importlib import metadata

    try:
        return "%s %s" % (RUNTIMES[name][1], metadata.version(RUNTIMES[name][1]))
    except metadata.PackageNotFoundError:
        return RUNTIMES[name][1]


def peak_memory() -> int:
    """Most memory this process ever held, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def evaluate(request: dict[str, Any]) -> None:
    """Every row of a batch through the file; its raw outputs one after another into a file beside."""
    import numpy

    batch = numpy.load(request["inputs"], mmap_mode="r", allow_pickle=False)
    before = moment()
    session = load(request, request["model"])
    rows = []
    told = time.monotonic()
    for place in range(len(batch)):
        session.prepare(numpy.ascontiguousarray(batch[place : place + 1]))
        session.invoke()
        rows.append([numpy.array(value) for value in session.answer()])
        if time.monotonic() - told > 1:
            told = time.monotonic()
            say("progress", done=place + 1, total=len(batch))
    made = [numpy.concatenate([row[n] for row in rows]) for n in range(len(rows[0]))]
    if any(array.dtype.kind not in "biuf" for array in made):
        raise ValueError("an output is of no numbers")
    digest = hashlib.sha256()
    with open(request["outputs"], "wb") as file:
        for array in made:
            content = array.tobytes()
            file.write(content)
            digest.update(content)
    say(
        "result",
        images=len(rows),
        sha256=digest.hexdigest(),
        arrays=[{"dtype": array.dtype.name, "shape": list(array.shape)} for array in made],
        ops=session.ran(),
        peak_bytes=peak_memory(),
        before=before,
        after=moment(),
        machine=machine(),
        runtime=runtime_version(request["runtime"]),
        kernels=request["kernels"],
    )


def bench(request: dict[str, Any]) -> None:
    """Time float and integer file in turns; which goes first changes from pair to pair."""
    import numpy

    facts = machine()
    affinity = pin(request["threads"]) if request.get("pin", True) else []
    names = [name for name in ("float", "model") if request.get(name)]
    sessions = {}
    for name in names:
        sessions[name] = load(request, request[name])
        sessions[name].prepare(sessions[name].empty(numpy))
    repeats = {}
    for name in names:
        until, count, started = time.monotonic() + request["warmup"], 0, time.monotonic()
        while count < 3 or time.monotonic() < until:
            sessions[name].invoke()
            count += 1
        repeats[name] = count / (time.monotonic() - started)
    # A sample lasts 2 ms or more: neither the clock nor the call should show in it.
    inner = max(1, int(0.002 * max(repeats.values())))
    samples: dict[str, list[float]] = {name: [] for name in names}
    if request.get("cooldown"):
        time.sleep(request["cooldown"])
    before = moment()
    until = time.monotonic() + request["seconds"]
    done = 0
    while done < request["rounds"] and (done < LEAST_PAIRS or time.monotonic() < until):
        for name in names if done % 2 == 0 else names[::-1]:
            started = time.perf_counter()
            for _ in range(inner):
                sessions[name].invoke()
            samples[name].append((time.perf_counter() - started) * 1000 / inner)
        done += 1
        if done >= 3 and time.monotonic() > until + 10 * request["seconds"]:
            break
    after = moment()
    found = doubts(before, after, samples.get("float", []), samples["model"], facts["cores"], facts["emulated"])
    say(
        "result",
        samples=samples,
        inferences_per_run=inner,
        threads=request["threads"],
        doubts=found,
        valid=not found,
        before=before,
        after=after,
        machine=facts,
        affinity=affinity,
        ops=sessions["model"].ran(),
        peak_bytes=peak_memory(),
        runtime=runtime_version(request["runtime"]),
        kernels=request["kernels"],
        expect_no_gain=not facts["dot_product"],
    )


def probe() -> None:
    """What is here. A runtime is there when it loads beside its numpy, not when its folder is."""
    found: dict[str, dict[str, Any]] = {}
    for name, (module, package) in RUNTIMES.items():
        # Each in a process of its own: two TFLite runtimes do not live in one, and a wrong build may crash.
        script = (
            "import json, numpy, %s as runtime; from importlib import metadata\n"
            "old = runtime.__name__.startswith('tflite_runtime') and numpy.__version__ >= '2'\n"
            "assert not old, 'tflite-runtime needs numpy below 2'\n"
            "print(json.dumps([metadata.version(%r), numpy.__version__]))" % (module, package)
        )
        found[name] = {"works": False, "version": None, "numpy": None, "why": ""}
        try:
            done = subprocess.run(
                [*interpreter(), "-c", script], capture_output=True, text=True, timeout=120, env=surroundings(name)
            )
        except subprocess.TimeoutExpired:
            found[name]["why"] = "took more than 120 s"
            continue
        lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
        if done.returncode == 0 and lines:
            version, numpy = json.loads(lines[-1])
            found[name].update(works=True, version=version, numpy=numpy)
        elif done.returncode in (-4, 132):
            found[name]["why"] = "uses instructions this processor lacks"
        else:
            found[name]["why"] = plainly(lines[-1]) if lines else "ended with %d" % done.returncode
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(__file__))).free
    say("result", machine=machine(), moment=moment(), runtimes=found, free_bytes=free)


def plainly(said: str) -> str:
    """`said`, unless a library was refused that is there: it is another processor's, which no loader says in words."""
    named = re.search(r"(/\S+?\.so[\w.]*): (cannot open shared object file|wrong ELF class|invalid ELF header)", said)
    if named and os.path.exists(named.group(1)):
        return "%s is built for another processor than this %s" % (os.path.basename(named.group(1)), platform.machine())
    return said


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
    """Where a file makes its runtime take all memory, only this process ends; none leaves a core file behind."""
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
    asked = parser.parse_args()
    global job
    job = asked.job
    guard()
    if asked.tied:
        tie()
    try:
        if asked.what == "probe":
            probe()
        else:
            with open(asked.request) as file:
                request = json.load(file)
            (evaluate if asked.what == "eval" else bench)(request)
    except Exception as error:
        say("error", error=type(error).__name__, message=plainly(str(error))[:500])
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a runtime's threads may not keep a finished agent alive
