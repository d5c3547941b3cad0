"""What stands on the pages for people: their fenced blocks, and the lines that somebody may type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FENCE", "MANUAL", "PAGES", "ROOT", "Block", "blocks", "text_of"]

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "models/**/README.md", "benchmarks/README.md")
    for path in ROOT.glob(pattern)
)
MANUAL = [page for page in PAGES if (page.name == "README.md" and not page.parent.parts) or page.parts[0] == "docs"]
"""README.md and docs/: the pages whose blocks are run, or at least read."""
FENCE = re.compile(r"^ *```(?P<language>[\w+]*)(?P<rest>[^\n`]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_BEFORE = re.compile(r"<!-- (?P<word>not run|needs): (?P<what>[^\n]*) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of the `line` of a page. `title` names the file that it is; `unless` says why it is not run.

    `needs` names what has to be there to run it, or is an empty text.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str
    unless: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = text_of(page)
    for match in FENCE.finditer(text):
        before = _BEFORE.search(text[: match.start()])
        said = {before["word"]: before["what"]} if before else {}
        title = re.search(r'title="([^"]+)"', match["rest"])
        yield Block(
            page=page,
            line=text[: match.start()].count("\n") + 1,
            language=match["language"],
            title=title[1] if title else "",
            text=match["text"],
            unless=said.get("not run", ""),
            needs=said.get("needs", ""),
        )
