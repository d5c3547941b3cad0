"""The command line as typed, and what every failure looks like."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from edgeq.cli import cli


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="edgeq", **options)


def one_line(result: Result, status: int, *parts: str) -> None:
    assert result.exit_code == status, (result.stderr, result.exception)
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("edgeq: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in line, line
