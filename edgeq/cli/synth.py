"""`edgeq synth`: the calibration set alone, in forms other quantizers take."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import complete_model, config_option, say_file, settings_options
from edgeq.cli.shell import print_json, say
from edgeq.config.build import BuildConfig, resolve, settings_of
from edgeq.threads import one_operation_at_a_time

__all__ = ["synth"]

# The rest says what a build does with the images. `images` and `output` have words and a default of their own here.
_SETTINGS = (
    "weights",
    "input_shape",
    "mean",
    "std",
    "task",
    "method",
    "bits",
    "seed",
    "effort",
    "recipe",
    "threads",
    "cache",
    "force",
)


@click.command()
@click.argument("model", required=False, shell_complete=complete_model)
@click.option("-n", "--images", metavar="N", help=f"number of images [default: {BuildConfig().images}]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="folder to write [default: build/MODEL-METHOD]")
@settings_options(BuildConfig, skip=tuple(name for name in settings_of(BuildConfig) if name not in _SETTINGS))
@config_option
@click.option("--json", "as_json", is_flag=True, help="print statistics.json on standard output")
@click.option("--quiet", "-q", is_flag=True, help="no progress, no summary")
def synth(output: Path | None, file: Path | None, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Make the calibration images of MODEL and say how well they fit, without building anything.

    \b
    edgeq synth resnet20/model.toml -n 128 --method gznq -o calibration/
    edgeq synth torchvision:mobilenet_v2 --weights mine.pth -n 64

    The folder holds the set as calibration.npz (float32, normalised), images.npz and png/ (8 bits), a contact sheet and
    statistics.html. What a build has already made is taken from the cache, and the other way round.
    """
    from edgeq.model.modeltoml import DEFAULT_MODEL  # loads numpy, which help does without

    effective = resolve(flags, os.environ, file)
    config = dataclasses.replace(effective.config, output=output)
    say_file(effective, file)
    if config.model is None:
        say(f"edgeq: no MODEL and no model in edgeq.toml: using the shipped default, {DEFAULT_MODEL}")
        config = dataclasses.replace(config, model=DEFAULT_MODEL)
    facts = _run_synth(config, quiet)
    if as_json:
        print_json(facts)
    elif not quiet:
        from edgeq.cli.summary import show_synthesis

        show_synthesis(facts, _command(config, facts["folder"], facts["images"]))


def _command(config: BuildConfig, folder: str, images: int) -> str:
    """The build of the same network on all `images` in `folder`."""
    options = {
        name: getattr(config, name) for name in ("model", "weights", "input_shape", "mean", "std", "task", "targets")
    }
    return shlex.join(BuildConfig(**options, method=f"images:{folder}/images.npz", images=images).arguments())


def _run_synth(config: BuildConfig, quiet: bool) -> dict[str, Any]:
    from edgeq.cli.progress import progress

    with progress(quiet) as shown:
        shown.stage("load")
        from edgeq.pipeline.synth import synth as run_synth

        one_operation_at_a_time()
        return run_synth(config, shown)
