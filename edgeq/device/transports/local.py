"""This machine as a device: the same commands, in its own shell."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import ClassVar

from edgeq.device.transport import LONGEST_ANSWER, QUICK, TRANSPORTS, Completed, ShellTransport, call

__all__ = ["LocalTransport"]


@TRANSPORTS.register("local")
class LocalTransport(ShellTransport):
    """This machine, through its own shell."""

    forms: ClassVar = {"local": "this machine"}

    def __init__(self, name: str = "local", *, patience: float = 0.0, folder: Path | None = None) -> None:
        """`folder` is where its files go instead of the user's cache."""
        super().__init__(name, patience=patience)
        self.python = (sys.executable,)
        if path := os.environ.get("PYTHONPATH"):
            self.environment = {"PYTHONPATH": path}
        if folder is not None:
            self.folder = re.sub(r'([\\$`"])', r"\\\1", str(folder))

    @classmethod
    def matches(cls, name: str) -> bool:
        return name == "local"

    @classmethod
    def open(cls, name: str, *, runtime: str, patience: float) -> ShellTransport:
        return cls(patience=patience)

    def push(self, source: Path | bytes, name: str, *, timeout: float | None = None) -> str:
        """A file is on this machine already, and is used where it is."""
        return str(source.absolute()) if isinstance(source, Path) else super().push(source, name, timeout=timeout)

    def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = QUICK, limit: int = LONGEST_ANSWER
    ) -> Completed:
        return call(["/bin/sh", "-c", command], data=data, timeout=timeout, where=self.name, held=True, limit=limit)
