"""The artifact folder: the exported file with its report, lock and pictures, swapped in whole.

model.tflite | model.onnx    the integer model
float.tflite | float.onnx    the same network in float32, what it is compared with
integer.safetensors          the IntegerGraph that the file was written from
simulated.safetensors        the one that was requested, where a file cannot hold its few activation bits
answers.safetensors          what both networks answered to each evaluation image
calibration.npz, .png        the images that set its ranges
disagreements.png            evaluation images that float and integer answer differently, where these may be shown
report.json, report.html     what was measured
edgeq.lock                   what it depended on
"""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.config.build import BuildConfig, settings_of
from edgeq.config.formats import FORMATS
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import coded
from edgeq.files import stage_folder, write_atomic
from edgeq.formats.base import format_class
from edgeq.formats.by_layer import by_layer
from edgeq.formats.contents import Contents
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.measure.answers import ANSWERS
from edgeq.measure.conditions import this_machine
from edgeq.pipeline.page import write_page
from edgeq.pipeline.prepare import Job
from edgeq.pipeline.usage import use_of
from edgeq.pipeline.write import metadata_of
from edgeq.products import BUILD, MARKER
from edgeq.quant.input_transform import FORMS, describe_raw_input
from edgeq.quant.scheme import parse_bits
from edgeq.report.cautions import accuracy_cautions, layer_cautions, regression_cautions
from edgeq.report.device import elsewhere, slow_here
from edgeq.report.lock import build_lock, lock_text, portable
from edgeq.report.locked import Locked
from edgeq.report.schema import build_report, to_text
from edgeq.synth.base import JOINED
from edgeq.synth.sheet import contact_sheet
from edgeq.versions import package_versions

__all__ = ["BuildOutput", "command_of", "report_of", "write_folder"]


MISTAKEN = 0.5
"""Share of images not answered as they were made to be, above which something is wrong: trained networks have few."""


