"""Values from untrusted files, checked against annotated structs and dataclasses with msgspec.

msgspec stops at the first mistake and names it by position. Here every mistake of a file is found, and named as the
person who wrote the file would: by its key, with what was expected there.
"""

from __future__ import annotations

import dataclasses
import functools
import reprlib
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, inspect

from edgeq.errors import ConfigError, TomlError
from edgeq.registry import nearest

__all__ = [
    "Above",
    "Amount",
    "Bits",
    "Count",
    "Fault",
    "Inside",
    "Keys",
    "Name",
    "Number",
    "Positive",
    "Share",
    "Width",
    "describe",
    "find_faults",
    "members",
    "read",
    "refuse_unknown",
    "shown",
    "struct_of",
]

FAR = 1e18
"""Limits this far from 0 keep out nonsense and are not worth telling."""

_VALUE = reprlib.Repr()
"""Writes a wrong value for an error: a stranger's may be long or nested deeply."""
_VALUE.maxlevel, _VALUE.maxlist, _VALUE.maxdict, _VALUE.maxstring, _VALUE.maxlong = 4, 20, 20, 200, 200

LONGEST = 300
"""Characters of a wrong value that an error repeats."""

Keys = tuple[str | int, ...]
T = TypeVar("T")

Name = Annotated[str, Meta(min_length=1)]
Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Bits = Annotated[int, Meta(ge=2, le=8)]
Amount = Annotated[float, Meta(ge=0, le=FAR)]
Above = Annotated[float, Meta(ge=1e-6, le=FAR)]
Share = Annotated[float, Meta(ge=0, le=1)]
Inside = Annotated[float, Meta(ge=1e-6, le=1 - 1e-6)]
Width = Annotated[int, Meta(ge=1, le=4096)]


@dataclass(frozen=True)
class Fault:
    """What is wrong at `keys` (names of objects and numbers of rows, from the top).

    `problem` is "unknown", "missing", "wrong", or what is wrong in words. `value` is what stands there, `kind` the type
    it should have, and `known` are the keys that an unknown one may be a misspelling of.
    """

    keys: Keys
    problem: str
    value: Any = None
    kind: Any = None
    known: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The fault in words: ``devices[0].accuracy.n must be an integer of at least 1, not bool``."""
        if self.problem == "unknown":
            return f"{_path(self.keys)} is no key of a report"
        if self.problem != "wrong":
            return f"{_path(self.keys)} {'is missing' if self.problem == 'missing' else self.problem}"
        if self.value is None:
            return f"{_path(self.keys)} is null"
        place, value, kind = _culprit(self.value, self.kind)
        return f"{_path(self.keys)}{place} {_complaint(value, inspect.type_info(kind))}"

    def error(self, where: str) -> ConfigError:
        """The fault of a TOML file, `where`, as an error that names the table and the key."""
        *tables, key = self.keys
        where += f" [{'.'.join(map(str, tables))}]" if tables else ""
        if self.problem == "unknown":
            return TomlError(f"unknown key {key!r}", where=where, hint=nearest(str(key), list(self.known)))
        if self.problem == "missing":
            return TomlError(f"key {key!r} is missing", where=where)
        what, words = f"{key} = {shown(self.value)}", inspect.type_info(self.kind)
        if isinstance(words, inspect.LiteralType):
            return TomlError(what, where=where, hint=nearest(shown(self.value), [str(each) for each in words.values]))
        return TomlError(what, where=where, why=f"must be {_article(describe(self.kind).replace('object', 'table'))}")


def shown(value: Any) -> str:
    """A wrong value as an error repeats it: as Python writes it, shortened to a line."""
    try:
        text = _VALUE.repr(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def read(table: Mapping[str, Any], kind: type[T], where: str) -> T:
    """The values of a TOML or JSON table as a `kind`, a struct or dataclass. Raises `ConfigError` naming the key."""
    for fault in find_faults(table, kind):
        raise fault.error(where)
    return msgspec.convert(table, kind)


def refuse_unknown(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise `ConfigError`, with the nearest of `known`, for a key that is none of them."""
    for key in table:
        if key not in known:
            raise Fault((key,), "unknown", known=known).error(where)


def find_faults(table: Mapping[str, Any], kind: type, where: Keys = ()) -> Iterator[Fault]:
    """Everything that keeps `table` from being a `kind`, unknown keys first, then in the order of its fields."""
    fields = members(kind)
    for key in table:
        if key not in fields:
            yield Fault((*where, str(key)[:100]), "unknown", known=tuple(fields))
    for name, (expected, required) in fields.items():
        if name in table:
            yield from _inside(table[name], expected, (*where, name))
        elif required:
            yield Fault((*where, name), "missing")


def _inside(value: Any, expected: Any, keys: Keys) -> Iterator[Fault]:
    inner, many = struct_of(expected)
    if inner is None or value is None or not isinstance(value, list if many else Mapping):
        try:
            msgspec.convert(value, expected)
        except msgspec.ValidationError:
            yield Fault(keys, "wrong", value, expected)
    elif many:
        for number, row in enumerate(value):
            yield from _inside(row, inner, (*keys, number))
    else:
        yield from find_faults(typing.cast("Mapping[str, Any]", value), inner, keys)


