"""The one way things are looked up by name: synthesizers, observers, transports.

A decorator registers, a duplicate name is refused, a miss lists the choices and the nearest spelling. Other packages
add their own through entry points (group ``edgeq.<kind>``), loaded only when a name is asked for that is not built in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from typing import Generic, TypeVar

from edgeq.errors import ConfigError

__all__ = ["Registry", "closest", "nearest"]

Entry = TypeVar("Entry")

MOST_CHOICES = 40


def closest(name: str, choices: list[str], cutoff: float = 0.5) -> str:
    """The choice that `name` most likely misspells, or "" where none is close."""
    return next(iter(difflib.get_close_matches(name, choices, n=1, cutoff=cutoff)), "")


def nearest(name: str, choices: list[str]) -> str:
    """A hint for a misspelt name: the closest choice, or all of them where a line holds them."""
    meant = closest(name, choices)
    if meant:
        return f"did you mean {meant!r}?"
    rest = f" and {len(choices) - MOST_CHOICES} more" if len(choices) > MOST_CHOICES else ""
    return f"choose from {', '.join(choices[:MOST_CHOICES])}{rest}"


class Registry(Generic[Entry]):
    """Names to entries of one `kind`. `modules` are imported on first use so that their decorators run."""

    def __init__(self, kind: str, modules: tuple[str, ...] = ()) -> None:
        self.kind, self._modules, self._loaded = kind, modules, False
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator: make the decorated object known as `name`."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ConfigError(f"{self.kind} {name!r} is registered twice", hint="rename one of the two plug-ins")
            self._entries[name] = entry
            return entry

        return add

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            for module in self._modules:
                import_module(module)

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def get(self, name: str) -> Entry:
        """The entry called `name`; `ConfigError` with the choices when there is none."""
        self._load()
        if name not in self._entries:
            for point in metadata.entry_points(group=f"edgeq.{self.kind}"):
                if point.name == name:
                    self._entries[name] = point.load()
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}", hint=nearest(name, list(self)))
        return self._entries[name]
