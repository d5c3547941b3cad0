"""The table of a stage: which rule it has for which op class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ops.base import OPS, Op

__all__ = ["OpTable"]

Rule = TypeVar("Rule")


class OpTable(Generic[Rule]):
    """Op classes to the rules of one stage, such as its kernels or its emitters.

    `lacks` ends the message about an op without a rule, as in "ELU *has no TFLite form*". A rule for a class holds for
    its subclasses that have none of their own.
    """

    def __init__(self, lacks: str, rules: Mapping[type[Op], Rule] | None = None) -> None:
        self.lacks = lacks
        self._rules: dict[type[Op], Rule] = dict(rules or {})

    def rule(self, *kinds: type[Op]) -> Callable[[Rule], Rule]:
        """Decorator: the decorated rule is that of `kinds`. Raises `ConfigError` for a class that has one already."""

        def add(rule: Rule) -> Rule:
            for kind in kinds:
                if kind in self._rules:
                    raise ConfigError(f"two rules for {kind.__name__} in one table", why=f"the table that {self.lacks}")
                self._rules[kind] = rule
            return rule

        return add

    def find(self, kind: type[Op]) -> Rule | None:
        """The rule for ops of class `kind`; None where there is none."""
        return next((self._rules[base] for base in kind.__mro__ if base in self._rules), None)

    def get(self, op: Op, where: str = "") -> Rule:
        """The rule for `op`. Raises `UnsupportedError`, at the node `where`, where there is none."""
        rule = self.find(type(op))
        if rule is None:
            raise UnsupportedError(f"{type(op).__name__} {self.lacks}", where=where, hint=op.lowering)
        return rule

    def __contains__(self, kind: type[Op]) -> bool:
        return self.find(kind) is not None

    def missing(self, kinds: Iterable[type[Op]] | None = None) -> list[type[Op]]:
        """The op classes (default: all that are registered) without a rule."""
        return [kind for kind in (OPS.values() if kinds is None else kinds) if kind not in self]

    @property
    def rules(self) -> Mapping[type[Op], Rule]:
        """Op classes and the rules that were registered for them."""
        return self._rules
