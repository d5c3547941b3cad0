"""Print where something of a kind stands in edgeq/, so that one knows what it takes to add another.

    python tools/places.py elu         an op: its class, and its rules, one file per stage
    python tools/places.py format      a file format: its folder, and what names formats elsewhere
    python tools/places.py transport   a transport: its file, and what names transports elsewhere

Looks at the syntax tree of every file; nothing is listed by hand.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Places = dict[str, list[int]]
"""Lines by file, relative to the repository."""


def op_places(name: str) -> Places:
    """Every file that names the op class `name` (in any case): its definition, and uses beyond an import."""
    from edgeq.graph.ops import OPS

    kinds = [kind for kind in OPS if kind.lower() == name.lower()]
    if not kinds:
        raise SystemExit(f"no op is called {name!r}; there are {', '.join(sorted(OPS))}, or say format or transport")

    def names(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr == kinds[0] and isinstance(node.value, ast.Name) and node.value.id == "ops"
        return (isinstance(node, ast.Name) and node.id == kinds[0]) or (
            isinstance(node, ast.ClassDef) and node.name == kinds[0]
        )

    return _find(names)


def format_places() -> Places:
    """The folder of each format, and every other file that imports one or knows its suffix or name."""
    rooms = sorted(path.parent.name for path in (ROOT / "edgeq" / "formats").glob("*/writer.py"))
    # The name of a format that is also a package's (onnx) says nothing by itself.
    words = {f".{room}" for room in rooms} | {room for room in rooms if importlib.util.find_spec(room) is None}

    def names(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return (node.module or "").startswith(tuple(f"edgeq.formats.{room}" for room in rooms))
        return isinstance(node, ast.Constant) and node.value in words

    return _apart({f"edgeq/formats/{room}/": [1] for room in rooms}, names)


def transport_places() -> Places:
    """The file of each transport, and every other file that names one of their classes."""
    files = sorted((ROOT / "edgeq" / "device" / "transports").glob("[!_]*.py"))
    classes = {
        node.name
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Transport")
    }

    def names(node: ast.AST) -> bool:
        return (isinstance(node, ast.Name) and node.id in classes) or (
            isinstance(node, ast.Constant) and node.value in classes
        )

    return _apart({str(file.relative_to(ROOT)): [1] for file in files}, names)


def _apart(own: Places, names: Callable[[ast.AST], bool]) -> Places:
    """Files of its `own`, then what `names` finds in others."""
    return own | {path: lines for path, lines in _find(names).items() if not path.startswith(tuple(own))}


def _find(names: Callable[[ast.AST], bool]) -> Places:
    found = {path: sorted({line for node, line in nodes if names(node)}) for path, nodes in syntax().items()}
    return {path: lines for path, lines in found.items() if lines}


@functools.cache
def syntax() -> Mapping[str, list[tuple[ast.AST, int]]]:
    """Every node of the syntax trees of edgeq/ with its line, by file; what `__all__` lists is left out."""
    files = sorted((ROOT / "edgeq").rglob("*.py"))
    return {str(file.relative_to(ROOT)): _nodes(ast.parse(file.read_text())) for file in files}


def _nodes(tree: ast.Module) -> list[tuple[ast.AST, int]]:
    exports = {
        id(part)
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(target, ast.Name) and target.id == "__all__"
        for part in ast.walk(statement)
    }
    return [(node, getattr(node, "lineno", 0)) for node in ast.walk(tree) if id(node) not in exports]


def places(what: str) -> Places:
    """Where `what` stands: "format", "transport", or the name of an op."""
    return {"format": format_places, "transport": transport_places}.get(what, lambda: op_places(what))()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    found = places(sys.argv[1])
    for path, lines in found.items():
        print(path if path.endswith("/") else f"{path}:{','.join(map(str, lines))}")
    print(f"{len(found)} places")
