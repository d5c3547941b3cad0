"""Equal values have equal hashes, different ones different hashes, and what has no content to tell is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeq.fingerprint import fingerprint


@dataclass(frozen=True)
class Point:
    x: float
    y: Any = None


@dataclass(frozen=True)
class Other:
    x: float
    y: Any = None


DIFFERENT: list[Any] = [
    None,
    True,
    1,
    1.0,
    "1",
    b"1",
    0,
    False,
    0.0,
    -0.0,
    "",
    [],
    {},
    set(),
    "None",
    ["ab"],
    ["a", "b"],
    [["a"], "b"],
    [["a", "b"]],
    {"a": "b"},
    {"a": 1},
    {1: "a"},
    {"a"},
    np.zeros((2, 3), np.float32),
    np.zeros((3, 2), np.float32),
    np.zeros(6, np.float32),
    np.zeros((2, 3), np.int32),
    np.zeros((0, 3), np.float32),
    np.zeros((3, 0), np.float32),
    np.zeros(0, np.uint8),
    torch.zeros(2, 3),
    torch.zeros(3, 2),
    torch.zeros(2, 3, dtype=torch.bfloat16),
    torch.zeros(2, 3, dtype=torch.int32),
    torch.device("cpu"),
    torch.device("cuda"),
    Point(1.0),
    Point(2.0),
    Point(1.0, 0),
    Point(1.0, np.zeros(1)),
    Other(1.0),
]


def test_different_values_have_different_hashes() -> None:
    assert len({fingerprint(value) for value in DIFFERENT}) == len(DIFFERENT)


def test_equal_values_have_equal_hashes() -> None:
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": (2, 3), "a": 1})
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert fingerprint(turned) == fingerprint(np.ascontiguousarray(turned))
    assert fingerprint(torch.arange(6).reshape(2, 3).T) == fingerprint(torch.tensor([[0, 3], [1, 4], [2, 5]]))
    assert fingerprint(torch.device("cuda", 1)) == fingerprint(torch.device("cuda"))


def test_one_bit_of_an_array_counts() -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    changed = values.copy()
    changed[500] = np.nextafter(changed[500], np.float32(2))
    assert fingerprint(values) != fingerprint(changed)


def test_pairs_of_arrays_per_image_count() -> None:
    def truths(label: int) -> np.ndarray[Any, Any]:
        made = np.empty(2, object)
        made[:] = [(np.zeros((1, 4)), np.array([0])), (np.zeros((1, 4)), np.array([label]))]
        return made

    assert fingerprint(truths(1)) == fingerprint(truths(1)) != fingerprint(truths(2))


def test_a_path_is_what_it_holds(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("same")
    other.write_text("same")
    assert fingerprint(one) == fingerprint(other)
    other.write_text("more")
    assert fingerprint(one) != fingerprint(other)
    (tmp_path / "folder").mkdir()
    before = fingerprint(tmp_path / "folder")
    (tmp_path / "folder" / "file").write_text("")
    assert fingerprint(tmp_path / "folder") != before
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "missing")


def test_a_class_says_what_stands_for_it() -> None:
    class Network:
        def __init__(self, weights: Mapping[str, int]) -> None:
            self.weights = weights

        def __fingerprint__(self) -> Mapping[str, int]:
            return self.weights

    assert fingerprint(Network({"a": 1})) == fingerprint(Network({"a": 1})) != fingerprint(Network({"a": 2}))


@pytest.mark.parametrize("value", [len, lambda: 0, Point, object(), (n for n in range(2)), np.random.default_rng(0)])
def test_what_has_no_content_is_refused_and_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"dict\['a'\]\[1\]\.y is a"):
        fingerprint({"a": [0, Point(1.0, value)]})


def test_fields_that_follow_from_others_do_not_count() -> None:
    @dataclass
    class Square:
        side: int
        area: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            self.area = self.side**2

    changed = Square(2)
    changed.area = 5
    assert fingerprint(changed) == fingerprint(Square(2))
