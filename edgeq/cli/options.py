"""Click options made from the fields of the settings classes, so that flag, variable and file never drift apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeq.cli.shell import say
from edgeq.config.build import CONFIG_FILE, Budget, BuildConfig, Effective, settings_of

__all__ = ["program_option", "say_unused", "settings_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

program_option = click.option(
    "--benchmark-model",
    "program",
    type=click.Path(path_type=Path),
    help="what runs TFLite files on Android [default: what EDGEQ_BENCHMARK_MODEL names]",
)
"""Where Android's runner is on this machine."""


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
                )
            command = option(command)
        return command

    return decorate


def say_unused(effective: Effective, file: Path | None) -> None:
    """Name what the settings file says about a network that was not asked for."""
    if effective.unused:
        say(f"edgeq: {file or CONFIG_FILE} is about another network: its {', '.join(effective.unused)} are left out")


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
