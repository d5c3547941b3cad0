"""Boards of a kind beside each other: what is the board's own slowness, and what is the file's."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.measure.boards import beside_text, compare_boards, with_comparison


def result(device: str, own: float, base: float | None = None, **changes: Any) -> dict[str, Any]:
    latency = {"integer_median_ms": own} | ({"float_median_ms": base} if base else {})
    machine = {"cpu": "BCM2712", "architecture": "aarch64", "cores": 4}
    return {
        "device": device,
        "valid": True,
        "latency": latency,
        "machine": machine,
        "runtime": "litert 2",
        "kernels": "xnnpack",
        "threads": 1,
    } | changes


@pytest.mark.parametrize(
    ("own", "base", "cause", "said"),
    [
        (10.2, 20.4, "none", "no difference"),
        (13.0, 26.0, "board", "the board is slow, not this file"),
        (13.0, 20.4, "file", "the board is not slow, this file takes more time there"),
        (20.0, 26.0, "both", "the board is slow, and this file takes more time"),
    ],
)
def test_the_float_file_tells_the_board_from_the_integer_file(own: float, base: float, cause: str, said: str) -> None:
    fast, slow = compare_boards(["a", "a"], [result("one", 10.0, 20.0), result("two", own, base)])
    assert fast is None
    assert slow is not None
    assert (slow["cause"], slow["fastest"], slow["boards"]) == (cause, "one", 2)
    assert slow["total"] == pytest.approx(own / 10)
    assert slow["board"] == pytest.approx(base / 20)
    assert slow["own"] == pytest.approx(own / 10 / (base / 20))
    assert said in beside_text(slow)


def test_other_files_tell_it_too_and_an_odd_one_does_not_sway_them() -> None:
    files = ["a", "b", "c", "a", "b", "c"]
    found = compare_boards(
        files, [*(result("one", 10.0) for _ in range(3)), result("two", 13.0), result("two", 40.0), result("two", 13.0)]
    )
    assert [row["cause"] for row in found[3:] if row] == ["board", "both", "board"]


def test_a_file_alone_cannot_tell() -> None:
    _, slow = compare_boards(["a", "a"], [result("one", 10.0), result("two", 13.0)])
    assert slow is not None
    assert (slow["board"], slow["own"], slow["cause"]) == (None, None, "unknown")
    assert "cannot be told apart" in beside_text(slow)


@pytest.mark.parametrize(
    "changes",
    [{"valid": False}, {"latency": None, "valid": False}, {"threads": 4}, {"machine": {"cpu": "BCM2711"}}],
)
def test_what_is_not_alike_or_not_valid_is_not_compared(changes: dict[str, Any]) -> None:
    assert compare_boards(["a", "a"], [result("one", 10.0, 20.0), result("two", 13.0, 26.0, **changes)]) == [None, None]


def test_three_boards_and_repeats() -> None:
    timed = [result(name, ms, 2 * ms) for name, ms in (("one", 10.0), ("two", 10.1), ("three", 15.0), ("three", 99.0))]
    found = compare_boards(
        ["a"] * 4,
        [
            *timed,
        ],
    )
    assert found[0] is None
    assert [row["boards"] for row in found[1:] if row] == [3, 3, 3]
    assert found[2] == found[3]  # the median of both


def test_a_row_gets_a_note() -> None:
    first, second = with_comparison(["a", "a"], [result("one", 10.0, 20.0), result("two", 13.0, 26.0, notes=["warm"])])
    assert "beside" not in first
    assert second["notes"] == [
        "warm",
        "takes 1.30 times as long as on one, of the same kind, and other files 1.30 times: "
        "the board is slow, not this file",
    ]
