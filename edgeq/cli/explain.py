"""`edgeq explain`: what the code behind an error or a warning means, and what to do."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from edgeq.cli.shell import columns, echo, print_json
from edgeq.config.tomlfile import read_toml
from edgeq.errors import UnknownNameError
from edgeq.registry import closest

__all__ = ["Explanation", "explain", "explanations"]


@dataclass(frozen=True)
class Explanation:
    """What one code means. `example` is a command; `exit_status` is None for a warning."""

    code: str
    title: str
    why: str
    do: str
    example: str

    @property
    def exit_status(self) -> int | None:
        """The exit status of an error: the first digit of its code, and 70 for a bug."""
        if self.code.startswith("W"):
            return None
        return {7: 70}.get(int(self.code[1]), int(self.code[1]))


def explanations() -> dict[str, Explanation]:
    """Every code and what it means, errors first."""
    table = read_toml(Path(__file__).with_name("codes.toml"))
    return {code: Explanation(code, **entry) for code, entry in table.items()}


def _complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [code for code in explanations() if code.startswith(begun.upper())]


@click.command()
@click.argument("code", required=False, shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def explain(code: str | None, as_json: bool) -> None:
    """Say what CODE means, why it happens and what to do. Without CODE: list all codes.

    \b
    edgeq explain E221
    edgeq explain

    Errors show their code in brackets at the end of the line, such as [E221]; warnings of a report do too.
    """
    known = explanations()
    if code is None:
        if as_json:
            print_json([_facts(each) for each in known.values()])
        else:
            columns([[each.code, each.title] for each in known.values()])
        return
    name = code.strip("[] ").upper()
    if name not in known:
        meant = closest(name, list(known))
        hint = f"did you mean {meant}? edgeq explain lists all codes" if meant else "edgeq explain lists all codes"
        raise UnknownNameError(f"no code {code!r}", hint=hint)
    if as_json:
        print_json(_facts(known[name]))
    else:
        _show(known[name])


def _facts(one: Explanation) -> dict[str, str | int | None]:
    return dataclasses.asdict(one) | {"exit_status": one.exit_status}


def _show(one: Explanation) -> None:
    status = "a warning" if one.exit_status is None else f"exit status {one.exit_status}"
    width = min(shutil.get_terminal_size().columns, 100)
    echo(f"{one.code}: {one.title} ({status})")
    for text in (one.why, one.do):
        echo("\n" + click.wrap_text(text, width))
    echo(f"\n    {one.example}")
