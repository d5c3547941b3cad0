"""Finding the project's settings file from any folder inside the project."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CONFIG_FILE", "find_config"]

CONFIG_FILE = "edgeq.toml"


def find_config(start: Path) -> Path | None:
    """The nearest `CONFIG_FILE` in `start` or a folder above it, or None.

    The search ends at the root of a repository and at the home folder: what lies above belongs to other projects. A
    file above `start` counts only if this user or root owns it, because it may name Python code to import, and in a
    shared folder such as ``/tmp`` anyone may have put it there. The path is relative where `start` holds the file.
    """
    for folder in (start, *start.parents):
        path = folder / CONFIG_FILE
        if path.is_file() and (folder == start or _is_trusted(path)):
            return Path(CONFIG_FILE) if folder == start else path
        if (folder / ".git").exists() or folder == Path.home():
            return None
    return None


def _is_trusted(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid in (os.getuid(), 0)
