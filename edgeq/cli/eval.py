"""`edgeq eval`: accuracy of a file on a device, and how many of its outputs are those of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import program_option
from edgeq.cli.shell import print_json, say
from edgeq.errors import ConfigError

__all__ = ["evaluate"]


@click.command("eval")
@click.argument("path", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.option("--data", help="labelled images: .npz, class folders or .csv [default: those model.toml names]")
@click.option("--model", help="what says size, mean and std of images [default: what the build's folder names]")
@click.option("--device", "-d", "name", default="local", show_default=True)
@click.option("--runtime", help="litert, tflite-runtime or onnxruntime [default: that of the file's format]")
@click.option("--limit", type=click.IntRange(1), help="that many images, evenly spaced")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="seconds the device may take")
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="wait that long for a busy device")
@program_option
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def evaluate(path: Path, name: str, as_json: bool, **asked: Any) -> None:
    """Run ARTIFACT, a build's folder or any .tflite or .onnx, over labelled images on a device and here.

    \b
    edgeq eval build/resnet20-tflite-arm --data test.npz --device pi@raspberrypi
    edgeq eval theirs.tflite --model resnet20/model.toml --data test.npz --device emulator:cortex-a72 --limit 200
    """
    from edgeq.data.evaluation import load_images
    from edgeq.device.open import full_name, open_device
    from edgeq.pipeline.ondevice import eval_on, find_artifact, setup_for
    from edgeq.zoo.load import load_model

    artifact = find_artifact(path)
    source = asked["model"] or artifact.source
    if source is None:
        raise ConfigError(f"{path} does not say how its images are prepared", hint="name the model: --model model.toml")
    spec = load_model(source).spec
    where = asked["data"] or spec.evaluation
    if not where:
        raise ConfigError("no labelled images", hint="--data test.npz")
    images = load_images(where, spec, asked["limit"])
    setup = setup_for(artifact, asked["runtime"], asked["threads"], asked["program"])
    name = full_name(name)
    say(f"{artifact.name}: {len(images)} images on {name}")
    with open_device(name, runtime=setup.runtime, patience=asked["wait"]) as device:
        facts = eval_on(device, artifact, setup, spec, images, timeout=asked["timeout"])
    if as_json:
        print_json(facts)
        return
    there, here, outputs = facts["device_accuracy"], facts["host_accuracy"], facts["outputs"]
    metric, score = facts["metric"], f"{there['score']:.2f} %, here {here['score']:.2f} %"
    click.echo(f"{facts['runtime']} on {name}: {metric} {score}")
    what = {"mIoU": "pixels", "mAP@0.5": "the boxes"}.get(metric, f"{facts['images']} images")
    click.echo(f"same answer to {100 * facts['agreement']:.2f} % of {what}")
    unit = "step" if outputs["integer"] else ""
    click.echo(
        f"{100 * outputs['equal']:.3f} % of {outputs['values']:,} output values equal, "
        f"largest difference {outputs['max_difference']:.4g} {unit}".rstrip()
    )
