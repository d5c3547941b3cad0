"""An artifact on a device beside the same artifact here: accuracy there, and how many outputs are the same.

The images are turned into the file's own type and layout here and pushed as they are, so both machines compute on the
same integers, and what differs is their kernels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.config.formats import FORMATS, by_suffix, model_names
from edgeq.config.targets import Target
from edgeq.data.evaluation import EvaluationSet
from edgeq.device.job import Setup, bench, can_run, evaluate
from edgeq.device.open import full_name, open_device
from edgeq.device.transport import ShellTransport
from edgeq.errors import ArtifactError, ConfigError, ConflictError, DeviceError
from edgeq.formats.base import format_class
from edgeq.formats.contents import Entry
from edgeq.formats.foreign import ForeignSession
from edgeq.formats.read import find_model, read_entry
from edgeq.limits import read_json
from edgeq.measure.boards import with_comparison
from edgeq.measure.tasks import Measured, compare_predictions, measure_predictions
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.rewrite import rewrite_report
from edgeq.report.check import read_report
from edgeq.report.device import device_row, with_devices

__all__ = ["Artifact", "eval_on", "expect_device", "find_artifact", "input_spec", "measure_build", "setup_for"]

Facts = dict[str, Any]

BATCH = 64
"""How many images are scored at once."""


@dataclass(frozen=True)
class Artifact:
    """A file to run, `model`, and, in the folder of a build, the float file to time it against."""

    model: Path
    baseline: Path | None
    entry: Entry

    @property
    def name(self) -> str:
        return self.model.parent.name if self.model.stem == "model" else self.model.name


def find_artifact(path: Path) -> Artifact:
    """A build's folder, or any ``.tflite`` or ``.onnx`` file. Raises `ArtifactError`, `ConfigError`."""
    model = find_model(path)
    facts = by_suffix(model)
    if facts is None:
        raise ConfigError(
            f"{path} is no artifact", hint=f"give a build's folder, or a file that ends in {model_names()}"
        )
    with model.open("rb") as file:
        if not format_class(facts).may_hold(file.read(64)):
            raise ArtifactError(f"{model} is no {facts.title} model", why="its first bytes are not those of one")
    if path.is_file():
        return Artifact(model, None, read_entry(model))
    baseline = path / f"float{model.suffix}"
    return Artifact(model, baseline if baseline.is_file() else None, read_entry(model))


def input_spec(artifact: Artifact, spec: ModelSpec, raw: bool = False) -> ModelSpec:
    """`spec` with the mean and std that make of a pixel what the file's input wants.

    Those of `spec`, unless the file takes `raw` pixels: because the caller says so, or the report of its build. An
    integer then is a pixel (int8: less 128), whatever real value the file's scale gives it. Raises `ConfigError` where
    the input is of another type.
    """
    if not (raw or _takes_raw(artifact.model)):
        return spec
    kind, scale, zero = artifact.entry.type, artifact.entry.scale, artifact.entry.zero_point
    if kind not in ("uint8", "int8", "float32") or not 0 < scale < math.inf:
        raise ConflictError(
            f"raw pixels for {artifact.name}", why=f"its input is {kind}", hint="uint8, int8 or float32"
        )
    lowest = -128 if kind == "int8" else 0
    channels = len(spec.mean)
    return replace(spec, mean=((zero - lowest) / 255,) * channels, std=(1 / (255 * scale),) * channels)


def _takes_raw(model: Path) -> bool:
    """Whether the report beside `model` is its own and says so."""
    try:
        report = read_json(model.parent / "report.json")
        return bool(report["artifact"]["path"] == model.name) and report.get("raw_pixels") is not None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def setup_for(artifact: Artifact, runtime: str | None = None, threads: int = 1, program: Path | None = None) -> Setup:
    """How the file is run: its format's runtime, unless `runtime` says another; on Android by `program`.

    Raises `ConfigError`.
    """
    facts = next(facts for facts in FORMATS.entries() if facts.suffix == artifact.model.suffix)
    runtime = runtime or facts.runtimes[0]
    if runtime not in facts.runtimes:
        raise ConflictError(f"{runtime} does not run {facts.suffix} files", hint=f"use {' or '.join(facts.runtimes)}")
    return Setup(runtime, facts.kernels[0], threads, dict(facts.session), program)


