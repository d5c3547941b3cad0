"""Hook of mkdocs: links that leave docs/ lead somewhere on the site too.

Pages link to files of the repository, as GitHub shows them. On the site, Markdown files outside of docs/ are pages
under `repository/`, and a link to any other file becomes its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("*.md", "benchmarks/README.md", "benchmarks/results/*.md", "models/*/README.md")
PREFIX = "repository/"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def outside() -> list[str]:
    """Paths, relative to the repository, of the Markdown files that the site holds besides docs/."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in OUTSIDE for path in ROOT.glob(pattern))


def on_files(files: Any, config: Any) -> Any:
    for path in outside():
        files.append(File.generated(config, PREFIX + path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return move_links(markdown, page.file.src_uri)


def move_links(markdown: str, page: str) -> str:
    """`markdown` of the site's `page`, with its links as they must be on the site."""
    here = page.removeprefix(PREFIX) if page.startswith(PREFIX) else f"docs/{page}"

    def move(match: re.Match[str]) -> str:
        path, hash_, anchor = match[3].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        if target.startswith("docs/"):
            there = target.removeprefix("docs/")
        elif target in outside():
            there = PREFIX + target
        else:
            return match[2]
        relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
        return f"{match[1]}[{match[2]}]({relative}{hash_}{anchor})"

    return LINK.sub(move, markdown)
