"""What the outputs of a network may mean, by the words that settings and files use."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["FEWEST_SCORES", "KINDS", "UNSCORED", "Kind"]

Kind = Literal["classification", "segmentation", "detection", "regression", "embedding"]
KINDS: tuple[str, ...] = get_args(Kind)

UNSCORED = ("regression", "embedding")
"""Tasks whose outputs are no scores of classes: nothing pulls their calibration images towards classes."""

FEWEST_SCORES = 5
"""Fewest outputs that count as scores of classes where nobody says so. Fewer may be a point, a box or a quaternion,
whose every value counts; and among the scores of few classes none is far below the others."""
