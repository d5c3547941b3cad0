"""The types of a report's values, each with the range that a build can have."""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, UnsetType

__all__ = [
    "LARGEST",
    "LONGEST",
    "Amount",
    "AtLeastOne",
    "Celsius",
    "Cosine",
    "Count",
    "Decibels",
    "Float32",
    "Maybe",
    "Number",
    "Percent",
    "Points",
    "Positive",
    "Section",
    "Share",
    "Text",
    "Time",
    "Whole",
    "says",
]

LONGEST = 10_000
"""Characters a text may have."""

LARGEST = 10**18
"""No size, count, time or ratio of a report is further from 0."""

SHORTEST = 1e-9
"""No time in milliseconds, and no ratio of two, is smaller: a report that says 0 was not measured."""

FLOAT32 = 3.5e38
"""Beyond every finite float32: the values of a network may be anything below."""


class Section(msgspec.Struct):
    """An object of a report."""


def says(text: str) -> Meta:
    """What a key means, for the documentation."""
    return Meta(description=text)


Text = Annotated[str, Meta(max_length=LONGEST)]
Whole = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Meta(ge=0, le=LARGEST)]
Positive = Annotated[int, Meta(ge=1, le=LARGEST)]
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Meta(ge=0, le=LARGEST)]
AtLeastOne = Annotated[float, Meta(ge=1, le=LARGEST)]
Time = Annotated[float, Meta(ge=SHORTEST, le=LARGEST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Cosine = Annotated[float, Meta(ge=-1, le=1)]
Points = Annotated[float, Meta(ge=-100, le=100)]
Celsius = Annotated[float, Meta(ge=-300, le=LARGEST)]
Decibels = Annotated[float, Meta(ge=-LARGEST, le=120)]
Float32 = Annotated[float, Meta(ge=-FLOAT32, le=FLOAT32)]

T = TypeVar("T")
Maybe: TypeAlias = T | UnsetType
"""A key that may be absent."""
