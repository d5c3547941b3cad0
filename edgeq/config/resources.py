"""Find `targets/` and `models/`: they are at the top of a checkout, and inside the package in a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["data_folder"]


def data_folder(name: str) -> Path:
    """The folder `name` (``targets`` or ``models``); it may not exist in a stripped installation."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_data" / name
    return packed if packed.is_dir() else package.parent / name
