"""`edgeq build`: one build per target, progress while it runs, a summary a person can read at the end."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import complete_model, config_option, program_option, say_file, settings_options
from edgeq.cli.shell import echo, print_json, say
from edgeq.config.build import BuildConfig, resolve
from edgeq.config.targets import load_target
from edgeq.errors import UnsupportedError
from edgeq.report.believable import check_believable
from edgeq.threads import one_operation_at_a_time

if TYPE_CHECKING:
    from edgeq.report.locked import Locked

__all__ = ["build"]


@click.command()
@click.argument("model", required=False, shell_complete=complete_model)
@settings_options(BuildConfig, skip=("model",))
@config_option
@program_option
@click.option(
    "--locked",
    "lock",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="build what an edgeq.lock (or the build in a folder) says, and insist on the same bytes",
)
@click.option("--plan", is_flag=True, help="print stages, shapes, sizes and unsupported ops; do no work")
@click.option("--print-config", is_flag=True, help="print every setting and where it came from; do no work")
@click.option("--print-recipe", is_flag=True, help="print what the effort is made of, as TOML for --recipe")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on standard output")
@click.option("--quiet", "-q", is_flag=True, help="no progress, no summary")
def build(
    file: Path | None,
    program: Path | None,
    lock: Path | None,
    plan: bool,
    print_config: bool,
    print_recipe: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Turn MODEL into an integer model for a target, and measure what was made.

    \b
    edgeq build net.py:make --weights net.pth --input-shape 3,32,32
    edgeq build resnet20/model.toml --target onnx-x86 --effort best
    edgeq build torchvision:mobilenet_v2 --weights mine.pth --method images:photos/ --target tflite-arm
    edgeq build resnet20/model.toml --recipe gznq.fine=60
    edgeq build resnet20/model.toml --locked theirs/edgeq.lock -o again

    MODEL is a name in models/, torchvision:NAME, timm:NAME, ultralytics:NAME, a model.toml, file.py:factory,
    package.module:factory or a .pt2. Without MODEL: what edgeq.toml in this folder names, else the model that ships
    with edgeq.
    """
    # These load numpy, which help does without.
    from edgeq.model.modeltoml import DEFAULT_MODEL
    from edgeq.report.locked import NotReproduced, load_locked

    effective = resolve(flags, os.environ, file)
    if print_config:
        if as_json:
            print_json(effective.to_json())
        else:
            echo(effective.to_toml().rstrip("\n"))
        return
    config = effective.config
    say_file(effective, file)
    locked = None if lock is None else load_locked(lock)
    if locked is not None:
        config = locked.config(effective)
    if config.model is None:
        say(f"edgeq: no MODEL and no model in edgeq.toml: building the shipped default, {DEFAULT_MODEL}")
        config = dataclasses.replace(config, model=DEFAULT_MODEL)
    targets = [load_target(name) for name in config.targets]  # a misspelt one is found before the first is built
    if print_recipe:
        _print_recipe(config.split()[0], as_json)
        return
    if config.devices and not plan:
        from edgeq.pipeline.ondevice import expect_device

        # so is a device that does not answer
        names = tuple(expect_device(name, targets, program) for name in config.devices)
        config = dataclasses.replace(config, devices=names)
    configs = config.split()
    if not plan:
        _check_outputs(configs)
    try:
        results = [_plan_one(one) if plan else _build_one(one, quiet, locked) for one in configs]
    except NotReproduced as error:
        if as_json:
            print_json({"locked": {"path": str(lock), "same": False, "differences": error.differences}})
        raise
    if config.devices and not plan:
        results = [
            _measure_on_devices(one, result, program, quiet) for one, result in zip(configs, results, strict=True)
        ]
    if len(configs) > 1 and not plan:
        from edgeq.pipeline.build import link_pages

        link_pages(configs, results)
    if as_json:
        same = {"locked": {"path": str(lock), "same": True, "differences": []}} if locked and not plan else {}
        rows = [result | same for result in results]
        print_json(rows[0] if len(rows) == 1 else rows)
    elif not quiet:
        _show(configs, results, plan)
        if locked is not None and not plan:
            say(f"edgeq: the same bytes as {locked.path}, in each of {len(locked.contents['files'])} files")
    if plan:
        _refuse(results)
    elif config.strict:
        for report in results:
            check_believable(report)


def _print_recipe(config: BuildConfig, as_json: bool) -> None:
    """Every setting of the methods that the build would use; the same for all targets."""
    from edgeq.config.recipe import recipe_toml
    from edgeq.pipeline.prepare import prepare
    from edgeq.threads import threads_restored

    with threads_restored():
        job = prepare(config)
    if as_json:
        print_json(job.recipe)
        return
    echo(f"# What --effort {config.effort} is made of here. Change it and give it back: edgeq build --recipe FILE")
    echo(recipe_toml(job.recipe))


def _check_outputs(configs: list[BuildConfig]) -> None:
    """Refuse every --output that may not be replaced before the first of several targets is built."""
    from edgeq.files import check_replaceable
    from edgeq.products import BUILD

    for config in configs:
        if config.output is not None:
            check_replaceable(config.output, BUILD)


def _measure_on_devices(
    config: BuildConfig, result: dict[str, Any], program: Path | None, quiet: bool
) -> dict[str, Any]:
    """``--device``: the finished build run there too. Returns its report with what was found."""
    from edgeq.pipeline.build import measure_on_devices

    def tell(line: str) -> None:
        if not quiet:
            say(f"edgeq: {line}")

    return measure_on_devices(config, result, program=program, say=tell)


def _refuse(plans: list[dict[str, Any]]) -> None:
    """A plan that cannot be carried out exits as the build would, after listing everything that stands in its way."""
    for facts in plans:
        refused = facts.get("unsupported") or []
        if refused:
            calls = f"{len(refused)} unsupported call{'s' * (len(refused) > 1)}"
            raise UnsupportedError(f"{facts['model']} cannot be built", why=calls)


def _plan_one(config: BuildConfig) -> dict[str, Any]:
    from edgeq.pipeline.build import plan

    return plan(config)


def _build_one(config: BuildConfig, quiet: bool, locked: Locked | None) -> dict[str, Any]:
    # torch takes seconds to import: say what is going on before, and only where work is really done.
    from edgeq.cli.progress import progress

    with progress(quiet) as shown:
        shown.stage("load")
        from edgeq.pipeline.build import build as run_build

        one_operation_at_a_time()
        return run_build(config, shown, locked)


def _show(configs: list[BuildConfig], results: list[dict[str, Any]], plan: bool) -> None:
    from edgeq.cli.summary import model_name, show_plan, show_report

    for config, result in zip(configs, results, strict=True):
        if plan:
            show_plan(result)
        else:
            show_report(result, config.output_folder(model_name(result)))
