"""Tables, colours and bars: rich, made safe for names out of files and answers of devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from edgeq.errors import printable

__all__ = ["console", "join_styled"]


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a rich console that prints text as it is: no markup in it is obeyed, nothing in it steers the terminal.

    Styles are given by `join_styled`. `width` holds where there is no terminal to ask.
    """
    plain_console = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if plain_console.is_terminal or width is None:
        return plain_console
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def join_styled(*parts: str | tuple[str, str]) -> Text:
    """Return a line of text of which some parts, pairs of text and style, are coloured or bold."""
    return Text.assemble(*(_safe(part) if isinstance(part, str) else (_safe(part[0]), part[1]) for part in parts))


def _safe(text: str) -> str:
    return printable(text, keep="\n")


class _Console(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_safe(text), **options)  # before it is measured and wrapped

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_safe(segment.text))
