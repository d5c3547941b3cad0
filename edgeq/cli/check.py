"""`edgeq check`: hold finished builds to a budget; exit 0 or 1."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import config_option, say_file, settings_options
from edgeq.cli.shell import echo, print_json, say
from edgeq.config.budget import Budgets, read_budgets
from edgeq.config.build import Budget, Effective, resolve
from edgeq.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from edgeq.report.check import CheckResult
    from edgeq.report.verdict import Undecided, Verdict

__all__ = ["check"]

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=FILE)
@settings_options(Budget)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="hold this one to the limits of devices; may be repeated [default: those of edgeq.toml, else all measured]",
)
@click.option(
    "--undecided",
    type=click.Choice(["pass", "fail"]),
    default="pass",
    show_default=True,
    help="what a limit means that so few images cannot decide",
)
@click.option(
    "--against",
    type=FILE,
    metavar="BASELINE",
    help="also compare with this build (or its report.json), or with the build of the same name in this folder",
)
@click.option("--budget", "budget_file", type=FILE, help="file with limits [default: budget.toml beside edgeq.toml]")
@config_option
@click.option("--junit", type=FILE, help="also write the verdict as JUnit XML to this file")
@click.option("--markdown", type=FILE, help="also write it as Markdown to this file, as $GITHUB_STEP_SUMMARY takes it")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on standard output")
@click.pass_context
def check(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    devices: tuple[str, ...],
    undecided: Undecided,
    against: Path | None,
    budget_file: Path | None,
    file: Path | None,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Hold builds to limits: exit 0 when all of them hold, 1 when one is missed.

    \b
    edgeq check build/resnet20-tflite-arm --max-drop 1.0 --min-agreement 0.97 --max-bytes 4M
    edgeq check build/* --junit check.xml --markdown check.md
    edgeq check build/* --against main-builds/ --undecided fail
    edgeq check                            every build that edgeq.toml names, held to budget.toml
    edgeq check build/resnet20-tflite-pi5 --device pi@raspberrypi --max-device-drop 1.0 --max-device-latency-ratio 0.8

    PATH is the folder of a build, or a folder that holds several. Limits come from the options, else the environment,
    else budget.toml, else [budget] in edgeq.toml; a table in "builds" of either file has limits of single builds.
    Before any limit, the report must be whole, the files those it was measured on, and the integers those that were
    predicted.

    Exit 2 when a build cannot be read or a setting is wrong, also where another build fails. A value that is missing or
    must not be believed misses its limit, which is exit 1.
    """
    from edgeq.report.baseline import find_baselines
    from edgeq.report.check import check as run_check
    from edgeq.report.junit import junit_xml
    from edgeq.report.markdown import verdict_markdown
    from edgeq.report.verdict import judge

    _check_places(junit, markdown)
    effective = resolve(flags | {"devices": devices}, os.environ, file)
    say_file(effective, file)
    budgets = read_budgets(flags, os.environ, effective.file, budget_file)
    folders = _folders(paths, effective)
    limits = _limits(folders, budgets, devices, against)
    baselines = find_baselines(against, folders) if against is not None else {}

    def check_one(folder: Path) -> tuple[CheckResult, Mapping[str, str]]:
        budget, origin = limits[folder]
        baseline = {"against": True, "baseline": baselines[folder]} if baselines else {}
        values = dataclasses.asdict(budget) | baseline
        return run_check(folder, **values, devices=effective.config.devices), origin

    verdict = judge(folders, check_one, undecided)
    _write(junit, junit_xml(verdict))
    _write(markdown, verdict_markdown(verdict))
    if as_json:
        print_json(verdict.to_json())
    else:
        _show(verdict)
    for build in verdict.builds:
        if build.error:
            say(f"edgeq: {build.error}")
    ctx.exit(verdict.exit_status)


def _check_places(*places: Path | None) -> None:
    """Refuse a file that cannot be written before anything is judged."""
    for place in places:
        if place is not None and (place.is_dir() or not place.absolute().parent.is_dir()):
            why = "it is a folder" if place.is_dir() else "its folder is not there"
            raise ArtifactError(f"cannot write {place}", why=why)


def _folders(paths: tuple[Path, ...], effective: Effective) -> list[Path]:
    """The builds that are meant, each once."""
    from edgeq.model.modeltoml import DEFAULT_MODEL
    from edgeq.report.builds import find_builds, named_builds

    if paths:
        return list(dict.fromkeys(folder for path in paths for folder in find_builds(path)))
    if effective.file is None:
        raise ConfigError("no build is named", hint="edgeq check build/NAME, or an edgeq.toml that names builds")
    return named_builds(effective.config, effective.config.model or DEFAULT_MODEL)


def _limits(
    folders: list[Path], budgets: Budgets, devices: tuple[str, ...], against: Path | None
) -> Mapping[Path, tuple[Budget, Mapping[str, str]]]:
    """What each build is held to. Raises `ConfigError` where that is nothing."""
    from edgeq.report.builds import build_name

    names = [build_name(folder) for folder in folders]
    limits = {folder: budgets.of(name) for folder, name in zip(folders, names, strict=True)}
    for folder, (budget, _) in limits.items():
        named = [name for name, limit in budget.against_baseline.items() if limit is not None]
        if against is None and named:
            say(f"edgeq: {folder}: {', '.join(named)} needs --against BASELINE, and is not judged")
        if against is None or devices:
            budget.refuse_empty(devices, str(folder))
    for where in budgets.unmatched(names):
        say(f"edgeq: {where} is about none of these builds")
    return limits


def _write(place: Path | None, text: str) -> None:
    from edgeq.files import write_atomic

    if place is not None:
        write_atomic(place, text)


def _show(verdict: Verdict) -> None:
    from edgeq.cli.verdict import show_check, show_checks

    if len(verdict.builds) > 1:
        show_checks([build.to_json() for build in verdict.builds])
        echo(verdict.summary)
    elif verdict.builds[0].result is not None:
        show_check(verdict.builds[0].to_json())
