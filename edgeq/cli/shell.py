"""A click group that loads a command when it is used, and turns every failure into one line and an exit status.

0 done; 1 a gate failed; 2 wrong input or settings; 3 the network is not supported; 4 a device could not be reached;
5 a measurement must not be believed; 70 a bug in edgeq; 130 interrupted; 141 the reader of our output went away;
129 and 143 ended by SIGHUP or SIGTERM.

All that edgeq prints goes through this module and `edgeq.cli.terminal`, which escape it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from edgeq.errors import ConfigError, EdgeqError, printable
from edgeq.registry import closest

__all__ = [
    "BUG",
    "INTERRUPTED",
    "PIPE_CLOSED",
    "Shell",
    "columns",
    "echo",
    "end_in_order",
    "print_json",
    "report_error",
    "say",
]

BUG, INTERRUPTED, PIPE_CLOSED = 70, 130, 141
SIGNALLED = 128
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP

_ALWAYS = ("doctor", "explain", "completion")
"""Verbs that work although a variable is misspelt: they help to find that out."""

CODES = {"usage": "E201", "system": "E270", "memory": "E280", "bug": "E700"}
"""Codes of failures that are no `EdgeqError`."""


def say(text: str) -> None:
    """Write a line for a person to standard error: standard output holds results only."""
    click.echo(printable(text, keep="\n\t"), err=True)


def echo(text: str) -> None:
    """Write a line of a result to standard output."""
    click.echo(printable(text, keep="\n\t"))


def print_json(value: Any) -> None:
    """Write a result for a program to standard output. JSON knows no NaN or infinity: they become null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str)
    # JSON itself escapes the first 32 characters only.
    click.echo("".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text))


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Write aligned columns to standard output; the last is not padded."""
    shown = [[printable(text) for text in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))] if shown else []
    for row in shown:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _escape(error: click.ClickException) -> None:
    code = f" [{CODES['usage']}]" if isinstance(error, click.UsageError) else ""
    text = printable(error.format_message(), keep="\n").removesuffix(code) + code
    vars(error)["format_message"] = lambda: text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def end_in_order() -> None:
    """Make an ordinary exit of SIGTERM and SIGHUP, so that connections, processes and temporary folders are left.

    A second signal does not disturb the first one's tidying. Whoever ignores SIGHUP, as `nohup` does, keeps doing so.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    say(f"edgeq: ended by {signal.Signals(number).name}")
    sys.exit(SIGNALLED + number)


class Shell(click.Group):
    """`sections` maps a heading of the help to verbs, and each verb to ``module:command``."""

    def __init__(
        self,
        name: str,
        sections: Mapping[str, Mapping[str, str]],
        *,
        help: str,  # noqa: A002  # click's word
    ) -> None:
        super().__init__(
            name, help=help, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
        )
        self._sections = sections
        self._table = {verb: place for verbs in sections.values() for verb, place in verbs.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, _, name = self._table[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of verbs per section."""
        room = formatter.width - 6 - max(map(len, self._table))
        for heading, verbs in self._sections.items():
            with formatter.section(heading):
                commands = {verb: self.get_command(ctx, verb) for verb in verbs}
                formatter.write_dl([(v, c.get_short_help_str(room)) for v, c in commands.items() if c is not None])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command as click does, and answer a misspelt one with the nearest."""
        meant = closest(args[0], list(self._table)) if args and args[0] not in self._table else ""
        if meant and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        if not ctx.resilient_parsing and args and args[0] not in _ALWAYS:
            from edgeq.config.build import refuse_misspelt

            refuse_misspelt(os.environ)
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:  # click repeats what was typed, or what a shell made of *
            _escape(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        status = 0
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # so that a closed pipe shows here and not while the interpreter shuts down
            return result
        except click.ClickException as error:
            _escape(error)
            raise
        except click.exceptions.Exit:
            raise
        except (KeyboardInterrupt, click.Abort):
            resumes = ctx.invoked_subcommand in ("build", "synth")
            say(f"edgeq: interrupted{' (the same command goes on from what is finished)' * resumes}")
            status = INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = PIPE_CLOSED
        except Exception as error:
            status = report_error(error)
        return ctx.exit(status)


def report_error(error: Exception, who: str = "edgeq") -> int:
    """Say in one line what went wrong in `who`, with its code, and return the exit status that goes with it."""
    if os.environ.get("EDGEQ_TRACEBACK"):
        say("".join(traceback.format_exception(error)).rstrip())
    text, code, status = _describe(error)
    say(f"{who}: {text} [{code}]")
    return status


def _describe(error: Exception) -> tuple[str, str, int]:
    """What went wrong, its code for `edgeq explain`, and the exit status."""
    if isinstance(error, EdgeqError):
        return str(error), error.code, error.exit_status
    if isinstance(error, OSError):  # a full disk, a folder that may not be written: the machine's state, not a bug
        named = f" {error.filename}" if error.filename else ""
        return f"cannot write or read{named}: {error.strerror or error}", CODES["system"], 2
    last = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, ValueError) and last.startswith("embedded null"):
        return "a path holds a NUL character", ConfigError.code, ConfigError.exit_status
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported to say so
        hint = "CUDA_VISIBLE_DEVICES= computes on the processor"
        return f"the GPU has too little memory: {last} ({hint})", CODES["memory"], 2
    if isinstance(error, MemoryError) or "can't allocate memory" in last:  # numpy's and torch's
        return f"too little memory: {last} (fewer --images or --threads need less)", CODES["memory"], 2
    hint = "run again with EDGEQ_TRACEBACK=1 and report the output"
    return f"bug: {type(error).__name__}: {last} ({hint})", CODES["bug"], BUG
