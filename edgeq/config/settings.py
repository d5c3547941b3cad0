"""Kinds of settings: how a value from a command line, a shell variable or a TOML file is read, and printed again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeq.config.typed import Number, Positive, shown
from edgeq.errors import ConfigError, UnknownNameError
from edgeq.registry import Registry, nearest

__all__ = [
    "AMOUNT",
    "BITS",
    "COUNT",
    "DEVICES",
    "IMAGES",
    "LAYER_BITS",
    "MOST_SECONDS",
    "MOST_THREADS",
    "NAMES",
    "NUMBERS",
    "PATH",
    "PERCENT",
    "SEED",
    "SHAPE",
    "SHARE",
    "SIZE",
    "SWITCH",
    "TEXT",
    "THREADS",
    "Kind",
    "expand_home",
    "name_in",
    "one_of",
    "parse_size",
    "read_path",
    "some_of",
    "toml_value",
]

MOST = 10**18
"""No count is larger."""

LONGEST_PART, LONGEST_PATH = 255, 4095
"""Bytes of a name in a path, and of a whole path, that file systems take."""

MOST_SECONDS = 1e6
"""Longest time that a device may be given: eleven days. Beyond 24 days systems cannot wait for an answer."""

MOST_THREADS = 1024
"""Threads beyond those of any machine take minutes to start and slow it down."""

MOST_IMAGES = 1_000_000
"""Calibration images that anybody needs by far."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_BITS = re.compile(r"w[2-8]a([2-8]|16)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """`parse` takes the value (text, or what TOML gave) and where it stood, and raises `ConfigError`."""

    metavar: str
    parse: Callable[[Any, str], Any]
    switch: bool = False
    repeated: bool = False


def _bad(value: Any, where: str, expected: str) -> ConfigError:
    return ConfigError(f"{where} {shown(value)}", why=f"must be {expected}")


