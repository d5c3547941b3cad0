"""Nothing that edgeq prints steers a terminal: not names out of files, not answers of devices, not words typed."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

import edgeq
from edgeq.cli import cli
from edgeq.cli.shell import columns, echo, print_json, say
from edgeq.cli.terminal import console, join_styled
from edgeq.errors import EdgeqError, printable
from tools.places import syntax

HOSTILE = "\x1b[32m[green]passed[/green]\x9b2J\u202e\u2028\u200b\r\x07"
ALLOWED = ("edgeq/cli/shell.py", "edgeq/cli/terminal.py", "edgeq/device/runners/agent/__main__.py")
"""The modules that print, and the agent, which prints on the device."""

PRINTS = {
    "click.echo",
    "click.secho",
    "print",
    "Console",
    "rich.print",
    "pprint",
    "sys.stdout.write",
    "sys.stderr.write",
    "click.style",
}


def spelt(function: ast.expr) -> str:
    """`a.b.c` of a name with attributes; "" for anything else."""
    if isinstance(function, ast.Attribute):
        return f"{spelt(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def harmless(text: str) -> bool:
    return all(sign.isprintable() or sign == "\n" for sign in text)


def test_only_two_modules_print() -> None:
    """A print of its own, wherever it is, would be one that nobody escapes."""
    found = []
    for name, nodes in syntax().items():
        if name in ALLOWED:
            continue
        shown = [node for node, _ in nodes if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)]
        own = {id(node) for each in shown for node in ast.walk(each)}  # `python -m` of a module that writes docs
        calls = [node for node, _ in nodes if isinstance(node, ast.Call) and id(node) not in own]
        found += [f"{name}:{node.lineno}" for node in calls if spelt(node.func) in PRINTS]
    assert not found, "use say, echo, columns, print_json or console of edgeq.cli"


def test_no_text_is_marked_up() -> None:
    """The console obeys no markup, so ``[red]`` would be printed as it is: `join_styled` colours a part of a line."""
    root = Path(edgeq.__file__).parent / "cli"
    found = [
        f"{path.name}:{node.lineno}: {node.value}"
        for path in root.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and any(f"[{style}]" in node.value for style in ("red", "green", "yellow", "bold", "dim", "cyan", "/"))
    ]
    assert not found


def test_every_way_of_printing_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    echo(HOSTILE)
    columns([[HOSTILE, "a"], ["b", HOSTILE]])
    for stderr in (False, True):
        console(stderr=stderr, width=200).print(HOSTILE, join_styled(HOSTILE, (HOSTILE, "bold")))
    written = capsys.readouterr()
    assert harmless(written.out)
    assert harmless(written.err)
    assert "[green]passed[/green]" in written.out
    assert "\\x1b" in written.err


def test_json_is_escaped_and_knows_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({HOSTILE: [HOSTILE, float("nan"), -float("inf"), 1.5], "größe": "\U000e0001"})
    written = capsys.readouterr().out
    assert harmless(written)
    assert "größe" in written
    assert json.loads(written) == {HOSTILE: [HOSTILE, None, None, 1.5], "größe": "\U000e0001"}


def test_errors_are_escaped() -> None:
    assert harmless(str(EdgeqError(HOSTILE, where=HOSTILE, why=HOSTILE, hint=HOSTILE)))
    assert printable("größe 10 µs × 3") == "größe 10 µs × 3"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose every name is hostile."""
    weights = helper.make_tensor(HOSTILE + "w", TensorProto.FLOAT, [2, 2], np.ones(4, np.float32))
    node = helper.make_node("Gemm", ["x" + HOSTILE, HOSTILE + "w"], ["y" + HOSTILE], name=HOSTILE)
    ends = [helper.make_tensor_value_info(side + HOSTILE, TensorProto.FLOAT, [1, 2]) for side in "xy"]
    graph = helper.make_graph([node], HOSTILE, ends[:1], ends[1:], [weights])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, doc_string=HOSTILE)
    proto.metadata_props.add(key=HOSTILE, value=HOSTILE)
    path = tmp_path / f"{HOSTILE.replace('/', '')}.onnx"
    onnx.save(proto, path)
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), prog_name="edgeq")


def test_a_model_with_hostile_names(model: Path) -> None:
    for words in (["inspect", str(model)], ["inspect", str(model), "--json"], ["bench", str(model), "--seconds", "0"]):
        done = run(*words)
        assert done.exit_code == 0, done.output
        assert harmless(done.output)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", HOSTILE],
        ["inspect", "a", HOSTILE],
        [f"--{HOSTILE}"],
        [HOSTILE],
        ["eval", "x", "--limit", HOSTILE],
        ["check", HOSTILE, "--max-drop", "1"],
        ["verify", HOSTILE],
        ["bench", HOSTILE, "--device", HOSTILE],
    ],
)
def test_words_typed(words: list[str]) -> None:
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert harmless(done.output)


def test_a_report_with_hostile_names(tmp_path: Path) -> None:
    from edgeq.report.schema import SCHEMA

    artifact = {"path": HOSTILE, "sha256": HOSTILE}
    devices = [{"name": HOSTILE, "latency": {}, "doubts": [HOSTILE], "accuracy": HOSTILE}]
    report = {"schema": SCHEMA, "model": HOSTILE, "target": HOSTILE, "artifact": artifact, "devices": devices}
    (tmp_path / "report.json").write_text(json.dumps(report))
    for extra in ([], ["--json"]):
        done = run("check", str(tmp_path), "--max-device-ms", "1", "--max-drop", "1", *extra)
        assert done.exit_code in (1, 2), done.output
        assert harmless(done.output)


def test_a_page_is_escaped() -> None:
    from edgeq.report.pages.report import template

    page = template("report.html.j2").environment.from_string('<p title="{{ x }}">{{ x }}</p>')
    text = page.render(x=HOSTILE + '"></p><script>alert(1)</script>')
    assert harmless(text)
    assert "<script" not in text