def eval_on(
    device: ShellTransport,
    artifact: Artifact,
    setup: Setup,
    spec: ModelSpec,
    images: EvaluationSet,
    *,
    timeout: float = 3600.0,
) -> dict[str, Any]:
    """The task's figure on the device and here, agreement of answers, and the share of equal output values.

    `agreement` is the share of images, pixels or boxes answered alike (see `edgeq.measure.tasks`); for what has no
    score it is `equal`. `equal` and `one_step` are shares of all values of all outputs; for float outputs
    `max_difference` says more. `outputs` compares with the same runtime on this machine, `host_runtime`.
    tflite-runtime, an older relative of LiteRT with kernels of its own rounding, is compared with LiteRT too
    (`outputs_litert`). Raises `EdgeqError`.
    """
    inputs = np.concatenate([batch for batch, _ in images.batches(spec)])
    with ForeignSession(artifact.model, spec.input_shape[0]) as session:
        file_input, here = session.run(inputs)
        there, facts = evaluate(device, artifact.model, file_input, setup, timeout=timeout, expected=here)
        litert, ran_here = None, setup.runtime
        if setup.runtime == "tflite-runtime":
            litert = here
            try:
                with open_device("local", patience=60) as local:  # two TFLite runtimes cannot share a process
                    here, _ = evaluate(local, artifact.model, file_input, setup, timeout=timeout, expected=litert)
            except DeviceError:  # not installed here
                ran_here = "litert"
        on_host, on_device = (_answers(session.real_outputs(outputs), images, spec) for outputs in (here, there))
    compared, outputs = compare_predictions(on_host, on_device)["accuracy"], _difference(here, there)
    kept = {key: facts[key] for key in ("machine", "before", "after", "runtime", "kernels", "ops", "peak_bytes")}
    return {
        "device": device.name,
        "artifact": artifact.name,
        "images": len(images),
        "sha256": images.sha256,
        "metric": compared["metric"] if compared else spec.task,
        "device_accuracy": on_device.to_json(),
        "host_accuracy": on_host.to_json(),
        "agreement": compared["agreement"] if compared else outputs["equal"],
        "host_runtime": ran_here,
        "outputs": outputs,
        "outputs_litert": _difference(litert, there) if litert is not None else None,
    } | kept


def expect_device(name: str, targets: Sequence[Target], program: Path | None = None) -> str:
    """The full name of a device that answers and runs what is built for `targets`: asked before minutes are spent.

    Raises `EdgeqError`.
    """
    name = full_name(name)
    for target in targets:
        with open_device(name, runtime=target.runtime, patience=60, why="a look before a build") as device:
            can_run(device, Setup(target.runtime, target.kernels, program=program))
    return name


def measure_build(
    folder: Path,
    devices: Sequence[str],
    spec: ModelSpec,
    images: EvaluationSet | None,
    *,
    threads: int,
    rebuild: str,
    program: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Facts:
    """Latency, and accuracy where there are images, of the build in `folder` on each of `devices`. Returns the report.

    What they said goes into ``report.json`` and its page, which names `rebuild`, and raw into ``device.json``, beside
    what other devices said of the same file. The folder is swapped in whole, as the build's own was. Raises
    `EdgeqError`, with the folder as it was.
    """
    artifact = find_artifact(folder)
    setup = setup_for(artifact, threads=threads, program=program)
    before, spec = read_report(folder), input_spec(artifact, spec)
    found: dict[str, Facts] = {}
    for name in devices:
        say(f"measuring on {name}")
        why = f"measuring {artifact.name}"
        with open_device(name, runtime=setup.runtime, patience=60, why=why, say=say) as device:
            found[name] = {"bench": bench(device, artifact.model, artifact.baseline, setup), "eval": None}
            if images is not None:
                found[name]["eval"] = eval_on(device, artifact, setup, spec, images)
    timed = [{**facts["bench"], "device": name} for name, facts in found.items()]
    for facts, compared in zip(found.values(), with_comparison([artifact.name] * len(timed), timed), strict=True):
        facts["bench"] = compared
    earlier = [row for row in before.get("devices", ()) if row["name"] not in found]
    rows = [device_row(name, facts["bench"], facts["eval"]) for name, facts in found.items()]
    report = with_devices(before, [*earlier, *rows])

    def raw(staging: Path) -> dict[str, str]:
        kept = {name: facts for name, facts in _raw(staging).items() if any(row["name"] == name for row in earlier)}
        return {"device.json": json.dumps(kept | found, indent=2) + "\n"}

    rewrite_report(folder, before, report, rebuild, raw)
    return report


def _raw(folder: Path) -> Facts:
    """What earlier builds of the same file keep in ``device.json``."""
    try:
        table = read_json(folder / "device.json")
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def _answers(outputs: Sequence[npt.NDArray[np.float32]], images: EvaluationSet, spec: ModelSpec) -> Measured:
    """What `outputs`, real values of all images in logical order, say about them."""
    parts = ([output[start : start + BATCH] for output in outputs] for start in range(0, len(images), BATCH))
    return measure_predictions(lambda _: next(parts), images.batches(spec, BATCH), spec)


def _difference(host: list[npt.NDArray[Any]], device: list[npt.NDArray[Any]]) -> dict[str, Any]:
    steps = [np.abs(a.astype(np.float64) - b.astype(np.float64)).ravel() for a, b in zip(host, device, strict=True)]
    steps_apart = np.concatenate(steps)
    return {
        "values": int(steps_apart.size),
        "equal": float((steps_apart == 0).mean()),
        "integer": all(output.dtype.kind in "iu" for output in host),
        "one_step": float((steps_apart == 1).mean()),
        "max_difference": float(steps_apart.max()),
    }
