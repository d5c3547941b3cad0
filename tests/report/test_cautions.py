"""Warnings out of a report's numbers: who answers by chance, and which values lost their meaning."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.report.cautions import accuracy_cautions, layer_cautions


def section(score: float, chance: float, low: float, n: int = 1000) -> dict[str, Any]:
    return {"metric": "top-1", "n": n, "chance": chance, "float": {"score": score, "top1_interval": [low, 100.0]}}


@pytest.mark.parametrize(
    ("score", "chance", "low", "said"),
    [
        (10.2, 10.0, 8.5, "no better than chance (10.00 %)"),
        (60.0, 60.0, 57.0, "the same answer, or all images are of one class"),
        (93.0, 10.0, 91.0, None),
        (12.5, 10.0, 10.6, None),
    ],
)
def test_a_float_network_at_chance_is_told(score: float, chance: float, low: float, said: str | None) -> None:
    found = accuracy_cautions(section(score, chance, low))
    assert (said is None) == (found == [])
    assert said is None or said in found[0]


def test_what_says_nothing_of_chance_is_not_judged() -> None:
    assert accuracy_cautions(None) == []
    assert accuracy_cautions({"n": 3, "float": {"score": 1.0}}) == []


def row(name: str, op: str, db: float, low: float, high: float, *reads: str) -> dict[str, Any]:
    return {"name": name, "op": op, "sqnr_db": db, "low": low, "high": high, "reads": list(reads)}


def test_a_join_of_pixels_and_shares_is_named_first() -> None:
    rows = [
        row("box", "Mul", 40.0, 0.0, 320.0),
        row("cls", "Sigmoid", 40.0, 0.0, 1.0),
        row("cat", "Concat", 39.0, 0.0, 320.0, "box", "cls"),
        row("cat.grid1", "LeakyReLU", 1.2, 0.0, 1.0, "cls"),
    ]
    join, op = layer_cautions(rows)
    assert "cat joins 0..320 with 0..1, which keeps 1 of 256 steps: return them apart" in join
    assert op.startswith("cat.grid1 (LeakyReLU) keeps 1.2 dB")


def test_joins_of_like_ranges_are_fine() -> None:
    rows = [
        row("a", "Mul", 40.0, 0.0, 1.0),
        row("b", "Mul", 40.0, -0.3, 0.2),
        row("c", "Concat", 40, -0.3, 1, "a", "b"),
    ]
    assert layer_cautions(rows) == []
    rows[1] |= {"low": 0.0, "high": 0.0}  # zeros, as a pad of channels has them
    assert layer_cautions(rows) == []
    assert layer_cautions([{"name": "c", "op": "Concat", "sqnr_db": 30.0, "reads": ["a", "b"]}]) == []


def test_the_noisiest_ops_are_named_worst_first() -> None:
    found = layer_cautions([row(f"op{db}", "Conv2d", db, 0.0, 1.0) for db in (9, 3, -2, 30, 5, 10, 7)])
    assert [line.split()[0] for line in found] == ["op-2", "op3", "op5"]
    assert "2 more ops are below 10 dB" in found[-1]
    assert "more noise than signal" in found[0]