@dataclass(frozen=True)
class BuildOutput:
    """Everything a finished build made and noted.

    `inputs` is the part of its lock that was known before it began. `integer` is what was requested;
    `written` what the file was written from, which differs where activations have fewer bits than a file can hold.
    `answers` are those to the evaluation images, None where there are none.
    `facts` are the stages' own: layers, exactness, census, accuracy.
    """

    job: Job
    inputs: Mapping[str, Any]
    calibration: CalibrationSet
    integer: IntegerGraph
    written: IntegerGraph
    artifact: Path
    baseline: Path
    answers: Path | None
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]

    def file(self) -> dict[str, Any]:
        data = self.artifact.read_bytes()
        return {"path": self.artifact.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def contents(self) -> Contents:
        """What is in the integer file, read from the file."""
        facts = FORMATS.get(self.job.target.format)
        return format_class(facts).read(self.artifact.read_bytes(), run=False)


def report_of(output: BuildOutput) -> dict[str, Any]:
    """report.json's contents."""
    job = output.job
    dead = output.facts["dead_channels"]
    per_op = output.facts["exactness"]["per_op"]
    in_file = by_layer(output.contents(), {row["name"] for row in output.facts["layers"]})
    layers = []
    for row in output.facts["layers"]:
        name = row["name"]
        values, equal, step = per_op.get(name, (0, 0, 0))
        extra = {"equal": equal / values, "max_step": step} if values else {}
        extra |= dataclasses.asdict(in_file[name]) if name in in_file else {}
        layers.append({**row, **_widths(output, name), "dead_channels": dead.get(name, 0), **extra})
    latency = output.facts["latency"]
    return build_report(
        edgeq=package_versions(("edgeq",))["edgeq"],
        model=job.loaded.spec.name,
        network={
            "input": list(job.loaded.spec.input_shape),
            "parameters": job.graph.parameters(),
            "macs": job.graph.macs(),
            "nodes": len(job.graph.nodes),
        },
        target=job.target.name,
        method=job.method if not job.method.startswith("images:") else output.calibration.method,
        method_reason=job.why,
        bits=job.requested.bits,
        seed=job.requested.seed,
        artifact=output.file(),
        float_bytes=output.baseline.stat().st_size,
        census=output.facts["census"],
        exactness=output.facts["exactness"],
        task=job.loaded.spec.task,
        accuracy=_portable(output.facts["accuracy"]),
        regression=_portable(output.facts.get("regression")),
        embedding=_portable(output.facts.get("embedding")),
        latency=latency,
        synthesis={
            "method": output.calibration.method,
            "images": len(output.calibration),
            "seconds": output.seconds["synthesize"],
            "sha256": output.calibration.digest(),
            "classes": _classes(output),
            "notes": dict(output.calibration.notes),
            "device": output.facts["made_on"],
        },
        raw_pixels=_raw_pixels(output),
        host=_host(output),
        use=use_of(job, output.artifact, about.labels if (about := metadata_of(job)) else ()),
        simulated=output.facts.get("simulated"),
        finetune=output.facts.get("finetune"),
        seconds=output.seconds,
        conditions=this_machine().to_json()
        | {"packages": package_versions()}
        | {key: latency["conditions"][key] for key in ("runtime", "kernels")},
        layers=layers,
        dead_channels=sum(dead.values()),
        equalized=output.facts["equalized"] or None,
        warnings=_warnings(output),
    )


def _classes(output: BuildOutput) -> dict[str, int]:
    """How many calibration images were made for each class, in the order of classes; unlabelled images are left out."""
    names = output.job.loaded.spec.labels
    counts = Counter(label for label in sorted(output.calibration.labels.tolist()) if label >= 0)
    return {names[label] if label < len(names) else str(label): count for label, count in counts.items()}


def _raw_pixels(output: BuildOutput) -> dict[str, Any] | None:
    input_transform = output.job.input_transform
    if not input_transform.raw:
        return None
    return {
        "form": input_transform.form,
        "normalisation": FORMS[input_transform.form],
        "why": input_transform.why,
        "type": output.facts["io"],
        "input": describe_raw_input(output.facts["io"]),
        "mean": list(input_transform.spec.mean),
        "std": list(input_transform.spec.std),
        "border": input_transform.border,
        "macs": input_transform.added_macs,
    }


def _host(output: BuildOutput) -> dict[str, Any] | None:
    cut = output.job.loaded.cut
    return None if cut is None else {"where": cut.where, "work": cut.what, "outputs": list(cut.heads)}


def _portable(accuracy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Remove paths of this machine from an accuracy section."""
    return None if accuracy is None else {**accuracy, "images": Path(accuracy["images"]).name}


def _warnings(output: BuildOutput) -> list[str]:
    """What a person should know before believing or shipping this: what makes its numbers worthless first."""
    job = output.job
    spec, facts, form = job.loaded.spec, output.facts, FORMATS.get(job.target.format)
    warnings = [
        *accuracy_cautions(facts["accuracy"]),
        *regression_cautions(facts.get("regression")),
        *layer_cautions(facts["layers"]),
    ]
    if note := facts.get("labels"):
        warnings.insert(0, coded("W115", note))
    exactness = facts["exactness"]
    if form.exact and exactness["equal"] != exactness["values"]:
        first = exactness["first_difference"]
        warnings.insert(0, coded("W100", f"the file differs from the reference first at {first}"))
    if pixels := [field for field in spec.assumed if field != "task"]:
        warnings.append(coded("W120", f"nobody stated {' and '.join(pixels)}: {spec.usual_values} were assumed"))
    if spec.assumption:
        warnings.append(coded("W121", spec.assumption))
    if spec.task == "embedding":
        text = "the file's vectors are not normalised: an app divides each by its length, or compares cosines"
        warnings.append(coded("W122", text))
    if set(job.method.split(JOINED)) <= {"noise", "uniform"}:
        warnings.append(coded("W130", f"calibrated on {job.method}: ranges of noise are not ranges of pictures"))
    wrong = output.calibration.notes.get("wrong", 0.0)
    if wrong > MISTAKEN:
        text = (
            f"the network sees another class than meant in {wrong:.0%} of its own images: are weights, mean and std "
            "the ones it was trained with? Ranges may not be those of pictures"
        )
        warnings.append(coded("W131", text))
    warnings += [coded("W132", each) for each in facts.get("notes", [])]
    weights, _ = parse_bits(job.requested.bits)
    if job.requested.layer_bits and any((grid.bits or 8) < 8 for grid in _weight_grids(output).values()):
        warnings.append(coded("W140", f"weights have {_mixture(output)}; {_storage_note(output)}"))
    elif weights < 8 and not job.requested.layer_bits:
        kept = "" if job.requested.all_layers else ", those of the first and last layer 8"
        warnings.append(coded("W140", f"weights have {weights} bits{kept}; {_storage_note(output)}"))
    if "simulated" in facts:
        fewest = min(output.integer.quantizations[name].bits or 8 for name in output.integer.narrow())
        text = (
            f"{fewest}-bit activations are simulated: no runtime saturates below 8 bits. Accuracy is the exact "
            "reference's; the file stores int8, its activations keep all 8 bits, and it computes something else"
        )
        warnings.append(coded("W141", text))
    if job.input_transform.border:
        text = (
            f"the border of padding layers is {job.input_transform.border:.2g} of a pixel off: 256 pixels and a mean "
            "between two of them do not fit into 8 bits"
        )
        warnings.append(coded("W142", text))
    wide = [node.name for node in output.integer.nodes if output.integer.quantizations[node.name].dtype == "int16"]
    if wide:
        some = "" if len(wide) == len(output.integer.nodes) else f" in {len(wide)} of {len(output.integer.nodes)} ops"
        text = f"activations have 16 bits{some}: XNNPACK has no such kernels, LiteRT's own run them, and are slower"
        warnings.append(coded("W143", text))
    if not any(facts.get(section) for section in ("accuracy", "regression", "embedding")):
        warnings.append(coded("W114", "accuracy was not measured: the model names no evaluation images"))
    if job.target.machine != this_machine().architecture:
        warnings.append(elsewhere(this_machine().architecture, job.target.machine))
    if slow := slow_here(this_machine().architecture, job.target.format, job.target.activations):
        warnings.append(slow)
    census = facts["census"]
    # Where the runtime adds transposes of its own, nothing tells them from ours.
    moved = 0 if form.moves_layouts else census["transposes"]
    if census["float_ops"] or census["quantize"] or census["dequantize"]:
        warnings.append(coded("W210", "the runtime did not keep the network all-integer: see the census"))
    if moved:
        text = f"values are moved in memory by {moved} transpose{'s' * (moved > 1)}, which take time"
        warnings.append(coded("W211", text))
    if not facts["latency"]["valid"]:
        warnings.append(coded("W220", f"latency is not to be believed: {facts['latency'].get('reason')}"))
    return list(dict.fromkeys(warnings))


def _widths(output: BuildOutput, name: str) -> dict[str, Any]:
    """Bits of an op's weights and output, and the type the weights have in the file."""
    grids = output.integer.quantizations
    weights = _weight_grids(output).get(name)
    facts: dict[str, Any] = {"activation_bits": grids[name].bits or (16 if grids[name].dtype == "int16" else 8)}
    if weights is None:
        return facts
    bits = weights.bits or 8
    packed = bits <= 4 and facts["activation_bits"] != 16
    return facts | {"weight_bits": bits, "weight_storage": output.facts["weight_storage"] if packed else "int8"}


def _weight_grids(output: BuildOutput) -> dict[str, Quantization]:
    """The grids of the weights of every convolution and linear layer, by the layer's name."""
    layers = output.integer.layers()
    return {node.name: output.integer.quantizations[node.inputs[1]] for node in layers}


def _mixture(output: BuildOutput) -> str:
    """How many layers have weights of how many bits, most layers first."""
    counts = Counter(grid.bits or 8 for grid in _weight_grids(output).values())
    return ", ".join(f"{bits} bits in {count} layers" for bits, count in counts.most_common())


def _storage_note(output: BuildOutput) -> str:
    """What few-bit weights take in the file, and what that costs."""
    grids, layers = output.integer.quantizations, [*output.integer.layers()]
    packed = sum((grids[n.inputs[1]].bits or 8) <= 4 and grids[n.name].dtype == "int8" for n in layers)
    if output.facts["weight_storage"] != "int4" or not packed:
        return "all are stored as int8, so the file is no smaller for it"
    return (
        f"those of {packed} layer{'s' * (packed > 1)} are stored as int4, two a byte, which XNNPACK leaves to slower "
        "kernels in convolutions: --weight-storage int8 is larger and faster"
    )


def command_of(config: BuildConfig) -> str:
    """The command line that builds this again, or the Python call for a module that no file holds."""
    if config.model is None:
        given = {"target": config.target} | {
            name: getattr(config, name)
            for name, setting in settings_of(BuildConfig).items()
            if name not in ("model", "targets", "cache", "force") and getattr(config, name) != setting.default
        }
        return f"edgeq.build(model, {', '.join(f'{name}={portable(value)!r}' for name, value in given.items())})"
    return shlex.join(portable(config.arguments()))


def write_folder(
    output: BuildOutput,
    report: Mapping[str, Any],
    folder: Path,
    locked: Locked | None = None,
    *,
    disagreements: bytes | None = None,
) -> None:
    """Fill a folder beside `folder` and swap it in; a failure leaves what was there. `disagreements` is a PNG.

    Raises `NotReproduced`, before anything is written, where the files are not those of `locked`.
    """
    sheet = contact_sheet(output.calibration, output.job.input_transform.spec.mean, output.job.input_transform.spec.std)
    files = {
        **{source.name: source.read_bytes() for source in (output.artifact, output.baseline)},
        "integer.safetensors": output.written.to_bytes(),
        "calibration.npz": output.calibration.to_bytes(),
        "calibration.png": sheet,
    }
    if output.integer is not output.written:
        files["simulated.safetensors"] = output.integer.to_bytes()
    if output.answers is not None:
        files[ANSWERS] = output.answers.read_bytes()
    contents = build_lock(
        output.inputs,
        stages=output.facts["made_with"],
        integer_sha256=output.written.digest(),
        calibration=report["synthesis"],
        artifact=output.file(),
        files=files,
        runtime=report["conditions"]["runtime"],
    )
    if locked is not None:
        locked.check_files(contents["files"])
    with stage_folder(folder, BUILD) as staging:
        for name, data in files.items():
            write_atomic(staging / name, data)
        write_atomic(staging / "report.json", to_text(report))
        if disagreements is not None:
            write_atomic(staging / "disagreements.png", disagreements)
        write_page(staging, report, folder, command_of(output.job.requested))
        write_atomic(staging / MARKER, lock_text(contents))
        if "devices" in report and (folder / "device.json").is_file():  # rows that an earlier build had
            shutil.copyfile(folder / "device.json", staging / "device.json")
