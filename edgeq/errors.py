"""Errors a person can act on: what happened, where, why, and what to do next.

Every failure edgeq foresees is an :class:`EdgeqError`. The command line prints its one line and exits with its
status; nothing else in edgeq calls ``sys.exit`` or prints a traceback for bad input.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

__all__ = [
    "ArtifactError",
    "ConfigError",
    "DeviceError",
    "EdgeqError",
    "GateError",
    "MeasurementError",
    "UnsupportedError",
    "printable",
]


Error = TypeVar("Error", bound="EdgeqError")


class EdgeqError(Exception):
    """One line for a person: *what*, *where* (a module path, file or op), *why*, and a *hint* for the next step."""

    exit_status: ClassVar[int] = 2

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        self.what, self.where, self.why, self.hint = what, where, why, hint
        line = what
        if where:
            line += f" at {where}"
        if why:
            line += f": {why}"
        if hint:
            line += f" ({hint})"
        super().__init__(printable(" ".join(line.split())))

    def at(self: Error, where: str) -> Error:
        """The same error, said to be `where` unless it says so itself."""
        return self if self.where else type(self)(self.what, where=where, why=self.why, hint=self.hint)


def printable(text: str, *, keep: str = "") -> str:
    """Return `text` with every character that is not shown as itself spelt out, except those in `keep`.

    Names out of files and answers of devices must not steer a terminal: control characters, text direction, invisible
    characters and line separators become what Python writes for them (``\\x1b``, ``\\u202e``).
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else repr(sign)[1:-1] for sign in text)


class GateError(EdgeqError):
    """A measured value missed a threshold the user set."""

    exit_status = 1


class ConfigError(EdgeqError):
    """The command line, a TOML file, weights or images are not what they should be."""

    exit_status = 2


class ArtifactError(ConfigError):
    """A file could not be read or written whole."""


class UnsupportedError(EdgeqError):
    """The network holds something edgeq, or the chosen target, cannot express in integers."""

    exit_status = 3


class DeviceError(EdgeqError):
    """A device could not be reached or could not do its part."""

    exit_status = 4


class MeasurementError(EdgeqError):
    """A measurement ran but must not be believed."""

    exit_status = 5
