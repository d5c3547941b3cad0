"""`edgeq eval`: accuracy of a file on a device, and how many of its outputs are those of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import SECONDS, THREADS, program_option
from edgeq.cli.shell import columns, echo, print_json, say

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
@click.option("--threads", type=THREADS, default=1, show_default=True, help="threads of the runtime")
@click.option("--timeout", type=SECONDS, default=3600.0, show_default=True, help="seconds the device may take")
@click.option("--wait", type=SECONDS, default=0.0, metavar="TIME", help="wait that long for a busy device, such as 10m")
@program_option
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def evaluate(paths: tuple[Path, ...], devices: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Run ARTIFACTs, builds' folders or any .tflite or .onnx, over labelled images on devices and here.

    \b
    edgeq eval build/resnet20-tflite-arm --data test.npz --device pi@raspberrypi
    edgeq eval theirs.tflite --model resnet20/model.toml --data test.npz --device emulator:cortex-a72 --limit 200
    """
    results = [_evaluate_one(path, device, options) for path in paths for device in devices]
    if as_json:
        print_json(results[0] if len(results) == 1 else results)
    elif len(results) == 1:
        _tell(results[0])
    else:
        _table(results)


def _evaluate_one(path: Path, device: str, options: dict[str, Any]) -> dict[str, Any]:
    from edgeq.pipeline.evaluate import evaluate_artifact

    return evaluate_artifact(path, device, say=say, **options)


def _tell(facts: dict[str, Any]) -> None:
    device, host, outputs = facts["device_accuracy"], facts["host_accuracy"], facts["outputs"]
    metric, where = facts["metric"], f"{facts['runtime']} on {facts['device']}"
    if "score" in device:
        echo(f"{where}: {metric} {device['score']:.2f} %, here {host['score']:.2f} %")
        pictures = f"{facts['images']} images"
        counted = {"mIoU": "pixels", "mAP@0.5": "the boxes", "verification": "the pairs"}
        echo(f"same answer to {100 * facts['agreement']:.2f} % of {counted.get(metric, pictures)}")
    else:
        echo(f"{where}: {metric} on {facts['images']} images")
    for there, here in zip(device.get("outputs", ()), host.get("outputs", ()), strict=True):
        unit = f" {there['unit']}" if there["unit"] else ""
        text = f"{there['name']}: answers {there['low']:.4g} to {there['high']:.4g}{unit}"
        if "mae" in there:
            text += f", mean error {there['mae']:.4g}{unit}, here {here['mae']:.4g}"
        echo(text)
    unit = "step" if outputs["integer"] else ""
    echo(
        f"{100 * outputs['equal']:.3f} % of {outputs['values']:,} output values equal, "
        f"largest difference {outputs['max_difference']:.4g} {unit}".rstrip()
    )


def _table(results: list[dict[str, Any]]) -> None:
    rows = [["artifact", "device", "runtime", "images", "score", "there %", "here %", "same answers", "equal values"]]
    for facts in results:
        scores = [facts[key].get("score") for key in ("device_accuracy", "host_accuracy")]
        device, host = ("-" if score is None else f"{score:.2f}" for score in scores)
        rows.append(
            [
                facts["artifact"],
                facts["device"],
                facts["runtime"],
                str(facts["images"]),
                facts["metric"],
                device,
                host,
                f"{100 * facts['agreement']:.2f} %",
                f"{100 * facts['outputs']['equal']:.3f} %",
            ]
        )
    columns(rows)
