"""The integer program picks what trying every subset picks."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from edgeq.errors import InstallError
from edgeq.quant.knapsack import largest_saving, least_noise

pytest.importorskip("scipy", reason="edgeq[tune] is not installed")

Numbers = dict[str, float]


def drawn(seed: int) -> tuple[Numbers, Numbers]:
    random = np.random.default_rng(seed)
    names = [f"layer{i}" for i in range(9)]
    savings = dict(zip(names, random.integers(1, 10**6, 9).astype(float), strict=True))
    noises = dict(zip(names, 10 ** random.uniform(-9, -2, 9), strict=True))
    return savings, noises


def subsets(names: Numbers) -> list[tuple[str, ...]]:
    return [some for count in range(len(names) + 1) for some in itertools.combinations(names, count)]


@pytest.mark.parametrize("seed", range(8))
def test_nothing_saves_more_or_is_less_noisy(seed: int) -> None:
    savings, noises = drawn(seed)
    budget, needed = 0.3 * sum(noises.values()), 0.6 * sum(savings.values())

    def total(of: Numbers, some: object) -> float:
        return sum(of[name] for name in some)  # type: ignore[attr-defined]

    allowed = [some for some in subsets(savings) if total(noises, some) <= budget]
    chosen = largest_saving(savings, noises, budget)
    assert total(noises, chosen) <= budget * (1 + 1e-6)
    assert total(savings, chosen) == pytest.approx(max(total(savings, some) for some in allowed))
    enough = [some for some in subsets(savings) if total(savings, some) >= needed]
    quiet = least_noise(savings, noises, needed)
    assert quiet is not None
    assert total(savings, quiet) >= needed * (1 - 1e-6)
    assert total(noises, quiet) == pytest.approx(min(total(noises, some) for some in enough), rel=1e-3)


def test_ends_of_the_range() -> None:
    savings, noises = drawn(0)
    assert largest_saving(savings, noises, 0.0) == frozenset()
    assert largest_saving(savings, noises, 2 * sum(noises.values())) == frozenset(savings)
    assert largest_saving({}, {}, 1.0) == frozenset()
    assert least_noise(savings, noises, sum(savings.values()) + 1) is None
    assert least_noise(savings, noises, 0.0) == frozenset()


def test_without_scipy_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(InstallError, match=r"edgeq\[tune\]"):
        largest_saving({"a": 1.0}, {"a": 1.0}, 1.0)
