"""`edgeq diagnose`: why a network loses in integers, and what to build instead."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import config_option, say_file, settings_options
from edgeq.cli.shell import print_json, say
from edgeq.config.build import BuildConfig, resolve, settings_of
from edgeq.errors import ConfigError, ConflictError
from edgeq.threads import one_operation_at_a_time

if TYPE_CHECKING:
    from edgeq.config.build import Effective

__all__ = ["diagnose"]

# What says where a build goes and how it is measured has no part in a diagnosis.
_UNUSED = ("model", "output", "bench_threads", "eval_limit", "devices", "strict", "force", "metadata")


@click.command()
@click.argument("what", metavar="MODEL|BUILD", required=False)
@settings_options(BuildConfig, skip=tuple(name for name in settings_of(BuildConfig) if name in _UNUSED))
@config_option
@click.option(
    "--locked",
    "lock",
    type=click.Path(path_type=Path),
    metavar="BUILD",
    help="diagnose the build in a folder, whose MODEL is Python code and must be named",
)
@click.option("--all", "every", is_flag=True, help="list every layer, not only the worst")
@click.option("--json", "as_json", is_flag=True, help="print the diagnosis as JSON on standard output")
@click.option("--quiet", "-q", is_flag=True, help="no progress")
def diagnose(
    what: str | None, file: Path | None, lock: Path | None, every: bool, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Say which layers of a network lose in integers, why, and what to build instead.

    \b
    edgeq diagnose torchvision:mobilenet_v2 --weights mine.pth --bits w4a8
    edgeq diagnose build/resnet20-tflite-arm
    edgeq diagnose net.py:make --locked build/net-make-tflite-arm

    MODEL is what edgeq build takes, with the same settings; BUILD is the folder of a finished build. Reads no
    evaluation image: the answers of the integer network are simulated on synthetic images that calibrated nothing, and
    held against the float network's. Each remedy was simulated, too, and helps there. The report of a BUILD gets the
    diagnosis, too.
    """
    from edgeq.model.modeltoml import DEFAULT_MODEL  # loads numpy, which help does without
    from edgeq.products import MARKER

    if what is not None and lock is None and (Path(what) / MARKER).is_file():
        lock, what = Path(what), None
    effective = resolve({**flags, "model": what}, os.environ, file)
    say_file(effective, file)
    config = effective.config if lock is None else _locked(lock, effective)
    if config.model is None:
        say(f"edgeq: no MODEL and no model in edgeq.toml: diagnosing the shipped default, {DEFAULT_MODEL}")
        config = dataclasses.replace(config, model=DEFAULT_MODEL)
    (config, *others) = config.split()
    if others:
        raise ConflictError("several targets", hint="diagnose one after the other")
    found = _run(config, lock if lock is not None and lock.is_dir() else None, quiet)
    if as_json:
        print_json(found)
    else:
        from edgeq.cli.diagnosis import show_diagnosis

        show_diagnosis(found, every=every)


def _locked(lock: Path, effective: Effective) -> BuildConfig:
    """The settings of a finished build. Raises `ConfigError` where only its lock names Python code."""
    from edgeq.report.locked import load_locked

    try:
        return load_locked(lock).config(effective)
    except ConfigError as error:
        if "names the model" not in error.what:
            raise
        hint = f"edgeq diagnose MODEL --locked {lock}"
        raise ConfigError(error.what, where=error.where, why=error.why, hint=hint) from error


def _run(config: BuildConfig, folder: Path | None, quiet: bool) -> dict[str, Any]:
    from edgeq.cli.progress import progress

    with progress(quiet) as shown:
        shown.stage("load")
        from edgeq.pipeline.diagnose import diagnose as run_diagnosis

        one_operation_at_a_time()
        return run_diagnosis(config, shown, folder=folder)
