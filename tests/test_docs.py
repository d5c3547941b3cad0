"""The pages for people: every path, link, anchor, command and option they name exists, and every block can be read."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from edgeq.cli import cli
from edgeq.config.budget import read_budgets
from edgeq.config.build import resolve
from edgeq.config.sweep import read_sweep
from edgeq.config.targets import load_target
from edgeq.model.modeltoml import read_model_file
from tests.pages import FENCE, MANUAL, PAGES, ROOT, Block, blocks, text_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = ("edgeq", "tests", "docs", "models", "targets", "benchmarks", "tools", ".ci", ".github")
PATH = re.compile(rf"(?:{'|'.join(re.escape(name) for name in TOP)})/[\w./-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _prose(page: Path) -> str:
    """The page without fenced and indented code."""
    lines = FENCE.sub("", text_of(page)).splitlines()
    return "\n".join(line for line in lines if not line.startswith("    "))


def _anchors(page: Path) -> set[str]:
    """Names that the headings of a page have on GitHub."""
    headings = re.findall(r"^#+ +(.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _exists(path: str) -> bool:
    """Whether a file or folder has this path. A name without suffix may be a module."""
    whole = ROOT / path
    return whole.exists() or whole.with_name(f"{whole.name}.py").exists()


def _commands() -> Iterator[tuple[Path, list[str]]]:
    """The words of every `edgeq ...` line in a code block or in inline code."""
    for page in PAGES:
        text = text_of(page).replace("\\\n", " ")
        typed = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
        typed += [line for line in text.splitlines() if line.startswith("    ")]
        lines = [line.strip().split("  #")[0] for line in typed]
        inline = re.findall(r"`(edgeq [^`]+)`", " ".join(line.strip() for line in _prose(page).splitlines()))
        for line in [*(line for line in lines if re.match(r"edgeq [a-z]+( |$)", line)), *inline]:
            if line.count('"') % 2 == 0 and line.count("'") % 2 == 0 and "`" not in line:
                yield page, shlex.split(line)[1:]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_paths_and_links_lead_somewhere(page: Path) -> None:
    named = [code for code in re.findall(r"`([^`\n]+)`", _prose(page)) if PATH.fullmatch(code)]
    missing = [code for code in named if not _exists(code)]
    for link in LINK.findall(_prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        whole = (ROOT / page.parent / path).resolve() if path else ROOT / page
        if not whole.exists() or (anchor and anchor not in _anchors(whole.relative_to(ROOT))):
            missing.append(link)
    assert missing == []


def test_commands_and_options_exist() -> None:
    wrong = []
    for page, words in _commands():
        command: click.Command | None = cli
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            command = command.get_command(click.Context(command), rest.pop(0))
        options = {word.split("=")[0] for word in rest if re.match(r"-{1,2}[a-z]", word)}
        known = (
            {"--help", "-h"} | {o for p in command.params for o in (*p.opts, *p.secondary_opts)} if command else set()
        )
        if command is None or options - known:
            wrong.append(
                f"{page}: edgeq {shlex.join(words)}: {', '.join(sorted(options - known)) or 'no such command'}"
            )
    assert wrong == []


MODEL_TABLES = {"network", "input", "output", "task", "evaluation"}
WHOLE_MODEL = {
    "name": "net",
    "network": {"factory": "net.py:make", "weights": "net.pth"},
    "input": {"shape": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
BLOCKS = [block for page in MANUAL for block in blocks(page)]
READERS: dict[str, Callable[[Block, Path], object]] = {
    "python": lambda block, folder: compile(block.text, str(block), "exec"),
    "toml": lambda block, folder: read_toml_block(block, folder),
    "json": lambda block, folder: json.loads(block.text),
    "csv": lambda block, folder: list(csv.DictReader(io.StringIO(block.text), strict=True)),
    "sh": lambda block, folder: shlex.split(block.text, comments=True),
    "yaml": lambda block, folder: pytest.importorskip("yaml").safe_load(block.text),
    "mermaid": lambda block, folder: None,
    "text": lambda block, folder: None,
}
"""How a block of each language is read; a block of another, or of none, fails."""


def read_toml_block(block: Block, folder: Path) -> None:
    """Read a block as edgeq does: as (part of) a model.toml, a target, a sweep.toml, a budget.toml or an edgeq.toml.

    What is of another program (a pyproject.toml) only has to parse.
    """
    table = tomllib.loads(block.text)
    if "project" in table:
        return
    if "axes" in table or not MODEL_TABLES & set(table):
        file = folder / "own.toml"
        file.write_text(block.text)
        if "machine" in table:
            load_target(str(file))
        elif "axes" in table:
            read_sweep(file, {})
        elif block.title == "budget.toml":
            read_budgets({}, {}, None, file)
        else:
            resolve({}, {}, file)
            read_budgets({}, {}, file, None)
        return
    kind = table.get("task", {}).get("kind", "classification")
    classes = len(table.get("task", {}).get("classes", ())) or 10
    whole = WHOLE_MODEL | {"output": {"task": kind, "classes": classes}} | table
    (folder / "labels.txt").write_text("label\n" * whole["output"].get("classes", 0))
    (folder / "model.toml").write_text("".join(_toml(key, value) for key, value in _plain_first(whole)))
    read_model_file(folder / "model.toml")


def _plain_first(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(table.items(), key=lambda item: isinstance(item[1], dict))


def _toml(key: str, value: Any) -> str:
    if not isinstance(value, dict):
        return f"{key} = {_value(value)}\n"
    return f"[{key}]\n" + "".join(f"{name} = {_value(each)}\n" for name, each in value.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(each)}" for name, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_blocks_can_be_read(block: Block, tmp_path: Path) -> None:
    READERS[block.language](block, tmp_path)


def test_every_page_is_in_the_navigation_of_the_site_and_of_the_index() -> None:
    pages = {page.relative_to("docs").as_posix() for page in PAGES if page.parts[0] == "docs"}
    assert set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))) == pages
    linked = set(LINK.findall(text_of(Path("docs/index.md"))))
    assert {page for page in pages if page.startswith(("how-to/", "reference/"))} - linked == set()


def test_the_first_page_is_short() -> None:
    assert len(text_of(Path("README.md")).splitlines()) <= 120
