"""Progress of long work: the protocol that receives it, and the silent default."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Receives the progress of stages, and decides how to show it."""

    def stage(self, name: str) -> None:
        """A stage of the pipeline begins."""

    def step(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of the running stage are finished."""

    def done(self, name: str, seconds: float, cached: bool) -> None:
        """A stage ended, or was found `cached`."""

    def note(self, text: str) -> None:
        """A line about the whole of the work, such as what it runs on."""


class Silent:
    """The default: shows nothing."""

    def stage(self, name: str) -> None: ...

    def step(self, done: int, total: int, note: str = "") -> None: ...

    def done(self, name: str, seconds: float, cached: bool) -> None: ...

    def note(self, text: str) -> None: ...
