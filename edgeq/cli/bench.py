"""`edgeq bench`: how long files take on devices, and whether to believe it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import SECONDS, THREADS, program_option
from edgeq.cli.shell import columns, echo, print_json, say
from edgeq.errors import ConfigError, TimingError
from edgeq.files import write_atomic

__all__ = ["bench"]


@click.command()
@click.argument("paths", metavar="ARTIFACT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--device", "-d", "devices", multiple=True, default=("local",), show_default=True, help="may be repeated")
@click.option("--runtime", help="litert, tflite-runtime or onnxruntime [default: that of the file's format]")
@click.option(
    "--threads",
    "--bench-threads",
    "threads",
    type=THREADS,
    default=1,
    show_default=True,
    help="threads of the runtime; --bench-threads, as in edgeq build, means the same",
)
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="whole measurements of each")
@click.option("--seconds", type=SECONDS, default=4.0, show_default=True, help="time given to each measurement")
@click.option("--cooldown", type=SECONDS, default=0.0, help="seconds to rest between warming up and measuring")
@click.option("--timeout", type=SECONDS, default=900.0, show_default=True, help="seconds the device may take")
@click.option("--wait", type=SECONDS, default=0.0, metavar="TIME", help="wait that long for a busy device, such as 10m")
@program_option
@click.option("--strict", is_flag=True, help="exit 5 when a measurement must not be believed")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="also write a page with table and bars"
)
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def bench(
    paths: tuple[Path, ...],
    devices: tuple[str, ...],
    repeat: int,
    strict: bool,
    page: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Time ARTIFACTs on devices: a build's folder, where integer and float file run in turns, or any file alone.

    \b
    edgeq bench build/resnet20-tflite-arm --device pi@raspberrypi
    edgeq bench a.tflite b.tflite --device pi@pi4 --device pi@pi5 --threads 4 --strict
    edgeq bench build/a-tflite-pi5 build/b-tflite-pi5 --device pi@pi4 --device adb:R58M1 --html compare.html
    """
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--html {page}", why="is written as a page, so its name must end in .html")
    from edgeq.measure.boards import with_comparison

    runs = [(path, device) for path in paths for device in devices for _ in range(repeat)]
    results = [_measure(path, device, options) for path, device in runs]
    results = with_comparison([str(path) for path, _ in runs], results)
    if as_json:
        print_json(results)
    else:
        _show(results)
    if page is not None:
        from edgeq.report.pages.bench import render_comparison

        write_atomic(page, render_comparison(results))
        say(f"page {page}")
    invalid = next((result for result in results if not result["valid"]), None)
    if strict and invalid:
        raise TimingError(
            f"latency of {invalid['artifact']} must not be believed",
            where=invalid["device"],
            why="; ".join(invalid["doubts"]),
            hint="remove the cause and run again",
        )


def _measure(path: Path, device: str, options: dict[str, Any]) -> dict[str, Any]:
    from edgeq.pipeline.bench import bench_artifact

    return bench_artifact(path, device, say=say, **options)


def _show(results: list[dict[str, Any]]) -> None:
    rows = [["artifact", "device", "threads", "ms", "p90", "float ms", "ratio", "peak MiB", "verdict"]]
    for result in results:
        row = [result["artifact"], result["device"], str(result["threads"])]
        times = result["latency"]
        if times is None:
            row += ["-"] * 4
        else:
            row += [_ms(times.get(key)) for key in ("integer_median_ms", "p90_ms", "float_median_ms")]
            row.append(f"{times['ratio']:.2f}" if "ratio" in times else "-")
        peak = result["peak_bytes"]
        row += [
            "-" if peak is None else f"{peak / 2**20:.0f}",
            "valid" if result["valid"] else "; ".join(result["doubts"]),
        ]
        rows.append(row)
    columns(rows)
    for line in dict.fromkeys(
        f"{r['artifact']} on {r['device']}: {note}" for r in results for note in r.get("notes", ())
    ):
        echo(line)
    from edgeq.measure.energy import energy_text

    for result in results:
        if "mj" in result.get("energy", ()):
            echo(f"{result['artifact']} on {result['device']}: {energy_text(result['energy'])}")
    unknown = {r["device"]: r["energy"]["reason"] for r in results if r.get("energy", {}).get("reason")}
    for name, reason in unknown.items():
        echo(f"{name}: energy is not known: {reason}")
    for name in sorted({result["device"] for result in results if result["expect_no_gain"]}):
        echo(f"{name} has no dot-product instructions: int8 may not beat float there")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
