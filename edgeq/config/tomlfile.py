"""TOML files, and the environment variables that their texts may name."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from edgeq.errors import TomlError, VariableError
from edgeq.limits import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["expand", "read_toml"]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def read_toml(path: Path) -> dict[str, Any]:
    """The root table of a TOML file, its values unchecked. Raises `ConfigError` where it is none."""
    try:
        return tomllib.loads(read_text(path))
    except OSError as error:
        raise TomlError(f"cannot read {path}", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or an integer of thousands of digits
        raise TomlError(f"{path} is not valid TOML", why=str(error)) from error


def expand(text: str, where: str) -> str:
    """Put environment variables in place of ``${NAME}``; one that is not set is a `ConfigError` naming it."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise VariableError(f"environment variable {name} is not set", where=where, hint=f"export {name}=...")
        return os.environ[name]

    return _VARIABLE.sub(value, text)
