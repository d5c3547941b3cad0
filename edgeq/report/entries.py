"""The words in which a JSON file's keys are described: a plain value, an object, a list of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ELEMENTS", "KINDS", "LARGEST", "LONGEST", "SHORTEST", "Entry", "Field", "Rows", "Section"]

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


LONGEST = 10_000
"""Characters a text may have."""

LARGEST = 1e18
"""No size, count, time or ratio of a report is further from 0."""


SHORTEST = 1e-9
"""No time in milliseconds, and no ratio of two, is smaller: a report that says 0 was not measured."""


@dataclass(frozen=True)
class Field:
    """A plain value of one of `KINDS`. `nullable` may hold null; `optional` may be absent.

    Numbers, also those of a list or table, lie between `low` and `high`, both included.
    """

    kind: str
    text: str
    nullable: bool = False
    optional: bool = False
    low: float = -LARGEST
    high: float = LARGEST

    @property
    def range(self) -> str:
        """`low` and `high` in words; empty where neither is a limit of its own."""
        if self.high < LARGEST:
            return f"{self.low:g} to {self.high:g}" if self.low > -LARGEST else f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.low > -LARGEST else ""


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
