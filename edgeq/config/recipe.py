"""Recipes: what an effort is made of, method by method, as TOML that a person can change and give back.

A recipe is a table for each method. In a configuration it is a tuple of texts ``METHOD.SETTING=VALUE``, the value as
TOML writes it, so that a lock holds all of it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from edgeq.config.settings import Kind, expand_home, toml_value
from edgeq.config.tomlfile import read_toml
from edgeq.config.typed import read, shown
from edgeq.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["RECIPE", "laid_over", "recipe_tables", "recipe_toml", "replaced", "tables"]

Settings = TypeVar("Settings")

DEEPEST = 3
"""Names on the way to a setting: ``gznq.pull.rate``."""


def replaced(base: Settings, table: Mapping[str, Any], where: str) -> Settings:
    """`base`, a dataclass of settings, with the values of `table` in place of its own.

    Raises `ConfigError`, which names the setting, for one that `base` has not and for a value that is none.
    """
    if not table:
        return base
    whole = dataclasses.asdict(base)  # type: ignore[call-overload]
    return read(laid_over(whole, table), type(base), where)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `below`, tables within tables, with those of `above` in their place."""
    both = {key: _plain(value) for key, value in below.items()}
    for key, value in above.items():
        inner = both.get(key)
        both[key] = laid_over(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return both


def _plain(value: Any) -> Any:
    """As TOML would have given it."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def tables(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The tables that texts ``METHOD.SETTING=VALUE`` say; of several for one setting the last counts.

    Raises `ConfigError` for what says none.
    """
    made: dict[str, dict[str, Any]] = {}
    for text in texts:
        names, equals, value = text.partition("=")
        keys = [name.strip() for name in names.split(".")]
        if not equals or not all(keys) or not 2 <= len(keys) <= DEEPEST:
            raise ConfigError(f"recipe {shown(text)}", why="must be METHOD.SETTING=VALUE, such as gznq.fine=40")
        table: dict[str, Any] = made
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"recipe {shown(text)}", why=f"{key} is a number elsewhere")
        table[keys[-1]] = _value(value.strip())
    return made


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text  # a word, which TOML would want in quotes


def _parse(value: Any, where: str) -> tuple[str, ...]:
    """Tables of an edgeq.toml, texts ``METHOD.SETTING=VALUE``, or names of TOML files that hold tables."""
    if isinstance(value, Mapping):
        return tuple(_lines(value, where))
    texts: list[str] = []
    for part in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(part, str) or not part:
            raise ConfigError(f"{where} {shown(part)}", why="must be a TOML file or METHOD.SETTING=VALUE")
        if "=" in part:
            tables((part,))
            texts.append(part)
        else:
            texts += _lines(read_toml(expand_home(part)), part)
    return tuple(texts)


def _lines(table: Mapping[str, Any], where: str, path: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in table.items():
        names = (*path, str(key))
        if isinstance(value, Mapping) and len(names) < DEEPEST:
            yield from _lines(value, where, names)
        elif len(names) == 1 or "." in str(key) or "=" in str(key) or isinstance(value, Mapping):
            raise ConfigError(f"{where} {'.'.join(names)}", why="is no setting of a method", hint="[gznq] fine = 40")
        else:
            yield f"{'.'.join(names)}={_written(value)}"


def _written(value: Any) -> str:
    return toml_value(tuple(value) if isinstance(value, list) else value)


RECIPE = Kind("FILE|METHOD.SETTING=VALUE", _parse, repeated=True)


def recipe_toml(recipe: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables of a recipe as TOML. What has no value (None) is left out."""
    lines: list[str] = []
    for method, table in recipe.items():
        _write(lines, (method,), table)
    return "\n".join(lines)


def _write(lines: list[str], names: tuple[str, ...], table: Mapping[str, Any]) -> None:
    lines += [*([""] if lines else []), f"[{'.'.join(names)}]"]
    lines += [
        f"{key} = {_written(value)}"
        for key, value in table.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _write(lines, (*names, key), value)


def recipe_tables(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as tables, as JSON and TOML have them."""
    return {key: _plain(value) for key, value in dataclasses.asdict(settings).items()}
