"""One name per op family in every stage, one rule per op in every table, and what places.py finds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.formats.onnx import emit as onnx_emit
from edgeq.formats.onnx import reference as onnx_reference
from edgeq.formats.tflite import emit as tflite_emit
from edgeq.graph import run as float_kernels
from edgeq.graph.ops import ELU, OPS, Add, HardSwish, Op, OpTable, Unary
from edgeq.integer import reference
from tools.ops_table import CELLS, EXAMPLES, attempt, document
from tools.places import places, syntax

ROOT = Path(__file__).parents[2]
TABLES = {
    "float kernels": float_kernels.KERNELS,
    "exact reference": reference.KERNELS,
    "TFLite emitters": tflite_emit.EMITTERS,
    "ONNX emitters": onnx_emit.EMITTERS,
    "ONNX Runtime's arithmetic": onnx_reference.KERNELS,
}


def family(thing: object) -> str:
    return str(thing.__module__).rpartition(".")[2]


def test_a_table_refuses_a_second_rule_lists_what_is_missing_and_names_an_op_without_one():
    table: OpTable[str] = OpTable("has no horn")
    table.rule(Unary)("every function")
    table.rule(HardSwish, Add)("its own")
    assert (table.get(ELU()), table.get(HardSwish()), table.get(Add())) == ("every function", "its own", "its own")
    assert table.missing([ELU, OPS["Mul"], Add]) == [OPS["Mul"]]
    with pytest.raises(ConfigError, match="two rules for Add"):
        table.rule(Add)("another")
    with pytest.raises(UnsupportedError, match="Affine has no horn at here"):
        table.get(OPS["Affine"](), "here")


@pytest.mark.parametrize("stage", TABLES)
def test_a_rule_stands_in_the_file_that_is_called_like_its_op_s(stage):
    for kind, rule in TABLES[stage].rules.items():
        assert family(rule) == family(kind), kind.__name__


def test_every_op_has_a_float_kernel_and_an_example():
    assert not float_kernels.KERNELS.missing()
    assert not [kind for kind in OPS.values() if kind not in EXAMPLES]


@pytest.mark.parametrize("kind", OPS.values(), ids=OPS)
def test_every_stage_takes_an_op_or_says_what_to_do(kind: type[Op]):
    for cell in CELLS:
        error = attempt(kind, cell)
        assert error is None or error.hint, f"{cell}: {error}"


def test_the_page_of_ops_is_what_the_script_prints():
    page = (ROOT / "docs" / "reference" / "ops.md").read_text()
    assert page == document(), "run: python tools/ops_table.py > docs/reference/ops.md"


def test_an_op_like_elu_is_its_class_and_one_file_per_stage():
    found = places("elu")
    assert set(Counter(str(Path(path).parent) for path in found).values()) == {1}
    assert all(Path(path).stem == "elementwise" for path in found)
    assert len(found) <= 7  # the class, capture, float, reference, and an emitter per format, with room for one


FAMILIES = ("graph/ops/", "graph/capture/", "graph/run/", "graph/passes/", "integer/reference/")
FAMILIES += ("formats/tflite/emit/", "formats/onnx/emit/", "formats/onnx/reference/")
ABOUT = {
    "graph/ir.py": "finds nodes by the class of their op",
    "graph/patterns.py": "gates and their products",
    "finetune/kernels.py": "the student's rule for each op",
    "synth/learnedstats.py": "which layers an activation stands between",
    "synth/weightstats.py": "statistics behind each op",
    "formats/tflite/relayout.py": "reshapes and permutations",
}
"""Files that are about the ops whose classes they ask for; all others ask for traits."""


def test_files_that_are_not_about_an_op_ask_for_its_traits():
    asking = set()
    for file, nodes in syntax().items():
        path = file.removeprefix("edgeq/")
        if not path.startswith((*FAMILIES, "model/")):  # edgeq/model reads Python's own syntax trees
            calls = [node for node, _ in nodes if isinstance(node, ast.Call) and named(node.func, "isinstance")]
            if any(named(call.args[0], "op") or getattr(call.args[0], "attr", "") == "op" for call in calls):
                asking.add(path)
    assert asking == set(ABOUT)


def named(expression: ast.expr, name: str) -> bool:
    return isinstance(expression, ast.Name) and expression.id == name


def test_what_places_finds_of_formats_and_transports_includes_their_own_files():
    found = set(places("format"))
    assert {"edgeq/formats/onnx/", "edgeq/formats/tflite/", "edgeq/config/formats.py"} <= found
    assert len(found) <= 4  # a third format is its folder and its row; Android's runner is about TFLite files
    assert "edgeq/device/transports/ssh.py" in places("transport")


def test_ops_are_known_without_importing_anything_but_the_graph():
    program = (
        "from edgeq.integer.graph import IntegerGraph; from edgeq.graph.ops import op_from_json; "
        "print(op_from_json({'kind': 'MeanSquare', 'eps': 1e-5}))"
    )
    made = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert made.stdout.strip() == "MeanSquare(eps=1e-05)", made.stderr
