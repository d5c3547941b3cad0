"""Ten thousand rendered signs to be judged by, where the 2,000 of the model files cannot tell methods apart.

Of two answers to 2,000 images that differ on three in a hundred, the difference of accuracies is known to about 0.4.
"""

from __future__ import annotations

from typing import Any

from cases import ROOT

from edgeq.model.pycode import import_callable

IMAGES = 10_000


def evaluation() -> Any:
    """Images of the test split, and their classes."""
    return import_callable(f"{ROOT / 'models' / 'signs' / 'render.py'}:evaluation")(IMAGES)
