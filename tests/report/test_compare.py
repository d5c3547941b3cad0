"""Two builds side by side: accuracy, grids that moved, what went in, size and latency; safe with strangers' files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import ArtifactError
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.report.compare import compare_builds
from edgeq.report.comparetables import compare_markdown, compare_tables
from edgeq.report.grids import moved_grids
from tests.cli.console import one_line, run
from tests.formats.residual import frozen, residual_network
from tests.report.fakebuild import write_answered

HOSTILE = "<b>|`x`\x1b[31m\u202e\n@all"


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    return frozen(residual_network())


def changed(graph: IntegerGraph, **grids: Quantization) -> IntegerGraph:
    return dataclasses.replace(graph, quantizations={**graph.quantizations, **grids})


def test_grids_that_moved_are_listed_with_how_far(graph: IntegerGraph) -> None:
    assert moved_grids(graph, graph)["moved"] == []
    layer = next(graph.layers())
    weights, output = layer.inputs[1], layer.name
    grid, of_weights = graph.quantizations[output], graph.quantizations[weights]
    shift = -1 if int(grid.zero_point) > 0 else 1
    scales = of_weights.scale.copy()
    scales[1] *= 2
    constants = graph.constants[weights].copy()
    constants.flat[0] ^= 1
    other = changed(
        graph,
        **{
            output: dataclasses.replace(grid, scale=grid.scale * np.float32(1.5), zero_point=grid.zero_point + shift),
            weights: dataclasses.replace(of_weights, scale=scales),
        },
    )
    other = dataclasses.replace(other, constants={**graph.constants, weights: constants})
    one, two = moved_grids(graph, other)["moved"]
    assert [(row["name"], row["place"]) for row in (one, two)] == [(layer.name, "weights"), (layer.name, "output")]
    assert one["scale_ratio"] == 2
    assert one["integers_changed"] == 1 / constants.size
    assert (two["scale_ratio"], two["zero_point_shift"]) == (pytest.approx(1.5), shift)
    narrow = dataclasses.replace(of_weights, bits=4)
    (row,) = moved_grids(graph, changed(graph, **{weights: narrow}))["moved"]
    assert (row["bits_before"], row["bits_after"], row["scale_ratio"]) == (8, 4, 1)


def test_ops_of_one_build_only_are_named(graph: IntegerGraph) -> None:
    first, *rest = graph.nodes
    shorter = object.__new__(IntegerGraph)
    vars(shorter).update(vars(graph), nodes=tuple(rest))
    found = moved_grids(graph, shorter)
    assert (found["only_before"], found["only_after"]) == ([first.name], [])


@pytest.fixture
def two(tmp_path: Path, graph: IntegerGraph) -> tuple[Path, Path]:
    """Two builds of one network that differ in seed, in one grid, and in ten answers."""
    folders = []
    for name, wrong in (("one", range(10)), ("two", range(20))):
        lock = {"config": {"seed": len(folders), "method": "gznq"}, "model": {"weights_sha256": "ab"}}
        folders.append(write_answered(tmp_path / name, wrong, lock=lock))
    (folders[0] / "integer.safetensors").write_bytes(graph.to_bytes())
    grid = graph.quantizations["x"]
    node = graph.nodes[0].name
    moved = dataclasses.replace(graph.quantizations[node], scale=grid.scale * np.float32(3))
    (folders[1] / "integer.safetensors").write_bytes(changed(graph, **{node: moved}).to_bytes())
    return folders[0], folders[1]


def test_two_builds_are_explained(two: tuple[Path, Path]) -> None:
    facts = compare_builds(*two)
    assert facts["accuracy"]["value"] == -5
    assert (facts["accuracy"]["gained"], facts["accuracy"]["lost"], facts["accuracy"]["same"]) == (0, 10, 0.95)
    assert facts["same_float_network"] is True
    assert facts["lock"] == [{"entry": "config.seed", "before": 0, "after": 1}]
    assert facts["grids"]["moved_grids"] == 1
    assert facts["size"]["ratio"] == facts["latency"]["ratio"] == 1
    overview, grids, lock = compare_tables(facts)
    rows = {row[0]: row[3] for row in overview.rows}
    assert rows["top-1"].startswith("-5.00 points (-8.")
    assert rows["changed"] == "0 became right, 10 wrong"
    assert (len(grids.rows), len(lock.rows)) == (1, 1)


def test_the_command_prints_and_writes_it(two: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "c.md"
    result = run("compare", *map(str, two), "--markdown", str(page))
    assert (result.exit_code, result.stderr) == (0, "")
    for part in ("top-1", "1 of ", "grids moved", "config.seed"):
        assert part in result.stdout
    assert "| config.seed | 0 | 1 |" in page.read_text()
    assert json.loads(run("compare", *map(str, two), "--json").stdout)["accuracy"]["lost"] == 10
    one_line(run("compare", str(two[0]), str(tmp_path / "none")), 2, "none holds no report.json")


def spoil_report(report: dict[str, Any]) -> None:
    report |= {"model": HOSTILE, "method": HOSTILE, "seed": -1}
    report["accuracy"]["agreement"] = "much"
    report["latency"]["conditions"]["cpu"] = HOSTILE


@pytest.mark.parametrize("integers", [b"", b"x" * 100, b"\x02\0\0\0\0\0\0\0{}"])
def test_strangers_builds_are_compared_as_far_as_they_are_whole(
    two: tuple[Path, Path], integers: bytes, tmp_path: Path
) -> None:
    deep: Any = 0
    for _ in range(400):
        deep = {HOSTILE: deep}
    lock = {"config": {HOSTILE: HOSTILE * 50}, "recipe": deep, "model": [1]}
    odd = write_answered(tmp_path / "odd", range(5), spoil=spoil_report, lock=lock)
    (odd / "integer.safetensors").write_bytes(integers)
    for pair in ((odd, two[0]), (two[0], odd), (odd, odd)):
        result = run("compare", *map(str, pair), "--markdown", str(tmp_path / "c.md"))
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        page = (tmp_path / "c.md").read_text()
        assert not set(page) & set("<>`\x1b\u202e@")
        assert run("compare", *map(str, pair), "--json").exit_code == 0


def test_a_lock_that_is_no_lock_is_left_out(two: tuple[Path, Path]) -> None:
    (two[1] / "edgeq.lock").write_text("[" * 100_000)
    facts = compare_builds(*two)
    assert facts["same_float_network"] is None
    assert "compared image by image" not in compare_markdown(facts)
    (two[1] / "report.json").unlink()
    with pytest.raises(ArtifactError):
        compare_builds(*two)
