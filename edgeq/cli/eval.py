"""`edgeq eval`: accuracy of a file on a device, and how many of its outputs are those of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import program_option
from edgeq.cli.shell import columns, echo, print_json, say
from edgeq.errors import ConfigError

if TYPE_CHECKING:  # numpy takes a while to import
    from edgeq.model.spec import ModelSpec

__all__ = ["evaluate"]


@click.command("eval")
@click.argument("paths", metavar="ARTIFACT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", help="labelled images: .npz, class folders or .csv [default: those model.toml names]")
@click.option("--model", help="what says size, mean and std of images [default: what the build's folder names]")
@click.option(
    "--raw-pixels", "raw", is_flag=True, help="the file takes pixels as they are [default: what its build says]"
)
@click.option("--device", "-d", "devices", multiple=True, default=("local",), show_default=True, help="may be repeated")
@click.option("--runtime", help="litert, tflite-runtime or onnxruntime [default: that of the file's format]")
@click.option("--limit", type=click.IntRange(1), help="that many images, evenly spaced")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="threads of the runtime")
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="seconds the device may take")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="wait that long for a busy device")
@program_option
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def evaluate(paths: tuple[Path, ...], devices: tuple[str, ...], as_json: bool, **asked: Any) -> None:
    """Run ARTIFACTs, builds' folders or any .tflite or .onnx, over labelled images on devices and here.

    \b
    edgeq eval build/resnet20-tflite-arm --data test.npz --device pi@raspberrypi
    edgeq eval theirs.tflite --model resnet20/model.toml --data test.npz --device emulator:cortex-a72 --limit 200
    """
    results = [facts for path in paths for facts in _answered(path, devices, asked)]
    if as_json:
        print_json(results[0] if len(results) == 1 else results)
    elif len(results) == 1:
        _tell(results[0])
    else:
        _table(results)


def _answered(path: Path, devices: tuple[str, ...], asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from edgeq.data.evaluation import load_images
    from edgeq.device.open import full_name, open_device
    from edgeq.pipeline.ondevice import eval_on, fed_as, find_artifact, setup_for

    artifact = find_artifact(path)
    spec, where = _prepared(path, asked["model"], asked["data"])
    spec = fed_as(artifact, spec, asked["raw"])
    images = load_images(where, spec, asked["limit"])
    setup = setup_for(artifact, asked["runtime"], asked["threads"], asked["program"])
    for name in map(full_name, devices):
        say(f"{artifact.name}: {len(images)} images on {name}")
        with open_device(name, runtime=setup.runtime, patience=asked["wait"]) as device:
            yield {**eval_on(device, artifact, setup, spec, images, timeout=asked["timeout"]), "device": name}


def _prepared(path: Path, model: str | None, data: str | None) -> tuple[ModelSpec, str]:
    """How images become the file's input, and where they are. Only what the user named is imported."""
    from edgeq.model.load import load_model
    from edgeq.pipeline.origin import read_origin

    if model:
        spec = load_model(model).spec
        where = data or spec.evaluation
        if not where:
            raise ConfigError("no labelled images", hint="--data test.npz")
        return spec, where
    origin = read_origin(path) if path.is_dir() else None
    if origin is None:
        raise ConfigError(f"{path} does not say how its images are prepared", hint="name the model: --model model.toml")
    return origin.spec, data or origin.images(path)


def _tell(facts: dict[str, Any]) -> None:
    there, here, outputs = facts["device_accuracy"], facts["host_accuracy"], facts["outputs"]
    metric, score = facts["metric"], f"{there['score']:.2f} %, here {here['score']:.2f} %"
    echo(f"{facts['runtime']} on {facts['device']}: {metric} {score}")
    what = {"mIoU": "pixels", "mAP@0.5": "the boxes"}.get(metric, f"{facts['images']} images")
    echo(f"same answer to {100 * facts['agreement']:.2f} % of {what}")
    unit = "step" if outputs["integer"] else ""
    echo(
        f"{100 * outputs['equal']:.3f} % of {outputs['values']:,} output values equal, "
        f"largest difference {outputs['max_difference']:.4g} {unit}".rstrip()
    )


def _table(results: list[dict[str, Any]]) -> None:
    rows = [["artifact", "device", "runtime", "images", "score", "there %", "here %", "same answers", "equal values"]]
    for facts in results:
        there, here = facts["device_accuracy"]["score"], facts["host_accuracy"]["score"]
        rows.append([
            facts["artifact"], facts["device"], facts["runtime"], str(facts["images"]), facts["metric"],
            f"{there:.2f}", f"{here:.2f}", f"{100 * facts['agreement']:.2f} %",
            f"{100 * facts['outputs']['equal']:.3f} %",
        ])  # fmt: skip
    columns(rows)
