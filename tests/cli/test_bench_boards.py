"""`edgeq bench` with several boards of a kind: terminal, JSON and page say whether the board or the file is slow."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.measure.latency import latency_facts
from tests.report.test_devices import bench

SAID = "takes 1.50 times as long as on pi@one, of the same kind, and other files 1.50 times: the board is slow"


def test_a_slow_board_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowness = {"pi@one": 1.0, "pi@two": 1.5}

    def measure(path: Path, device: str, options: dict[str, Any]) -> dict[str, Any]:
        times = ([value * slowness[device]] * 60 for value in (8.0, 4.0))
        latency = latency_facts(*times, inferences=1, threads=1, doubts=())
        return {"artifact": path.name, "device": device, **bench(latency=latency), "expect_no_gain": False}

    monkeypatch.setattr(importlib.import_module("edgeq.cli.bench"), "_measure", measure)
    words = ["bench", "a", "--device", "pi@one", "--device", "pi@two"]
    page = tmp_path / "compare.html"
    shown = CliRunner().invoke(cli, [*words, "--html", str(page)])
    assert shown.exit_code == 0, shown.output
    assert f"a on pi@two: {SAID}" in shown.stdout
    assert SAID in page.read_text()
    first, second = json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)
    assert "beside" not in first
    assert (second["beside"]["cause"], second["beside"]["total"]) == ("board", pytest.approx(1.5))
