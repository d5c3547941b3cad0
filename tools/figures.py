"""Fill the tables of measured figures in README.md and docs/ from benchmarks/results/.

    python tools/figures.py            fills every block that is out of date
    python tools/figures.py --check    only says which are; exit code 1 if there are any

A block begins with a comment that says what to take, in TOML, and ends with `<!-- end -->`:

    <!-- figures
    file = "defaults.md"                          a file of benchmarks/results/
    under = "w8a8"                                optional: the heading that the table is under
    columns = ["network", "integer as edgeq"]     columns to take, and what to call them here
    rows = { bits = ["w8a8"] }                    optional: only rows with one of these values, in the order of the file
    brief = true                                  optional: leave out what cells have in brackets, but for the first
    -->

Between the two stands the table, with the file and the commits that it was printed at.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"<!-- figures\n(?P<said>.*?)-->\n(?P<body>.*?)<!-- end -->", re.DOTALL)
NAMES = {
    "resnet20": "ResNet-20, CIFAR-10",
    "resnet32": "ResNet-32, CIFAR-10",
    "resnet8": "ResNet-8, MLPerf Tiny",
    "person-detect": "person detector, MLPerf Tiny",
    "mobilenetv1-0.25": "MobileNetV1-0.25, ImageNet",
    "mobilenetv2-folded": "MobileNetV2 without batch norm, ImageNet",
    "squeezenet1.1": "SqueezeNet 1.1, ImageNet",
    "efficientnet-lite0": "EfficientNet-Lite0, ImageNet",
}
"""What pages call networks whose results have another name."""
COMMIT = re.compile(r"\b[0-9a-f]{7}\b(?:-dirty)?")
NUMBER = re.compile(r"[-+−±]?\d[\d,]*(\.\d+)?( ± \d+(\.\d+)?)?( ?(%|s|ms|dB|x|points?))?")


def pages() -> list[Path]:
    """The pages that may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def cells(line: str) -> list[str]:
    """The cells of one line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[tuple[str, list[list[str]]]]:
    """Every table of a page as rows of cells, its header first, with the heading that it stands under."""
    found: list[tuple[str, list[list[str]]]] = []
    heading, inside = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append((heading, []))
            inside = True
        if not re.fullmatch(r"[|: ]*-[|\-: ]*", line):
            found[-1][1].append(cells(line))
    return found


def fill(said: Mapping[str, Any], page: Path) -> str:
    """The lines of a block on `page`, as its comment says. Raises `SystemExit` for a comment that fits no table."""
    source = RESULTS / said["file"]
    text = source.read_text(encoding="utf-8")
    columns = {name: title or name for name, _, title in (column.partition(" as ") for column in said["columns"])}
    fitting = [
        table
        for heading, table in tables(text)
        if set(columns) <= set(table[0]) and said.get("under", heading) == heading
    ]
    if not fitting:
        raise SystemExit(f"{page}: {source.name} has no table with {list(columns)} under {said.get('under')!r}")
    header, *rows = fitting[0]
    for column, values in said.get("rows", {}).items():
        place = header.index(column)
        if missing := [value for value in values if value not in [row[place] for row in rows]]:
            raise SystemExit(f"{page}: no row of {source.name} has {missing} in {column!r}")
        rows = [row for row in rows if row[place] in values]
    places = [header.index(column) for column in columns]
    chosen = [[row[place] if place < len(row) else "" for place in places] for row in rows]
    if said.get("brief"):
        chosen = [[first, *(re.sub(r" *\([^()]*\)", "", cell) for cell in rest)] for first, *rest in chosen]
    lines = ["| " + " | ".join(columns.values()) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join([NAMES.get(first, first), *rest]) + " |" for first, *rest in chosen]
    link = os.path.relpath(source, page.parent).replace(os.sep, "/")
    named = _conditions(text, said.get("under", ""))
    if "commit" in header:
        named = " ".join(row[header.index("commit")] for row in rows)
    commits = sorted(set(COMMIT.findall(named)))
    at = f", printed at {', '.join(commits)}" if commits else ", which names no commit"
    return "\n".join(["", *lines, "", f"Source: [{source.name}]({link}){at}."])


def _conditions(text: str, under: str) -> str:
    """What lines say behind the word commit: those of the section `under` that do, else those above all sections."""
    section = text.partition(f"# {under}\n")[2].split("\n#")[0] if under else ""
    found = [re.findall(r"[Cc]ommits?:? (.*)", part) for part in (section, text.split("\n## ")[0])]
    return " ".join(found[0] or found[1])


def filled(page: Path) -> str:
    """The text of `page` with every block up to date."""
    return BLOCK.sub(
        lambda block: f"<!-- figures\n{block['said']}-->\n{fill(tomllib.loads(block['said']), page)}\n<!-- end -->",
        page.read_text(encoding="utf-8"),
    )


def loose_figures(page: Path) -> list[str]:
    """Rows of tables outside of blocks with a cell that may be a measured number.

    The first column names things, and a column of defaults measures nothing.
    """
    found = []
    for _, (header, *rows) in tables(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        measured = [place for place, title in enumerate(header) if place and title != "default"]
        found += [row for row in rows if any(NUMBER.fullmatch(row[place]) for place in measured if place < len(row))]
    return [" | ".join(row) for row in found]


def main(words: list[str]) -> int:
    stale = [page for page in pages() if filled(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        print(page.relative_to(ROOT))
        if "--check" not in words:
            page.write_text(filled(page), encoding="utf-8")
    return int(bool(stale) and "--check" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
