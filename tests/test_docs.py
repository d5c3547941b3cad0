"""The pages for people: every path, link, anchor, command and option they name exists."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeq.cli import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "models/**/README.md", "benchmarks/README.md")
    for path in ROOT.glob(pattern)
)
TOP = ("edgeq", "tests", "docs", "models", "targets", "benchmarks", "tools", ".ci", ".github")
PATH = re.compile(rf"(?:{'|'.join(re.escape(name) for name in TOP)})/[\w./-]*")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _text(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    """The page without fenced and indented code."""
    lines = FENCE.sub("", _text(page)).splitlines()
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
        text = _text(page).replace("\\\n", " ")
        lines = [line.strip().split("  #")[0] for line in text.splitlines() if line.startswith("    ")]
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


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_toml_examples_parse(page: Path) -> None:
    for language, block in FENCE.findall(_text(page)):
        if language == "toml":
            tomllib.loads(block)


def test_the_first_page_is_short() -> None:
    assert len(_text(Path("README.md")).splitlines()) <= 120
