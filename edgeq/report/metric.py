"""Reading an accuracy section, whatever the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["metric_of", "score_of"]


def metric_of(accuracy: Mapping[str, Any]) -> str:
    """The name of the figure."""
    return str(accuracy.get("metric", "top-1"))


def score_of(accuracy: Any, which: str) -> Any:
    """The figure of the ``float`` or the ``integer`` network; reports before there were other tasks call it top1."""
    answers = accuracy.get(which) if isinstance(accuracy, Mapping) else None
    return answers.get("score", answers.get("top1")) if isinstance(answers, Mapping) else None
