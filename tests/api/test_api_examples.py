"""The examples of docs/how-to/python.md run, one after the other."""

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.finetune.settings import Settings, settings_for
from edgeq.graph.ir import Graph

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"


def test_the_examples_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def quick(method: str, effort: str, graph: Graph) -> Settings:
        return replace(settings_for(method, effort, graph), steps=2, batch=8, warm_up=1)

    monkeypatch.setattr("edgeq.pipeline.recipe.settings_for", quick)
    monkeypatch.setattr("logging.basicConfig", lambda: None)
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    lines = [""] * text.count("\n")
    for block in blocks:  # a failure names the line of the page
        first = text[: block.start(1)].count("\n")
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    Path("examples.py").write_text("\n".join(lines), encoding="utf-8")
    runpy.run_path("examples.py")
    shown = capsys.readouterr().out
    assert "tiny: " in shown
    assert "BatchNorm" in shown  # the captured graph
    assert "w8a8" in shown  # the integers
    assert "out/model.tflite" in shown
    assert "must be wNaM" in shown
    assert len(blocks) == 10
