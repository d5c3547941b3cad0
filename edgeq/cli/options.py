"""Click options made from the fields of the settings classes, so that flag, variable and file never drift apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from edgeq.cli.shell import say
from edgeq.config.build import Budget, BuildConfig, Effective, Setting, settings_of
from edgeq.config.settings import MOST_SECONDS, MOST_THREADS

__all__ = [
    "AMOUNT",
    "SECONDS",
    "THREADS",
    "complete_model",
    "config_option",
    "program_option",
    "say_file",
    "settings_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])


class _FiniteRange(click.FloatRange):
    """A range of numbers that NaN is outside of; click compares it with the ends, and no comparison fails."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class _Duration(_FiniteRange):
    """A duration: a number of seconds, or one with a unit, as in ``90s``, ``30m`` or ``2h``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        unit = {"s": 1, "m": 60, "h": 3600}.get(value[-1:].lower()) if isinstance(value, str) else None
        if unit is None:
            return super().convert(value, param, ctx)
        return super().convert(value[:-1], param, ctx) * unit


SECONDS = _Duration(0, MOST_SECONDS)
"""The type of an option that is a duration."""

AMOUNT = _FiniteRange(0, 1e9)
"""The type of an option that is any number of at least 0."""

THREADS = click.IntRange(1, MOST_THREADS)
"""The type of an option that is a number of threads."""

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="settings file [default: the nearest edgeq.toml, in this folder or above it]",
)
"""The settings file of a command that reads one."""

program_option = click.option(
    "--benchmark-model",
    "program",
    type=click.Path(path_type=Path),
    help="what runs TFLite files on Android [default: what EDGEQ_BENCHMARK_MODEL names]",
)
"""The option with the path of the tool that runs files on Android."""


def complete_model(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a shell offers for MODEL: the names of shipped networks, and files."""
    from edgeq.model.modeltoml import shipped_models  # loads numpy, which help does without

    return [*(CompletionItem(name) for name in shipped_models() if name.startswith(begun)), _FILES]


def _completer(setting: Setting) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What a shell offers as the value of `setting`: its choices, else files."""

    def complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
        if setting.name == "targets":
            from edgeq.config.targets import target_names

            choices = target_names()
        elif setting.kind.metavar.startswith("["):
            choices = setting.kind.metavar.strip("[]").split("|")
        else:
            return [_FILES]
        return [CompletionItem(name) for name in choices if name.startswith(begun)]

    return complete


_FILES = CompletionItem("", type="file")


def settings_options(
    kind: type[BuildConfig] | type[Budget], skip: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Decorator: an option per setting of `kind`. Values arrive as typed (None: not given), for `resolve` to parse."""

    def decorate(command: Command) -> Command:
        for setting in reversed(settings_of(kind).values()):
            if setting.name in skip:
                continue
            unset = setting.default in (None, ()) or setting.kind.switch
            shown = "" if unset else f" [default: {_text(setting.default)}]"
            if setting.kind.switch:
                flag = f"{setting.flag}/--no-{setting.flag[2:]}"
                option = click.option(flag, setting.name, default=None, help=setting.help)
            else:
                option = click.option(
                    setting.flag,
                    *(["-o"] if setting.name == "output" else []),
                    setting.name,
                    metavar=setting.kind.metavar,
                    multiple=setting.kind.repeated,
                    help=setting.help + shown,
                    shell_complete=_completer(setting),
                )
            command = option(command)
        return command

    return decorate


def say_file(effective: Effective, given: Path | None) -> None:
    """Name the settings file where it was found above this folder, and what of it was left out and why.

    `given` is the file that was named on the command line.
    """
    if given is None and effective.file is not None and effective.file.is_absolute():
        say(f"edgeq: settings from {effective.file}")
    if effective.unused:
        say(f"edgeq: {effective.file} is about another network: its {', '.join(effective.unused)} are left out")


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
