"""The one way things are looked up by name: synthesizers, observers, transports, runners.

A decorator registers, a duplicate name is refused, a miss lists the choices and the nearest spelling. Other packages
add their own through entry points of the group ``edgeq.<kind>s``, such as ``edgeq.observers``. They are loaded only
when a name is asked for that is not built in.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import sys
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgeq.errors import EdgeqError, PluginError, UnknownNameError

__all__ = ["OBSERVERS", "Registry", "closest", "nearest", "plugins"]

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
    """Names to entries of one `kind`. `modules` are imported on first use so that their decorators run.

    Iterating gives every name, sorted, those of other packages among them.
    """

    def __init__(self, kind: str, modules: tuple[str, ...] = ()) -> None:
        self.kind, self._modules, self._loaded = kind, modules, False
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator: make the decorated object known as `name`."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise PluginError(f"{self.kind} {name!r} is registered twice", hint="rename one of the two plug-ins")
            self._entries[name] = entry
            return entry

        return add

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries.keys() | plugins(self.kind).keys()))

    def get(self, name: str) -> Entry:
        """The entry called `name`; `ConfigError` with the choices when there is none, or when it cannot be loaded."""
        self._load()
        if name not in self._entries:
            point = plugins(self.kind).get(name)
            if point is None:
                raise UnknownNameError(f"unknown {self.kind} {name!r}", hint=nearest(name, list(self)))
            self._entries[name] = _load_entry(point, self.kind)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries or name in plugins(self.kind)

    def files(self, name: str) -> tuple[Path, ...]:
        """Source file of the entry called `name` where it is not edgeq's own: what it computes is known by its content.

        Raises `ConfigError` as `get` does.
        """
        module = sys.modules.get(getattr(self.get(name), "__module__", ""))
        if module is None or module.__name__.partition(".")[0] == "edgeq" or not module.__file__:
            return ()
        return (Path(module.__file__),)

    @contextlib.contextmanager
    def blame(self, name: str) -> Iterator[None]:
        """Context in which whatever another package's entry `name` raises becomes a `ConfigError` that names it.

        Errors of `EdgeqError` stay as they are, and so does what edgeq's own entries raise.
        """
        try:
            yield
        except EdgeqError:
            raise
        except Exception as error:  # another package's code may raise anything
            if self._is_own(name):
                raise
            raise PluginError(
                f"the {self.kind} {name!r} failed",
                why=f"{type(error).__name__}: {error}",
                hint="it is another package's: update or uninstall that, or choose another",
            ) from error

    def _is_own(self, name: str) -> bool:
        return str(getattr(self.get(name), "__module__", "")).partition(".")[0] == "edgeq"

    def entries(self) -> list[Entry]:
        """Every entry: built-in ones in the order they were registered, then those of other packages."""
        self._load()
        return [*map(self.get, [*self._entries, *sorted(plugins(self.kind).keys() - self._entries.keys())])]

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            for module in self._modules:
                import_module(module)


@functools.cache
def plugins(kind: str) -> dict[str, metadata.EntryPoint]:
    """What other packages add to the registry of `kind`, by name; nothing of it is loaded."""
    return {point.name: point for point in metadata.entry_points(group=f"edgeq.{kind}s")}


def _load_entry(point: metadata.EntryPoint, kind: str) -> Any:
    try:
        return point.load()
    except Exception as error:  # another package's code may raise anything
        package = point.dist.name if point.dist else point.value
        raise PluginError(
            f"the {kind} {point.name!r} of {package} cannot be loaded",
            why=f"{type(error).__name__}: {error}",
            hint="update or uninstall that package",
        ) from error


OBSERVERS: Registry[Any] = Registry("observer", ("edgeq.quant.observe",))
"""The rules of `edgeq.quant.observe`. It stands below all rooms because settings are checked against it."""
