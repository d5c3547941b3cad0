"""Print docs/reference/codes.md: every code of an error or a warning, as `edgeq explain` explains it.

python tools/codes_table.py > docs/reference/codes.md
"""

from __future__ import annotations

from edgeq.cli.explain import Explanation, explanations

HEAD = """\
# Codes of errors and warnings

Every error line of edgeq ends with a code in brackets, and so does every warning of a report. `edgeq explain CODE`
prints what this page says of it. A code keeps its meaning: scripts may rely on it.

The first digit of an error's code is the exit status of the command, except that a bug (E700) exits with 70.

This page is written by `python tools/codes_table.py` from `edgeq/cli/codes.toml`.
"""

SECTIONS = {
    "E1": "Exit status 1: a gate failed",
    "E2": "Exit status 2: usage or configuration",
    "E3": "Exit status 3: unsupported network",
    "E4": "Exit status 4: device",
    "E5": "Exit status 5: measurement that must not be believed",
    "E7": "Exit status 70: a bug",
    "W1": "Warnings about accuracy",
    "W2": "Warnings about speed",
    "W3": "Warnings about calibration images",
}


def page() -> str:
    """The whole page as Markdown."""
    lines, section = [HEAD], ""
    for one in explanations().values():
        if one.code[:2] != section:
            section = one.code[:2]
            lines.append(f"## {SECTIONS[section]}\n")
        lines.append(_entry(one))
    return "\n".join(lines)


def _entry(one: Explanation) -> str:
    return f"### {one.code}: {one.title}\n\n{one.why}\n\n{one.do}\n\n    {one.example}\n"


if __name__ == "__main__":
    print(page(), end="")
