"""Values of untrusted files against structs and dataclasses: every mistake is found, and named in one short line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType

from edgeq.config.typed import Count, Name, Number, Positive, describe, find_faults, read
from edgeq.errors import ConfigError

Share = Annotated[float, Meta(ge=0, le=1)]
Short = Annotated[str, Meta(max_length=5)]


class Row(msgspec.Struct):
    n: Positive
    share: Annotated[Share | None, Meta(description="part of it")]


class Page(msgspec.Struct, kw_only=True):
    title: Short | UnsetType = UNSET
    rows: list[Row]
    kinds: dict[str, Count] | UnsetType = UNSET
    first: Row | None


@dataclass(frozen=True)
class Settings:
    name: Name
    form: Literal["one", "two"] = "one"
    sizes: tuple[tuple[int, int], ...] = ()


WHOLE: dict[str, Any] = {"rows": [{"n": 1, "share": None}], "first": None}
DEEP = json.loads("[" * 900 + "]" * 900)


def faults(**changes: Any) -> list[str]:
    return [fault.text for fault in find_faults({**WHOLE, **changes}, Page)]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"title": "longer"}, "title has 6 characters, at most 5 are allowed"),
        ({"title": None}, "title is null"),
        ({"rows": {}}, "rows must be a list of objects, not dict"),
        ({"rows": [3]}, "rows[0] must be an object, not int"),
        ({"rows": [{"n": 0, "share": 2}]}, "rows[0].n is 0, must be at least 1; rows[0].share is 2, must be 0 to 1"),
        ({"rows": [{"n": True}]}, "rows[0].n must be an integer of at least 1, not bool; rows[0].share is missing"),
        ({"first": {"n": 10**400, "share": math.nan}}, "first.share is nan, must be 0 to 1"),
        ({"kinds": {"a": 1, "b": 1.5}}, "kinds['b'] must be an integer of at least 0, not float"),
        ({"kinds": DEEP}, "kinds must be a table of integers of at least 0, not list"),
        ({"colour": 1}, "colour is no key of a report"),
    ],
)
def test_every_fault_is_named(changes: dict[str, Any], text: str) -> None:
    assert "; ".join(faults(**changes)) == text


def test_what_fits_has_no_fault() -> None:
    assert faults() == []
    assert faults(title="short", kinds={}, first={"n": 2, "share": 0.5}) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "key 'name' is missing at a.toml"),
        ({"name": ""}, "name = '' at a.toml: must be a non-empty string"),
        ({"nam": "x"}, "unknown key 'nam' at a.toml (did you mean 'name'?)"),
        ({"name": "x", "form": "on"}, "form = 'on' at a.toml (did you mean 'one'?)"),
        ({"name": "x", "sizes": [[1, 2], [3]]}, "sizes = [[1, 2], [3]] at a.toml: must be a list of pairs of integers"),
        ({"name": DEEP}, "name = [[[[[...]]]]] at a.toml: must be a non-empty string"),
    ],
)
def test_a_table_is_read_or_refused_in_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(table, Settings, "a.toml")
    assert str(caught.value) == message


def test_a_table_becomes_the_dataclass() -> None:
    made = read({"name": "x", "sizes": [[1, 2]]}, Settings, "a.toml")
    assert made == Settings("x", "one", ((1, 2),))


def test_types_in_words() -> None:
    assert describe(list[Number]) == "list of numbers"
    assert describe(dict[str, Share] | None) == "table of numbers from 0 to 1 or null"
    assert describe(Literal["a", "b"]) == "a or b"
