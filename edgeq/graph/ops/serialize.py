"""Ops as plain dictionaries, for saved graphs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from edgeq.errors import UnsupportedError
from edgeq.graph.ops.base import OPS, Op
from edgeq.graph.ops.elementwise import Clamp

__all__ = ["op_from_json", "op_to_json"]


def op_to_json(op: Op) -> dict[str, Any]:
    """A plain dictionary that `op_from_json` turns back into an equal op. Infinite limits are stored as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Op):
            return op_to_json(value)
        if isinstance(value, float) and math.isinf(value):
            return None
        return list(value) if isinstance(value, tuple) else value

    return {"kind": type(op).__name__} | {f.name: plain(getattr(op, f.name)) for f in dataclasses.fields(op)}


def op_from_json(data: dict[str, Any]) -> Op:
    """Inverse of `op_to_json`; unknown kinds and fields are an `UnsupportedError`."""
    kind = OPS.get(str(data.get("kind")))
    names = {f.name for f in dataclasses.fields(kind)} if kind else set()
    if kind is None or not set(data) - {"kind"} <= names:
        raise UnsupportedError(
            f"unknown op {data.get('kind')!r} in a saved graph", hint="was it written by a newer edgeq?"
        )
    arguments: dict[str, Any] = {}
    for name, value in data.items():
        if name == "kind":
            continue
        if isinstance(value, dict):
            value = op_from_json(value)
        elif isinstance(value, list):
            value = tuple(value)
        elif value is None and kind is Clamp:
            value = -math.inf if name == "minimum" else math.inf
        arguments[name] = value
    return kind(**arguments)