def _as_text(value: Any) -> str:
    """`value` as it would be typed; what is far too long comes out shortened, and means nothing."""
    return value if isinstance(value, str) else shown(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _bad(value, where, "a non-empty string")
    return value


def _parser_of(kind: Any, expected: str, separators: str = "") -> Callable[[Any, str], Any]:
    """How a value of the type `kind` is read: a text is what TOML would have given, several of them split."""

    def parse(value: Any, where: str) -> Any:
        given = value
        if separators and not isinstance(value, list | tuple):
            given = re.split(f"[{separators}]", _as_text(value))
        given = [_number(part) for part in given] if isinstance(given, list | tuple) else _number(given)
        try:
            return msgspec.convert(given, kind)
        except (msgspec.ValidationError, OverflowError, UnicodeError) as error:
            raise _bad(value, where, expected) from error

    return parse


def _number(value: Any) -> Any:
    """The number that a text spells; what spells none stays as it is."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value) if isinstance(value, str) and "_" not in value else value
    return value


def parse_size(value: Any, where: str = "size") -> int:
    """Bytes from ``4M``, ``300k``, ``1.5MiB`` (k, M, G are powers of ten; Ki, Mi, Gi of two) or a plain number."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(_as_text(value).strip())
    if match is None or match.group(2).lower() not in _UNITS:
        raise _bad(value, where, "a size such as 300k, 4M or 4194304")
    size = float(match.group(1)) * _UNITS[match.group(2).lower()]
    if size > MOST:
        raise _bad(value, where, "a size below 10**18 bytes")
    return round(size)


_SWITCH = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
"""What turns a switch on and off."""


def _switch(value: Any, where: str) -> bool:
    word = _as_text(value).lower()
    if word not in _SWITCH:
        raise _bad(value, where, "true or false")
    return _SWITCH[word]


def _names(minimum: int) -> Callable[[Any, str], tuple[str, ...]]:
    def parse(value: Any, where: str) -> tuple[str, ...]:
        parts = value if isinstance(value, list | tuple) else _as_text(value).split(",")
        names = tuple(part.strip() for part in parts if isinstance(part, str) and part.strip())
        if len(names) != len(parts) or len(names) < minimum:
            raise _bad(value, where, "one name or more")
        return tuple(dict.fromkeys(names))

    return parse


def some_of(*choices: str) -> Kind:
    """Any number of these words, none included; a miss suggests the nearest."""

    def parse(value: Any, where: str) -> tuple[str, ...]:
        return tuple(one_of(*choices).parse(name, where) for name in _names(0)(value, where))

    return Kind("NAME", parse, repeated=True)


def read_path(value: Any, where: str) -> Path:
    """A path that file systems can hold; whether anything is there is not checked. Raises `ConfigError`."""
    text = _text(value, where)
    encoded = os.fsencode(text)
    if b"\0" in encoded or len(encoded) > LONGEST_PATH or max(map(len, encoded.split(b"/"))) > LONGEST_PART:
        raise _bad(value, where, f"a path of names of {LONGEST_PART} bytes at most, without NUL characters")
    return Path(text)


def _path(value: Any, where: str) -> Path:
    return expand_home(read_path(value, where))


def expand_home(path: str | Path) -> Path:
    """`path` with the home folder in place of ``~``; as it is where a user is named whom nobody knows."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def one_of(*choices: str) -> Kind:
    """Exactly one of these words; a miss suggests the nearest. Where yes and no are among them, so is what a switch
    takes: TOML's booleans, true, false, on, off, 1 and 0."""

    def parse(value: Any, where: str) -> str:
        if value not in choices and {"yes", "no"} <= set(choices) and (word := _as_text(value).lower()) in _SWITCH:
            value = "yes" if _SWITCH[word] else "no"
        if value not in choices:
            raise UnknownNameError(f"{where} {shown(value)}", hint=nearest(_as_text(value), list(choices)))
        return str(value)

    return Kind(f"[{'|'.join(choices)}]", parse)


def name_in(registry: Registry[Any]) -> Kind:
    """A name in `registry`, which is loaded to check one; a miss suggests the nearest."""

    def parse(value: Any, where: str) -> str:
        return str(one_of(*registry).parse(value, where))

    return Kind("NAME", parse)


def _bits(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _BITS.fullmatch(value):
        raise _bad(value, where, "wNaM with N from 2 to 8 and M from 2 to 8 or 16, such as w8a8 or w4a8")
    return value


def _layer_bits(value: Any, where: str) -> tuple[str, ...]:
    """``PATTERN=wNaM`` each, in order; a TOML table maps the one to the other."""
    if isinstance(value, dict):
        value = [f"{pattern}={bits}" for pattern, bits in value.items()]
    parts = value if isinstance(value, list | tuple) else _as_text(value).split(",")
    layers = []
    for part in parts:
        pattern, _, bits = (part if isinstance(part, str) else "").rpartition("=")
        if not pattern.strip() or not _BITS.fullmatch(bits.strip()):
            raise _bad(part, where, "module paths and their bits, such as features.3.*=w4a8")
        layers.append(f"{pattern.strip()}={bits.strip()}")
    return tuple(layers)


TEXT = Kind("TEXT", _text)
BITS = Kind("wNaM", _bits)
LAYER_BITS = Kind("PATTERN=wNaM", _layer_bits, repeated=True)
PATH = Kind("PATH", _path)
COUNT = Kind("N", _parser_of(Annotated[int, Meta(ge=1, le=MOST)], "a whole number of at least 1"))
IMAGES = Kind("N", _parser_of(Annotated[int, Meta(ge=1, le=MOST_IMAGES)], f"a whole number from 1 to {MOST_IMAGES:,}"))
THREADS = Kind(
    "N", _parser_of(Annotated[int, Meta(ge=1, le=MOST_THREADS)], f"a whole number from 1 to {MOST_THREADS:,}")
)
SEED = Kind("N", _parser_of(Annotated[int, Meta(ge=0, le=MOST)], "a whole number of at least 0"))
AMOUNT = Kind("NUMBER", _parser_of(Annotated[float, Meta(ge=0, le=sys.float_info.max)], "a number of at least 0"))
SHARE = Kind("SHARE", _parser_of(Annotated[float, Meta(ge=0, le=1)], "a share between 0 and 1"))
PERCENT = Kind("PERCENT", _parser_of(Annotated[float, Meta(ge=0, le=100)], "a percentage between 0 and 100"))
SIZE = Kind("BYTES", parse_size)
SWITCH = Kind("", _switch, switch=True)
NUMBERS = Kind("NUMBERS", _parser_of(tuple[Number, ...], "numbers such as 0.485,0.456,0.406", ","))
_SIZES = Annotated[tuple[Positive, ...], Meta(min_length=2, max_length=3)]
SHAPE = Kind("C,H,W", _parser_of(_SIZES, "C,H,W such as 3,224,224, or C,L such as 40,101", ",x"))
NAMES = Kind("NAME", _names(1), repeated=True)
DEVICES = Kind("DEVICE", _names(0), repeated=True)


def toml_value(value: Any) -> str:
    """A setting as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML basic string
