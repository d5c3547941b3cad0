"""Progress of long work: the protocol that receives it, the silent default, and one that logs."""

from __future__ import annotations

import logging
from typing import Protocol

__all__ = ["Logged", "Progress", "Silent"]


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


class Logged:
    """Writes to the logger ``edgeq``: stages and notes at INFO, steps at DEBUG. Prints nothing unless asked to."""

    def __init__(self) -> None:
        self._log, self._stage = logging.getLogger("edgeq"), ""
        if not self._log.handlers:
            self._log.addHandler(logging.NullHandler())

    def stage(self, name: str) -> None:
        self._stage = name
        self._log.info("%s ...", name)

    def step(self, done: int, total: int, note: str = "") -> None:
        self._log.debug("%s %d/%d%s", self._stage, done, total, f" ({note})" if note else "")

    def done(self, name: str, seconds: float, cached: bool) -> None:
        self._log.info("%s %s", name, "cached" if cached else f"{seconds:.1f} s")

    def note(self, text: str) -> None:
        self._log.info("%s", text)