@functools.cache
def members(kind: type) -> Mapping[str, tuple[Any, bool]]:
    """Key to type and whether it must be there, for a struct or dataclass."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        none = dataclasses.MISSING
        return {
            field.name: (hints[field.name], field.default is none and field.default_factory is none)
            for field in dataclasses.fields(kind)
        }
    return {field.encode_name: (_present(field.type), field.required) for field in msgspec.structs.fields(kind)}


def _present(kind: Any) -> Any:
    """`kind` where the key is there: without the marker of an absent one."""
    parts = [part for part in typing.get_args(kind) if part is not msgspec.UnsetType]
    return functools.reduce(lambda one, other: one | other, parts) if _is_union(kind) else kind


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


@functools.cache
def struct_of(kind: Any) -> tuple[Any, bool]:
    """The struct or dataclass that `kind` is, may be, or is a list of (then True); None for plain values."""
    if typing.get_origin(kind) is Annotated:
        return struct_of(typing.get_args(kind)[0])
    if _is_union(kind):
        structs = [struct_of(part) for part in typing.get_args(kind)]
        return next((each for each in structs if each[0] is not None), (None, False))
    if typing.get_origin(kind) is list:
        inner = struct_of(typing.get_args(kind)[0])[0]
        return inner, inner is not None
    holds = isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind))
    return (kind, False) if holds else (None, False)


def _culprit(value: Any, kind: Any) -> tuple[str, Any, Any]:
    """Find the first wrong element of a list or table: its keys, the element, and the type it should have."""
    container = _container(kind)
    if container is not None and isinstance(value, typing.get_origin(container)):
        element_kind = typing.get_args(container)[-1]
        for key, element in value.items() if isinstance(value, dict) else enumerate(value):
            try:
                msgspec.convert(element, element_kind)
            except msgspec.ValidationError:
                return f"[{key!r}]", element, element_kind
    return "", value, kind


def _container(kind: Any) -> Any:
    """The list or table that `kind` is or may be; None for single values."""
    if typing.get_origin(kind) is Annotated or _is_union(kind):
        return next((container for part in typing.get_args(kind) if (container := _container(part)) is not None), None)
    return kind if typing.get_origin(kind) in (list, dict) else None


def describe(kind: Any) -> str:
    """A type in words, such as ``list of numbers from 0 to 100``."""
    return _words(inspect.type_info(kind), "")


def _words(info: inspect.Type, s: str) -> str:
    if isinstance(info, inspect.Metadata):
        return _words(info.type, s)
    if isinstance(info, inspect.IntType | inspect.FloatType):
        limits = _range(info.ge, info.le)
        joint = "" if not limits else " of " if limits.startswith("at") else " from "
        return f"{'integer' if isinstance(info, inspect.IntType) else 'number'}{s}{joint}{limits}"
    if isinstance(info, inspect.StrType):
        return f"{'non-empty ' if info.min_length else ''}string{s}"
    if isinstance(info, inspect.BoolType):
        return "true or false"
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return f"list{s} of {_words(info.item_type, 's')}"
    if isinstance(info, inspect.TupleType):
        return f"pair{s} of {_words(info.item_types[0], 's')}"
    if isinstance(info, inspect.DictType):
        return f"table{s} of {_words(info.value_type, 's')}"
    if isinstance(info, inspect.LiteralType):
        return " or ".join(str(value) for value in info.values)
    if isinstance(info, inspect.UnionType):
        return " or ".join(_words(part, s) for part in info.types)
    return "null" if isinstance(info, inspect.NoneType) else f"object{s}" if _is_object(info) else f"value{s}"


def _is_object(info: inspect.Type) -> bool:
    return isinstance(info, inspect.StructType | inspect.DataclassType)


def _range(low: float | None, high: float | None) -> str:
    low, high = (None if limit is None or abs(limit) >= FAR else limit for limit in (low, high))
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""


def _article(words: str) -> str:
    if words.startswith(("true", "null")):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _complaint(value: Any, info: inspect.Type) -> str:
    """What is wrong with a single value: too large, too long, or of another type."""
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        info = info.type if isinstance(info, inspect.Metadata) else info.types[0]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and isinstance(
        info, inspect.FloatType if isinstance(value, float) else inspect.IntType | inspect.FloatType
    ):
        return f"is {_short(value)}, must be {_range(info.ge, info.le) or 'smaller'}"
    if isinstance(value, str) and isinstance(info, inspect.StrType) and info.max_length:
        return f"has {len(value):,} characters, at most {info.max_length:,} are allowed"
    return f"must be {_article(_words(info, ''))}, not {type(value).__name__}"


def _short(value: float) -> str:
    try:
        return f"{value:.6g}"
    except OverflowError:  # an integer beyond all floats
        return "far too large"


def _path(keys: Keys) -> str:
    """``devices[0].accuracy.n``"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
