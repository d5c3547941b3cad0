"""What the agent may answer: one schema, checked at one place, before anything else looks at it.

A device is another machine and may say anything. What passes here has every key, of the right type and within sane
bounds, and nothing else; all that does not is a `DeviceError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from edgeq.device.runners.agent import MARK, RUNTIMES
from edgeq.errors import DeviceError

__all__ = ["DTYPES", "read_answer"]

LONGEST_TEXT = 1000
MOST_ITEMS = 100_000
MOST_SECONDS = 1e9
MOST_BYTES = 1 << 50

DTYPES = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
)
"""Types of outputs that come back from a device, by numpy's names."""

Check = Callable[[Any], Any]
"""Returns what it was given, rid of unknown keys, or raises `_WrongError`."""


class _WrongError(Exception):
    """What should be there; every level on the way up adds its name."""

    def __init__(self, expected: str, place: str = "") -> None:
        super().__init__(expected)
        self.wanted, self.place = expected, place


def read_answer(stdout: bytes, kind: str, token: str, where: str) -> dict[str, Any] | None:
    """Find the result of the job `token` in what the agent printed; None where it printed none.

    `kind` is what the agent was asked for: ``probe``, ``eval`` or ``bench``. Lines that are not of this job are
    ignored: libraries print, too. Raises `DeviceError` where the agent reports a failure, or its result is malformed.
    """
    failure: dict[str, Any] | None = None
    for line in stdout.decode(errors="replace").split("\n"):
        if not line.startswith("{") or token not in line:
            continue
        try:
            event = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError, _WrongError) as error:
            raise _malformed_error(where, f"its line for this job is no plain JSON: {error}") from error
        if not isinstance(event, dict) or event.get("job") != token:
            continue
        if event.get(MARK) == "result":
            try:
                return dict(_ANSWERS[kind](event))
            except _WrongError as wrong:
                raise _malformed_error(where, f"{wrong.place.lstrip('.') or 'it'} is not {wrong.wanted}") from wrong
        if event.get(MARK) == "error":
            failure = event
    if failure is not None:
        raise DeviceError(
            "the model could not be run on the device",
            where=where,
            why=f"{failure.get('error')}: {failure.get('message')}"[:LONGEST_TEXT],
            hint=f"edgeq device probe {where}",
        )
    return None


def _malformed_error(where: str, why: str) -> DeviceError:
    return DeviceError("the device's answer is malformed", where=where, why=why, hint="edgeq device probe tells more")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _WrongError("a key stands there twice")
    return table


def _no_constant(name: str) -> None:
    raise _WrongError(f"{name} is no number")


