"""One limit and how a build did against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Gate", "at_least", "at_most", "failed_gate"]


@dataclass(frozen=True)
class Gate:
    """One limit. `margin` is how far the value is on the good side of `limit`; negative when it missed.

    `value` and `margin` are None when there is nothing to judge, and `reason` then says why. `note` is what a reader
    should know although the limit held. `undecided`: the limit held by the numbers, and chance may be the reason.
    `origin` says where the limit was set; None for what every build is held to.
    """

    name: str
    limit: float | int | str
    value: float | int | str | None
    margin: float | int | None
    held: bool
    reason: str | None = None
    note: str | None = None
    undecided: bool = False
    origin: str | None = None

    @property
    def word(self) -> Literal["held", "missed", "not decided"]:
        """What became of the limit."""
        return "missed" if not self.held else "not decided" if self.undecided else "held"

    def to_json(self) -> Mapping[str, Any]:
        return {
            "name": self.name,
            "limit": self.limit,
            "value": self.value,
            "margin": self.margin,
            "passed": self.held,
            "reason": self.reason,
            "note": self.note,
            "decided": not self.undecided,
            "from": self.origin,
        }


def at_most(name: str, limit: float, value: float | None, missing: str, note: str | None = None) -> Gate:
    """`missing` is the reason where `value` is None."""
    return _judge(name, limit, value, None if value is None else limit - value, missing, note)


def at_least(name: str, limit: float, value: float | None, missing: str, note: str | None = None) -> Gate:
    """`missing` is the reason where `value` is None."""
    return _judge(name, limit, value, None if value is None else value - limit, missing, note)


def failed_gate(name: str, limit: float | str, reason: str, value: float | str | None = None) -> Gate:
    """A gate that no number can hold."""
    return Gate(name, limit, value, None, False, reason)


def _judge(name: str, limit: float, value: float | None, margin: float | None, missing: str, note: str | None) -> Gate:
    if value is None or margin is None:
        return failed_gate(name, limit, missing)
    # 94.2 - 93.2 is a little more than 1 in binary: nine decimals are far below one image in any set, and above that.
    value, margin = (round(v, 9) if isinstance(v, float) else v for v in (value, margin))
    held = margin >= 0
    return Gate(name, limit, value, margin, held, None if held else f"missed by {abs(margin):.4g}", note)
