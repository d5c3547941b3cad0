"""The words in which a JSON file's keys are described: a plain value, an object, a list of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ELEMENTS", "KINDS", "Entry", "Field", "Rows", "Section"]

KINDS: Mapping[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "yes/no": bool,
    "list of texts": list,
    "list of numbers": list,
    "table of integers": dict,
    "table of numbers": dict,
    "table of texts": dict,
}
ELEMENTS: Mapping[str, str] = {
    "list of texts": "text",
    "list of numbers": "number",
    "table of integers": "integer",
    "table of numbers": "number",
    "table of texts": "text",
}


@dataclass(frozen=True)
class Field:
    """A plain value of one of `KINDS`. `nullable` may hold null; `optional` may be absent."""

    kind: str
    text: str
    nullable: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Section:
    """An object with these `fields`."""

    text: str
    fields: Mapping[str, Entry]
    nullable: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Rows(Section):
    """A list of objects with these `fields`."""


Entry = Field | Section