def _number(least: float = -math.inf, most: float = math.inf, *, whole: bool = False, above: bool = False) -> Check:
    expected = f"{'a whole' if whole else 'a'} number {'above' if above else 'from'} {least:g} to {most:g}"

    def check(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise _WrongError(expected)
        if not least <= value <= most or abs(value) == math.inf or (above and value == least):
            raise _WrongError(expected)
        return value

    return check


def _text(pattern: str = r".*") -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or not re.fullmatch(pattern, value, re.DOTALL):
            raise _WrongError("text" if pattern == r".*" else f"text like {pattern}")
        return value

    return check


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        raise _WrongError("true or false")
    return value


def _one_of(*values: Any) -> Check:
    def check(value: Any) -> Any:
        if not any(value == known and type(value) is type(known) for known in values):
            raise _WrongError(f"one of {', '.join(map(str, values))}")
        return value

    return check


def _maybe(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _list(inner: Check, least: int = 0) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, list) or not least <= len(value) <= MOST_ITEMS:
            raise _WrongError("a list")
        return [_inside(inner, item, f"[{place}]") for place, item in enumerate(value)]

    return check


def _table(key: str, inner: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) > MOST_ITEMS or not all(re.fullmatch(key, name) for name in value):
            raise _WrongError("a table")
        return {name: _inside(inner, item, f".{name[:80]}") for name, item in value.items()}

    return check


def _record(fields: Mapping[str, Check], optional: tuple[str, ...] = ()) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _WrongError("a table")
        missing = next((name for name in fields if name not in value and name not in optional), None)
        if missing is not None:
            raise _WrongError("there", f".{missing}")
        return {name: _inside(inner, value[name], f".{name}") for name, inner in fields.items() if name in value}

    return check


def _inside(check: Check, value: Any, place: str) -> Any:
    try:
        return check(value)
    except _WrongError as wrong:
        raise _WrongError(wrong.wanted, place + wrong.place) from None


_core = _number(0, 1 << 16, whole=True)
_seconds = _number(-MOST_SECONDS, MOST_SECONDS)
_bytes = _number(0, MOST_BYTES, whole=True)

_MACHINE = _record(
    {
        "cpu": _text(),
        "parts": _list(_text()),
        "architecture": _text(r"[A-Za-z0-9_]{1,32}"),
        "cores": _maybe(_number(1, 1 << 16, whole=True)),
        "big_cores": _list(_core),
        "flags": _list(_text()),
        "dot_product": _flag,
        "system": _text(),
        "libc": _text(),
        "python": _text(r"[0-9]{1,2}\.[0-9]{1,3}\S{0,40}"),
        "bits": _one_of(32, 64),
        "emulated": _maybe(_text()),
    }
)

_MOMENT = _record(
    {
        "clock": _seconds,
        "own": _seconds,
        "busy": _maybe(_number(0, 1e12)),
        "load": _maybe(_number(0, 1e6)),
        "frequency_khz": _table(r"[0-9]{1,5}", _number(0, 1e9)),
        "governors": _table(r"[a-z0-9]{1,16}", _maybe(_text())),
        "temperature_c": _maybe(_number(-300, 1e4)),
        "throttled": _maybe(_number(0, 1 << 32, whole=True)),
        "affinity": _list(_core),
        "stolen": _maybe(_number(0, 1e12)),
        "heat_events": _number(0, 1 << 50, whole=True),
    }
)

_ops = _table(r"[^\0]{1,200}", _number(0, 1 << 31, whole=True))
_watts = _list(_number(0, 1000), 3)
_times = _list(_number(0, 1e9, above=True), 1)

_LOAD = _record(
    {
        "watts": _watts,
        "inferences": _number(1, 1 << 40, whole=True),
        "seconds": _number(0, 1e6, above=True),
    }
)


def _power(value: Any) -> Any:
    """Why it is not known, or readings at rest and under load of the same files that were timed."""
    if isinstance(value, dict) and "why" in value:
        return _record({"why": _text()})(value)
    loads = _record({"model": _LOAD, "float": _LOAD}, optional=("float",))
    return _record({"rails": _list(_text(r"[A-Z0-9_]{1,40}"), 1), "idle": _watts, "loads": loads})(value)


_ANSWERS: Mapping[str, Check] = {
    "probe": _record(
        {
            "machine": _MACHINE,
            "moment": _MOMENT,
            "free_bytes": _bytes,
            "runtimes": _record(
                dict.fromkeys(
                    RUNTIMES,
                    _record(
                        {
                            "works": _flag,
                            "version": _maybe(_text()),
                            "numpy": _maybe(_text()),
                            "why": _text(),
                        }
                    ),
                )
            ),
        }
    ),
    "eval": _record(
        {
            "images": _number(0, 1 << 40, whole=True),
            "sha256": _text(r"[0-9a-f]{64}"),
            "arrays": _list(
                _record(
                    {
                        "dtype": _one_of(*DTYPES),
                        "shape": _list(_number(0, 1 << 40, whole=True)),
                    }
                )
            ),
            "ops": _ops,
            "peak_bytes": _bytes,
            "before": _MOMENT,
            "after": _MOMENT,
            "machine": _MACHINE,
            "runtime": _text(),
            "kernels": _text(),
        }
    ),
    "bench": _record(
        {
            "samples": _record({"model": _times, "float": _times}, optional=("float",)),
            "inferences_per_run": _number(1, 1 << 31, whole=True),
            "power": _maybe(_power),
            "threads": _number(1, 1 << 16, whole=True),
            "before": _MOMENT,
            "after": _MOMENT,
            "machine": _MACHINE,
            "affinity": _list(_core),
            "ops": _ops,
            "peak_bytes": _bytes,
            "runtime": _text(),
            "kernels": _text(),
        }
    ),
}
