"""Budgets: the limits of each build, from the command line, the environment, budget.toml and edgeq.toml.

budget.toml has the keys of the table ``[budget]`` of edgeq.toml: limits for all builds, and a table ``builds`` with
other limits for some of them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.config.build import Budget, settings_of
from edgeq.config.tomlfile import read_toml
from edgeq.config.typed import refuse_unknown, shown
from edgeq.errors import TomlError

__all__ = ["BUDGET_FILE", "BUILDS", "Budgets", "read_budgets"]

BUDGET_FILE = "budget.toml"

BUILDS = "builds"
"""Key of the table with a table of limits for each build, by the name of its folder; ``*`` stands for any letters."""

OFF = "off"
"""Value that takes a limit away from a build."""

Limits = Mapping[str, Any]


@dataclass(frozen=True)
class _Table:
    """A checked table of limits: `values` that are parsed, None where they are off."""

    where: str
    values: Limits
    pattern: str = "*"


@dataclass(frozen=True)
class Budgets:
    """Limits of builds. `tables` stand in order of precedence; those of the command line and environment are first."""

    tables: Sequence[_Table]

    def of(self, name: str) -> tuple[Budget, dict[str, str]]:
        """The limits of the build in a folder called `name`, and for each that was set where it was."""
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for table in self.tables:
            if fnmatch.fnmatchcase(name, table.pattern):
                for key, value in table.values.items():
                    if key not in origin:
                        values[key], origin[key] = value, table.where
        given = {key: value for key, value in values.items() if value is not None}
        return Budget(**given), {key: where for key, where in origin.items() if key in given}

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """The tables of builds that no folder of `names` is meant by: they may be misspelt."""
        return [
            table.where for table in self.tables if not any(fnmatch.fnmatchcase(name, table.pattern) for name in names)
        ]


def read_budgets(
    flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None, budget: Path | None
) -> Budgets:
    """Limits in order of precedence: the command line, the environment, budget.toml, edgeq.toml.

    The tables of single builds, of either file, come before the limits of all builds. `flags` are the settings of
    `Budget` as typed. `config` is the edgeq.toml that is read, None for none. `budget` None reads the budget.toml
    beside it, or in the working directory where there is no edgeq.toml. Raises `ConfigError`.
    """
    known = settings_of(Budget)
    typed = {name: setting for name, setting in known.items() if flags.get(name) not in (None, ())}
    tables = [_Table(setting.flag, {name: _parse(name, flags[name], setting.flag)}) for name, setting in typed.items()]
    for name, setting in known.items():
        if text := environment.get(setting.variable):
            tables.append(_Table(setting.variable, {name: _parse(name, text, setting.variable)}))
    own = (config.parent if config is not None else Path()) / BUDGET_FILE
    path = budget or (own if own.is_file() else None)
    sources = [] if path is None else [(read_toml(path), str(path), "")]
    sources += [] if config is None else [(read_toml(config).get("budget", {}), str(config), "budget")]
    files = [(_builds(table, where, prefix), _everywhere(table, where, prefix)) for table, where, prefix in sources]
    return Budgets(
        [*tables, *(table for builds, _ in files for table in builds), *(everywhere for _, everywhere in files)]
    )


def _everywhere(table: Any, where: str, prefix: str) -> _Table:
    """The limits of all builds in a file."""
    where += f" [{prefix}]" if prefix else ""
    _insist_table(table, where)
    refuse_unknown(table, (*settings_of(Budget), BUILDS), where)
    return _Table(where, _parse_all({key: value for key, value in table.items() if key != BUILDS}, where))


def _builds(table: Any, where: str, prefix: str) -> list[_Table]:
    """The limits of single builds, the last first, because the last match counts."""
    _insist_table(table, where)
    path = f"{prefix}.{BUILDS}" if prefix else BUILDS
    builds = table.get(BUILDS, {})
    _insist_table(builds, f"{where} [{path}]")
    found = []
    for name, limits in reversed(list(builds.items())):
        own = f'{where} [{path}."{name}"]'
        _insist_table(limits, own)
        refuse_unknown(limits, tuple(settings_of(Budget)), own)
        found.append(_Table(own, _parse_all(limits, own), name))
    return found


def _insist_table(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise TomlError(shown(value), where=where, why="must be a table of limits")


def _parse_all(limits: Limits, where: str) -> dict[str, Any]:
    return {key: _parse(key, value, f"{where} {key}") for key, value in limits.items()}


def _parse(name: str, value: Any, where: str) -> Any:
    return None if value == OFF else settings_of(Budget)[name].kind.parse(value, where)
