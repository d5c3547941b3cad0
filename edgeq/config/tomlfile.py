"""Reading TOML strictly: every key is known, every value has its type, a mistake is one line naming file and key."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import ConfigError
from edgeq.limits import read_text
from edgeq.registry import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Table", "expand", "read_toml"]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def read_toml(path: Path) -> Table:
    """The root table of a TOML file. Raises `ConfigError` when it cannot be read or is not TOML."""
    try:
        return Table(tomllib.loads(read_text(path)), str(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}", why=error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML", why=str(error)) from error


def expand(text: str, where: str) -> str:
    """Put environment variables in place of ``${NAME}``; one that is not set is a `ConfigError` naming it."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"environment variable {name} is not set", where=where, hint=f"export {name}=...")
        return os.environ[name]

    return _VARIABLE.sub(value, text)


class Table:
    """One TOML table with typed look-ups, each a `ConfigError` when the key is missing or of another type."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def only(self, *names: str) -> Table:
        """Refuse keys other than `names`, suggesting the nearest."""
        for key in self.data:
            if key not in names:
                raise ConfigError(f"unknown key {key!r}", where=self.where, hint=nearest(key, list(names)))
        return self

    def __contains__(self, name: str) -> bool:
        return name in self.data

    def _wrong(self, name: str, wanted: str) -> ConfigError:
        return ConfigError(f"{name} = {self.data[name]!r}", where=self.where, why=f"must be {wanted}")

    def _need(self, name: str) -> Any:
        if name not in self.data:
            raise ConfigError(f"key {name!r} is missing", where=self.where)
        return self.data[name]

    def text(self, name: str) -> str:
        value = self._need(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a non-empty string")
        return value

    def flag(self, name: str) -> bool:
        value = self._need(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in choices:
            raise ConfigError(f"{name} = {value!r}", where=self.where, hint=nearest(value, list(choices)))
        return value

    def integer(self, name: str, minimum: int = 1) -> int:
        value = self._need(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self._wrong(name, f"an integer of at least {minimum}")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        value = self._need(name)
        if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            raise self._wrong(name, "a list of integers")
        return tuple(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        value = self._need(name)
        if not isinstance(value, list) or not all(map(_finite, value)):
            raise self._wrong(name, "a list of numbers")
        return tuple(float(v) for v in value)

    def number(self, name: str) -> float:
        value = self._need(name)
        if not _finite(value):
            raise self._wrong(name, "a number")
        return float(value)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._need(name)
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise self._wrong(name, "a list of non-empty strings")
        return tuple(value)

    def rows(self, name: str) -> tuple[tuple[float, ...], ...]:
        value = self._need(name)
        if not isinstance(value, list) or not all(isinstance(row, list) and all(map(_finite, row)) for row in value):
            raise self._wrong(name, "a list of lists of numbers")
        return tuple(tuple(float(v) for v in row) for row in value)

    def table(self, name: str) -> Table:
        """A sub-table; its errors name it."""
        value = self._need(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "a table")
        return Table(value, f"{self.where} [{name}]")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
