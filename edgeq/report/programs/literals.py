"""Values of a report as literals of Python, Kotlin and C++."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeq.errors import printable

__all__ = ["FILTERS", "float32"]

WIDTH = 100
"""Characters of a line of labels."""


def python(text: str) -> str:
    """A text as Python has it, of ASCII characters alone."""
    return ascii(text)


def kotlin(text: str) -> str:
    """A text as Kotlin has it: JSON's, without the form feed, which Kotlin has no letter for; no template begins."""
    parts = (json.dumps(part)[1:-1] for part in text.split("\f"))
    return '"' + "\\u000c".join(parts).replace("$", "\\$") + '"'


def cpp(text: str) -> str:
    """A text as C++ has it, UTF-8 in octal, which no digit after it can lengthen."""
    plain = {*range(32, 127)} - {*b'"\\?'}
    return (
        '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode("utf-8", "replace")) + '"'
    )


def line(text: str) -> str:
    """A text for a comment: one line, which does not end in what would go on in the next or end the comment."""
    return printable(text).replace("\\", "/").replace('"""', "'''").replace("*/", "* /").strip()


def float32(value: float) -> str:
    """The shortest decimals that are this float32 again."""
    return repr(float(str(np.float32(value))))


def rows(literal: Callable[[str], str]) -> Callable[[Sequence[str]], str]:
    """Texts as the lines between the brackets of a list."""

    def write(texts: Sequence[str]) -> str:
        lines = [""]
        for text in texts:
            word = f"{literal(text)},"
            if len(lines[-1]) + len(word) > WIDTH:
                lines.append("")
            lines[-1] += f" {word}" if lines[-1] else word
        return "\n".join(f"    {each}" for each in lines)

    return write


def python_list(texts: Sequence[str]) -> str:
    """Texts as a list of Python."""
    return f"[\n{rows(python)(texts)}\n]"


def floats(values: Sequence[float]) -> str:
    """Numbers as a list of Python."""
    return f"[{', '.join(repr(float(value)) for value in values)}]"


def compiled_float(value: float) -> str:
    """A number as Kotlin and C++ have float32."""
    return f"{float32(value)}f"


def compiled_floats(values: Sequence[float]) -> str:
    """Numbers between the brackets of a list of Kotlin or C++."""
    return ", ".join(map(compiled_float, values))


FILTERS: Mapping[str, Callable[..., str]] = {
    "py": python,
    "pylist": python_list,
    "kt": kotlin,
    "ktrows": rows(kotlin),
    "cpp": cpp,
    "cpprows": rows(cpp),
    "line": line,
    "float32": float32,
    "floats": floats,
    "cfloat": compiled_float,
    "cfloats": compiled_floats,
}
