"""`edgeq completion`: the script that makes a shell complete edgeq's commands, options and values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgeq.cli.shell import echo

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print the script that makes SHELL complete edgeq's commands, options and values. It changes no file.

    \b
    eval "$(edgeq completion bash)"                           # in ~/.bashrc, needs bash 4.4
    eval "$(edgeq completion zsh)"                            # in ~/.zshrc, after compinit
    edgeq completion fish > ~/.config/fish/completions/edgeq.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # click knows all of SHELLS
        raise LookupError(shell)
    echo(kind(ctx.find_root().command, {}, "edgeq", "_EDGEQ_COMPLETE").source())
