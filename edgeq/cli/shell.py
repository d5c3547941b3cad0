"""A click group that loads a command when it is used, and turns every failure into one line and an exit status.

0 done; 1 a gate failed; 2 wrong input or settings; 3 the network is not supported; 4 a device could not be reached;
5 a measurement must not be believed; 70 a bug in edgeq; 130 interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from edgeq.errors import EdgeqError
from edgeq.registry import closest

__all__ = ["BUG", "INTERRUPTED", "PIPE_CLOSED", "Shell", "columns", "explain", "print_json", "say"]

BUG, INTERRUPTED, PIPE_CLOSED = 70, 130, 141


def say(text: str) -> None:
    """A line for a person: standard error, so that standard output holds results only."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """A result for a program, on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on standard output; the last is not padded."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


class Shell(click.Group):
    """`table` maps verbs to ``module:command``."""

    def __init__(self, name: str, table: Mapping[str, str], *, help: str) -> None:  # noqa: A002  # click's word
        super().__init__(
            name, help=help, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
        )
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        module, _, name = self._table[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but a misspelt verb is answered with the nearest one."""
        meant = closest(args[0], list(self._table)) if args and args[0] not in self._table else ""
        if meant and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        status = 0
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # so that a closed pipe shows here and not while the interpreter shuts down
            return result
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            resumes = ctx.invoked_subcommand in ("build", "synth")
            say(f"edgeq: interrupted{' (the same command goes on from what is finished)' * resumes}")
            status = INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = PIPE_CLOSED
        except Exception as error:
            status = explain(error)
        return ctx.exit(status)


def explain(error: Exception, who: str = "edgeq") -> int:
    """Say in one line what went wrong in `who`, and return the exit status that goes with it."""
    if os.environ.get("EDGEQ_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, EdgeqError):
        say(f"{who}: {error}")
        return error.exit_status
    if isinstance(error, OSError):  # a full disk, a folder that may not be written: the machine's state, not a bug
        named = f" {error.filename}" if error.filename else ""
        say(f"{who}: cannot write or read{named}: {error.strerror or error}")
        return 2
    last = (str(error).strip().splitlines() or [""])[0]
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported to say so
        say(f"{who}: the GPU has too little memory: {last} (CUDA_VISIBLE_DEVICES= computes on the processor)")
        return 2
    say(f"{who}: bug: {type(error).__name__}: {last} (run again with EDGEQ_TRACEBACK=1 and report the output)")
    return BUG
