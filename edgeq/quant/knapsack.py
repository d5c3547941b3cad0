"""Which layers to give fewer bits: the largest saving that a budget of noise allows, as an integer program.

Noise that layers add to the answers is taken to add up (as HAWQ-V3 does, Yao et al., ICML 2021, arXiv 2011.10680); who
calls this holds the choice against the whole network afterwards. The program is solved by HiGHS, through scipy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.errors import InstallError

__all__ = ["largest_saving", "least_noise"]


def largest_saving(savings: Mapping[str, float], noises: Mapping[str, float], budget: float) -> frozenset[str]:
    """The layers with the largest sum of `savings` whose `noises` sum to `budget` at most.

    Both are by layer, none below 0. Raises `InstallError` without scipy.
    """
    return _solve(savings, {name: -savings[name] for name in savings}, noises, upper=budget)


def least_noise(savings: Mapping[str, float], noises: Mapping[str, float], needed: float) -> frozenset[str] | None:
    """The layers of least noise whose `savings` sum to `needed` at least; None where all together save less."""
    if sum(savings.values()) < needed:
        return None
    return _solve(savings, noises, savings, lower=needed)


def _solve(
    layers: Mapping[str, float],
    cost: Mapping[str, float],
    limited: Mapping[str, float],
    lower: float = -np.inf,
    upper: float = np.inf,
) -> frozenset[str]:
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp  # type: ignore[import-untyped]
    except ImportError as error:
        raise InstallError("tuning needs scipy, which is not installed", hint="pip install 'edgeq[tune]'") from error
    names = list(layers)
    if not names:
        return frozenset()
    objective, row = (np.array([of[name] for name in names], np.float64) for of in (cost, limited))
    # HiGHS has absolute tolerances: with numbers around 1 they mean something.
    scale = max(float(np.abs(row).max()), 1e-300)
    found = milp(
        objective / max(float(np.abs(objective).max()), 1e-300),
        integrality=np.ones(len(names)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(row / scale, lower / scale, upper / scale),
        # Presolving fixes layers whose noise is tiny beside the budget.
        options={"presolve": False, "mip_rel_gap": 0.0},
    )
    taken = found.x if found.success else np.zeros(len(names))
    return frozenset(name for name, value in zip(names, taken, strict=True) if value > 0.5)
