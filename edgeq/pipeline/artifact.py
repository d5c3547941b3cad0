"""The artifact folder: the exported file with its report, lock and pictures, swapped in whole.

model.tflite | model.onnx    the integer model
float.tflite | float.onnx    the same network in float32, what it is compared with
integer.safetensors          the IntegerGraph both came from
calibration.npz, .png        the images that set its ranges
report.json, report.html     what was measured
edgeq.lock                   what it depended on
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.config.build import BuildConfig
from edgeq.config.targets import Target
from edgeq.data.calibration import CalibrationSet
from edgeq.files import staged, write_atomic
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.measure.conditions import this_machine
from edgeq.model.load import LoadedModel
from edgeq.products import BUILD, MARKER
from edgeq.quant.bits import parse_bits
from edgeq.quant.input_transform import FORMS, Intake, raw_input
from edgeq.report.cautions import accuracy_cautions, layer_cautions
from edgeq.report.device import elsewhere, slow_here
from edgeq.report.html import render
from edgeq.report.lock import build_lock, lock_text, portable
from edgeq.report.locked import Locked
from edgeq.report.schema import build_report, to_text
from edgeq.synth.base import JOINED
from edgeq.synth.sheet import contact_sheet
from edgeq.versions import package_versions

__all__ = ["Made", "command_of", "report_of", "write_folder"]


MISTAKEN = 0.5
"""Share of images not answered as they were made to be, above which something is wrong: trained networks have few."""


@dataclass(frozen=True)
class Made:
    """Everything a finished build made and noted. `inputs` is the part of its lock that was known before it began.
    `facts` are the stages' own: layers, exactness, census, accuracy."""

    config: BuildConfig
    target: Target
    loaded: LoadedModel
    inputs: Mapping[str, Any]
    graph: Graph
    intake: Intake
    method: str
    method_reason: str
    calibration: CalibrationSet
    integer: IntegerGraph
    artifact: Path
    baseline: Path
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]

    def file(self) -> dict[str, Any]:
        data = self.artifact.read_bytes()
        return {"path": self.artifact.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def report_of(made: Made) -> dict[str, Any]:
    """report.json's contents."""
    dead = made.facts["dead_channels"]
    per_op = made.facts["exactness"]["per_op"]
    layers = []
    for row in made.facts["layers"]:
        values, equal, step = per_op.get(row["name"], (0, 0, 0))
        extra = {"equal": equal / values, "max_step": step} if values else {}
        layers.append({**row, **_widths(made, row["name"]), "dead_channels": dead.get(row["name"], 0), **extra})
    latency = made.facts["latency"]
    return build_report(
        edgeq=package_versions(("edgeq",))["edgeq"],
        model=made.loaded.spec.name,
        network={
            "input": list(made.loaded.spec.input_shape),
            "parameters": made.graph.parameters(),
            "macs": made.graph.macs(),
            "nodes": len(made.graph.nodes),
        },
        target=made.target.name,
        method=made.method if not made.method.startswith("images:") else made.calibration.method,
        method_reason=made.method_reason,
        bits=made.config.bits,
        seed=made.config.seed,
        artifact=made.file(),
        float_bytes=made.baseline.stat().st_size,
        census=made.facts["census"],
        exactness=made.facts["exactness"],
        accuracy=_portable(made.facts["accuracy"]),
        latency=latency,
        synthesis={
            "method": made.calibration.method,
            "images": len(made.calibration),
            "seconds": made.seconds["synthesize"],
            "sha256": made.calibration.digest(),
            "notes": dict(made.calibration.notes),
            "device": made.facts["made_on"],
        },
        raw_pixels=_raw_pixels(made),
        simulated=made.facts.get("simulated"),
        finetune=made.facts.get("finetune"),
        seconds=made.seconds,
        conditions=this_machine().to_json()
        | {"packages": package_versions()}
        | {key: latency["conditions"][key] for key in ("runtime", "kernels")},
        layers=layers,
        dead_channels=sum(dead.values()),
        equalized=made.facts["equalized"] or None,
        warnings=_warnings(made),
    )


def _raw_pixels(made: Made) -> dict[str, Any] | None:
    intake = made.intake
    if not intake.raw:
        return None
    return {
        "form": intake.form,
        "normalisation": FORMS[intake.form],
        "why": intake.why,
        "type": made.facts["io"],
        "input": raw_input(made.facts["io"]),
        "mean": list(intake.spec.mean),
        "std": list(intake.spec.std),
        "border": intake.border,
        "macs": intake.added_macs,
    }


def _portable(accuracy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Where images lie on this machine is nobody's business elsewhere."""
    return None if accuracy is None else {**accuracy, "images": Path(accuracy["images"]).name}


def _warnings(made: Made) -> list[str]:
    """What a person should know before believing or shipping this: what makes its numbers worthless first."""
    spec, facts = made.loaded.spec, made.facts
    found = [*accuracy_cautions(facts["accuracy"]), *layer_cautions(facts["layers"])]
    if note := facts.get("labels"):
        found.insert(0, note)
    exactness = facts["exactness"]
    if made.target.format == "tflite" and exactness["equal"] != exactness["values"]:
        found.insert(0, f"the file differs from the reference first at {exactness['first_difference']}")
    if spec.assumed:
        found.append(f"nobody stated {' and '.join(spec.assumed)}: ImageNet's values were assumed")
    if set(made.method.split(JOINED)) <= {"noise", "uniform"}:
        found.append(f"calibrated on {made.method}: ranges of noise are not ranges of pictures")
    wrong = made.calibration.notes.get("wrong", 0.0)
    if wrong > MISTAKEN:
        found.append(
            f"the network sees another class than meant in {wrong:.0%} of its own images: are weights, mean and std "
            "the ones it was trained with? Ranges may not be those of pictures"
        )
    found += facts.get("notes", [])
    weights, _ = parse_bits(made.config.bits)
    if made.config.layer_bits and any((grid.bits or 8) < 8 for grid in _weight_grids(made).values()):
        found.append(f"weights have {_mixture(made)}; {_stored(made)}")
    elif weights < 8 and not made.config.layer_bits:
        kept = "" if made.config.all_layers else ", those of the first and last layer 8"
        found.append(f"weights have {weights} bits{kept}; {_stored(made)}")
    if "simulated" in facts:
        fewest = min(made.integer.quantizations[name].bits or 8 for name in made.integer.narrow())
        found.append(
            f"{fewest}-bit activations are simulated: no runtime saturates below 8 bits. Accuracy is the exact "
            "reference's; the file stores int8, its activations keep all 8 bits, and it computes something else"
        )
    if made.intake.border:
        found.append(f"the border of padding layers is {made.intake.border:.2g} of a pixel off: 256 pixels and a mean "
                     "between two of them do not fit into 8 bits")  # fmt: skip
    wide = [node.name for node in made.integer.nodes if made.integer.quantizations[node.name].dtype == "int16"]
    if wide:
        some = "" if len(wide) == len(made.integer.nodes) else f" in {len(wide)} of {len(made.integer.nodes)} ops"
        found.append(
            f"activations have 16 bits{some}: XNNPACK has no such kernels, LiteRT's own run them, and are slower"
        )
    if facts["accuracy"] is None:
        found.append("accuracy was not measured: the model names no evaluation images")
    if made.target.machine != this_machine().architecture:
        found.append(elsewhere(this_machine().architecture, made.target.machine))
    if slow := slow_here(this_machine().architecture, made.target.format, made.target.activations):
        found.append(slow)
    census = facts["census"]
    # onnxruntime moves between its layouts with transposes of its own; in a TFLite file each one is ours.
    moved = census["transposes"] if made.target.format == "tflite" else 0
    if census["float_ops"] or census["quantize"] or census["dequantize"]:
        found.append("the runtime did not keep the network all-integer: see the census")
    if moved:
        found.append(f"values are moved in memory by {moved} transpose{'s' * (moved > 1)}, which take time")
    if not facts["latency"]["valid"]:
        found.append(f"latency is not to be believed: {facts['latency'].get('reason')}")
    return list(dict.fromkeys(found))


def _widths(made: Made, name: str) -> dict[str, Any]:
    """Bits of an op's weights and output, and the type the weights have in the file."""
    grids = made.integer.quantizations
    weights = _weight_grids(made).get(name)
    facts: dict[str, Any] = {"activation_bits": grids[name].bits or (16 if grids[name].dtype == "int16" else 8)}
    if weights is None:
        return facts
    bits = weights.bits or 8
    packed = bits <= 4 and facts["activation_bits"] != 16
    return facts | {"weight_bits": bits, "weight_storage": made.facts["weight_storage"] if packed else "int8"}


def _weight_grids(made: Made) -> dict[str, Quantization]:
    """Of every convolution and linear layer, by its name."""
    layers = made.integer.layers()
    return {node.name: made.integer.quantizations[node.inputs[1]] for node in layers}


def _mixture(made: Made) -> str:
    """How many layers have weights of how many bits, most layers first."""
    counts = Counter(grid.bits or 8 for grid in _weight_grids(made).values())
    return ", ".join(f"{bits} bits in {count} layers" for bits, count in counts.most_common())


def _stored(made: Made) -> str:
    """What few-bit weights take in the file, and what that costs."""
    grids, layers = made.integer.quantizations, [*made.integer.layers()]
    packed = sum((grids[n.inputs[1]].bits or 8) <= 4 and grids[n.name].dtype == "int8" for n in layers)
    if made.facts["weight_storage"] != "int4" or not packed:
        return "all are stored as int8, so the file is no smaller for it"
    return (
        f"those of {packed} layer{'s' * (packed > 1)} are stored as int4, two a byte, which XNNPACK leaves to slower "
        "kernels in convolutions: --weight-storage int8 is larger and faster"
    )


def command_of(config: BuildConfig) -> str:
    """The command line that builds this again."""
    return shlex.join(portable(config.arguments()))


def write_folder(made: Made, report: Mapping[str, Any], folder: Path, locked: Locked | None = None) -> None:
    """Fill a folder beside `folder` and swap it in; a failure leaves what was there.

    Raises `NotReproduced`, before anything is written, where the files are not those of `locked`.
    """
    sheet = contact_sheet(made.calibration, made.intake.spec.mean, made.intake.spec.std)
    files = {
        **{source.name: source.read_bytes() for source in (made.artifact, made.baseline)},
        "integer.safetensors": made.integer.to_bytes(),
        "calibration.npz": made.calibration.to_bytes(),
        "calibration.png": sheet,
    }
    contents = build_lock(
        made.inputs,
        stages=made.facts["made_with"],
        integer_sha256=made.integer.digest(),
        calibration=report["synthesis"],
        artifact=made.file(),
        files=files,
        runtime=report["conditions"]["runtime"],
    )
    if locked is not None:
        locked.check_files(contents["files"])
    with staged(folder, BUILD) as staging:
        for name, data in files.items():
            write_atomic(staging / name, data)
        write_atomic(staging / "report.json", to_text(report))
        rebuild = command_of(made.config)
        write_atomic(staging / "report.html", render(report, pictures=[sheet], folder=str(folder), rebuild=rebuild))
        write_atomic(staging / MARKER, lock_text(contents))
        if "devices" in report and (folder / "device.json").is_file():  # rows that an earlier build had
            shutil.copyfile(folder / "device.json", staging / "device.json")
